"""OAuth1 consumers: registered, shown and deleted. The rest of OAuth1 is not offered: see docs/not-offered.toml."""

import secrets

import sqlalchemy as sa

from kilonova.identity import views
from kilonova.identity.records import Row, get, insert, row_of, split, update
from kilonova.identity.tables import CONSUMERS
from kilonova.model.errors import BadRequest
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call


def view(call: Call, row: Row) -> Row:
    links = {"self": views.url(call, f"OS-OAUTH1/consumers/{row['id']}")}
    return {**row["extra"], "id": row["id"], "description": row["description"], "links": links}


def index(call: Call) -> Row:
    rows = [row_of(row) for row in call.tx.all(sa.select(CONSUMERS).order_by(CONSUMERS.c.id))]
    return views.collection(call, "consumers", rows, view)


def show(call: Call) -> Row:
    return {"consumer": view(call, get(call.tx, CONSUMERS, "Consumer", call.params["consumer_id"]))}


def create(call: Call) -> Row:
    """Only now is the secret told."""
    known, extra = split(CONSUMERS, call.body["consumer"], ("id", "secret"))
    row = {"description": None, **known, "id": new_hex_id(), "secret": secrets.token_hex(16), "extra": extra}
    insert(call.tx, CONSUMERS, "consumer", row)
    return {"consumer": {**view(call, row), "secret": row["secret"]}}


def change(call: Call) -> Row:
    known, extra = split(CONSUMERS, call.body["consumer"], ("id",))
    if "secret" in known:
        raise BadRequest("Invalid input for field 'secret': a consumer's secret is never changed")
    key = call.params["consumer_id"]
    get(call.tx, CONSUMERS, "Consumer", key)
    return {"consumer": view(call, update(call.tx, CONSUMERS, "consumer", key, {**known, "extra": extra}))}


def delete(call: Call) -> None:
    key = get(call.tx, CONSUMERS, "Consumer", call.params["consumer_id"])["id"]
    call.tx.execute(sa.delete(CONSUMERS).where(CONSUMERS.c.id == key))
