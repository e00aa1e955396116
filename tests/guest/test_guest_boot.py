"""The guest image keeps its contract, on the machines Kilonova builds: boots it under TCG, no libvirt and no network."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

REPO = Path(__file__).resolve().parents[2]
BUILD = REPO / "build"
UUID = "4b0e7a52-9a3c-4c8e-8f4e-0d6f7b6a5c11"
USER_DATA = "#!/bin/sh\nset -o pipefail\necho ran as $(id -un) >>/var/lib/user-data-proof\necho user-data-says-hello\n"
BOOT_SECONDS = 120  # ten on an idle machine; others may be using this one

pytestmark = [pytest.mark.guest, pytest.mark.xdist_group("guest")]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image as a host caches it: raw. From compressed clusters the BIOS would read a second longer."""
    subprocess.run(["bash", REPO / "guest/build.sh", "build"], check=True)
    raw = tmp_path_factory.mktemp("guest") / "guest.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", BUILD / "guest.qcow2", raw], check=True)
    yield raw
    raw.unlink()


@pytest.fixture
def work() -> Iterator[Path]:
    # short: the path of a unix socket ends at 107 bytes
    path = Path(tempfile.mkdtemp(prefix="kn-guest-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def ssh_key(work: Path) -> Path:
    key = work / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-C", "tester@host", "-f", key], check=True)
    return key


def meta_data(name: str, key: Path) -> dict[str, object]:
    """OpenStack's meta_data.json, with traps: names a careless reader would take for the real ones."""
    public = key.with_suffix(".pub").read_text()
    return {
        "uuid": UUID,
        "hostname": f"{name}.novalocal",
        "name": name,
        "meta": {"hostname": "trap", "uuid": "trap", 'quo"te': "a \\ b"},
        "public_keys": {"my key": public},
        "keys": [{"name": "my key", "type": "ssh", "data": public}],
        "devices": [],
        "launch_index": 0,
    }


def config_drive_tree(work: Path, name: str, key: Path) -> Path:
    latest = work / "config/openstack/latest"
    latest.mkdir(parents=True)
    (latest / "meta_data.json").write_text(json.dumps(meta_data(name, key)))
    (latest / "user_data").write_text(USER_DATA)
    return work / "config"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Guest:
    """A guest on a throw-away overlay: its serial console, ssh through a forwarded port, and its power button."""

    def __init__(self, work: Path, image: Path, *args: str, memory: int = 128, disk: str = "virtio-blk-pci") -> None:
        self.work = work
        overlay = work / "disk.qcow2"
        if not overlay.exists():
            create: list[str | Path] = [
                "qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                "-F",
                "raw",
                "-b",
                image,
                overlay,
                "1G",
            ]
            subprocess.run(create, check=True)
        self.ssh_port = free_port()
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg,tb-size=32", "-m", str(memory), "-display", "none", "-nodefaults",
             "-chardev", f"socket,id=serial,path={work}/serial,server=on,wait=off,logfile={work}/console.log",
             "-serial", "chardev:serial", "-qmp", f"unix:{work}/qmp,server=on,wait=off",
             *(arg.replace("@HOSTFWD", f"restrict=on,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22") for arg in args),
             "-drive", f"file={overlay},if=none,id=root", "-device", f"{disk},drive=root,bootindex=1"],
        )  # fmt: skip
        self.seen = ""
        try:
            self.serial = self._connect("serial")
        except OSError:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.serial.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if error is not None:
            print(self.console())

    def _connect(self, name: str) -> socket.socket:
        path, deadline = str(self.work / name), time.monotonic() + 20
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(path)
                return sock
            except OSError:
                sock.close()
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def console(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.work / "console.log").read_text(errors="replace")
        return ""

    def expect(self, pattern: str, seconds: float = 30) -> str:
        """The match of pattern in what the serial console says from here on; consumes it."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            self.serial.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self.serial.recv(65536)
            except TimeoutError:
                data = b""
            assert data, f"the console did not say {pattern!r}; it ends with: {self.seen[-600:]}"
            self.seen += data.decode(errors="replace")
        self.seen = self.seen[match.end() :]
        return match.group(0)

    def log_in_on_the_console(self) -> None:
        self.expect(r"login: ", BOOT_SECONDS)
        self.serial.sendall(b"cirros\n")
        self.expect(r"Password: ")
        self.serial.sendall(b"gocubsgo\n")
        self.expect(r"\$ ")

    def type(self, command: str) -> str:
        """What a command typed on the console prints."""
        self.serial.sendall(f"echo st''art; {command}; echo en''d\n".encode())
        self.expect(r"start\r\n")
        return self.expect(r"(?s).*?end\r\n").replace("\r\n", "\n").removesuffix("end\n").strip()

    def ssh(self, command: str, *, key: Path | None = None, password: str | None = None) -> str:
        """Output of a command by ssh; subprocess.CalledProcessError when it, or the login, fails."""
        options = ["-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
                   "-o", "IdentityAgent=none", "-F", "none", "-p", str(self.ssh_port)]  # fmt: skip
        if key:
            options += ["-i", str(key), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
        else:
            options += ["-o", "PubkeyAuthentication=no"]
        argv = ["ssh", *options, "cirros@127.0.0.1", command]
        env = dict(os.environ)
        if password is not None:
            argv, env["SSHPASS"] = ["sshpass", "-e", *argv], password
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60, env=env).stdout.strip()

    def press_power_button(self) -> None:
        with self._connect("qmp") as qmp, qmp.makefile("rw") as stream:
            stream.readline()
            for command in ("qmp_capabilities", "system_powerdown"):
                stream.write(json.dumps({"execute": command}) + "\n")
                stream.flush()
                stream.readline()
            self.process.wait(timeout=30)


def test_contract_on_pc_with_virtio_and_a_config_drive(image: Path, work: Path, ssh_key: Path) -> None:
    iso = work / "config.iso"
    tree = config_drive_tree(work, "first-vm", ssh_key)
    make_iso: list[str | Path] = ["genisoimage", "-quiet", "-R", "-J", "-V", "config-2", "-o", iso, tree]
    subprocess.run(make_iso, check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", work / "volume", "64M"], check=True)
    machine = (
        "-nic", "user,model=virtio-net-pci,ipv4=on,ipv6=on,@HOSTFWD", "-device", "virtio-balloon",
        "-nic", "user,model=virtio-net-pci,net=10.0.3.0/24", "-nic", "user,model=virtio-net-pci,net=10.0.4.0/24",
        "-device", "virtio-rng-pci",
        "-drive", f"file={iso},if=ide,media=cdrom,format=raw,readonly=on", "-device", "virtio-scsi-pci",
        "-drive", f"file={work}/volume,if=none,id=volume,format=raw", "-device", "scsi-hd,drive=volume",
    )  # fmt: skip
    with Guest(work, image, *machine) as guest:
        guest.log_in_on_the_console()
        assert guest.type("hostname") == "first-vm"
        assert guest.type("id -un; sudo id -un") == "cirros\nroot"
        console = guest.console()
        assert "ready: first-vm eth0 10.0.2.15/24, eth1 10.0.3.15/24, eth2 10.0.4.15/24, sshd up" in console
        assert "user-data-says-hello" in console
        assert "-cloud-amd64" in guest.type("uname -r")

        for tool in "ip lsblk blkid mkfs.ext4 mount udhcpc ping nc curl sudo".split():
            assert guest.ssh(f"command -v {tool}", key=ssh_key).endswith(tool)
        assert guest.ssh("set -eu -o pipefail; PATH=$PATH:/sbin; false | true || echo failed", key=ssh_key) == "failed"
        assert guest.ssh("id -un", password="gocubsgo") == "cirros"
        with pytest.raises(subprocess.CalledProcessError):
            guest.ssh("id -un", password="wrong")

        disks = {row.split()[0]: row.split() for row in guest.ssh("lsblk -lb --nodeps", key=ssh_key).splitlines()}
        assert disks["vda"][3] == str(1 << 30)
        assert disks["sda"][3] == str(64 << 20)
        assert int(guest.ssh("df -m / | awk 'END {print $2}'", key=ssh_key)) > 900, "the root did not grow"
        script = (
            "set -e; sudo mkfs.ext4 -q /dev/sda; sudo mount /dev/sda /mnt; sudo sh -c 'echo kept >/mnt/file; sync'; "
            "cat /mnt/file; sudo umount /mnt; sudo blkid /dev/sda"
        )
        kept, blkid = guest.ssh(script, key=ssh_key).splitlines()
        assert kept == "kept"
        assert 'TYPE="ext4"' in blkid
        script = "set -e; sudo mkfs -t vfat /dev/sda; sudo mount /dev/sda /mnt; mount | grep -o 'vfat'; sudo umount /mnt"
        assert guest.ssh(script, key=ssh_key).splitlines()[-1] == "vfat"
        assert guest.ssh("echo kept >/tmp/word; sync; stat -c %a /tmp", key=ssh_key) == "1777"

        assert "inet6 fe80::" in guest.ssh("ip -6 addr show dev eth0", key=ssh_key)
        assert "inet6 fec0::" in guest.ssh("ip -6 addr show dev eth0", key=ssh_key), "no address by SLAAC"
        assert "0% packet loss" in guest.ssh("ping -c 1 127.0.0.1 && ping -6 -c 1 ::1", key=ssh_key)
        assert guest.ssh("sudo kill -0 $(cat /var/run/udhcpc.eth0.pid) && echo runs", key=ssh_key) == "runs"
        served = "(printf 'HTTP/1.0 200 OK\\r\\n\\r\\nserved' | nc -l -p 8000 >/dev/null) & sleep 1; "
        assert guest.ssh(f"{served} curl -s -w ' %{{http_code}}' http://127.0.0.1:8000/", key=ssh_key) == "served 200"
        host_key = guest.ssh("sudo md5sum /etc/dropbear/ed25519", key=ssh_key)
        guest.press_power_button()

    with Guest(work, image, *machine) as guest:
        guest.expect(r"first-vm login: ", BOOT_SECONDS)
        assert guest.ssh("cat /var/lib/user-data-proof /tmp/word", key=ssh_key) == "ran as root\nkept", "once an instance"
        assert guest.ssh("sudo md5sum /etc/dropbear/ed25519", key=ssh_key) == host_key
        guest.press_power_button()

    # The disk of one instance, started as another: what a snapshot's copy sees.
    latest = tree / "openstack/latest"
    (latest / "meta_data.json").write_text((latest / "meta_data.json").read_text().replace(UUID, UUID[::-1]))
    subprocess.run(make_iso, check=True)
    with Guest(work, image, *machine) as guest:
        guest.expect(r"first-vm login: ", BOOT_SECONDS)
        assert guest.ssh("cat /var/lib/user-data-proof", key=ssh_key) == "ran as root\nran as root"
        assert guest.ssh("sudo md5sum /etc/dropbear/ed25519", key=ssh_key) != host_key


def metadata_server(work: Path, answers: dict[str, str]) -> str:
    """A command that answers one HTTP request on its standard input and output, for QEMU's guestfwd."""
    (work / "answers.json").write_text(json.dumps(answers))
    script = work / "metadata.py"
    script.write_text(
        "import json, sys\n"
        f"answers = json.load(open({str(work / 'answers.json')!r}))\n"
        "path = sys.stdin.buffer.readline().split()[1].decode()\n"
        "while sys.stdin.buffer.readline().strip(): pass\n"
        "body = answers.get(path)\n"
        "head = 'HTTP/1.1 404 Not Found' if body is None else 'HTTP/1.1 200 OK'\n"
        "data = (body or 'no such thing').encode()\n"
        "head += f'\\r\\nContent-Length: {len(data)}\\r\\nConnection: close\\r\\n\\r\\n'\n"
        "sys.stdout.buffer.write(head.encode() + data); sys.stdout.flush()\n"
    )
    return f"guestfwd=tcp:169.254.169.254:80-cmd:{shlex.quote(sys.executable)} -S {script}"


def answers_in(layout: str, key: Path) -> dict[str, str]:
    if layout == "openstack":
        return {
            "/openstack/latest/meta_data.json": json.dumps(meta_data("second-vm", key)),
            "/openstack/latest/user_data": USER_DATA,
        }
    ec2 = "/2009-04-04/meta-data"
    return {
        f"{ec2}/instance-id": "i-00000001",
        f"{ec2}/hostname": "second-vm.novalocal",
        f"{ec2}/public-keys/": "0=my key",
        f"{ec2}/public-keys/0/openssh-key": key.with_suffix(".pub").read_text(),
        "/2009-04-04/user-data": USER_DATA,
    }


# An IDE disk is read by the kernel here: the BIOS reads a megabyte a second from it under emulation.
DIRECT_KERNEL = ("-kernel", str(BUILD / "vmlinuz"), "-initrd", str(BUILD / "initrd.img"),
                 "-append", "root=/dev/vda console=tty0 console=ttyS0 no_timer_check nokaslr")  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "memory", "disk", "machine"),
    [
        pytest.param("openstack", 96, "ide-hd", DIRECT_KERNEL, id="direct-kernel-ide-openstack-96MB"),
        pytest.param("ec2", 128, "scsi-hd", ("-device", "virtio-scsi-pci,id=scsi"), id="scsi-ec2"),
    ],
)
def test_metadata_service(
    image: Path, work: Path, ssh_key: Path, layout: str, memory: int, disk: str, machine: tuple[str, ...]
) -> None:
    server = metadata_server(work, answers_in(layout, ssh_key))
    nic = ("-nic", f"user,model=virtio-net-pci,net=169.254.169.0/24,@HOSTFWD,{server}")
    with Guest(work, image, *nic, *machine, memory=memory, disk=disk) as guest:
        guest.expect(r"second-vm login: ", BOOT_SECONDS)
        assert guest.ssh("hostname", key=ssh_key) == "second-vm"
        deadline = time.monotonic() + 20
        while "ended with status 0" not in guest.console():
            assert time.monotonic() < deadline, "user data did not end"
            time.sleep(0.2)
        assert guest.ssh("cat /var/lib/user-data-proof", key=ssh_key) == "ran as root"
        path = "/openstack/latest/user_data" if layout == "openstack" else "/2009-04-04/user-data"
        assert guest.ssh(f"curl -sf http://169.254.169.254{path}", key=ssh_key) == USER_DATA.strip()


def test_a_volume_on_virtio_scsi_is_there_for_who_logs_in_first(image: Path, work: Path, ssh_key: Path) -> None:
    server = metadata_server(work, answers_in("openstack", ssh_key))
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", work / "volume", "64M"], check=True)
    machine = (
        *DIRECT_KERNEL, "-nic", f"user,model=virtio-net-pci,net=169.254.169.0/24,@HOSTFWD,{server}",
        "-device", "virtio-scsi-pci",
        "-drive", f"file={work}/volume,if=none,id=volume,format=raw", "-device", "scsi-hd,drive=volume",
    )  # fmt: skip
    with Guest(work, image, *machine) as guest:
        guest.expect(r"guest: metadata", BOOT_SECONDS)  # the ssh server comes next
        deadline, disks = time.monotonic() + 30, None
        while disks is None:
            with contextlib.suppress(subprocess.CalledProcessError):
                disks = guest.ssh("lsblk -S", key=ssh_key)
            assert time.monotonic() < deadline
        assert "\nsda " in disks


def test_full_kernel_on_q35_with_sata_e1000_and_a_vfat_config_drive(image: Path, work: Path, ssh_key: Path) -> None:
    drive = work / "config.fat"
    tree = config_drive_tree(work, "third-vm", ssh_key)
    subprocess.run(["mkfs.vfat", "-n", "config-2", "-C", drive, "4096"], check=True, capture_output=True)
    subprocess.run(["mcopy", "-s", "-i", drive, tree / "openstack", "::"], check=True)
    machine = (
        "-machine", "q35", "-drive", f"file={drive},if=none,id=config,format=raw", "-device", "ide-hd,drive=config,bus=ide.1",
        "-nic", "user,model=e1000,@HOSTFWD",
    )  # fmt: skip
    with Guest(work, image, *machine, disk="ide-hd,bus=ide.0") as guest:
        guest.expect(r"third-vm login: ", BOOT_SECONDS)
        assert "-cloud" not in guest.ssh("uname -r", key=ssh_key)
        assert "1073741824" in guest.ssh("lsblk -lb --nodeps", key=ssh_key)  # which of two SATA disks is sda is a race
        guest.press_power_button()
