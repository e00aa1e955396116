"""Keypairs: made here (keys.py) or imported; they belong to a user, not to a project."""

import re

import sqlalchemy as sa

from kilonova.compute import quotas
from kilonova.compute.tables import KEYPAIRS
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound, OverQuota
from kilonova.model.ids import now
from kilonova.web.call import Context

SAFE_NAME = re.compile(r"^[A-Za-z0-9_\- ]+$")
SAFE_NAME_292 = re.compile(r"^[A-Za-z0-9@._\- ]+$")


def find(tx: Tx, user_id: str, name: str) -> sa.RowMapping | None:
    return tx.first(sa.select(KEYPAIRS).where(KEYPAIRS.c.user_id == user_id, KEYPAIRS.c.name == name))


def get(tx: Tx, user_id: str, name: str) -> sa.RowMapping:
    row = find(tx, user_id, name)
    if row is None:
        raise NotFound(f"Keypair {name} not found for user {user_id}", type="KeypairNotFound")
    return row


def list_keypairs(tx: Tx, user_id: str, limit: int | None = None, marker: str | None = None) -> list[sa.RowMapping]:
    """By name. BadRequest when the marker names none of them."""
    query = sa.select(KEYPAIRS).where(KEYPAIRS.c.user_id == user_id).order_by(KEYPAIRS.c.name)
    if marker is not None:
        if find(tx, user_id, marker) is None:
            raise BadRequest(f"Marker {marker} could not be found.")
        query = query.where(KEYPAIRS.c.name > marker)
    return tx.all(query.limit(limit) if limit is not None else query)


def checked_name(name: str, wide: bool) -> str:
    """Without the spaces around it. `wide`: also @ and dots (2.92)."""
    name = name.strip()
    if not (SAFE_NAME_292 if wide else SAFE_NAME).match(name):
        raise BadRequest("Keypair data is invalid: Keypair name contains unsafe characters")
    if not 0 < len(name) <= 255:
        raise BadRequest("Keypair data is invalid: Keypair name must be string and between 1 and 255 characters long")
    return name


def create(
    tx: Tx, context: Context, user_id: str, name: str, kind: str, public_key: str | None
) -> tuple[sa.RowMapping, str | None]:
    """The row, and the private key if one was made. `name`: a checked one."""
    if find(tx, user_id, name) is not None:
        raise Conflict(f"Key pair '{name}' already exists.")
    quotas.lock(tx, f"user:{user_id}")
    count = tx.scalar(sa.select(sa.func.count()).select_from(KEYPAIRS).where(KEYPAIRS.c.user_id == user_id))
    allowed = quotas.limits(tx, context.project_id)["key_pairs"]
    if 0 <= allowed <= count:
        raise OverQuota("Quota exceeded, too many key pairs.")
    from kilonova.compute import keys  # loads much of cryptography, which a cloud's start need not wait for

    private = None
    if public_key is None:
        private, public_key, print_ = keys.generate_ssh() if kind == "ssh" else keys.generate_x509(user_id)
    else:
        print_ = keys.fingerprint(public_key) if kind == "ssh" else keys.fingerprint_x509(public_key)
    tx.execute(
        KEYPAIRS.insert().values(
            user_id=user_id, name=name, type=kind, public_key=public_key, fingerprint=print_, created_at=now()
        )
    )
    return get(tx, user_id, name), private


def delete(tx: Tx, user_id: str, name: str) -> None:
    row = get(tx, user_id, name)
    tx.execute(KEYPAIRS.delete().where(KEYPAIRS.c.number == row["number"]))
