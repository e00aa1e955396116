"""Tokens of consoles: who has one may look at, and type into, one server's console until it expires.

Kept in the database, so that every process of a cloud knows them; only their hashes, as Nova does
(nova/objects/console_auth_token.py). One dies with its server's stop, move or delete: compute/states.py.
"""

import datetime
import hashlib
import secrets
from typing import Any

import sqlalchemy as sa

from kilonova.compute.tables import CONSOLE_TOKENS, SERVERS
from kilonova.db.engine import Tx
from kilonova.model.ids import now

TTL = datetime.timedelta(seconds=600)  # Nova: [consoleauth]token_ttl
LONGEST = 256  # of what may be a token


def authorize(tx: Tx, server: sa.RowMapping, console_type: str, place: dict[str, Any]) -> str:
    """A new token, which is told only now. Those that have expired go."""
    tx.execute(CONSOLE_TOKENS.delete().where(CONSOLE_TOKENS.c.expires_at <= now()))
    token = secrets.token_urlsafe(32)
    values = {
        "token_hash": _hash(token),
        "server_id": server["id"],
        "console_type": console_type,
        "host": server["host"],
        "address": place["address"],
        "port": place["port"],
        "expires_at": now() + TTL,
    }
    tx.execute(CONSOLE_TOKENS.insert().values(**values))
    return token


def find(tx: Tx, token: str) -> sa.RowMapping | None:
    """The token's row with its server's `name` and `vm_state`; None when it is unknown, expired or of no use any more."""
    if not 0 < len(token) <= LONGEST:
        return None
    same = (SERVERS.c.id == CONSOLE_TOKENS.c.server_id) & (SERVERS.c.host == CONSOLE_TOKENS.c.host)
    there = SERVERS.c.deleted_at.is_(None) & SERVERS.c.task_state.is_distinct_from("deleting")
    query = (
        sa.select(CONSOLE_TOKENS, SERVERS.c.name, SERVERS.c.vm_state)
        .join(SERVERS, same)
        .where(CONSOLE_TOKENS.c.token_hash == _hash(token), CONSOLE_TOKENS.c.expires_at > now(), there)
    )
    return tx.first(query)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
