"""Multi-factor rules of users, and the receipt for the factors that one has shown so far.

Keystone: UserMFARulesValidator in keystone/auth/core.py, keystone/receipt. A receipt is as a token is, a sealed text and no
row: but it says only who showed what, and is good for five minutes.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.fernet import InvalidToken

from kilonova.identity.records import Row
from kilonova.identity.times import stamp
from kilonova.model.errors import Unauthorized
from kilonova.web.call import Reply

LIFETIME = 300.0  # seconds; Keystone's [receipt] expiration
HEADER = "Openstack-Auth-Receipt"


class Receipt(msgspec.Struct, tag="receipt", frozen=True):
    user_id: str
    methods: tuple[str, ...]
    issued_at: float
    expires_at: float


_decoder = msgspec.msgpack.Decoder(Receipt)


def encode(fernet: Any, receipt: Receipt) -> str:
    return fernet.encrypt(msgspec.msgpack.encode(receipt)).rstrip(b"=").decode()


def decode(fernet: Any, text: str) -> Receipt:
    """Unauthorized when it is no receipt of ours, or over."""
    try:
        raw = fernet.decrypt((text + "=" * (-len(text) % 4)).encode("ascii"))
        receipt = _decoder.decode(raw)
    except (InvalidToken, UnicodeEncodeError, msgspec.DecodeError) as error:
        raise Unauthorized("The request you have made requires authentication.") from error
    if receipt.expires_at < time.time():
        raise Unauthorized("The request you have made requires authentication.")
    return receipt


def rules_of(user: Row, known: Iterable[str]) -> list[list[str]]:
    """The user's rules, each a list of methods that are enough together; [] when any method is enough.

    Methods that the cloud does not know are left out of a rule, and a rule of nothing else is none.
    """
    options = user["options"]
    if options.get("multi_factor_auth_enabled", True) is False:
        return []
    rules = [[method for method in rule if method in known] for rule in options.get("multi_factor_auth_rules") or []]
    return [rule for rule in rules if rule]


def is_enough(rules: list[list[str]], methods: Iterable[str]) -> bool:
    return not rules or any(set(rule) <= set(methods) for rule in rules)


@dataclass(frozen=True)
class Shown:
    """Who showed which factors, and what would be enough."""

    user: Row
    domain: Row
    methods: tuple[str, ...]
    rules: list[list[str]]


def answer(fernet: Any, shown: Shown) -> Reply:
    """401 with the receipt, in Keystone's form."""
    now = round(time.time(), 6)
    receipt = Receipt(shown.user["id"], shown.methods, now, float(int(now) + LIFETIME))
    short = {"id": shown.domain["id"], "name": shown.domain["name"]}
    body = {
        "receipt": {
            "methods": list(shown.methods),
            "user": {"id": shown.user["id"], "name": shown.user["name"], "domain": short},
            "expires_at": stamp(receipt.expires_at),
            "issued_at": stamp(receipt.issued_at),
        },
        "required_auth_methods": shown.rules,
    }
    return Reply(body, 401, {HEADER: encode(fernet, receipt)})
