"""QoS specs: named wishes about a volume's throughput, bound to volume types (Cinder: qos_specs_manage)."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.model.errors import BadRequest, Conflict
from kilonova.model.ids import new_id, now
from kilonova.volume import types
from kilonova.volume.listing import cut, sort
from kilonova.volume.requests import bad_input, boolean, missing, root
from kilonova.volume.tables import QOS_SPECS, TYPES
from kilonova.web.call import Call, Reply

CONSUMERS = ("front-end", "back-end", "both")


def index(call: Call) -> dict[str, Any]:
    rows = list(call.tx.all(sa.select(QOS_SPECS)))
    sort(rows, call, QOS_SPECS, {})
    rows, links = cut(call, rows, "QoS specs", "qos-specs")
    return {"qos_specs": [_view(row) for row in rows]} | ({"qos_specs_links": links} if links else {})


def show(call: Call) -> dict[str, Any]:
    return _shown(call, _get(call))


def _view(row: sa.RowMapping) -> dict[str, Any]:
    return {"id": row["id"], "name": row["name"], "consumer": row["consumer"], "specs": row["specs"]}


def _shown(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    base = f"{root(call)}/qos-specs/{row['id']}"
    bookmark = base.replace(call.api_url, call.base_url, 1)
    links = [{"rel": "self", "href": base}, {"rel": "bookmark", "href": bookmark}]
    return {"qos_specs": _view(row), "links": links}


def _get(call: Call) -> sa.RowMapping:
    id = call.params["id"]
    row = call.tx.first(sa.select(QOS_SPECS).where(QOS_SPECS.c.id == id))
    if row is None:
        raise missing("No such qos spec", id)
    return row


def _specs(given: dict[str, Any]) -> dict[str, str | None]:
    for key, value in given.items():
        if not 0 < len(key) <= 255 or not isinstance(value, str | int | float | None) or len(str(value)) > 255:
            raise bad_input(f"A QoS spec is a text of at most 255 characters, not {key}: {value!r:.100}")
    return {key: None if value is None else str(value) for key, value in given.items()}


def _consumer(word: Any) -> str:
    if word not in CONSUMERS:
        raise bad_input(f"Invalid qos specs: consumer {word} is none of {', '.join(CONSUMERS)}")
    return str(word)


def create(call: Call) -> dict[str, Any]:
    asked = dict(call.body["qos_specs"])
    name = asked.pop("name").strip()
    row = {"id": new_id(), "name": name, "consumer": _consumer(asked.pop("consumer", "back-end")),
           "specs": _specs(asked), "created_at": now()}  # fmt: skip
    if not insert_new(call.tx.connection, QOS_SPECS, row):
        raise Conflict(f"Qos specs {name} already exists.")
    call.params = {**call.params, "id": row["id"]}
    return _shown(call, _get(call))


def update(call: Call) -> dict[str, Any]:
    row, asked = _get(call), dict(call.body["qos_specs"])
    values: dict[str, Any] = {}
    if "consumer" in asked:
        values["consumer"] = _consumer(asked.pop("consumer"))
    values["specs"] = {**row["specs"], **_specs(asked)}
    call.tx.execute(QOS_SPECS.update().where(QOS_SPECS.c.id == row["id"]).values(**values))
    return {"qos_specs": call.body["qos_specs"]}


def _users(call: Call, id: str) -> list[sa.RowMapping]:
    return call.tx.all(sa.select(TYPES).where(TYPES.c.qos_specs_id == id).order_by(TYPES.c.name))


def delete(call: Call) -> None:
    row = _get(call)
    force = boolean(call.arg("force") or "false", "force")
    if _users(call, row["id"]) and not force:
        raise BadRequest(f"Qos specs {row['id']} is still associated with entities.")
    call.tx.execute(TYPES.update().where(TYPES.c.qos_specs_id == row["id"]).values(qos_specs_id=None))
    call.tx.execute(QOS_SPECS.delete().where(QOS_SPECS.c.id == row["id"]))


def delete_keys(call: Call) -> None:
    row, keys = _get(call), dict.fromkeys(call.body["keys"])
    unknown = [key for key in keys if key not in row["specs"]]
    if unknown:
        raise BadRequest(f"Qos specs {row['id']} has no spec with key {unknown[0]}.")
    rest = {key: value for key, value in row["specs"].items() if key not in keys}
    call.tx.execute(QOS_SPECS.update().where(QOS_SPECS.c.id == row["id"]).values(specs=rest))


def associations(call: Call) -> dict[str, Any]:
    found = _users(call, _get(call)["id"])
    return {
        "qos_associations": [{"association_type": "volume_type", "name": row["name"], "id": row["id"]} for row in found]
    }


def _type(call: Call) -> sa.RowMapping:
    id = call.arg("vol_type_id")
    if not id:
        raise BadRequest("Volume Type id must not be None.")
    return types.by_id(call.tx, id)


def associate(call: Call) -> Reply:
    row, volume_type = _get(call), _type(call)
    if volume_type["qos_specs_id"] not in (None, row["id"]):
        raise BadRequest(
            f"Type {volume_type['id']} is already associated with another qos specs: {volume_type['qos_specs_id']}"
        )
    call.tx.execute(TYPES.update().where(TYPES.c.id == volume_type["id"]).values(qos_specs_id=row["id"]))
    return Reply(status=202)


def disassociate(call: Call) -> Reply:
    _get(call)
    call.tx.execute(TYPES.update().where(TYPES.c.id == _type(call)["id"]).values(qos_specs_id=None))
    return Reply(status=202)


def disassociate_all(call: Call) -> Reply:
    id = _get(call)["id"]
    call.tx.execute(TYPES.update().where(TYPES.c.qos_specs_id == id).values(qos_specs_id=None))
    return Reply(status=202)
