"""The signatures of EC2 requests, versions 0, 1, 2 and 4, as AWS's documents define them (keystoneclient's Ec2Signer).

`credentials` is what a service was asked: `verb`, `host`, `path`, `params`, `headers`, `body_hash`, `signature`.
"""

import base64
import hashlib
import hmac
from typing import Any
from urllib.parse import quote

from kilonova.model.errors import BadRequest

Asked = dict[str, Any]
ALGORITHM = "AWS4-HMAC-SHA256"


def fits(secret: str, asked: Asked) -> bool:
    """Whether the request's signature is that of the secret. Some clients sign without the port of the host."""
    given = asked.get("signature")
    if not isinstance(given, str):
        return False
    host = str(asked.get("host", ""))
    hosts = [host, host.rpartition(":")[0]] if ":" in host else [host]
    found = [sign(secret, {**asked, "host": each}) for each in hosts]
    return any(hmac.compare_digest(each.encode(), given.encode()) for each in found)


def fits_s3(secret: str, asked: Asked) -> bool:
    """The same for `token`, which is the signed text itself in base64, as an object store has it (Keystone: s3tokens)."""
    given, token = asked.get("signature"), asked.get("token")
    try:
        text = base64.urlsafe_b64decode(token).decode() if isinstance(token, str) else ""
    except ValueError as error:
        raise BadRequest("Invalid input: token is the signed text, in base64.") from error
    if not text or not isinstance(given, str):
        return False
    found = _s3_version_4(secret, text) if text.startswith("AWS4") else _base64(secret, "sha1", text)
    return hmac.compare_digest(found.encode(), given.encode())


def _s3_version_4(secret: str, text: str) -> str:
    """`text`: the algorithm, the time, the scope and the canonical request's hash, a line each. "" for any other."""
    algorithm, _, rest = text.partition("\n")
    lines = rest.split("\n")
    scope = lines[1].split("/") if len(lines) == 3 else []
    if algorithm != ALGORITHM or len(scope) != 4 or scope[2:] != ["s3", "aws4_request"]:
        return ""
    return hmac.new(_scope_key(secret, scope), text.encode(), "sha256").hexdigest()


def _scope_key(secret: str, scope: list[str]) -> bytes:
    """Of a day, region and service. `scope`: these, and the word that ends it."""
    key = f"AWS4{secret}".encode()
    for text in (*scope[:3], "aws4_request"):
        key = hmac.digest(key, text.encode(), "sha256")
    return key


def sign(secret: str, asked: Asked) -> str:
    """BadRequest when what would have to be signed is not all there."""
    params = asked.get("params") or {}
    headers = asked.get("headers") or {}
    if not isinstance(params, dict) or not isinstance(headers, dict):
        raise BadRequest("Invalid input: params and headers of EC2 credentials are objects.")
    version = params.get("SignatureVersion")
    try:
        if version == "0":
            return _base64(secret, "sha1", str(params["Action"]) + str(params["Timestamp"]))
        if version == "1":
            parts = [key + str(params[key]) for key in sorted(params, key=str.lower)]
            return _base64(secret, "sha1", "".join(parts))
        if version == "2":
            return version_2(secret, asked, params)
        if version is None and is_version_4(params, headers):
            return version_4(secret, asked, params, headers)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise BadRequest("Invalid input: the EC2 credentials lack a part of what was signed.") from error
    raise BadRequest(f"Unknown signature version: {version}." if version else "Unexpected signature format.")


def _base64(secret: str, digest: str, text: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), digest)).decode()


def _query(params: Asked) -> str:
    return "&".join(f"{quote(key, safe='')}={quote(str(params[key]), safe='-_~')}" for key in sorted(params))


def version_2(secret: str, asked: Asked, params: Asked) -> str:
    method = params.get("SignatureMethod", "HmacSHA256")
    query = _query({**params, "SignatureMethod": method})
    text = f"{asked['verb']}\n{asked['host']}\n{asked['path']}\n{query}"
    return _base64(secret, "sha1" if method == "HmacSHA1" else "sha256", text)


def is_version_4(params: Asked, headers: Asked) -> bool:
    authorization = str(headers.get("Authorization", ""))
    return authorization.startswith(ALGORITHM) or params.get("X-Amz-Algorithm") == ALGORITHM


def version_4(secret: str, asked: Asked, params: Asked, headers: Asked) -> str:
    """The canonical request's hash under a key made for its day, region and service."""

    def part(name: str) -> str:
        if "Authorization" in headers:
            return str(headers["Authorization"]).partition(f"{name}=")[2].partition(",")[0]
        return str(params[f"X-Amz-{name}"])

    scope = part("Credential").split("/")[1:]
    date = scope[0]
    when = str(headers.get("X-Amz-Date") or params["X-Amz-Date"])
    if not date or not when.startswith(date):
        raise BadRequest("Request date mismatch error.")
    lower = {str(key).lower().strip(): str(value).strip() for key, value in headers.items()}
    signed = part("SignedHeaders")
    lines = [f"{name}:{lower[name]}" for name in signed.split(";") if name in lower]
    query = _query({key: value for key, value in params.items() if key != "X-Amz-Signature"})
    request = "\n".join(
        (
            str(asked["verb"]).upper(),
            str(asked["path"]),
            query,
            "\n".join(lines) + "\n",
            signed,
            str(asked["body_hash"]),
        )
    )
    key = _scope_key(secret, scope)
    hashed = hashlib.sha256(request.encode()).hexdigest()
    return hmac.new(key, "\n".join((ALGORITHM, when, "/".join(scope), hashed)).encode(), "sha256").hexdigest()
