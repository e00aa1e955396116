"""How a person gets into a guest before there are routers: by ssh, from the DHCP namespace of its network."""

import shutil
from pathlib import Path
from typing import Any

from kilonova.client import Client
from kilonova.model.errors import KilonovaError

OPTIONS = (
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
    "-o", "ConnectTimeout=10",
)  # fmt: skip


def ssh_command(
    client: Client, cloud: dict[str, Any], server: dict[str, Any], key: Path | None, user: str
) -> list[str]:
    """The argv that logs in to `server`; a command may be appended. Without `key`, the guest image's password."""
    interfaces = client.get(f"/compute/v2.1/servers/{server['id']}/os-interface")["interfaceAttachments"]
    first = next((each for each in interfaces if each["fixed_ips"]), None)  # by it a guest has its default route
    if first is None:
        raise KilonovaError(f"server {server['name']} has no port with an address yet")
    namespace = Path("/run/netns") / f"qdhcp-{first['net_id']}"
    if not namespace.exists():
        raise KilonovaError(f"network {first['net_id']} has no DHCP namespace on this machine (a fake host?)")
    ssh = ["ssh", *OPTIONS, *(["-i", str(key), "-o", "PasswordAuthentication=no"] if key else []),
           f"{user}@{first['fixed_ips'][0]['ip_address']}"]  # fmt: skip
    if key is None:
        if shutil.which("sshpass") is None:
            raise KilonovaError("give --key FILE, or install sshpass to use the guest image's password")
        ssh = ["sshpass", "-p", cloud["guest"]["password"], *ssh]
    return ["nsenter", f"--net={namespace}", "--", *ssh]
