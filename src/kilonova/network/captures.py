"""The packets of a port as they pass its tap, for those who own it: an extension of our own, `kilonova-capture`."""

from collections.abc import Iterator

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict
from kilonova.network import attributes as a
from kilonova.network import ports, rows
from kilonova.network.rows import Row
from kilonova.web.call import Call, Reply

MEDIA_TYPE = "application/vnd.tcpdump.pcap"
LONGEST, USUAL = 3600, 60  # seconds
MOST = 1_000_000  # packets


def capture(call: Call) -> Reply:
    """GET /v2.0/kilonova/ports/{id}/capture?seconds=&packets=: pcap until one of them, the port or the client is gone."""
    seconds = number(call, "seconds", USUAL, LONGEST)
    packets = number(call, "packets", MOST, MOST)
    port = call.database.read(lambda tx: owned(tx, call))
    pieces: Iterator[bytes] = call.services.flows.capture(port["host"], f"tap{port['id'][:11]}", seconds, packets)
    return Reply(pieces, headers={"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"})


def owned(tx: Tx, call: Call) -> Row:
    """Who merely owns the port's network sees the port, and not what it says."""
    port = ports.get(tx, call.context, call.params["id"])
    if not rows.owns(call.context, port):
        raise a.disallowed("capture_port")
    if not port["host"] or port["vif_type"] in ("unbound", "binding_failed"):
        raise Conflict(f"Port {port['id']} is not bound to a host: it has no tap to capture.", type="PortNotBound")
    return port


def number(call: Call, name: str, usual: int, most: int) -> int:
    try:
        return int(a.integer(1, most)(call.arg(name, str(usual))))
    except ValueError:
        raise a.invalid_input(f"'{name}' must be a number from 1 to {most}") from None
