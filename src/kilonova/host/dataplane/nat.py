"""The way out of a cloud (`--uplink nat`): one nft table in the root namespace, and forwarding on.

Without it, forwarding is off on the host's end of the veth, so that guests reach the host and nothing behind it even
where the host routes for others.
"""

from __future__ import annotations

from contextlib import suppress

from kilonova.host.calls import run
from kilonova.host.dataplane.config import DataPlaneConfig
from kilonova.host.dataplane.machine import Machine
from kilonova.host.dataplane.uplink import forwarding_sysctl, links_with_alias_prefix

IP_FORWARD = "/proc/sys/net/ipv4/ip_forward"


def ruleset(config: DataPlaneConfig, public_cidr: str) -> str:
    """One atomic `nft -f`: replies come in, nothing else does, and what goes out looks like the host."""
    table, link = config.nft_table, config.external_bridge if config.host_net else config.name
    return f"""
table ip {table}
delete table ip {table}
table ip {table} {{
  comment "{config.alias}"
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {public_cidr} oifname != "{link}" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    oifname "{link}" iifname != "{link}" ct state established,related accept
    oifname "{link}" iifname != "{link}" drop
  }}
}}
"""


def ensure_nat(config: DataPlaneConfig, public_cidr: str, machine: Machine) -> None:
    run(["nft", "-f", "-"], input=ruleset(config, public_cidr))
    # ip_forward sets the switch of every link: those that were closed on purpose are closed again.
    closed = [link for link in links_with_alias_prefix("kilonova:") if _forwarding(link) == "0"]
    machine.set_sysctl(IP_FORWARD, "1", config.cloud_id)
    for link in closed:
        if link not in (config.name, config.external_bridge):
            _set_forwarding(link, "0")
    _set_forwarding(config.external_bridge if config.host_net else config.name, "1")


def remove_nat(config: DataPlaneConfig, machine: Machine) -> None:
    """Also after a change from nat to none."""
    delete_table(config)
    machine.release_sysctls(config.cloud_id, only=IP_FORWARD)


def close_wire(config: DataPlaneConfig) -> None:
    """No way through the host: its end of the veth does not forward, whatever the host does elsewhere."""
    if not config.host_net:
        _set_forwarding(config.name, "0")


def delete_table(config: DataPlaneConfig) -> None:
    # Naming the table first makes the deletion right whether it was there or not.
    run(["nft", "-f", "-"], input=f"table ip {config.nft_table}\ndelete table ip {config.nft_table}\n")


def _forwarding(link: str) -> str:
    with suppress(OSError):
        return forwarding_sysctl(link).read_text().strip()
    return ""


def _set_forwarding(link: str, value: str) -> None:
    with suppress(FileNotFoundError):  # the link is gone
        if _forwarding(link) != value:
            forwarding_sysctl(link).write_text(value)
