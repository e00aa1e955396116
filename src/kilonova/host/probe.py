"""What this host can do, found out by doing it: flags, modules and device nodes prove nothing."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kilonova.host.calls import outside, run
from kilonova.host.net.netlink import Netlink
from kilonova.host.netns import in_scratch_netns
from kilonova.model.errors import HostError

KVM_PATIENCE = 1.5  # seconds; firmware and boot sector take a few tenths where KVM works
KVM_CACHE = Path("/var/cache/kilonova/kvm.json")  # the answer holds until the next boot or another QEMU
LOW_MEMORY_MIB = 1024

# A boot sector: into protected mode, back out of it by iretd (which a kernel that only emulates cannot do), then
# writes 1 to QEMU's isa-debug-exit port, on which QEMU ends with status 3; then halts.
BOOT_SECTOR = (
    bytes.fromhex(
        "fa 31c0 8ed8 0f0116387c"  # cli; xor ax, ax; mov ds, ax; lgdt [0x7c38]
        "0f20c0 0c01 0f22c0 ea177c0800"  # mov eax, cr0; or al, 1; mov cr0, eax; jmp 8:0x7c17
        "66b81000 8ed8 8ed0 bc00700000"  # 32 bits: mov ax, 0x10; mov ds, ax; mov ss, ax; mov esp, 0x7000
        "9c 6a08 682d7c0000 cf"  # pushfd; push 8; push 0x7c2d; iretd
        "66baf404 b001 ee f4 ebfd 90"  # 0x7c2d: mov dx, 0x4f4; mov al, 1; out dx, al; hlt; jmp to the hlt
        "1700407c0000 6690"  # 0x7c38: the GDT's limit and address
        "0000000000000000 ffff0000009acf00 ffff00000092cf00"  # 0x7c40: null, code, data
    ).ljust(510, b"\0")
    + b"\x55\xaa"
)
BOOTED = 3


@dataclass(frozen=True)
class Check:
    """One answer of `kilonova doctor`: fix is what to do when it is not ok, empty where nothing can be done.

    needed: a cloud with real guests cannot do without; the others cost speed or a feature.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
    needed: bool = True


def checks(state: Path | None = None) -> list[Check]:
    """Every check, in the order in which their lack would show; none raises. state: where the instances' disks go."""
    return [
        check_root(),
        *(check_program(*each) for each in PROGRAMS),
        check_libvirt_python(),
        check_qemu_driver(),
        check_kvm(),
        check_tun(),
        check_netns(),
        check_nft(),
        check_br_netfilter(),
        check_physnets(),
        check_vlans(),
        check_direct_io(state or Path.cwd()),
        check_volume_backends(),
        check_firmware(),
        check_memory(),
        check_cgroups(),
    ]


PLACES = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
PROGRAMS = (
    ("qemu-system-x86_64", "runs the guests", "qemu-system-x86"),
    ("qemu-img", "makes and converts disks", "qemu-utils"),
    ("libvirtd", "keeps the guests", "libvirt-daemon"),
    ("virtlogd", "keeps their console logs", "libvirt-daemon"),
    ("dnsmasq", "serves DHCP and DNS", "dnsmasq-base"),
    ("radvd", "sends router advertisements", "radvd"),
    ("nft", "loads firewall rules", "nftables"),
    ("ip", "makes network namespaces", "iproute2"),
    ("conntrack", "ends connections that a changed rule forbids", "conntrack"),
    ("nsenter", "runs commands in a network namespace", "util-linux"),
)


def check_root() -> Check:
    ok = os.geteuid() == 0
    return Check("root", ok, f"uid {os.geteuid()}", "" if ok else "run as root, or take --virt fake")


def check_program(name: str, purpose: str, package: str) -> Check:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        return Check(name, False, f"not installed: {purpose}", f"apt-get install {package}")
    return Check(name, True, f"{found} {purpose}")


def check_libvirt_python() -> Check:
    try:
        import libvirt
    except ImportError as error:
        return Check("libvirt-python", False, str(error), "make setup, or pip install 'kilonova[libvirt]'")
    number = libvirt.getVersion()
    return Check("libvirt-python", True, f"libvirt {number // 1000000}.{number // 1000 % 1000}.{number % 1000}")


def check_qemu_driver() -> Check:
    pattern = "libvirt/connection-driver/libvirt_driver_qemu.so"
    found = [
        path for lib in ("/usr/lib", "/usr/lib64") for each in ("*/", "") for path in Path(lib).glob(each + pattern)
    ]
    if found:
        return Check("libvirt's QEMU driver", True, str(found[0]))
    return Check("libvirt's QEMU driver", False, "not installed", "apt-get install libvirt-daemon-driver-qemu")


# KVM


def choose_virt_type() -> str:
    """`--virt auto`: kvm where a guest really runs under it, else qemu (TCG). The answer is kept until the next boot."""
    return "kvm" if check_kvm(cache=KVM_CACHE).ok else "qemu"


def check_kvm(cache: Path | None = None) -> Check:
    """Boots a few bytes under KVM, since flags prove nothing."""
    emulator = shutil.which("qemu-system-x86_64")
    if emulator is None:
        return Check("KVM", False, "qemu-system-x86_64 is not installed", "apt-get install qemu-system-x86")
    key = _boot_key(emulator)
    known = _read_cache(cache, key)
    if known is None:
        known = why_not_kvm(emulator)
        _write_cache(cache, key, known)
    if not known:
        return Check("KVM", True, "a guest booted under KVM: --virt auto takes kvm")
    return Check("KVM", False, f"{known}: --virt auto takes qemu, which is slower", _kvm_fix(), needed=False)


def why_not_kvm(emulator: str) -> str:
    """Empty where KVM boots a guest about as fast as emulation does, or faster.

    A machine may offer /dev/kvm with no virtualization below it: there a guest hangs, or runs thirty times slower than
    under TCG. The control in the same minute tells that from a busy machine.
    """
    start = time.monotonic()
    boots("tcg", 10 * KVM_PATIENCE, emulator)
    deadline = max(KVM_PATIENCE, 2 * (time.monotonic() - start))
    return boots("kvm", deadline, emulator) and boots("kvm", deadline, emulator)  # a second chance, if busy just then


def boots(accelerator: str, deadline: float, emulator: str = "qemu-system-x86_64") -> str:
    """Why a guest of a few bytes does not run to its end under `kvm` or `tcg`; empty when it does."""
    with tempfile.NamedTemporaryFile(prefix="kilonova-boot-") as sector:
        sector.write(BOOT_SECTOR)
        sector.flush()
        argv = [
            *(emulator, "-accel", accelerator, "-machine", "pc", "-m", "16", "-nodefaults", "-no-user-config"),
            *("-display", "none", "-no-reboot", "-device", "isa-debug-exit,iobase=0x4f4"),
            *("-drive", f"file={sector.name},format=raw,if=floppy,readonly=on", "-boot", "a"),
        ]
        with outside(f"qemu boot {accelerator}"):
            try:
                done = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=deadline, check=False
                )
            except subprocess.TimeoutExpired:
                return f"/dev/kvm opens, but a guest hangs or crawls (no end of a boot sector in {deadline:.1f} s)"
            except OSError as error:
                return str(error)
    if done.returncode == BOOTED:
        return ""
    words = done.stderr.strip().splitlines()
    return words[-1] if words else f"QEMU ended with {done.returncode}"


def _kvm_fix() -> str:
    if Path("/dev/kvm").exists():
        return ""  # a virtual machine whose host does not nest; nothing to be done from inside
    return (
        "turn virtualization on in the firmware, or nested virtualization on the host above; modprobe kvm_intel kvm_amd"
    )


def _boot_key(emulator: str) -> str:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.path.exists('/dev/kvm')} {os.stat(emulator).st_mtime_ns}"
    return ""


def _read_cache(cache: Path | None, key: str) -> str | None:
    if cache is None or not key:
        return None
    with suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(cache.read_text())
        if known["key"] == key:
            return str(known["why_not"])
    return None


def _write_cache(cache: Path | None, key: str, why_not: str) -> None:
    if cache is None or not key:
        return
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        new = cache.with_name(f"{cache.name}.{os.getpid()}")
        new.write_text(json.dumps({"key": key, "why_not": why_not}))
        new.replace(cache)


# Network


def _attempt(name: str, attempt: Callable[[], object], good: str, fix: str) -> Check:
    try:
        attempt()
    except (OSError, HostError) as error:
        return Check(name, False, str(error), fix)
    return Check(name, True, good)


def check_tun() -> Check:
    def attempt() -> None:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))

    return _attempt("tap devices", attempt, "/dev/net/tun opens", "modprobe tun")


def check_netns() -> Check:
    """A bridge and a veth in a namespace that ends with the check."""

    def attempt() -> None:
        connection = Netlink(None)
        try:
            connection.add_bridge("probe-br")
            connection.add_veth("probe-a", "probe-b", None)
        finally:
            connection.close()

    with outside("netlink probe"):
        return _attempt(
            "bridges and veths in a network namespace",
            lambda: in_scratch_netns(attempt),
            "made and gone again",
            "run as root on a kernel with CONFIG_NET_NS, CONFIG_BRIDGE and CONFIG_VETH",
        )


NFT_PROBE = """
table bridge probe {
  chain c {
    type filter hook forward priority 0
    ether saddr 02:00:00:00:00:01 meta mark set 1
  }
}
table ip probe {
  chain c {
    type filter hook forward priority 0
    ct state established accept
  }
}
"""


def check_nft() -> Check:
    """The two kinds of rules that ports need: bridge family with marks, ip family with connection tracking."""
    return _attempt(
        "nftables",
        lambda: in_scratch_netns(lambda: run(["nft", "-f", "-"], input=NFT_PROBE)),
        "bridge and ip tables load, with marks and ct state",
        "apt-get install nftables; a kernel with NF_TABLES_BRIDGE and NF_CONNTRACK",
    )


def check_br_netfilter() -> Check:
    name = "br_netfilter"
    if Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        return Check(name, True, "loaded: security groups can track connections on a bridge")
    return _attempt(
        name,
        lambda: run(["modprobe", "--dry-run", "br_netfilter"]),
        "not loaded yet; `up` loads it, and turns it off at once for this host's own bridges",
        "a kernel with CONFIG_BRIDGE_NETFILTER: security groups need it",
    )


def check_physnets() -> Check:
    """A macvlan of mode passthru, as a physical network's link has it, in a namespace that ends with the check."""
    name = "physical networks (--physnet)"

    def attempt() -> None:
        run(["ip", "link", "add", "probe-a", "type", "veth", "peer", "name", "probe-b"])
        run(["ip", "link", "add", "link", "probe-a", "name", "probe-m", "type", "macvlan", "mode", "passthru"])

    try:
        in_scratch_netns(attempt)
    except (OSError, HostError) as error:
        fix = "a kernel with CONFIG_MACVLAN, or --host-net: a link is a bridge's port there"
        return Check(name, False, f"no macvlan of mode passthru: {error}", fix, needed=False)
    return Check(name, True, "a macvlan of mode passthru was made and is gone again")


def check_vlans() -> Check:
    """Not this host's lack alone: a network of type vlan is not carried whatever the kernel can."""
    name = "networks of type vlan"
    detail = "their ports are binding_failed: Kilonova does not tag frames"

    def attempt() -> None:
        run(["ip", "link", "add", "probe-a", "type", "veth", "peer", "name", "probe-b"])
        run(["ip", "link", "add", "link", "probe-a", "name", "probe-v", "type", "vlan", "id", "7"])

    try:
        in_scratch_netns(attempt)
    except (OSError, HostError):
        return Check(name, False, f"{detail}, and this kernel has no 802.1q (modprobe 8021q)", needed=False)
    return Check(name, False, detail, "ip link add link eth1 name eth1.7 type vlan id 7; --physnet lan7=eth1.7", False)


# Disks, firmware, memory


def direct_io_works(directory: Path) -> bool:
    """A block written with O_DIRECT to a file that is gone afterwards."""
    try:
        fd, name = tempfile.mkstemp(prefix=".direct-", dir=directory)
    except OSError:
        return False
    os.close(fd)
    try:
        fd = os.open(name, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            with mmap.mmap(-1, mmap.PAGESIZE) as page:  # mapped memory is aligned, which O_DIRECT asks for
                return os.write(fd, page) == mmap.PAGESIZE
        finally:
            os.close(fd)
    except OSError:
        return False
    finally:
        os.unlink(name)


def check_direct_io(directory: Path) -> Check:
    """For the nearest directory that exists."""
    place = directory.absolute()
    while not place.is_dir():
        place = place.parent
    if direct_io_works(place):
        return Check("O_DIRECT", True, f"works in {place}: disks take cache=none")
    return Check(
        "O_DIRECT",
        False,
        f"does not work in {place}: disks take cache=writeback",
        "put --state on ext4, xfs or btrfs",
        needed=False,
    )


def check_volume_backends() -> Check:
    """The kinds of `--volume-backend` that this host has what it takes for; `file` takes nothing."""
    mapper = (
        Path("/dev/mapper/control").exists()
        or not subprocess.run(["modprobe", "-nq", "dm_mod"], capture_output=True, check=False).returncode
    )
    lacks = {
        "iscsi": "" if shutil.which("tgtd", path=PLACES) else "apt-get install tgt",
        "lvm": "" if mapper else "this kernel has no device-mapper",
        "rbd": "" if shutil.which("rbd") else "apt-get install ceph-common qemu-block-extra",
    }
    if not lacks["lvm"] and not shutil.which("lvcreate", path=PLACES):
        lacks["lvm"] = "apt-get install lvm2 thin-provisioning-tools"
    has = ", ".join(["file", *(kind for kind, lack in lacks.items() if not lack)])
    return Check(
        "volume backends", True, "; ".join([has, *(f"not {kind}: {lack}" for kind, lack in lacks.items() if lack)])
    )


def check_firmware() -> Check:
    found = sorted(Path("/usr/share/OVMF").glob("OVMF_CODE*.fd"))
    if found:
        return Check("UEFI firmware", True, str(found[0]))
    detail = "images with hw_firmware_type=uefi cannot boot"
    return Check("UEFI firmware", False, detail, "apt-get install ovmf", needed=False)


def check_memory() -> Check:
    free = 0
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) >> 10
    if free >= LOW_MEMORY_MIB:
        return Check("memory", True, f"{free} MiB available")
    detail = f"{free} MiB available: room for a few small guests only"
    return Check("memory", False, detail, "end something, or add memory", needed=False)


def check_cgroups() -> Check:
    """Not this host's lack but our choice, and the person who sets a quota must know it."""
    return Check(
        "CPU shares and resource partition",
        True,
        "written into the guest's XML, but without effect: a cloud's own libvirtd runs with cgroup_controllers = [ ]"
        " (--host-net with --libvirt-uri qemu:///system gives them effect)",
    )
