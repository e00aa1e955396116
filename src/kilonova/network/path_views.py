"""GET /v2.0/kilonova/path?from=&to=: who and where that is, the path's explanation as JSON, and the trial on live rules."""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Unavailable
from kilonova.network import attributes as a
from kilonova.network import ports, rows
from kilonova.network.path import Crossing, Hop, Passage, Path, Walk
from kilonova.network.path_rows import FLOATING, IP, PORTS, Lookup, Place
from kilonova.network.path_rules import Kind
from kilonova.web.call import Call

OUTSIDE = "outside"
PROTOCOLS = ("tcp", "udp", "icmp")
EXAMPLE = {4: ipaddress.ip_address("198.51.100.1"), 6: ipaddress.ip_address("2001:db8::1")}  # somebody outside


def show(call: Call) -> Any:
    """`from`, `to`: a port's or a server's id, an address, or `outside`; `source`: another address to send from;
    `verify=true`, administrators' alone: the live rules are tried too."""
    verify = a.checked("verify", a.boolean, call.arg("verify", "false"))
    if verify and not call.context.is_admin:
        raise a.disallowed("verify_path")
    path, kind = call.database.read(lambda tx: find(tx, call))
    body = view(call, path, kind)
    if verify:
        body["live"] = live(call, path)
    return {"path": body}


def find(tx: Tx, call: Call) -> tuple[Path, Kind]:
    """Of all pairs of addresses that the question may mean the first that is reached, else the one that came furthest."""
    lookup = Lookup(tx)
    starts, first = side(call, lookup, "from")
    ends, last = side(call, lookup, "to")
    if not starts and not ends and last is None:
        raise a.invalid_input("one of 'from' and 'to' must be a port, a server or an address of this cloud")
    source = address(call, "source") if call.arg("source") else None
    goals = frozenset(end.spec.id for end in ends)
    best: tuple[tuple[int, int], Path, Kind] | None = None
    begins: list[Place | None] = [*starts] or [None]
    for start in begins:
        for target in targets(lookup, ends, last):
            for version in versions(start, target, source):
                kind = what(call, version)
                shown = source or (first if start is None else sender(start, version, first))
                path = Walk(lookup, call.context, kind, goals).follow(start, shown, target)
                rank = (2 if path.reachable else 1 if path.reachable is None else 0, len(path.hops))
                if best is None or rank > best[0]:
                    best = rank, path, kind
    if best is None:
        raise a.invalid_input("the two have no address of the same IP version")
    return best[1], best[2]


def side(call: Call, lookup: Lookup, name: str) -> tuple[list[Place], IP | None]:
    """The ports meant, or an address that is none of the project's ports; neither: the outside."""
    asked = call.arg(name) or ""
    if asked == OUTSIDE:
        return [], None
    with suppress(ValueError):
        found = ipaddress.ip_address(asked)
        return (holders(call, lookup, found), found) if name == "from" else ([], found)
    owned = rows.owned(call.context, PORTS)
    places = lookup.places(sa.or_(PORTS.c.id == asked, PORTS.c.device_id == asked), owned) if asked else []
    if not asked:
        raise a.invalid_input(f"'{name}' is missing: a port's or a server's id, an address, or {OUTSIDE}")
    if not places:
        raise ports.not_found(asked[:64])
    return places, None


def holders(call: Call, lookup: Lookup, found: IP) -> list[Place]:
    """The port that an address stands for, itself or as a floating IP."""
    owned = rows.owned(call.context, PORTS)
    behind = sa.select(FLOATING.c.fixed_port_id).where(FLOATING.c.floating_ip_address == str(found))
    ids = [each.spec.id for each in lookup.holders(found) if not each.row["device_owner"].startswith("network:")]
    places = lookup.places(sa.or_(PORTS.c.id.in_(ids), PORTS.c.id.in_(behind)), owned)
    if len(places) > 1:
        listed = ", ".join(each.spec.id for each in places)
        raise a.invalid_input(f"{found} is an address of several ports ({listed}): name one of them")
    return places


def targets(lookup: Lookup, ends: list[Place], last: IP | None) -> Iterable[IP | None]:
    if not ends:
        return [last]
    fixed = [each for end in ends for each in end.addresses]
    floating = [row["floating_ip_address"] for end in ends for row in lookup.floating_of(end.spec.id)]
    return [*fixed, *map(ipaddress.ip_address, floating)]


def versions(start: Place | None, target: IP | None, source: IP | None) -> list[int]:
    if target is not None:
        return [target.version] if source is None or source.version == target.version else []
    own = {each.version for each in start.addresses} if start else set()
    return [source.version] if source else sorted(own) or [4]


def sender(start: Place, version: int, asked: IP | None) -> IP | None:
    """The address that a guest sends from."""
    found = [each for each in start.addresses if each.version == version]
    return asked if asked in found else next(iter(found), None)


def address(call: Call, name: str) -> IP:
    try:
        return ipaddress.ip_address(call.arg(name) or "")
    except ValueError:
        raise a.invalid_input(f"'{name}' must be an IP address") from None


def what(call: Call, version: int) -> Kind:
    given = call.arg("port")
    protocol = (call.arg("protocol") or ("tcp" if given else "icmp")).lower()
    if protocol not in PROTOCOLS:
        raise a.invalid_input(f"'protocol' must be one of {', '.join(PROTOCOLS)}")
    if protocol == "icmp":
        return Kind(protocol, None, version)
    try:
        return Kind(protocol, a.integer(1, 65535)(given), version)
    except ValueError:
        raise a.invalid_input("'port' must be a number from 1 to 65535") from None


def view(call: Call, path: Path, kind: Kind) -> dict[str, Any]:
    return {
        "from": call.arg("from"),
        "to": call.arg("to"),
        "protocol": kind.protocol,
        "port": kind.port,
        "source_address": str(path.source) if path.source else None,
        "destination_address": str(path.destination) if path.destination else None,
        "reachable": path.reachable,
        "reason": path.reason,
        "explanation": path.explanation,
        "hops": [hop_view(hop, call.context.is_admin) for hop in path.hops],
    }


def hop_view(hop: Hop, admin: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": hop.kind, "detail": hop.detail, "id": hop.id or None}
    if hop.rule is not None:
        names = ("id", "security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max",
                 "remote_ip_prefix", "remote_group_id")  # fmt: skip
        body["rule"] = {name: hop.rule[name] for name in names}
    return {**body, "device": hop.device, "host": hop.host} if admin else body


def live(call: Call, path: Path) -> dict[str, Any]:
    """Each crossing of a bridge and each passage of a router tried on what its host has loaded. `agrees`: that does what
    was computed; None: could not be tried."""
    by_host = defaultdict[str, list[Crossing | Passage]](list)
    for trial in path.trials:
        by_host[trial.host].append(trial)
    answers: dict[int, dict[str, Any]] = {}
    for host, trials in by_host.items():
        try:
            traces = call.services.flows.try_packets(host, [frame(each) for each in trials])
        except Unavailable as error:
            return {"agrees": None, "why": str(error), "crossings": []}
        answers.update((id(trial), trace) for trial, trace in zip(trials, traces, strict=True))
    tried = [trial_view(trial, answers[id(trial)]) for trial in path.trials]
    if not tried:
        return {"agrees": None, "why": "the packet meets no bridge", "crossings": []}
    return {"agrees": all(each["agrees"] for each in tried), "why": "", "crossings": tried}


def trial_view(trial: Crossing | Passage, trace: dict[str, Any]) -> dict[str, Any]:
    bridge, router = (trial.bridge, "") if isinstance(trial, Crossing) else ("", trial.router.namespace)
    return {**trace, "bridge": bridge, "router": router, "host": trial.host, "agrees": agrees(trial, trace)}


def agrees(trial: Crossing | Passage, trace: dict[str, Any]) -> bool:
    passed = trace["delivered"] and not trace["wiring"]
    if isinstance(trial, Crossing):
        return bool(passed == trial.allowed)
    if trial.out is None or not passed:
        return trial.out is None and not passed and not trace["wiring"]
    example = EXAMPLE[trial.kind.version]
    wanted = (trial.out.device, str(trial.shown or example), str(trial.inner or example), trial.port or 0)
    return (trace["left_by"], trace["source"], trace["destination"], trace["port"]) == wanted


def frame(trial: Crossing | Passage) -> dict[str, Any]:
    """host/contract.py: FirstFrame. A router's hardware address stands for that of the wire."""
    example = EXAMPLE[trial.kind.version]
    return {
        **(crossing_ends(trial) if isinstance(trial, Crossing) else passage_ends(trial)),
        "source": str(trial.source or example),
        "destination": str(trial.destination or example),
        "protocol": trial.kind.protocol,
        "port": trial.kind.port or 0,
    }


def crossing_ends(crossing: Crossing) -> dict[str, str]:
    sender, receiver = crossing.sender, crossing.receiver
    return {
        "bridge": crossing.bridge,
        "ingress": sender.spec.tap if sender else "",
        "egress": receiver.spec.tap if receiver else "",
        "source_mac": sender.spec.mac_address if sender else "02:00:00:00:00:01",
        "destination_mac": receiver.spec.mac_address if receiver else "02:00:00:00:00:02",
    }


def passage_ends(passage: Passage) -> dict[str, str]:
    return {
        "bridge": "",
        "router": passage.router.namespace,
        "ingress": passage.into.device,
        "egress": passage.out.device if passage.out else "",
        "source_mac": "02:00:00:00:00:01",
        "destination_mac": passage.into.mac_address,
    }
