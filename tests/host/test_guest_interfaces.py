"""Cards of a guest that runs: plugged in, seen by the guest, and out when it has let go. Real libvirt, real taps."""

import os
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
from guestlab import NETWORK, PORT
from volumelab import Shell, VolumeLab

from kilonova.host.calls import observed
from kilonova.host.contract import Work
from kilonova.host.libvirt import interfaces
from kilonova.host.libvirt.volumes import Guest
from kilonova.host.net.link import list_links
from kilonova.model.errors import HostError, Later
from kilonova.model.specs import HostNetwork, ServerSpec

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, libvirt"),
    pytest.mark.xdist_group("guest_interfaces"),
]
VIF_TYPES = ("bridge", "tap")


class Crash(BaseException):
    """No handler catches it: the rest of the step does not happen."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VolumeLab]:
    lab = VolumeLab(tmp_path_factory.mktemp("interfaces"))
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def shell(lab: VolumeLab) -> Iterator[Shell]:
    server = lab.server()
    shell = lab.boot(server)
    yield shell
    shell.close()
    lab.end(server)


def work(server: ServerSpec, vif_type: str, waited: float = 0.0) -> Work:
    port = msgspec.structs.replace(PORT, vif_type=vif_type)
    with_port = msgspec.structs.replace(server, networks=(NETWORK,), ports=(port,))
    return Work(with_port, data={"port_id": PORT.id}, waited=waited)


def detach(lab: VolumeLab, given: Work) -> None:
    """As the flow does it: again when the guest has not answered yet."""
    start = time.monotonic()
    while True:
        try:
            waited = time.monotonic() - start
            return lab.host.detach_interface(Work(given.server, data=given.data, waited=waited))
        except Later as later:
            time.sleep(later.seconds)


def cards(shell: Shell) -> list[str]:
    return shell.run("cat /sys/class/net/*/address").split()


def taps(lab: VolumeLab) -> list[str]:
    return [name for name in list_links(lab.plane.netns) if name.startswith("tap")]


def sweep(lab: VolumeLab) -> None:
    """Bridges go with a second pass of the loop that nobody desires them in."""
    for _ in range(2):
        lab.host.apply_network(HostNetwork())


@pytest.mark.parametrize("vif_type", VIF_TYPES)
def test_a_guest_that_runs_gets_a_card_and_gives_it_back(lab: VolumeLab, shell: Shell, vif_type: str) -> None:
    given = work(shell.server, vif_type)
    for _ in range(2):  # twice is as once
        assert lab.host.attach_interface(given) == {"device": PORT.tap}
    deadline = time.monotonic() + 30
    while PORT.mac_address not in cards(shell):
        assert time.monotonic() < deadline, "the guest does not see its card"
        time.sleep(0.2)
    assert taps(lab) == [PORT.tap]
    assert all(interfaces.find(shell.guest, PORT.mac_address, scope) is not None for scope in shell.guest.scopes())
    for _ in range(2):
        detach(lab, given)
    assert PORT.mac_address not in cards(shell)
    assert taps(lab) == []
    assert [interfaces.find(shell.guest, PORT.mac_address, scope) for scope in shell.guest.scopes()] == [None, None]
    sweep(lab)


def test_a_guest_without_a_system_keeps_its_card(lab: VolumeLab) -> None:
    """It is paused: nobody listens. It has the card in both, as before."""
    alone = lab.server(2)
    guest = lab.start(alone)
    try:
        lab.host.attach_interface(work(alone, "tap"))
        with pytest.raises(Later):
            lab.host.detach_interface(work(alone, "tap"))
        with pytest.raises(HostError, match="has not let go of its card"):
            lab.host.detach_interface(work(alone, "tap", waited=interfaces.DETACH_SECONDS + 1))
        assert all(interfaces.find(guest, PORT.mac_address, scope) is not None for scope in guest.scopes())
        assert taps(lab) == [PORT.tap]
    finally:
        lab.end(alone)
        lab.host.unplug_vifs(work(alone, "tap"))
        sweep(lab)


def crash_after(edge: int, act: Callable[[], object]) -> str:
    """Where it crashed; empty when there are fewer outside calls than `edge`."""
    seen = [0, ""]

    def observer(when: str, name: str) -> None:
        seen[0] += when == "after"
        if seen == [edge, ""]:
            seen[1] = f"{when} {name}"
            raise Crash(seen[1])

    try:
        with observed(observer):
            act()
    except Crash:
        pass
    return str(seen[1])


@pytest.mark.parametrize("vif_type", VIF_TYPES)
@pytest.mark.parametrize("verb", ["attach_interface", "detach_interface"])
def test_a_verb_that_dies_anywhere_is_repeated(lab: VolumeLab, verb: str, vif_type: str) -> None:
    """Attached to a guest that runs, paused; detached from one that is off, which has nothing to acknowledge."""
    alone = lab.server(3)
    guest = lab.start(alone)
    given, edge = work(alone, vif_type), 1
    try:
        while True:
            if verb == "detach_interface":
                _off(guest)
                lab.host.attach_interface(given)
            where = crash_after(edge, lambda: getattr(lab.host, verb)(given))
            getattr(lab.host, verb)(given)
            picture = [interfaces.find(guest, PORT.mac_address, scope) is not None for scope in guest.scopes()]
            wanted = [True, True] if verb == "attach_interface" else [False]
            assert (picture, taps(lab)) == (wanted, [PORT.tap] if verb == "attach_interface" else []), where
            if not where:
                break
            if verb == "attach_interface":
                _off(guest)
                lab.host.detach_interface(given)
                guest.domain.createWithFlags(1)  # paused
            edge += 1
        assert edge > 2
    finally:
        lab.end(alone)
        lab.host.unplug_vifs(given)
        sweep(lab)


def _off(guest: Guest) -> None:
    if guest.active:
        guest.domain.destroy()
