"""A capture on whichever host has the port, as one stream: questions to the host, one after another, until it ends."""

import base64
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from kilonova.flows.asks import Asks
from kilonova.model.errors import Unavailable

LOG = logging.getLogger(__name__)
SLOWEST = 0.2  # seconds between two questions on a quiet wire


def capture(asks: Asks, host: str, device: str, seconds: float, packets: int) -> Iterator[bytes]:
    """A pcap file piece by piece; empty pieces while nothing comes. Unavailable at once when it cannot begin."""
    began = asks.ask(host, "start_capture", device=device, seconds=seconds, packets=packets)
    return _pieces(asks, host, began)


def _pieces(asks: Asks, host: str, began: dict[str, Any]) -> Iterator[bytes]:
    pause = 0.01
    try:
        yield base64.b64decode(began["data"])
        ended = False
        while not ended:
            answer = asks.ask(host, "read_capture", capture_id=began["id"])
            data, ended = base64.b64decode(answer["data"]), answer["ended"]
            yield data
            pause = 0.01 if data else min(2 * pause, SLOWEST)
            if not ended:
                time.sleep(pause)
    except Unavailable as error:  # the stream ends; what has been sent is whole
        LOG.warning("capture on %s: %s", host, error)
    finally:
        with suppress(Unavailable):
            asks.ask(host, "stop_capture", capture_id=began["id"])
