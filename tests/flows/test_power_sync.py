"""What a host says of its guests, and what the cloud makes of it: as Nova's `_sync_instance_power_state`."""

from typing import Any

import pytest
from handcloud import HandCloud
from stories import act, active_server

from kilonova.compute import states


def report(cloud: HandCloud, seen: dict[str, int], age: float = 0.0) -> bool:
    return cloud.control_side.report_power_states(seen, age)


def actions(cloud: HandCloud, server_id: str) -> list[dict[str, Any]]:
    found = cloud.api("GET", f"/compute/v2.1/servers/{server_id}/os-instance-actions")["instanceActions"]
    return sorted(found, key=lambda action: str(action["start_time"]))


def power(cloud: HandCloud, server_id: str, power_state: int) -> None:
    cloud.host._set_power(server_id, power_state)


@pytest.fixture
def server(cloud: HandCloud) -> Any:
    server_id = active_server(cloud)
    yield server_id
    cloud.delete(server_id)
    cloud.run()


@pytest.mark.parametrize("power_state", [4, 6])
def test_a_guest_that_ended_by_itself_is_stopped_by_nobody(cloud: HandCloud, server: str, power_state: int) -> None:
    power(cloud, server, power_state)
    assert not report(cloud, {server: power_state})
    assert cloud.server(server)["task_state"] == "powering-off"
    cloud.run()
    row = cloud.server(server)
    assert (row["vm_state"], row["task_state"], row["power_state"]) == ("stopped", None, 4)
    told = actions(cloud, server)[-1]
    assert (told["action"], told["user_id"], told["project_id"]) == ("stop", None, None)
    assert not report(cloud, {server: 4})
    assert len(actions(cloud, server)) == 2  # the create, the stop, and nothing more


def test_a_stopped_server_that_somebody_starts_is_stopped_again(cloud: HandCloud, server: str) -> None:
    act("os-stop")(cloud, server)
    cloud.run()
    power(cloud, server, 1)
    report(cloud, {server: 1})
    cloud.run()
    assert cloud.host.power_states() == {server: 4}
    assert [action["action"] for action in actions(cloud, server)] == ["create", "stop", "stop"]


@pytest.mark.parametrize(("prepare", "seen", "vm_state"), [
    ((), 3, "active"), ((), 0, "active"), (("pause",), 1, "paused"), (("suspend",), 4, "suspended"),
])  # fmt: skip
def test_other_changes_are_shown_and_nothing_is_done(
    cloud: HandCloud, server: str, prepare: tuple[str, ...], seen: int, vm_state: str
) -> None:
    for action in prepare:
        act(action)(cloud, server)
        cloud.run()
    report(cloud, {server: seen})
    row = cloud.server(server)
    assert (row["vm_state"], row["task_state"], row["power_state"]) == (vm_state, None, seen)
    assert not cloud.unfinished()


def test_a_paused_guest_that_ends_is_stopped(cloud: HandCloud, server: str) -> None:
    act("pause")(cloud, server)
    cloud.run()
    power(cloud, server, 4)
    report(cloud, {server: 4})
    cloud.run()
    assert cloud.server(server)["vm_state"] == "stopped"


def test_what_was_measured_before_the_row_was_written_is_not_believed(cloud: HandCloud, server: str) -> None:
    assert report(cloud, {server: 4}, age=60.0)  # look again
    assert (cloud.server(server)["vm_state"], cloud.server(server)["power_state"]) == ("active", 1)
    assert not cloud.unfinished()


def test_a_server_of_another_host_or_with_work_under_way_is_left_alone(cloud: HandCloud, server: str) -> None:
    cloud.database.write(lambda tx: states.set_host(tx, server, "elsewhere"))
    report(cloud, {server: 4})
    assert cloud.server(server)["vm_state"] == "active"
    cloud.database.write(lambda tx: states.set_host(tx, server, cloud.host.name))
    act("pause")(cloud, server)
    report(cloud, {server: 4})
    cloud.run()
    assert cloud.server(server)["vm_state"] == "paused"


def test_a_flow_that_waits_for_its_guest_to_end_is_woken(cloud: HandCloud, server: str) -> None:
    """The guest takes its time: the step waits, and goes on in the moment that the guest is seen off."""
    from kilonova.model.errors import Later

    asked = []

    def slow(work: Any) -> None:
        asked.append(work.waited)
        if len(asked) == 1:
            raise Later(3600, waits_for=f"guest:{work.server.id}")
        power(cloud, server, 4)

    cloud.host.shut_down_guest = slow  # type: ignore[method-assign]
    try:
        act("os-stop")(cloud, server)
        while cloud.turn():
            pass
        assert len(asked) == 1
        report(cloud, {server: 1})
        assert not cloud.turn()
        report(cloud, {server: 4})
        while cloud.turn():
            pass
    finally:
        del cloud.host.shut_down_guest  # type: ignore[attr-defined]
    assert len(asked) == 2 and asked[1] >= asked[0]
    assert cloud.server(server)["vm_state"] == "stopped"


@pytest.mark.parametrize(("prepare", "vm_state", "power_state"), [
    ((), "active", 1), (("os-stop",), "stopped", 4), (("suspend",), "suspended", 4), (("pause",), "stopped", 4),
])  # fmt: skip
def test_servers_after_their_host_was_down(
    cloud: HandCloud, server: str, prepare: tuple[str, ...], vm_state: str, power_state: int
) -> None:
    """A real host's domains stay defined, shut off; saved memory stays on its disk."""
    for action in prepare:
        act(action)(cloud, server)
        cloud.run()
    power(cloud, server, 4)
    cloud.control_side.report_boot(cloud.host.power_states())
    report(cloud, cloud.host.power_states())
    cloud.run()
    row = cloud.server(server)
    assert (row["vm_state"], row["task_state"], row["power_state"]) == (vm_state, None, power_state)
    if vm_state == "suspended":
        act("resume")(cloud, server)
        cloud.run()
        assert cloud.server(server)["vm_state"] == "active"


def test_what_needs_no_flow_is_among_the_actions(cloud: HandCloud, server: str) -> None:
    act("lock")(cloud, server)
    act("unlock")(cloud, server)
    told = actions(cloud, server)
    assert [action["action"] for action in told] == ["create", "lock", "unlock"]
    shown = cloud.api(
        "GET", f"/compute/v2.1/servers/{server}/os-instance-actions/{told[1]['request_id']}", version="2.51"
    )
    assert [(event["event"], event["result"]) for event in shown["instanceAction"]["events"]] == [("lock", "Success")]
