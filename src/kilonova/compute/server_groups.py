"""Server groups: who must, or should, share a host, and who must not (Nova: instance groups)."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from kilonova.compute import quotas
from kilonova.compute.tables import SERVER_GROUP_MEMBERS as MEMBERS
from kilonova.compute.tables import SERVER_GROUPS as GROUPS
from kilonova.compute.tables import SERVERS
from kilonova.db.engine import Tx
from kilonova.model.errors import NotFound, OverQuota
from kilonova.model.ids import new_id
from kilonova.web.call import Context
from kilonova.web.policy import check_row


def not_found(id: str) -> NotFound:
    return NotFound(f"Instance group {id} could not be found.", type="InstanceGroupNotFound")


def get(tx: Tx, context: Context, id: str) -> sa.RowMapping:
    """NotFound when it is another project's, unless an administrator asks."""
    row = tx.first(sa.select(GROUPS).where(GROUPS.c.id == id))
    if row is None or (row["project_id"] != context.project_id and not context.is_admin):
        raise not_found(id)
    check_row(context, "compute", row)
    return row


def list_groups(tx: Tx, project_id: str | None) -> list[sa.RowMapping]:
    """A project's, or everyone's (None), oldest first."""
    query = sa.select(GROUPS).order_by(GROUPS.c.number)
    return tx.all(query if project_id is None else query.where(GROUPS.c.project_id == project_id))


def create(tx: Tx, context: Context, name: str, policy: str, rules: dict[str, int]) -> sa.RowMapping:
    """OverQuota when the project, or this user of it, has its server groups already."""
    project_id, user_id = context.project_id, context.user_id
    quotas.lock(tx, project_id)
    for user in (None, user_id):
        allowed = quotas.limits(tx, project_id, user)["server_groups"]
        if 0 <= allowed <= quotas.usages(tx, project_id, user)["server_groups"]:
            raise OverQuota("Quota exceeded, too many server groups.")
    id = new_id()
    tx.execute(
        GROUPS.insert().values(
            id=id, project_id=project_id, user_id=user_id, name=name, policy=policy, rules=rules,
        )
    )  # fmt: skip
    return get(tx, context, id)


def delete(tx: Tx, context: Context, id: str) -> None:
    """Its servers stay where they are, in no group."""
    tx.execute(GROUPS.delete().where(GROUPS.c.id == get(tx, context, id)["id"]))


def members(tx: Tx, ids: Collection[str]) -> dict[str, list[str]]:
    """Group → the ids of its servers, deleted ones left out, oldest first."""
    out: dict[str, list[str]] = {id: [] for id in ids}
    query = (
        sa.select(MEMBERS.c.group_id, MEMBERS.c.server_id)
        .join(SERVERS, SERVERS.c.id == MEMBERS.c.server_id)
        .where(MEMBERS.c.group_id.in_(list(ids)), SERVERS.c.deleted_at.is_(None))
        .order_by(SERVERS.c.number)
    )
    for row in tx.all(query) if ids else []:
        out[row["group_id"]].append(row["server_id"])
    return out


def of_server(tx: Tx, server_id: str) -> sa.RowMapping | None:
    joined = sa.select(GROUPS).join(MEMBERS, MEMBERS.c.group_id == GROUPS.c.id)
    return tx.first(joined.where(MEMBERS.c.server_id == server_id))


def check_room(tx: Tx, context: Context, id: str, count: int) -> None:
    """OverQuota when the group would have too many servers of this user's with `count` more."""
    quotas.lock(tx, f"group:{id}")
    query = (
        sa.select(sa.func.count())
        .select_from(MEMBERS.join(SERVERS, SERVERS.c.id == MEMBERS.c.server_id))
        .where(MEMBERS.c.group_id == id, SERVERS.c.user_id == context.user_id, SERVERS.c.deleted_at.is_(None))
    )
    allowed = quotas.limits(tx, context.project_id, context.user_id)["server_group_members"]
    if 0 <= allowed < tx.scalar(query) + count:
        raise OverQuota("Quota exceeded, too many servers in group")


def add(tx: Tx, id: str, server_ids: Collection[str]) -> None:
    if server_ids:
        tx.execute(MEMBERS.insert(), [{"group_id": id, "server_id": server} for server in server_ids])


class Placed:
    """A server's group, and on which hosts the others of it are: what the scheduler asks.

    Made in a transaction that has the group's lock, so that two servers do not find the same free host.
    """

    def __init__(self, tx: Tx, server_id: str) -> None:
        group = of_server(tx, server_id)
        self.policy = str(group["policy"]) if group is not None else ""
        self.most = int(group["rules"].get("max_server_per_host", 1)) if group is not None else 1
        self.count: dict[str, int] = {}
        if group is None:
            return
        quotas.lock(tx, f"group:{group['id']}")
        query = (
            sa.select(SERVERS.c.host)
            .join(MEMBERS, MEMBERS.c.server_id == SERVERS.c.id)
            .where(MEMBERS.c.group_id == group["id"], SERVERS.c.id != server_id)
            .where(SERVERS.c.deleted_at.is_(None), SERVERS.c.host.is_not(None))
        )
        for (host,) in tx.execute(query):
            self.count[host] = self.count.get(host, 0) + 1

    def refusal(self, host: str) -> str | None:
        """Why the group forbids this host; None when it does not."""
        here = self.count.get(host, 0)
        if self.policy == "anti-affinity" and here >= self.most:
            return (
                f"{here} of its server group {'is' if here == 1 else 'are'} there, "
                f"{self.most} may be (ServerGroupAntiAffinityFilter)"
            )
        if self.policy == "affinity" and self.count and not here:
            where = ", ".join(sorted(self.count))
            return f"its server group is on {where} (ServerGroupAffinityFilter)"
        return None

    def weight(self, host: str) -> int:
        """Higher is better (Nova: ServerGroupSoftAffinityWeigher and its opposite)."""
        here = self.count.get(host, 0)
        return {"soft-affinity": here, "soft-anti-affinity": -here}.get(self.policy, 0)


def view(row: sa.RowMapping, servers: list[str], minor: int) -> dict[str, Any]:
    body: dict[str, Any] = {"id": row["id"], "name": row["name"], "members": servers}
    if minor >= 64:
        body |= {"policy": row["policy"], "rules": row["rules"]}
    else:
        body |= {"policies": [row["policy"]], "metadata": {}}
    if minor >= 13:
        body |= {"project_id": row["project_id"], "user_id": row["user_id"]}
    return body
