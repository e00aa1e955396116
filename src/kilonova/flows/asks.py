"""What the control side wants of its hosts beside flows: a question to be answered now, or another look of the loops.

Hosts wait here for it (an agent: by long poll). Kept in memory: a question lives as long as the request behind it, and
"look again" is a hint, the loops' own pace is the truth.
"""

import threading
import time
from collections import defaultdict, deque
from typing import Any

from kilonova.host.contract import LOOK, Answer, Ask
from kilonova.model.errors import Unavailable
from kilonova.model.ids import new_id

PATIENCE = 10.0  # seconds for an answer, and for a host to come back and listen


class Asks:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[Ask]] = defaultdict(deque)
        self._look: set[str] = set()  # hosts whose loops are to look again
        self._heard: dict[str, float] = {}  # host → when it last listened
        self._ended = False
        self._answers: dict[str, Answer | None] = {}  # ask id → None until it is answered

    def ask(self, host: str, verb: str, **arguments: Any) -> Any:
        """The host's answer to one of host/contract.py's QUESTIONS. Unavailable when it does not answer."""
        ask = Ask(new_id(), verb, arguments)
        with self._changed:
            if time.monotonic() - self._heard.get(host, float("-inf")) > PATIENCE:
                raise Unavailable(f"Host {host} is not connected.")
            self._answers[ask.id] = None
            self._waiting[host].append(ask)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answers[ask.id] is not None or self._ended, PATIENCE)
            answer = self._answers.pop(ask.id)
            if answer is None:
                raise Unavailable(f"Host {host} did not answer within {PATIENCE:g} s.")
        if answer.error is not None:
            raise Unavailable(f"Host {host}: {answer.error}")
        return answer.value

    def end(self) -> None:
        """Whoever waits for an answer gets none."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def look(self) -> None:
        """Rows that hosts' loops keep true may have changed."""
        with self._changed:
            self._look.update(self._heard)
            self._changed.notify_all()

    def next(self, host: str, timeout: float) -> Ask | None:
        """What `host` should do next; None when there was nothing for `timeout` seconds."""
        with self._changed:
            self._heard[host] = time.monotonic()
            self._changed.wait_for(lambda: host in self._look or self._waiting[host], timeout)
            self._heard[host] = time.monotonic()
            if host in self._look:
                self._look.remove(host)
                return Ask("", LOOK)
            while self._waiting[host]:
                ask = self._waiting[host].popleft()
                if ask.id in self._answers:  # somebody still waits for it
                    return ask
            return None

    def answer(self, answer: Answer) -> None:
        with self._changed:
            if answer.id in self._answers:
                self._answers[answer.id] = answer
                self._changed.notify_all()
