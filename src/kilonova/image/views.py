"""Rows as Glance's bodies."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.model.ids import iso

Row = sa.RowMapping
PLAIN = (
    "id", "name", "status", "visibility", "protected", "os_hidden", "checksum", "os_hash_algo", "os_hash_value",
    "owner", "size", "virtual_size", "container_format", "disk_format", "min_ram", "min_disk", "tags",
)  # fmt: skip


def image(row: Row, stores: Sequence[str]) -> dict[str, Any]:
    url = f"/v2/images/{row['id']}"
    body = {
        **row["properties"],
        **{name: row[name] for name in PLAIN},
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
        "self": url,
        "file": f"{url}/file",
        "schema": "/v2/schemas/image",
    }
    if stores:
        body["stores"] = ",".join(stores)
    return body


def member(row: Row) -> dict[str, Any]:
    return {
        "image_id": row["image_id"],
        "member_id": row["member_id"],
        "status": row["status"],
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
        "schema": "/v2/schemas/member",
    }
