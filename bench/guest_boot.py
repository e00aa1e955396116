"""From the request to a login by ssh: the guest image from its disk, beside the same with its kernel given directly."""

import json
import os
import socket
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from cloud import PATIENCE, POLL, Cloud

from kilonova.host.netns import in_netns

BUILD = Path(__file__).resolve().parents[1] / "build"
SSH = ("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
       "-o", "LogLevel=ERROR")  # fmt: skip
MARKS = ("active", "kernel", "init", "sshd", "login", "cpu_to_sshd", "resident_mib", "settled_mib")
SETTLES = 6  # seconds from its login until a guest has told of the memory that it does not need


class Boots:
    """A key, a group that lets ssh in, and the image again as kernel, ramdisk and disk."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud, self.key = cloud, folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        pair = {"keypair": {"name": "boots", "public_key": self.key.with_suffix(".pub").read_text()}}
        cloud.http.post("/compute/v2.1/os-keypairs", json=pair).raise_for_status()
        group = {"security_group": {"name": "boots"}}
        made = cloud.http.post("/network/v2.0/security-groups", json=group).json()["security_group"]["id"]
        rule = {"security_group_id": made, "direction": "ingress", "protocol": "tcp", "ethertype": "IPv4"}
        cloud.http.post("/network/v2.0/security-group-rules", json={"security_group_rule": rule}).raise_for_status()
        parts = {"kernel_id": self._image("vmlinuz", "aki"), "ramdisk_id": self._image("initrd.img", "ari"),
                 "os_command_line": (BUILD / "cmdline").read_text().strip()}  # fmt: skip
        self.images = {
            "from_its_disk": cloud.json["images"]["kilonova-guest"]["id"],
            "with_its_kernel_given": self._image("guest.qcow2", "qcow2", **parts),
        }

    def _image(self, file: str, form: str, **properties: str) -> str:
        container = form if form.startswith("a") else "bare"
        body = {"name": file, "disk_format": form, "container_format": container, **properties}
        image: str = self.cloud.http.post("/image/v2/images", json=body).json()["id"]
        data = {"content": (BUILD / file).read_bytes(), "headers": {"Content-Type": "application/octet-stream"}}
        self.cloud.http.put(f"/image/v2/images/{image}/file", **data).raise_for_status()
        return image

    def once(self, way: str) -> dict[str, float]:
        """Seconds since the request at each of MARKS; of CPU that QEMU took to its sshd; MiB resident then and later."""
        server = {"name": "boots", "flavorRef": "1", "imageRef": self.images[way], "key_name": "boots",
                  "networks": [{"uuid": self.cloud.network}], "security_groups": [{"name": "boots"}]}  # fmt: skip
        http, start, seen = self.cloud.http, time.perf_counter(), dict[str, float]()
        server_id = http.post("/compute/v2.1/servers", json={"server": server}).raise_for_status().json()["server"]["id"]
        log, address = self.cloud.state / "instances" / server_id / "console.log", ""
        while "sshd" not in seen:
            if (now := time.perf_counter() - start) > PATIENCE:
                raise TimeoutError(f"the guest has no ssh server after {now:.0f} s; it came to {seen}")
            if not address:
                found = http.get(f"/compute/v2.1/servers/{server_id}").json()["server"]
                if found["status"] == "ACTIVE":
                    seen["active"], address = now, next(iter(found["addresses"].values()))[0]["addr"]
            text = log.read_bytes() if log.exists() else b""
            for mark, words in (("kernel", b"Linux version"), ("init", b"guest: init")):
                if words in text:
                    seen.setdefault(mark, now)
            if "init" in seen and in_netns(f"qdhcp-{self.cloud.network}", _answers, address):
                seen["sshd"] = time.perf_counter() - start
                seen["cpu_to_sshd"] = self._cpu(server_id)
            time.sleep(POLL)
        inside = ["nsenter", f"--net=/run/netns/qdhcp-{self.cloud.network}"]
        subprocess.run([*inside, *SSH, "-i", self.key, f"cirros@{address}", "true"], check=True)
        seen["login"] = time.perf_counter() - start
        seen["resident_mib"] = self._resident(server_id)
        time.sleep(SETTLES)
        seen["settled_mib"] = self._resident(server_id)
        self.cloud.timed_delete("boots")
        return seen

    def _qemu(self, server_id: str) -> Path:
        for pid in self.cloud.pids():
            if server_id.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return Path(f"/proc/{pid}")
        raise RuntimeError(f"there is no QEMU of server {server_id}")

    def _resident(self, server_id: str) -> float:
        return int((self._qemu(server_id) / "status").read_text().split("VmRSS:")[1].split()[0]) / 1024

    def _cpu(self, server_id: str) -> float:
        """A busy machine makes this longer, too, but far less than the seconds on the clock."""
        fields = (self._qemu(server_id) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def measure(self, rounds: int) -> dict[str, Any]:
        """Medians, the two ways by turns."""
        taken: dict[str, list[dict[str, float]]] = {way: [] for way in self.images}
        for _ in range(rounds):
            for way, runs in taken.items():
                runs.append(self.once(way))
        return {way: {mark if mark.endswith("_mib") else f"{mark}_s": round(statistics.median(run[mark] for run in runs), 2)
                      for mark in MARKS} for way, runs in taken.items()}  # fmt: skip


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), 0.5) as sock:
            return sock.recv(4) == b"SSH-"
    except OSError:
        return False


if __name__ == "__main__":  # this part alone
    import sys
    import tempfile

    with tempfile.TemporaryDirectory(prefix="kn-boots-") as name, Cloud("auto", Path(name)) as cloud:
        cloud.unlimit()
        print(json.dumps(Boots(cloud, Path(name)).measure(int(sys.argv[1]) if len(sys.argv) > 1 else 3), indent=2))
