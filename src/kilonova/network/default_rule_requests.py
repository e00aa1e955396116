"""What the API does with default security group rules: an admin's to make and delete, everybody's to read."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict, NotFound
from kilonova.model.ids import new_id, now
from kilonova.network import address_groups, default_rules, query, rows, security_group_rules, security_groups
from kilonova.network import attributes as a
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = default_rules.TABLE
USED = ("used_in_default_sg", "used_in_non_default_sg")
ATTRIBUTES = {
    **{key: security_group_rules.ATTRIBUTES[key] for key in default_rules.SAYS},
    "description": a.Attribute(a.text(), default="", put=False),
    "used_in_default_sg": a.Attribute(a.boolean, default=False, put=False),
    "used_in_non_default_sg": a.Attribute(a.boolean, default=True, put=False),
    "id": a.Attribute(a.documents, post=False, put=False),
}
LISTING = query.Listing(
    "default_security_group_rules",
    TABLE,
    {key: TABLE.c[key] for key in ("id", "description", *default_rules.SAYS, *USED)},
)


def not_found(rule_id: str) -> NotFound:
    return NotFound(f"Default Security Group rule {rule_id} does not exist", type="DefaultSecurityGroupRuleNotFound")


def get(tx: Tx, context: Context, rule_id: str) -> Row:
    return rows.find(tx, TABLE, rule_id, sa.true(), not_found)


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, LISTING, sa.true())


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("default_security_group_rule", body, ATTRIBUTES, context, create=True)
    values.pop("project_id")
    security_group_rules.check(values)
    if values["remote_group_id"] not in (None, default_rules.PARENT):
        security_groups.get(tx, context, values["remote_group_id"])
    if values["remote_address_group_id"]:
        address_groups.get(tx, context, values["remote_address_group_id"])
    check_unique(tx, values)
    row = {"id": new_id(), **values, "created_at": now()}
    tx.execute(TABLE.insert().values(**row))
    return get(tx, context, row["id"])


def check_unique(tx: Tx, values: dict[str, Any]) -> None:
    same = [
        TABLE.c[key].is_(None) if values[key] is None else TABLE.c[key] == values[key] for key in default_rules.SAYS
    ]
    used = sa.or_(sa.false(), *(TABLE.c[key] for key in USED if values[key]))
    if found := tx.scalar(sa.select(TABLE.c.id).where(used, *same)):
        raise Conflict(
            f"Default Security group rule already exists. Rule id is {found}.", type="DefaultSecurityGroupRuleExists"
        )


def delete(tx: Tx, context: Context, rule_id: str) -> None:
    rule = get(tx, context, rule_id)
    tx.execute(TABLE.delete().where(TABLE.c.id == rule["id"]))


def bodies(tx: Tx, context: Context, found: Sequence[Row]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in ("id", "description", *default_rules.SAYS, *USED)} for row in found]
