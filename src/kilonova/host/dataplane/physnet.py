"""Provider networks on a real LAN (`--physnet NAME=LINK`): a link of this machine as the far port of a bridge.

    root namespace                      the cloud's namespace
    eth1  ==macvlan, mode passthru==  phy-NAME ── brp-NAME     tap… tap…

The link itself stays where it is, with its name and settings; a namespace that is gone gives it back by itself. With
--host-net it is a port of the bridge. docs/adr/0006-a-link-is-lent.md says why.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from kilonova.host.dataplane.config import DataPlaneConfig
from kilonova.host.dataplane.machine import Machine, read_json, write_json
from kilonova.host.dataplane.namespaces import is_namespace
from kilonova.host.net.netlink import (
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_NET_NS_FD,
    INFO_DATA,
    INFO_KIND,
    Link,
    Netlink,
    attribute,
    refusal,
)
from kilonova.host.netns import in_netns, netns_path
from kilonova.model.errors import HostError

WIRE, DEFAULT = "host", "public"  # physical networks: the wire to the host when a LAN has taken the default one's name
IFLA_LINK, MACVLAN_MODE, PASSTHRU = 5, 1, 8
PATIENCE = 3.0  # seconds that the kernel may take to end the links of a namespace that is gone


def bridge_mappings(config: DataPlaneConfig) -> dict[str, str]:
    """Physical network → the bridge that carries it. A LAN takes the default network's name from the wire to the host."""
    lans = {name: bridge_of(config, name) for name, _ in config.physnets}
    return {WIRE if DEFAULT in lans else DEFAULT: config.external_bridge, **lans}


def bridge_of(config: DataPlaneConfig, name: str) -> str:
    return f"brp-{_suffix(config, name)}"


def port_of(config: DataPlaneConfig, name: str) -> str:
    """The cloud's end of the macvlan."""
    return f"phy-{_suffix(config, name)}"


def _suffix(config: DataPlaneConfig, name: str) -> str:
    if len(name) <= 11 and not config.host_net and "/" not in name:
        return name
    return hashlib.sha256(f"{config.cloud_id} {name}".encode()).hexdigest()[:11]


def ensure_physnets(config: DataPlaneConfig, machine: Machine) -> None:
    """Each link carries its physical network; links that were lent and are no longer wanted are given back.

    Raises HostError, with what to do, for a link that is missing or that the host uses itself.
    """
    wanted = {link: name for name, link in config.physnets}
    for link, loan in _lent(config).items():
        if wanted.get(link) != loan["name"]:
            _give_back(config, machine, link)
    for link, name in wanted.items():
        _lend(config, machine, link, name)


def release_physnets(config: DataPlaneConfig, machine: Machine) -> None:
    """All links are given back as they were: a part of a purge. Nothing happens when none is lent."""
    for link in _lent(config):
        _give_back(config, machine, link)


# What is lent: link → {"name": of its physical network, "up": was it}. The kernel forgets at a boot, and so does this.


def _file(config: DataPlaneConfig) -> Path:
    return config.run / "physnets.json"


def _lent(config: DataPlaneConfig) -> dict[str, Any]:
    return read_json(_file(config))


def _lend(config: DataPlaneConfig, machine: Machine, name: str, physnet: str) -> None:
    with closing(Netlink(None)) as outer, closing(Netlink(config.netns)) as inner:
        link = outer.link(name)
        if link is None:
            raise HostError(f"--physnet {physnet}={name}: this machine has no link {name}; `ip link` lists them")
        if name not in _lent(config):
            _refuse_used(outer, link, physnet)
            write_json(_file(config), {**_lent(config), name: {"name": physnet, "up": link.up}})
        if _ipv6_switch(name).exists():  # else the host would take an address that the LAN advertises
            machine.set_sysctl(str(_ipv6_switch(name)), "1", config.cloud_id)
        if not link.up:
            outer.set_link(link, "link set up", up=True)
        bridge = _ensure_bridge(inner, config, bridge_of(config, physnet))
        port = link if config.host_net else _ensure_macvlan(outer, inner, config, link, physnet)
        if port.master != bridge.index:
            with _busy(link, physnet):
                inner.set_link(port, "link set master", attribute(IFLA_MASTER, bridge.index), up=True)


def _refuse_used(outer: Netlink, link: Link, physnet: str) -> None:
    """What the host itself talks over is not taken from it."""
    held = sorted(each for each in outer.addresses(link.index) if not each.lower().startswith("fe80:"))
    if link.name == "lo" or link.alias.startswith("kilonova:"):
        why = "is no way out of this machine"
    elif held:
        why = f"has addresses ({', '.join(held)}), which would no longer be reached: remove them"
        if any(":" in each for each in held):  # a router of the LAN may have advertised them, and does so again
            why += f" (`sysctl -w net.ipv6.conf.{link.name.replace('.', '/')}.disable_ipv6=1` keeps those of IPv6 away)"
    elif link.master:
        why = "is a port of a bridge or bond: take it out of there"
    else:
        return
    raise HostError(f"--physnet {physnet}={link.name}: {link.name} {why}, or name another link")


def _ensure_bridge(connection: Netlink, config: DataPlaneConfig, name: str) -> Link:
    bridge = connection.link(name)
    if bridge is None:
        connection.add_bridge(name)
        bridge = _need(connection, name)
    if bridge.kind != "bridge" or bridge.alias not in ("", config.alias):
        raise HostError(f"link {name} exists and is not this cloud's ({bridge.alias or bridge.kind}): remove it")
    if bridge.alias != config.alias or not bridge.up:
        _no_ipv6(config, name)
        connection.set_link(bridge, "link set up", attribute(IFLA_IFALIAS, config.alias.encode()), up=True)
    return bridge


def _ensure_macvlan(outer: Netlink, inner: Netlink, config: DataPlaneConfig, link: Link, physnet: str) -> Link:
    """One of mode passthru: it gets and may send every frame of the link, whatever its MAC address."""
    name = port_of(config, physnet)
    found = inner.link(name)
    if found is None:
        with _busy(link, physnet):
            _again(lambda: _add_macvlan(outer, config, link, name))
        found = _need(inner, name)
    if found.alias != config.alias or not found.up:
        _no_ipv6(config, name)
        inner.set_link(found, "link set up", attribute(IFLA_IFALIAS, config.alias.encode()), up=True)
    return found


def _add_macvlan(outer: Netlink, config: DataPlaneConfig, link: Link, name: str) -> None:
    fd = os.open(netns_path(config.name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        mode = (attribute(MACVLAN_MODE, PASSTHRU),)
        info = (attribute(INFO_KIND, "macvlan"), attribute(INFO_DATA, mode))
        place = attribute(IFLA_IFNAME, name) + attribute(IFLA_LINK, link.index) + attribute(IFLA_NET_NS_FD, fd)
        outer.add_link("macvlan", place, attribute(IFLA_LINKINFO, info))
    finally:
        os.close(fd)


def _again(act: Callable[[], None]) -> None:
    """The macvlan of a namespace that was removed holds its link for the kernel's moment."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return act()
        except HostError as error:
            if refusal(error) not in (errno.EBUSY, errno.EINVAL) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def _busy(link: Link, physnet: str) -> Iterator[None]:
    """The kernel's refusals in words that say what to do."""
    words = {
        errno.EBUSY: f"{link.name} is in use by another cloud, a bridge or a macvlan: name another link",
        errno.EINVAL: f"{link.name} is in use by another cloud or a macvlan, or cannot be bridged: name another link",
        errno.EOPNOTSUPP: "this kernel has no macvlan (modprobe macvlan), and only --host-net does without",
    }
    try:
        yield
    except HostError as error:
        if refusal(error) in words:
            raise HostError(f"--physnet {physnet}={link.name}: {words[refusal(error)]}") from error
        raise


def _give_back(config: DataPlaneConfig, machine: Machine, name: str) -> None:
    """Ours goes first, then the link is what it was; it is forgotten last. What is gone already is no trouble."""
    loan = _lent(config)[name]
    if config.netns is None or is_namespace(netns_path(config.netns)):
        with closing(Netlink(config.netns)) as inner:
            for device in (port_of(config, loan["name"]), bridge_of(config, loan["name"])):
                found = inner.link(device)
                if found is not None and found.alias in ("", config.alias):
                    inner.delete_link(found)
    with closing(Netlink(None)) as outer:
        link = outer.link(name)
        if link is not None and link.up and not loan["up"]:
            outer.set_link(link, "link set down", up=False)
    machine.release_sysctls(config.cloud_id, only=str(_ipv6_switch(name)))
    write_json(_file(config), {link: other for link, other in _lent(config).items() if link != name})


def _ipv6_switch(link: str) -> Path:
    return Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6")


def _no_ipv6(config: DataPlaneConfig, link: str) -> None:
    """The LAN does not reach the cloud's namespace itself."""
    in_netns(config.netns, _write_if_there, _ipv6_switch(link))


def _write_if_there(switch: Path) -> None:
    with suppress(FileNotFoundError):
        switch.write_text("1")


def _need(connection: Netlink, name: str) -> Link:
    found = connection.link(name)
    if found is None:
        raise HostError(f"{name} vanished while it was set up")
    return found
