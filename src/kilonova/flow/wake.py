"""Doorbells: a queue's workers sleep until it rings. Only a hint: the workers' slow poll is the truth."""

import threading
from collections import defaultdict


class Doorbell:
    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rings: dict[str, int] = defaultdict(int)

    def ring(self, queue: str) -> None:
        with self._condition:
            self._rings[queue] += 1
            self._condition.notify_all()

    def wait(self, queue: str, timeout: float) -> None:
        """Until the queue's bell rang (one ring wakes one waiter), or `timeout` seconds."""
        with self._condition:
            if self._condition.wait_for(lambda: self._rings[queue] > 0, timeout):
                self._rings[queue] -= 1
