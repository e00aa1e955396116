"""What the port loop's passes cost as ports grow: 10, 100 and 1000 ports of 20 rules each (root, no hypervisor).

    python bench/rules.py [PORTS ...]

Every tap is real, in a namespace of its own. `first`: from nothing; `same`: nothing to do; `rule`: one rule more in
one port's group; `port`: one port more; `restart`: the first pass of a new process; `drift`: somebody flushed the rules.
The last lines divide by the first row's time per port: a pass that costs the same a port has 1.0 all the way down.
"""

import ipaddress
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "host"))
import netlab
from netlab import EGRESS, Lab, tcp

from kilonova.host.calls import run
from kilonova.host.net.link import Links
from kilonova.model.specs import HostNetwork, NetworkSpec, PortSpec, RuleSpec

SIZES, RULES, A_NETWORK, ROUNDS = (10, 100, 1000), 20, 250, 5
RESYNC = 500  # ports that a restart may take two seconds for
COLUMNS = ("first", "same", "rule", "port", "restart", "drift")


def rules(first: int) -> tuple[RuleSpec, ...]:
    return (*EGRESS, *(tcp(first + number) for number in range(RULES - len(EGRESS))))


def desired(ports: int) -> HostNetwork:
    """Every tenth port has a group of its own."""
    groups = [rules(1000 + 100 * number) for number in range(max(ports // 10, 1))]
    networks, made = list[NetworkSpec](), list[PortSpec]()
    for number in range(ports):
        if number % A_NETWORK == 0:
            networks.append(netlab.network(f"10.{len(networks)}.0.0/16", enable_dhcp=False))
        address = ipaddress.ip_address(f"10.{len(networks) - 1}.0.10") + number % A_NETWORK
        made.append(netlab.port(networks[-1], str(address), rules=groups[number % len(groups)]))
    return HostNetwork(networks=tuple(networks), ports=tuple(made))


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def measure(ports: int, folder: Path) -> dict[str, float]:
    """Of so many ports; `folder` is made. Seconds of each kind of pass: medians, but for the first."""
    lab, wanted = Lab(folder), desired(ports)
    extra = netlab.port(wanted.networks[-1], "10.0.3.3", rules=wanted.ports[0].rules)
    more = msgspec.structs.replace(wanted, ports=(*wanted.ports, extra))
    one = msgspec.structs.replace(wanted.ports[0], rules=rules(7000))
    changed = msgspec.structs.replace(wanted, ports=(one, *wanted.ports[1:]))
    try:
        with Links(lab.netns, lab.cloud_id) as links:
            for port in more.ports:
                links.ensure_tap(port.tap, 1450)
        taken: dict[str, list[float]] = {column: [] for column in COLUMNS}
        taken["first"].append(seconds(lambda: lab.net.apply(wanted)))
        settle = lambda: [lab.net.apply(wanted) for _ in range(3)]  # noqa: E731
        settle()
        for _ in range(ROUNDS):
            taken["same"].append(seconds(lambda: lab.net.apply(wanted)))
            taken["rule"].append(seconds(lambda: lab.net.apply(changed)))
            settle()
            with Links(lab.netns, lab.cloud_id) as links:  # an extra tap that is not wanted was removed
                links.ensure_tap(extra.tap, 1450)
            taken["port"].append(seconds(lambda: lab.net.apply(more)))
            settle()
            lab.restart()
            taken["restart"].append(seconds(lambda: lab.net.apply(wanted)))
            run(["nft", "flush", "ruleset"], netns=lab.netns)
            taken["drift"].append(seconds(lambda: lab.net.apply(wanted)))
        return {column: statistics.median(values) for column, values in taken.items()}
    finally:
        lab.close()


def table(found: dict[int, dict[str, float]]) -> None:
    print(f"{'milliseconds':>14}" + "".join(f"{column:>10}" for column in COLUMNS))
    for ports, times in found.items():
        print(f"{ports:>8} ports" + "".join(f"{times[column] * 1000:>10.1f}" for column in COLUMNS))
    least = min(found)
    print(f"{'a port, ratio':>14}")
    for ports, times in found.items():
        shares = ((times[column] / ports) / (found[least][column] / least) for column in COLUMNS)
        print(f"{ports:>8} ports" + "".join(f"{share:>10.2f}" for share in shares))


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("bench/rules.py: needs root, for network namespaces")
    sizes = tuple(map(int, sys.argv[1:])) or SIZES
    found = {}
    for ports in sizes:
        with tempfile.TemporaryDirectory(prefix="kn-rules-") as folder:
            found[ports] = measure(ports, Path(folder) / str(uuid.uuid4()))
    table(found)


if __name__ == "__main__":
    main()
