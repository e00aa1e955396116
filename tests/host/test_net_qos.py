"""QoS on real packets: what passes in each direction under two limits, compared; DSCP marks; and all of it kept true."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import netlab
import pytest
from msgspec.structs import replace
from netlab import EGRESS, Lab

from kilonova.host.calls import run
from kilonova.host.netns import in_netns
from kilonova.model.specs import HostNetwork, LimitSpec, NetworkSpec, PacketLimitSpec, PortSpec, QosSpec, RuleSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
OPEN = (*EGRESS, RuleSpec(direction="ingress", ethertype="IPv4", protocol="udp"))
SENT = 5000
SO_RCVBUFFORCE = 33
SLOW, FAST = LimitSpec(kbps=1000, burst_kb=80), LimitSpec(kbps=4000, burst_kb=80)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


class Pair:
    """A guest whose port has the policy, and one without."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.net: NetworkSpec = netlab.network(enable_dhcp=False)
        self.limited = netlab.port(self.net, "10.0.0.11", rules=OPEN)
        self.free = netlab.port(self.net, "10.0.0.12", rules=OPEN)
        self.guest, self.other = (lab.guest(each, f"{each.fixed_ips[0].ip_address}/24") for each in self.ports())

    def ports(self) -> tuple[PortSpec, PortSpec]:
        return self.limited, self.free

    def want(self, qos: QosSpec, **changes: object) -> HostNetwork:
        self.limited = replace(self.limited, qos=qos, **changes)
        return HostNetwork(networks=(self.net,), ports=self.ports())


def throughput(sender: str, receiver: str, ip: str) -> float:
    """Bytes a second that arrive of more than any limit lets through, once the burst is used up."""
    arrived, started, stop = 0, 0.0, threading.Event()

    def flood() -> None:
        with in_netns(sender, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((ip, 9000))
            while not stop.is_set():
                for _ in range(10):
                    try:
                        sock.send(b"\0" * 1200)
                    except OSError:
                        pass
                time.sleep(0.005)

    with in_netns(receiver, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 9000))
        sock.settimeout(2)
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            begun = time.monotonic()
            while (now := time.monotonic()) - begun < 5:
                size = len(sock.recv(2048))
                if now - begun > 2:
                    started = started or now
                    arrived += size
        finally:
            stop.set()
            thread.join()
    return arrived / (now - started)


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_limit_limits(lab: Lab, direction: str) -> None:
    pair = Pair(lab)
    way = (pair.other, pair.guest, "10.0.0.11") if direction == "ingress" else (pair.guest, pair.other, "10.0.0.12")
    back = (way[1], way[0], "10.0.0.12" if direction == "ingress" else "10.0.0.11")
    rates = {}
    for name, limit in (("slow", SLOW), ("fast", FAST), ("none", None)):
        lab.apply(pair.want(QosSpec(**{direction: limit})))
        rates[name] = throughput(*way)
        if name == "slow":
            rates["back"] = throughput(*back)
    print(direction, {name: f"{rate * 8 / 1000:.0f} kbit/s" for name, rate in rates.items()})
    assert 2.5 < rates["fast"] / rates["slow"] < 6
    assert rates["none"] > 1.5 * rates["fast"]
    assert rates["back"] > 2 * rates["slow"]  # the other direction is not limited


def burst(sender: str, receiver: str, ip: str) -> tuple[int, float]:
    """How many of SENT small packets arrive, and the seconds that it took to send them."""
    with in_netns(receiver, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        sock.bind(("0.0.0.0", 9000))
        with in_netns(sender, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.connect((ip, 9000))
            out.send(b"?")  # whoever has to be asked for by ARP is known then
            sock.settimeout(5)
            sock.recv(1)
            begun = time.monotonic()
            for _ in range(SENT):
                out.send(b"!")
            took = time.monotonic() - begun
        sock.settimeout(0.5)
        arrived = 0
        with suppress(TimeoutError):
            while sock.recv(1):
                arrived += 1
    return arrived, took


@pytest.mark.parametrize("direction", ["ingress", "egress"])
@pytest.mark.parametrize("secure", [True, False])
def test_packets_are_counted(lab: Lab, direction: str, secure: bool) -> None:
    """A thousand a second, and a hundred at once, of packets that no limit of bandwidth would notice."""
    pair = Pair(lab)
    way = (pair.other, pair.guest, "10.0.0.11") if direction == "ingress" else (pair.guest, pair.other, "10.0.0.12")
    back = (way[1], way[0], "10.0.0.12" if direction == "ingress" else "10.0.0.11")
    changes = {} if secure else {"port_security_enabled": False, "rules": ()}
    want = pair.want(QosSpec(**{f"{direction}_packets": PacketLimitSpec(kpps=1)}), **changes)
    lab.apply(want)
    arrived, took = burst(*way)
    assert 90 <= arrived <= 110 + 1100 * took < SENT, (arrived, took)
    assert burst(*back)[0] == SENT  # the other direction is not limited
    assert lab.writes(want) == []
    lab.apply(pair.want(QosSpec()))
    assert burst(*way)[0] == SENT
    assert "qos-" not in run(["nft", "list", "ruleset"], netns=lab.netns)


def test_packets_are_marked(lab: Lab) -> None:
    pair = Pair(lab)
    lab.apply(pair.want(QosSpec(dscp=26)))
    assert seen_mark(pair.guest, pair.other, "10.0.0.12") == 26
    assert seen_mark(pair.other, pair.guest, "10.0.0.11") == 0
    lab.apply(pair.want(QosSpec(dscp=46), port_security_enabled=False, rules=()))
    assert seen_mark(pair.guest, pair.other, "10.0.0.12") == 46
    lab.apply(pair.want(QosSpec()))
    assert seen_mark(pair.guest, pair.other, "10.0.0.12") == 0


def seen_mark(sender: str, receiver: str, ip: str) -> int:
    with netlab.packet_socket(receiver) as sock:
        in_netns(sender, _say, ip)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            frame = sock.recv(2048)
            if b"marked?" in frame:
                return frame[15] >> 2
    raise AssertionError("nothing arrived")


def _say(ip: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"marked?", (ip, 9))


def test_limits_are_kept_true(lab: Lab) -> None:
    pair = Pair(lab)
    qos = QosSpec(ingress=SLOW, egress=SLOW, dscp=8)
    want = pair.want(qos)
    lab.apply(want)

    def shown() -> str:
        return run(["tc", "qdisc", "show", "dev", pair.limited.tap], netns=lab.netns)

    assert "tbf" in shown()
    assert "rate 1Mbit" in shown()
    assert lab.writes(want) == []
    lab.restart()
    assert lab.writes(want) == []
    run(["tc", "qdisc", "delete", "dev", pair.limited.tap, "root"], netns=lab.netns)
    assert lab.writes(want) == ["netlink qdisc set"]
    run(["tc", "qdisc", "replace", "dev", pair.limited.tap, "root", "tbf", "rate", "9mbit", "burst", "9kb", "latency",
         "9ms"], netns=lab.netns)  # fmt: skip
    assert lab.writes(want) == ["netlink qdisc set"]
    assert "rate 1Mbit" in shown()
    lab.apply(pair.want(replace(qos, ingress=FAST)))
    assert "rate 4Mbit" in shown()
    lab.apply(pair.want(QosSpec()))
    assert "tbf" not in shown()
    assert "qos-" not in run(["nft", "list", "ruleset"], netns=lab.netns)


def test_the_largest_limit_that_the_api_takes_keeps_no_rules_from_loading(lab: Lab) -> None:
    pair, most = Pair(lab), LimitSpec(kbps=2**31 - 1, burst_kb=2**31 - 1)
    packets = PacketLimitSpec(kpps=2**31 - 1, burst_kpps=2**31 - 1)
    want = pair.want(QosSpec(ingress=most, egress=most, ingress_packets=packets, egress_packets=packets))
    assert set(lab.apply(want).values()) == {"ACTIVE"}
    assert lab.writes(want) == []
