"""An unmodified Debian cloud image: it boots, and Debian's cloud-init finds its key, name, user data and network.

Once by the metadata service with addresses by DHCP; once by a config drive alone, in a network without DHCP, where the
address can only come from the drive's network_data.json. We log in through a floating IP, as any user would.
"""

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import openstack
from cloud import REPO
from outcomes import FAILED, PASSED, Outcomes

NAME = "debian-cloud-image"
IMAGE = REPO / "build" / "debian-cloud.qcow2"
BUILDER = Path(__file__).with_name("debian-image.sh")
PATIENCE = 1800.0  # seconds; an emulated systemd with cloud-init takes two minutes on an idle machine
USER_DATA = "#!/bin/sh\necho ran as $(id -un) >/var/lib/user-data-proof\n"
LOOK = """
import json, os, subprocess
def read(path):
    return open(path).read().strip() if os.path.exists(path) else None
addresses = json.loads(subprocess.check_output(["ip", "-j", "addr"]))
routes = json.loads(subprocess.check_output(["ip", "-j", "route"]))
print(json.dumps({
    "hostname": os.uname().nodename,
    "result": read("/run/cloud-init/result.json"),
    "instance": read("/var/lib/cloud/data/instance-id"),
    "proof": read("/var/lib/user-data-proof"),
    "addresses": [a["local"] for link in addresses for a in link["addr_info"] if a["family"] == "inet"],
    "macs": [link["address"] for link in addresses],
    "mtus": {link["address"]: link["mtu"] for link in addresses},
    "gateways": [route.get("gateway") for route in routes if route["dst"] == "default"],
    "root": os.statvfs("/").f_blocks * os.statvfs("/").f_frsize,
}))
"""


def run(state: Path, work: Path) -> Outcomes:
    """The outcome of each thing that the image must find, by either way."""
    if not IMAGE.exists():
        IMAGE.parent.mkdir(exist_ok=True)
        subprocess.run(["bash", BUILDER, IMAGE], check=True)
    user, admin = (_connect(state, name) for name in ("kilonova", "kilonova-admin"))
    site = Site(user, admin, work)
    found: Outcomes = {}
    for way in ("metadata", "config_drive"):
        try:
            checks = site.boot(way)
        except Exception as error:
            checks = {"boots": f"{type(error).__name__}: {error}"}
        for check, problem in checks.items():
            found[f"acceptance.{NAME}.{way}.{check}"] = (FAILED if problem else PASSED, problem)
    return found


def _connect(state: Path, cloud: str) -> Any:
    config = openstack.config.OpenStackConfig(config_files=[str(state / "clouds.yaml")])
    return openstack.connection.Connection(config=config.get_one(cloud=cloud))


class Site:
    """The image, a key, a flavor with room for Debian, and a router to the outside."""

    def __init__(self, user: Any, admin: Any, work: Path) -> None:
        self.user, self.work, self.key = user, work, work / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        public = self.key.with_suffix(".pub").read_text()
        user.compute.create_keypair(name="debian", public_key=public)
        self.flavor = admin.compute.create_flavor(name="debian", ram=768, vcpus=2, disk=4)
        self.image = user.create_image(
            NAME, filename=str(IMAGE), disk_format="qcow2", container_format="bare", wait=True
        )
        self.group = user.network.create_security_group(name="debian")
        user.network.create_security_group_rule(
            security_group_id=self.group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22
        )
        self.public = user.network.find_network("public")
        self.router = user.network.create_router(name="debian", external_gateway_info={"network_id": self.public.id})

    def boot(self, way: str) -> dict[str, str]:
        """What was looked at → what was wrong with it, nothing when it was right."""
        by_drive, number = way == "config_drive", 1 + (way == "config_drive")
        network = self.user.network.create_network(name=way)
        subnet = self.user.network.create_subnet(
            name=way, network_id=network.id, ip_version=4, cidr=f"10.77.{number}.0/24", enable_dhcp=not by_drive
        )
        self.user.network.add_interface_to_router(self.router, subnet_id=subnet.id)
        name, user_data = f"debian-{number}", base64.b64encode(USER_DATA.encode()).decode()
        server = self.user.compute.create_server(
            name=name, image_id=self.image.id, flavor_id=self.flavor.id, key_name="debian", config_drive=by_drive,
            networks=[{"uuid": network.id}], security_groups=[{"name": "debian"}], user_data=user_data,
        )  # fmt: skip
        try:
            server = self.user.compute.wait_for_server(server, wait=300)
            port = next(self.user.network.ports(device_id=server.id))
            floating = self.user.network.create_ip(floating_network_id=self.public.id, port_id=port.id)
            seen = self._look(floating.floating_ip_address)
        finally:
            console = self.user.compute.get_server_console_output(server)["output"]
            (self.work / f"{way}.console.log").write_text(console)
            self.user.compute.delete_server(server)
            self.user.compute.wait_for_delete(server, wait=120)
        (self.work / f"{way}.json").write_text(json.dumps(seen, indent=2))
        result = json.loads(seen["result"] or '{"v1": {"datasource": "none", "errors": ["no result"]}}')["v1"]
        source = "ConfigDrive" if by_drive else "OpenStack"
        return {
            "boots": "",
            "logs_in_with_its_key": "",  # or _look had failed
            "datasource": _unless(source in result["datasource"], result["datasource"]),
            "no_errors": _unless(not result["errors"], result["errors"]),
            "instance_id": _unless(seen["instance"] == server.id, seen["instance"]),
            "hostname": _unless(seen["hostname"] == name, seen["hostname"]),
            "user_data": _unless(seen["proof"] == "ran as root", seen["proof"]),
            "address": _unless(port.fixed_ips[0]["ip_address"] in seen["addresses"], seen["addresses"]),
            "gateway": _unless(subnet.gateway_ip in seen["gateways"], seen["gateways"]),
            "mtu": _unless(seen["mtus"].get(port.mac_address) == network.mtu, seen["mtus"]),
            "root_has_grown": _unless(seen["root"] > 3 << 30, seen["root"]),
        }

    def _look(self, address: str) -> Any:
        """What the guest says of itself, once cloud-init has ended."""
        ssh = ["ssh", "-F", "none", "-i", self.key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
               "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10",
               f"debian@{address}"]  # fmt: skip
        # `cloud-init status --wait` returns at the first error, before user data has run.
        command = [*ssh, "test -e /run/cloud-init/result.json && sudo python3 -"]
        deadline = time.monotonic() + PATIENCE
        while True:
            done = subprocess.run(command, input=LOOK, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return json.loads(done.stdout)
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"cloud-init did not end at {address}: {(done.stderr or done.stdout).strip()[-300:]}"
                )
            time.sleep(3)


def _unless(right: bool, seen: object) -> str:
    return "" if right else f"found {seen!r}"
