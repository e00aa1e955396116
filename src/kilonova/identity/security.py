"""Keystone's security compliance (PCI-DSS): rules for passwords, and what too many failed logins lead to.

Failures are counted by the name that was asked for, whether any user has it or not, with one and the same write: neither an
answer nor the time that it takes tells who exists. All rules are off unless the cloud is told otherwise.
"""

import dataclasses
import hashlib
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Database, Tx
from kilonova.identity.passwords import check_password
from kilonova.identity.records import ASKED_WRONG, Row
from kilonova.identity.tables import FAILED_LOGINS
from kilonova.model.errors import BadRequest, KilonovaError, TooManyRequests

DAY = 86400.0


@dataclass(frozen=True)
class Compliance:
    """Keystone's [security_compliance]; 0 and "" switch a rule off. Ages are days, `lockout_duration` seconds."""

    lockout_failure_attempts: int = 0
    lockout_duration: int = 1800
    disable_user_account_days_inactive: int = 0
    password_expires_days: int = 0
    unique_last_password_count: int = 0
    minimum_password_age: int = 0
    password_regex: str = ""
    password_regex_description: str = ""
    change_password_upon_first_use: int = 0


def parse(entries: Iterable[str]) -> Compliance:
    """`NAME=VALUE` of each rule. KilonovaError names what is wrong."""
    kinds = {field.name: field.type for field in dataclasses.fields(Compliance)}
    found: dict[str, Any] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if name not in kinds or not equals:
            raise KilonovaError(f"{entry}: not NAME=VALUE with a NAME of {', '.join(kinds)}")
        if kinds[name] is str:
            found[name] = value
        elif value.isascii() and value.isdigit():
            found[name] = int(value)
        else:
            raise KilonovaError(f"{entry}: {name} is a whole number")
    try:
        re.compile(found.get("password_regex", ""))
    except re.error as error:
        raise KilonovaError(f"password_regex {found['password_regex']}: {error}") from error
    return Compliance(**found)


# --- new passwords --------------------------------------------------------------------------------------------------


def check_form(rules: Compliance, password: str | None) -> None:
    """BadRequest when the password does not match the pattern."""
    if password is not None and rules.password_regex and not re.match(rules.password_regex, password):
        why = rules.password_regex_description or f"it must match {rules.password_regex}"
        raise BadRequest(f"The password does not match the requirements: {why}.")


def check_change(rules: Compliance, user: Row, password: str) -> None:
    """What a user's own change must obey besides: it takes as many hashes as passwords are remembered, so no transaction."""
    options, now = user["options"], time.time()
    if options.get("lock_password"):
        raise BadRequest(
            "You cannot change your password at this time due to password policy disallowing password changes. "
            "Please contact your administrator to reset your password."
        )
    age = rules.minimum_password_age * DAY
    made = user["password_created_at"] or 0.0
    expired = user["password_expires_at"] is not None and user["password_expires_at"] <= now
    if age and user["password_self_service"] and now < made + age and not expired:
        left = int((made + age - now) // DAY) + 1
        raise BadRequest(
            "You cannot change your password at this time due to the minimum password age. Once you change your password, "
            f"it must be used for {rules.minimum_password_age} day(s) before it can be changed. Please try again in "
            f"{left} day(s) or contact your administrator to reset your password."
        )
    count = rules.unique_last_password_count
    remembered = [*user["password_history"], user["password_hash"]][-count:] if count else []
    if any(check_password(password, each) for each in remembered if each):
        raise BadRequest(
            "The new password cannot be identical to a previous password. The total number which includes the new "
            f"password must be unique is {count}. {ASKED_WRONG}"
        )


def password_columns(rules: Compliance, user: Row | None, hashed: str | None, own: bool = False) -> Row:
    """The columns of a user that a new password changes. `own`: the user's own change, not an administrator's."""
    now = time.time()
    options = (user or {}).get("options") or {}
    expires: float | None = None
    if hashed and rules.password_expires_days and not options.get("ignore_password_expiry"):
        expires = float(int(now + rules.password_expires_days * DAY))
    first = rules.change_password_upon_first_use and not options.get("ignore_change_password_upon_first_use")
    if hashed and first and not own:
        expires = now
    history = [*(user or {}).get("password_history", ()), (user or {}).get("password_hash")]
    kept = rules.unique_last_password_count - 1
    return {
        "password_hash": hashed,
        "password_created_at": now,
        "password_expires_at": expires,
        "password_self_service": own,
        "password_history": [each for each in history if each][-kept:] if kept > 0 else [],
    }


# --- logins ---------------------------------------------------------------------------------------------------------


def is_expired(user: Row) -> bool:
    return user["password_expires_at"] is not None and bool(user["password_expires_at"] <= time.time())


def is_inactive(rules: Compliance, user: Row) -> bool:
    """Keystone's disable_user_account_days_inactive: as good as disabled."""
    days, last = rules.disable_user_account_days_inactive, user["last_active_at"]
    exempt = user["options"].get("ignore_user_inactivity")
    return bool(days and last and not exempt and time.time() - last >= days * DAY)


def name_of(asked: Row) -> str:
    """One text for the user that a request names, by id or by name and domain."""
    domain = asked.get("domain")
    where = domain if isinstance(domain, dict) else {}
    parts = (asked.get("id"), asked.get("name"), where.get("id"), where.get("name"))
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()


def failures_key(user: Row | None, asked: Row, method: str) -> str:
    """What failures are counted by: of each method its own, so that a known password wins no more guesses of a passcode."""
    who = str(user["id"]) if user else name_of(asked)
    return who if method == "password" else hashlib.sha256(f"{who}\0{method}".encode()).hexdigest()


def is_locked(tx: Tx, rules: Compliance, key: str, user: Row | None) -> bool:
    if user and user["options"].get("ignore_lockout_failure_attempts"):
        return False
    row = tx.first(sa.select(FAILED_LOGINS).where(FAILED_LOGINS.c.key == key).with_for_update())
    if row is None or row["count"] < rules.lockout_failure_attempts:
        return False
    return not rules.lockout_duration or time.time() < row["at"] + rules.lockout_duration


def settle(database: Database, rules: Compliance, key: str, user: Row | None, right: bool) -> bool:
    """Whether who showed what is `right` is in: not if locked out. One transaction decides and counts, so that many who guess
    at once are counted as if they came one after another."""
    if not rules.lockout_failure_attempts:
        return right
    now, f = time.time(), FAILED_LOGINS.c

    def store(tx: Tx) -> bool:
        if right and not is_locked(tx, rules, key, user):
            forget_failures(tx, key)
            return True
        if rules.lockout_duration:
            tx.execute(sa.delete(FAILED_LOGINS).where(f.at < now - rules.lockout_duration))
        counted = tx.execute(sa.update(FAILED_LOGINS).where(f.key == key).values(count=f.count + 1, at=now))
        if not counted.rowcount:
            insert_new(tx.connection, FAILED_LOGINS, {"key": key, "count": 1, "at": now})
        return False

    return database.write(store)


def forget_failures(tx: Tx, *keys: str) -> None:
    tx.execute(sa.delete(FAILED_LOGINS).where(FAILED_LOGINS.c.key.in_(keys)))


class Throttle:
    """Refuses an address that has failed to log in `limit` times within `seconds` as one user, or `SPRAYED` times as often
    as anybody; kept in memory only."""

    SPRAYED = 10
    KEPT = 10000  # addresses and names

    def __init__(self, limit: int = 60, seconds: float = 60.0) -> None:
        self.limit, self.seconds = limit, seconds
        self._failed: OrderedDict[tuple[str, str], list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def _counted(self, client: str, name: str) -> tuple[tuple[tuple[str, str], int], ...]:
        """What failures are counted by, and how many may be."""
        return ((client, name), self.limit), ((client, ""), self.limit * self.SPRAYED)

    def check(self, client: str, name: str) -> None:
        """TooManyRequests, before any password is looked at."""
        now = time.monotonic()
        with self._lock:
            for key, most in self._counted(client, name):
                times = self._failed.get(key, [])
                if len(times) >= most and (left := times[-most] + self.seconds - now) > 0:
                    raise TooManyRequests("Too many failed attempts to authenticate. Try again later.", math.ceil(left))

    def failed(self, client: str, name: str) -> None:
        with self._lock:
            for key, most in self._counted(client, name):
                times = self._failed.setdefault(key, [])
                times.append(time.monotonic())
                del times[:-most]
                self._failed.move_to_end(key)
            while len(self._failed) > self.KEPT:
                self._failed.popitem(last=False)


@dataclass(frozen=True)
class Settings:
    """What Keystone's handlers need beside the database and the token keys. `sealer` seals credentials: its keys stay."""

    sealer: Any
    compliance: Compliance = Compliance()
    throttle: Throttle = dataclasses.field(default_factory=Throttle)
