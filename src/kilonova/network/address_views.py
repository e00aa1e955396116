"""Subnet pools, address scopes, address groups and RBAC policies as Neutron's bodies."""

from collections.abc import Sequence
from typing import Any

from kilonova.db.engine import Tx
from kilonova.network import sharing
from kilonova.network.rows import Row
from kilonova.network.views import standard
from kilonova.web.call import Context

Body = dict[str, Any]


def _shared(tx: Tx, context: Context, kind: str, rows: Sequence[Row]) -> set[str]:
    return sharing.among(tx, context, kind, [row["id"] for row in rows])


def subnet_pools(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    shared = _shared(tx, context, sharing.SUBNET_POOL, rows)
    same = ("id", "name", "ip_version", "prefixes", "default_quota", "is_default", "address_scope_id")
    texts = ("default_prefixlen", "min_prefixlen", "max_prefixlen")  # Neutron: _make_subnetpool_dict
    return [
        {
            **{key: row[key] for key in same},
            **{key: str(row[key]) for key in texts},
            "shared": row["id"] in shared,
            **standard(row),
        }
        for row in rows
    ]


def address_scopes(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    shared = _shared(tx, context, sharing.ADDRESS_SCOPE, rows)
    same = ("id", "name", "ip_version", "project_id")
    return [
        {**{key: row[key] for key in same}, "tenant_id": row["project_id"], "shared": row["id"] in shared}
        for row in rows
    ]


def address_groups(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    shared = _shared(tx, context, sharing.ADDRESS_GROUP, rows)
    return [
        {
            **{key: row[key] for key in ("id", "name", "addresses")},
            "shared": row["id"] in shared,
            **standard(row, tags=False),
        }
        for row in rows
    ]


def rbac_policies(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    same = ("id", "project_id", "object_type", "object_id", "action")
    return [
        {
            **{key: row[key] for key in same},
            "target_tenant": row["target_project"],
            "tenant_id": row["project_id"],
        }
        for row in rows
    ]
