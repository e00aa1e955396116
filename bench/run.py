"""The numbers, each beside its control in the same run: `make bench` (root, real libvirt) → a table, build/bench.json.

Medians of several runs. ROUNDS changes how many; the whole takes some ten minutes.
"""

import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lists
from cloud import Cloud
from guest_boot import Boots

ROUNDS = int(os.environ.get("ROUNDS", "9"))
STARTS = 3
MANY = 1000  # fake servers
BURST = 100  # of them at a time


def milliseconds(values: list[float]) -> int:
    return round(statistics.median(values) * 1000)


def starts(virt: str, folder: Path) -> float:
    """Seconds from the command to the first answer, of new clouds."""
    taken = []
    for _ in range(STARTS):
        with Cloud(virt, folder) as cloud:
            taken.append(cloud.cold_start)
    return round(statistics.median(taken), 2)


def against_libvirt(cloud: Cloud, folder: Path) -> dict[str, Any]:
    """Create and delete of one server in a network that has one already, each beside libvirt alone."""
    from control import Guests

    taken: dict[str, list[float]] = {"create": [], "delete": [], "libvirt_create": [], "libvirt_delete": []}
    for _ in range(ROUNDS):
        taken["create"].append(cloud.timed_create("one"))
        guests = Guests.keep(cloud, "one", folder)
        taken["delete"].append(cloud.timed_delete("one"))
        time.sleep(0.5)
        made, gone = guests.run()
        taken["libvirt_create"].append(made)
        taken["libvirt_delete"].append(gone)
        time.sleep(0.5)
    out: dict[str, Any] = {}
    for verb in ("create", "delete"):
        whole, control = taken[verb], taken[f"libvirt_{verb}"]
        shares = [mine - alone for mine, alone in zip(whole, control, strict=True)]
        out[verb] = {"ms": milliseconds(whole), "libvirt_only_ms": milliseconds(control),
                     "our_share_ms": milliseconds(shares)}  # fmt: skip
    return out


def ten_at_once(cloud: Cloud, folder: Path) -> dict[str, Any]:
    from control import Guests

    ours, alone = [], []
    for _ in range(3):
        ours.append(cloud.timed_create("ten", 10))
        guests = Guests.keep(cloud, "ten", folder)
        cloud.timed_delete("ten")
        time.sleep(1)
        alone.append(guests.run()[0])
        time.sleep(1)
    return {"ms": milliseconds(ours), "libvirt_only_ms": milliseconds(alone)}


def settle(cloud: Cloud) -> None:
    """Until the one guest has booted, and uses less than a fifth of a CPU."""
    log = next((cloud.state / "instances").glob("*-*/console.log"))
    qemu = next(pid for pid in cloud.pids() if Path(f"/proc/{pid}/comm").read_text().startswith("qemu"))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        before = _cpu(qemu)
        time.sleep(1)
        if log.exists() and log.stat().st_size and _cpu(qemu) - before < 0.2:
            return


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def real(folder: Path) -> dict[str, Any]:
    out: dict[str, Any] = {"cold_start_s": starts("auto", folder)}
    with Cloud("auto", folder) as cloud:
        time.sleep(5)
        out["idle_memory"] = cloud.memory_mib()
        cloud.unlimit()
        cloud.timed_create("warm")  # fills the image cache
        cloud.timed_delete("warm")
        first = []
        for _ in range(3):
            time.sleep(2)  # the network's namespace goes a while after its last server
            first.append(cloud.timed_create("first"))
            cloud.timed_delete("first")
        out["create_first_in_its_network_ms"] = milliseconds(first)
        out["boot"] = Boots(cloud, folder).measure(3)
        cloud.timed_create("neighbour")
        settle(cloud)
        out |= against_libvirt(cloud, folder)
        out["ten_at_once"] = ten_at_once(cloud, folder)
    return out


def fake(folder: Path) -> dict[str, Any]:
    out: dict[str, Any] = {"cold_start_s": starts("fake", folder)}
    with Cloud("fake", folder) as cloud:
        time.sleep(2)
        out["idle_memory"] = cloud.memory_mib()
        cloud.unlimit()
        detail = "/compute/v2.1/servers/detail"
        out["request_that_does_nothing"] = cloud.latency("GET", "/compute/v2.1", 100)  # the control of the others
        out["token"] = cloud.latency("POST", "/identity/v3/auth/tokens", 40, cloud.credentials)
        port = {"port": {"network_id": cloud.network}}
        out["port_create"] = cloud.latency("POST", "/network/v2.0/ports", 60, lambda: port)
        out["list_0"] = cloud.latency("GET", detail, 60)
        taken = [cloud.timed_create("many-0", BURST)]
        out[f"list_{BURST}"] = cloud.latency("GET", detail, 40)
        for burst in range(1, MANY // BURST):
            taken.append(cloud.timed_create(f"many-{burst}", BURST))
        out["servers_per_second"] = {"first_100": round(BURST / taken[0], 1), "last_100": round(BURST / taken[-1], 1)}
        out[f"list_{MANY}"] = cloud.latency("GET", detail, 20)
        out[f"list_{MANY}_names"] = cloud.latency("GET", "/compute/v2.1/servers", 20)
    with Cloud("fake", folder) as cloud:
        out["beside_many"] = lists.measure(cloud)
    return out


def passes(folder: Path) -> dict[str, Any]:
    """Of the port loop over real taps with 20 rules a port, in milliseconds; `rules.py` tells the kinds."""
    import rules

    return {
        f"{ports}_ports_{rules.RULES}_rules_ms": {
            kind: round(seconds * 1000, 1) for kind, seconds in rules.measure(ports, folder / f"rules-{ports}").items()
        }
        for ports in (*rules.SIZES, rules.RESYNC)
    }


def rows(result: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """The leaves by their dotted path."""
    found: list[tuple[str, Any]] = []
    for key, value in result.items():
        found += rows(value, f"{path}{key}.") if isinstance(value, dict) else [(f"{path}{key}", value)]
    return found


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the clouds are taken down
    began = time.monotonic()
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} CPUs, {platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load_at_start": round(os.getloadavg()[0], 2),
        "rounds": ROUNDS,
    }
    with tempfile.TemporaryDirectory(prefix="kn-bench-") as name:
        parts = {"real": real, "passes": passes, "fake": fake} if os.getuid() == 0 else {"fake": fake}
        for part, measure in parts.items():
            print(f"measuring: {part} …", file=sys.stderr)
            result[part] = measure(Path(name))
    result["seconds"] = round(time.monotonic() - began)
    Path("build").mkdir(exist_ok=True)
    Path("build/bench.json").write_text(json.dumps(result, indent=2) + "\n")
    for path, value in rows(result):
        print(f"{path:44} {value}")


if __name__ == "__main__":
    main()
