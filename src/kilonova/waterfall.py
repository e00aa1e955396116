"""A server's steps as a waterfall: when each began, what it waited for, how long it took, how it ended."""

import datetime
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

COLUMNS_BESIDE = 60  # of the terminal, taken by everything but the bars
COLOURS = {"Success": "green", "Error": "red"}


def _time(text: str) -> float:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _took(seconds: float) -> str:
    """What has nothing to do (a server without volumes reserves none) takes microseconds: no error of the clock."""
    return f"{seconds * 1e3:.1f} ms" if seconds >= 5e-5 else "< 0.1 ms"


@dataclass(frozen=True)
class Bar:
    """One step, in seconds since the action's first; `since` is when the step before it had ended."""

    since: float
    start: float
    finish: float

    def text(self, whole: float, width: int, colour: str) -> Text:
        """Dots while it waited to begin, then blocks while it ran: at least one."""
        since, start, finish = (
            min(round(each / whole * width), width) for each in (self.since, self.start, self.finish)
        )
        start = min(start, width - 1)
        bar = Text(" " * min(since, start))
        bar.append("·" * (start - min(since, start)), "dim")
        bar.append("█" * max(1, finish - start), colour)
        return bar


def waterfall(action: dict[str, Any], columns: int = 80) -> RenderableType:
    """`action`: Nova's instance action with events, as the API answers it; `columns`: the terminal's."""
    events = action.get("events") or []
    if not events:
        return Text(f"{action['action']}: no step has begun yet")
    zero = min(_time(event["start_time"]) for event in events)
    now = datetime.datetime.now(datetime.UTC).timestamp()
    spans = [
        (_time(e["start_time"]) - zero, _time(e["finish_time"] or "") - zero if e.get("finish_time") else None)
        for e in events
    ]
    ends = [finish if finish is not None else max(now - zero, start) for start, finish in spans]
    whole, width = max([*ends, 0.001]), min(max(columns - COLUMNS_BESIDE, 8), 64)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("step", "start", "took", "", "result"):
        table.add_column(name, justify="right" if name in ("start", "took") else "left", no_wrap=True)
    table.columns[3].width = width
    since, errors = 0.0, []
    for event, (start, _), end in zip(events, spans, ends, strict=True):
        result = event.get("result") or "running"
        colour = COLOURS.get(result, "yellow")
        bar = Bar(since, start, end).text(whole, width, colour)
        table.add_row(event["event"], f"{start * 1e3:.0f} ms", _took(end - start), bar, Text(result, colour))
        since = max(since, end)
        if result == "Error":
            errors.append(Text(f"{event['event']}: {event.get('details') or 'no details'}", "red"))
    hosts = sorted({event["host"] for event in events if event.get("host")})
    done = "so far " if any(finish is None for _, finish in spans) else ""
    head = f"{action['action']} of server {action['instance_uuid']}" + (f" on {', '.join(hosts)}" if hosts else "")
    foot = Text(f"{done}{whole * 1e3:.0f} ms; dots: waiting for what the step needs", "dim")
    return Group(Text(head, "bold"), table, *errors, foot)
