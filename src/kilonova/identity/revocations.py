"""GET /v3/OS-REVOKE/events: what ended tokens before their time, for services that check tokens by themselves."""

import time

import sqlalchemy as sa

from kilonova.identity import times, tokens, views
from kilonova.identity.records import Row, get, touch
from kilonova.identity.tables import PROJECTS, REVOKED_TOKENS, USERS
from kilonova.model.errors import BadRequest
from kilonova.web.call import Call


def _event(when: float, **what: str) -> Row:
    return {**what, "issued_before": times.stamp(when), "revoked_at": times.stamp(when)}


def index(call: Call) -> Row:
    """Events of the time that a token lasts; with `since`, those from then on."""
    oldest = time.time() - tokens.LIFETIME
    since = call.arg("since")
    if since is not None:
        asked = times.parse(since)
        if asked is None:
            raise BadRequest(f"Timestamp not in expected format: {since}.")
        oldest = max(oldest, asked - 1e-6)  # what was told was rounded to microseconds
    found = []
    for row in call.tx.all(sa.select(REVOKED_TOKENS).where(REVOKED_TOKENS.c.revoked_at >= oldest)):
        found.append((row["revoked_at"], {"audit_id": row["audit_id"]}))
    for row in call.tx.all(sa.select(USERS).where(USERS.c.tokens_valid_since >= oldest)):
        found.append((row["tokens_valid_since"], {"user_id": row["id"]}))
    for row in call.tx.all(sa.select(PROJECTS).where(PROJECTS.c.tokens_valid_since >= oldest)):
        kind = "domain_id" if row["is_domain"] else "project_id"
        found.append((row["tokens_valid_since"], {kind: row["id"]}))
    events = [_event(when, **what) for when, what in sorted(found, key=lambda each: each[0])]
    links = {"self": views.url(call, "OS-REVOKE/events"), "next": None, "previous": None}
    return {"events": events, "links": links}


def end_tokens(call: Call) -> None:
    """DELETE /v3/users/{id}/tokens: all tokens that the user has."""
    user = get(call.tx, USERS, "user", call.params["id"])
    call.tx.execute(sa.update(USERS).where(USERS.c.id == user["id"]).values(tokens_valid_since=time.time()))
    touch(call.tx)
