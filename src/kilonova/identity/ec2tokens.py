"""POST /v3/ec2tokens and /v3/s3tokens: who signed a request with an EC2 key. For services, which got that request."""

import datetime
import time
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity import auth, credentials, delegation, ec2_signatures, times
from kilonova.identity.methods import Proof
from kilonova.identity.records import ASKED_WRONG, Row, row_of
from kilonova.identity.tables import APPLICATION_CREDENTIALS, CREDENTIALS
from kilonova.model.errors import BadRequest, NotFound, Unauthorized
from kilonova.web.call import Call, Reply

LIFETIME = 900.0  # seconds that a signature is good for: Keystone's [credential] auth_ttl


def issue(call: Call) -> Reply:
    row, blob, asked = _named(call)
    if not ec2_signatures.fits(str(blob.get("secret", "")), asked):
        raise Unauthorized("Invalid EC2 signature.")
    check_time(asked)
    return _grant(call, row, blob)


def validate_s3(call: Call) -> Reply:
    """Of an object store, which has the text that was signed; who signed it is told, and the token itself is kept back."""
    row, blob, asked = _named(call)
    if not ec2_signatures.fits_s3(str(blob.get("secret", "")), asked):
        raise Unauthorized("Credential signature mismatch")
    return Reply(_grant(call, row, blob).body, 200)


def _named(call: Call) -> tuple[Row, Row, Row]:
    """The credential that the request names, what it holds, and what is asked of it."""
    body = call.body
    if not isinstance(body, dict) or not body:
        raise BadRequest(f"request must include a request body. {ASKED_WRONG}")
    asked = body.get("credentials") or body.get("credential") or body.get("ec2Credentials") or {}
    if not isinstance(asked, dict) or not isinstance(asked.get("access"), str):
        raise Unauthorized("EC2 Signature not supplied")
    key = credentials.ec2_id(asked["access"])
    row = call.database.read(lambda tx: find(call, tx, key))
    if row is None:
        raise NotFound("EC2 access key not found.")
    blob = credentials.ec2_blob(row["blob"])
    if not asked.get("signature"):
        raise Unauthorized("EC2 signature not supplied.")
    return row, blob, asked


def _grant(call: Call, row: Row, blob: Row) -> Reply:
    proof, scope = call.database.read(lambda tx: proof_of(tx, row, blob))
    return auth.grant(call, proof, scope, 200)


def find(call: Call, tx: Tx, key: str) -> Row | None:
    found = tx.first(sa.select(CREDENTIALS).where(CREDENTIALS.c.id == key, CREDENTIALS.c.type == "ec2"))
    return credentials.opened(call, row_of(found)) if found else None


def check_time(asked: Row) -> None:
    """A signed time must not be long ago."""
    params, headers = asked.get("params") or {}, asked.get("headers") or {}
    when = params.get("Timestamp") or headers.get("X-Amz-Date") or params.get("X-Amz-Date")
    if not when:
        return
    parsed = times.parse(str(when)) or _compact(str(when))
    if parsed is None:
        raise Unauthorized("Credential timestamp is invalid.")
    if time.time() > parsed + LIFETIME:
        raise Unauthorized("Credential is expired")


def _compact(text: str) -> float | None:
    """AWS's `20260102T030405Z`."""
    try:
        return datetime.datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()
    except ValueError:
        return None


def proof_of(tx: Tx, row: Row, blob: Row) -> tuple[Proof, Any]:
    """Who owns the key, and the scope: a trust or application credential that the key was made with still holds."""
    user_id, methods = row["user_id"], ("ec2credential",)
    if blob.get("access_token_id"):
        raise Unauthorized("EC2 credential is of an OAuth1 access token: there are none here.")
    if blob.get("trust_id"):
        trust = delegation.find(tx, "", blob["trust_id"]).trust
        assert trust is not None
        holder = trust["trustor_user_id" if trust["impersonation"] else "trustee_user_id"]
        if (user_id, row["project_id"]) != (holder, trust["project_id"]):
            raise Unauthorized("EC2 credential does not match the trust that it names.")
        return Proof(trust["trustee_user_id"], methods, None, None), {"OS-TRUST:trust": {"id": trust["id"]}}
    if blob.get("app_cred_id"):
        c = APPLICATION_CREDENTIALS
        found = tx.first(sa.select(c).where(c.c.id == blob["app_cred_id"], c.c.user_id == user_id))
        if found is None or found["project_id"] != row["project_id"]:
            raise Unauthorized("EC2 credential project does not match the application credential project.")
        return Proof(user_id, methods, None, row_of(found)), None
    return Proof(user_id, methods, None, None), {"project": {"id": row["project_id"]}}
