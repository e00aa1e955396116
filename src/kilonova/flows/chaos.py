"""Death at a chosen point of a step, for the tests of restarts (`make chaos`). Without KILONOVA_DIE_AT nothing happens here.

KILONOVA_DIE_AT names a file. While it holds `create_guest 3`, this process dies by SIGKILL at edge 3 of step create_guest:
edge 0 lies before the step's first act, then one before and one after each of its outside calls; `end` is when all is done
and not yet recorded. The file is removed first, so that the next life goes on.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

from kilonova.flow.step import CONTROL, Flow, Step
from kilonova.host.calls import observed

VARIABLE = "KILONOVA_DIE_AT"


@contextmanager
def mortal(step: str) -> Iterator[None]:
    """A step's do or undo runs inside."""
    if VARIABLE not in os.environ:
        yield
        return
    order, thread, edge = Path(os.environ[VARIABLE]), threading.get_ident(), 0

    def at(when: str, name: str) -> None:
        nonlocal edge
        if threading.get_ident() == thread:
            edge += 1
            _die_if(order, f"{step} {edge}")

    _die_if(order, f"{step} 0")
    with observed(at):
        yield
    _die_if(order, f"{step} end")


def mortals(flows: dict[str, Flow]) -> dict[str, Flow]:
    """The flows, their CONTROL steps mortal, too: inside their transaction."""
    if VARIABLE not in os.environ:
        return flows
    return {name: replace(flow, steps=tuple(map(_mortal_step, flow.steps))) for name, flow in flows.items()}


def _mortal_step(step: Step) -> Step:
    if step.runs != CONTROL:
        return step
    return replace(step, do=_mortal(step.do), undo=_mortal(step.undo) if step.undo else None)


def _mortal(act: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(act)
    def wrapped(*arguments: Any) -> Any:
        with mortal(act.__name__):
            return act(*arguments)

    return wrapped


def _die_if(order: Path, point: str) -> None:
    try:
        if order.read_text().strip() != point:
            return
        order.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
