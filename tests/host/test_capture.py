"""Captures of real taps: what passes is in the file, in a form that tcpdump reads; and nothing is left behind."""

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import netlab
import pytest
from netlab import EGRESS, PING, Lab

from kilonova.flows.asks import Asks
from kilonova.flows.captures import capture
from kilonova.flows.hostside import answer
from kilonova.host.calls import run
from kilonova.host.net import capture as captures
from kilonova.host.net.capture import Captures
from kilonova.model.errors import HostError, Unavailable
from kilonova.model.specs import HostNetwork

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path / "state")
    yield lab
    lab.close()


def site(lab: Lab) -> tuple[str, str, str]:
    """The first guest, its tap, and the address of the second."""
    net = netlab.network(enable_dhcp=False)
    ports = tuple(netlab.port(net, f"10.0.0.1{n}", rules=(*EGRESS, PING)) for n in (1, 2))
    guests = [lab.guest(port, f"{port.fixed_ips[0].ip_address}/24") for port in ports]
    lab.apply(HostNetwork(networks=(net,), ports=ports))
    return guests[0], ports[0].tap, "10.0.0.12"


def tcpdump(folder: Path, data: bytes) -> list[str]:
    file = folder / "some.pcap"
    file.write_bytes(data)
    done = subprocess.run(["tcpdump", "-nn", "-r", file], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_ping_is_in_the_pcap(lab: Lab, tmp_path: Path) -> None:
    guest, tap, address = site(lab)
    kept = Captures(lab.netns)
    began = kept.start(tap, 30, 1000)
    run(["ping", "-c3", "-i0.05", "-W1", address], netns=guest)
    answered = kept.read(began["id"])
    assert not answered["ended"]
    lines = tcpdump(tmp_path, base64.b64decode(began["data"]) + base64.b64decode(answered["data"]))
    assert sum("10.0.0.11 > 10.0.0.12: ICMP echo request" in line for line in lines) == 3
    assert sum("10.0.0.12 > 10.0.0.11: ICMP echo reply" in line for line in lines) == 3
    assert kept.stop(began["id"]) == {"dropped": 0} and len(kept) == 0
    assert kept.read(began["id"]) == {"data": "", "ended": True}


def test_it_ends_by_packets_by_time_by_its_device_and_when_nobody_reads(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, tap, address = site(lab)
    kept = Captures(lab.netns)
    few, short, long = kept.start(tap, 30, 2), kept.start(tap, 0.01, 1000), kept.start(tap, 30, 1000)
    run(["ping", "-c2", "-i0.05", address], netns=guest)
    assert kept.read(few["id"])["ended"] and kept.read(short["id"])["ended"] and not kept.read(long["id"])["ended"]
    with pytest.raises(HostError, match="not there"):
        kept.start("tap-none", 1, 1)
    more = [kept.start(tap, 30, 1) for _ in range(captures.MOST - len(kept))]
    with pytest.raises(HostError, match="captures run already"):
        kept.start(tap, 30, 1)
    run(["ip", "-n", lab.netns, "link", "delete", tap])
    assert kept.read(more[0]["id"])["ended"]
    monkeypatch.setattr(captures, "FORGOTTEN", 0.0)
    kept.sweep()
    assert len(kept) == 0


def test_a_stream_over_the_seam(lab: Lab, tmp_path: Path) -> None:
    """Questions and answers alone, as an agent's host will have them; given up half way, it is closed at once."""
    guest, tap, address = site(lab)
    kept, asks, ended = Captures(lab.netns), Asks(), threading.Event()

    class Hands:
        start_capture, read_capture, stop_capture = kept.start, kept.read, kept.stop

    def listen() -> None:
        while not ended.is_set():
            if (ask := asks.next("h", 0.1)) is not None:
                asks.answer(answer(Hands, ask))  # type: ignore[arg-type]

    asks.next("h", 0)
    thread = threading.Thread(target=listen)
    thread.start()
    try:
        with pytest.raises(Unavailable, match="not there"):
            capture(asks, "h", "tap-none", 1, 1)
        stream = capture(asks, "h", tap, 30, 6)
        parts = [next(stream)]
        run(["ping", "-c3", "-i0.05", address], netns=guest)
        parts += list(stream)
        assert len(tcpdump(tmp_path, b"".join(parts))) == 6 and len(kept) == 0
        given_up = capture(asks, "h", tap, 30, 1000)
        next(given_up)
        assert len(kept) == 1
        given_up.close()
        assert len(kept) == 0
        cut = capture(asks, "h", tap, 30, 1000)
        next(cut)
        asks.end()
        assert b"".join(cut) == b""
    finally:
        ended.set()
        thread.join()
        kept.close()
