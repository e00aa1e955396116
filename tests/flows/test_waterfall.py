"""The waterfall of `kilonova trace`, drawn of an action as the API answers it."""

from rich.console import Console

from kilonova.waterfall import waterfall


def test_a_step_that_has_nothing_to_do_took_less_than_can_be_told() -> None:
    day = "2026-01-01T00:00"
    events = [
        {"event": name, "start_time": f"{day}:{start}", "finish_time": f"{day}:{finish}", "result": "Success"}
        for name, start, finish in (("reserve_volumes", "00.000000", "00.000012"), ("create_guest", "00.000700", "00.054000"))
    ]
    console = Console(width=100)
    with console.capture() as captured:
        console.print(waterfall({"action": "create", "instance_uuid": "s", "events": events}, console.width))
    first, second = (line for line in captured.get().splitlines() if "Success" in line)
    assert ("< 0.1 ms" in first, "53.3 ms" in second) == (True, True)
