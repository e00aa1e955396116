"""A stop is bounded: what still runs then is cut off, as by a crash, which loses nothing that was answered or begun."""

import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)
SECONDS = 40.0  # less than `kilonova down` waits (60), and than systemd before it kills (90)


def end_in_time(stop: Callable[[], None], seconds: float = SECONDS) -> None:
    """Call `stop`; end the process where it has not returned by then.

    A request or a step of a flow that never ends would hold the stop up, and a request that writes to SQLite everybody
    else's writes, too. An unfinished transaction is rolled back, a step runs again at the next start. The status is 0 for
    all that: nobody who asked for the stop wants another start, as systemd would make one of another status.
    """
    cut = threading.Timer(seconds, _cut_off, (seconds,))
    cut.daemon = True
    cut.start()
    stop()
    cut.cancel()


def _cut_off(seconds: float) -> None:
    ours = (threading.main_thread(), threading.current_thread())
    running = sorted(thread.name for thread in threading.enumerate() if thread not in ours)
    log.warning("not all has ended within %g s and is cut off; the next start resumes it: %s", seconds, ", ".join(running))
    os._exit(0)
