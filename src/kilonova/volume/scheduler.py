"""Which backend a volume goes to (Cinder: cinder-scheduler's filters), and why the others do not take it."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import NoValidHost
from kilonova.volume import services, states, types

TRUE_WORDS = {"<is> True": True, "<is> False": False}


def select_backend(tx: Tx, volume_id: str, excluded: frozenset[str] = frozenset()) -> str:
    """Sets the volume's host and backend, those with the most room, and returns `machine@backend`.

    NoValidHost says of every backend why it was refused. A volume that has its place keeps it. One that is made from a
    snapshot or volume goes where that is.
    """
    volume = states.get_row(tx, "volume", volume_id)
    if volume["host"]:
        return f"{volume['host']}@{volume['backend']}"
    volume_type = types.by_id(tx, volume["type_id"])
    near = _near(tx, volume)
    reasons, fitting = {}, []
    for service in services.listed(tx, binary=services.VOLUME):
        why = _misplaced(service, near) or refusal(
            tx, service, volume_type, volume["size"], volume["availability_zone"]
        )
        if service["host"] in excluded:
            why = "an earlier attempt failed there"
        if why:
            reasons[service["host"]] = why
        else:
            fitting.append(service)
    if not fitting:
        raise NoValidHost(reasons)
    chosen = max(fitting, key=lambda service: (service["free_gb"] or 0.0, service["host"]))
    states.update(tx, "volume", volume_id, host=chosen["machine"], backend=chosen["backend"])
    return str(chosen["host"])


def _near(tx: Tx, volume: sa.RowMapping) -> tuple[str, str] | None:
    """(machine, backend) of what it is made from; a backup binds it to the machine alone."""
    if volume["snapshot_id"]:
        snapshot = states.get_row(tx, "snapshot", volume["snapshot_id"])
        source = states.get_row(tx, "volume", snapshot["volume_id"])
        return source["host"], source["backend"]
    if volume["source_volid"]:
        source = states.get_row(tx, "volume", volume["source_volid"])
        return source["host"], source["backend"]
    if volume["backup_id"]:
        return states.get_row(tx, "backup", volume["backup_id"])["host"], ""
    return None


def _misplaced(service: sa.RowMapping, near: tuple[str, str] | None) -> str | None:
    if near is None or (service["machine"] == near[0] and near[1] in ("", service["backend"])):
        return None
    return f"what the volume is made from is on {near[0]}" + (f"@{near[1]}" if near[1] else "")


def refusal(tx: Tx, service: sa.RowMapping, volume_type: sa.RowMapping, size: int, zone: str | None) -> str | None:
    """The first filter that refuses the backend, in words; None when all let it pass."""
    if service["disabled"]:
        return f"its cinder-volume is disabled: {service['disabled_reason'] or 'no reason given'}"
    if not services.is_up(service):
        return f"its cinder-volume is down, last seen {service['last_seen_at']:%Y-%m-%d %H:%M:%S} UTC"
    if zone and zone != service["availability_zone"]:
        return f"asked for zone {zone}, it is in {service['availability_zone']} (AvailabilityZoneFilter)"
    has = services.capabilities(tx, service)
    for key, wanted in volume_type["extra_specs"].items():
        why = _lacks(has, key, wanted)
        if why:
            return f"{why} (CapabilitiesFilter)"
    room = (service["free_gb"] or 0.0) * services.OVERSUBSCRIPTION
    promised, most = services.provisioned(tx, service), (service["total_gb"] or 0.0) * services.OVERSUBSCRIPTION
    if size > room:
        return (
            f"asked for {size} GiB, {room:.0f} GiB could be promised of {service['free_gb']:.1f} free (CapacityFilter)"
        )
    if promised + size > most:
        return f"asked for {size} GiB, {promised} of {most:.0f} GiB are promised already (CapacityFilter)"
    return None


def _lacks(has: dict[str, Any], key: str, wanted: Any) -> str | None:
    """Keys with a scope that is not `capabilities` are not the scheduler's."""
    scope, colon, name = key.partition(":")
    if colon and scope != "capabilities":
        return None
    name = name if colon else key
    if name not in has:
        return f"the type asks for {name} {wanted}, it has no such capability"
    value = has[name]
    if str(wanted) in TRUE_WORDS:
        return None if bool(value) is TRUE_WORDS[str(wanted)] else f"the type asks for {name} {wanted}, it has {value}"
    if str(wanted).lower() == str(value).lower():
        return None
    return f"the type asks for {name} {wanted}, it has {value}"
