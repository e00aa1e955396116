"""What a host keeps for the next server, and nobody has needed for long, goes (Nova: `_run_image_cache_manager_pass`)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from kilonova.loops.loop import Loop

LOG = logging.getLogger(__name__)


class CacheLoop(Loop):
    """evict: removes it, and gives its names."""

    def __init__(self, evict: Callable[[], list[str]], interval: float = 600.0) -> None:
        super().__init__("cache", self._evict, interval)
        self._remove = evict

    def _evict(self) -> None:
        if gone := self._remove():
            LOG.info("images that nobody needs went from the cache: %s", ", ".join(gone))
