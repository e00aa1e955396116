"""Rules for passwords, lockout, and keys that change, at the door."""

import base64
import threading
import time
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from cryptography.fernet import InvalidToken
from identity_client import PASSWORDS, ROOT, Keystone, application
from starlette.testclient import TestClient

from kilonova import statedir
from kilonova.config import Config
from kilonova.db.engine import Database
from kilonova.identity import keys, methods, passwords, security, times, tokens, totp
from kilonova.model.errors import KilonovaError

DAY = 86400
TRUE_TIME = time.time


class Strict(Keystone):
    """A Keystone with rules: `Strict(database, "lockout_failure_attempts=2", …)`."""

    def __init__(self, database: Database, *rules: str, fernet: Any = None, limit: int = 1000) -> None:
        from cryptography.fernet import Fernet, MultiFernet

        fernet = fernet or MultiFernet([Fernet(Fernet.generate_key())])
        settings = security.Settings(fernet, security.parse(rules), security.Throttle(limit))
        self.app, self.ids = application(database, fernet=fernet, settings=settings)
        self.http = TestClient(self.app, ROOT, raise_server_exceptions=False, follow_redirects=False)
        self.admin = self.login("admin", project="admin")

    def new_password(self, user: str, old: str, new: str) -> Any:
        body = {"user": {"original_password": old, "password": new}}
        return self.request("POST", f"/v3/users/{user}/password", body, token="")


def clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """So much later than it was; it goes on, so that what comes after a change of password is later than it."""
    ahead = time.time() - TRUE_TIME() + seconds
    monkeypatch.setattr(security.time, "time", lambda: TRUE_TIME() + ahead)


def test_a_password_s_form(database: Database) -> None:
    keystone = Strict(database, r"password_regex=^(?=.*\d)(?=.*[a-z]).{7,}$", "password_regex_description=7 and a digit")
    for path, method, body in (
        ("/v3/users", "POST", {"name": "u", "password": "weak"}),
        (f"/v3/users/{keystone.ids['users']['demo']}", "PATCH", {"password": "weak"}),
    ):
        answer = keystone.request(method, path, {"user": body})
        assert answer.status_code == 400
        assert "does not match the requirements: 7 and a digit" in answer.json()["error"]["message"]
    user = keystone.make("user", name="u", password="strong1ish")["id"]
    assert keystone.new_password(user, "strong1ish", "weak").status_code == 400
    assert keystone.new_password(user, "strong1ish", "str0nger-one").status_code == 204


def test_history_age_and_lock(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    keystone = Strict(database, "unique_last_password_count=3", "minimum_password_age=1")
    user = keystone.make("user", name="u", password="one")["id"]
    assert keystone.new_password(user, "one", "one").status_code == 400
    assert keystone.new_password(user, "one", "two").status_code == 204
    soon = keystone.new_password(user, "two", "three")
    assert (soon.status_code, "minimum password age" in soon.text) == (400, True)
    clock(monkeypatch, DAY + 1)
    assert keystone.new_password(user, "two", "one").status_code == 400
    assert keystone.new_password(user, "two", "three").status_code == 204
    clock(monkeypatch, DAY + 1)
    for old in ("one", "two", "three"):
        assert keystone.new_password(user, "three", old).status_code == 400
    assert keystone.new_password(user, "three", "four").status_code == 204
    clock(monkeypatch, DAY + 1)
    assert keystone.new_password(user, "four", "one").status_code == 204
    keystone.admin = keystone.login("admin", project="admin")
    assert keystone.patch(f"/v3/users/{user}", {"user": {"options": {"lock_password": True}}}).status_code == 200
    clock(monkeypatch, DAY + 1)
    assert keystone.new_password(user, "one", "five").status_code == 400


def test_expiry(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    keystone = Strict(database, "password_expires_days=30")
    user = keystone.make("user", name="u", password="one")
    exempt = keystone.make("user", name="x", password="one", options={"ignore_password_expiry": True})
    assert exempt["password_expires_at"] is None
    end = times.parse(user["password_expires_at"])
    assert end is not None and abs(end - time.time() - 30 * DAY) < 3600
    assert keystone.auth("u", "one").json()["token"]["user"]["password_expires_at"] == user["password_expires_at"]
    later, sooner = times.stamp(end + 1), times.stamp(end - 1)
    for asked, found in ((f"lt:{later}", True), (f"gt:{later}", False), (f"gte:{sooner}", True), (f"neq:{later}", True)):
        names = [row["name"] for row in keystone.get(f"/v3/users?password_expires_at={asked}").json()["users"]]
        assert (names == ["u"]) is found, asked
    assert keystone.get("/v3/users?password_expires_at=lt:soon").status_code == 400
    clock(monkeypatch, 31 * DAY)
    answer = keystone.auth("u", "one")
    assert (answer.status_code, "is expired and needs to be changed" in answer.text) == (401, True)
    assert "expired" not in keystone.auth("u", "wrong").text
    assert keystone.auth("x", "one").status_code == 201
    assert keystone.new_password(user["id"], "one", "two").status_code == 204
    assert keystone.auth("u", "two").status_code == 201


def test_the_first_password_must_be_changed(database: Database) -> None:
    keystone = Strict(database, "change_password_upon_first_use=1")
    user = keystone.make("user", name="u", password="one")["id"]
    keystone.make("user", name="x", password="one", options={"ignore_change_password_upon_first_use": True})
    assert keystone.auth("u", "one").status_code == 401
    assert keystone.auth("x", "one").status_code == 201
    assert keystone.new_password(user, "one", "two").status_code == 204
    assert keystone.auth("u", "two").status_code == 201


def test_lockout_is_the_same_for_who_exists_and_who_does_not(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    keystone = Strict(database, "lockout_failure_attempts=3", "lockout_duration=100")
    answers: dict[str, set[tuple[int, str]]] = {"demo": set(), "nobody": set()}
    for name, seen in answers.items():
        for _ in range(5):
            answer = keystone.auth(name, "wrong")
            seen.add((answer.status_code, answer.text))
    assert answers["demo"] == answers["nobody"] and len(answers["demo"]) == 1
    counts = database.read(lambda tx: [row["count"] for row in tx.all(security.sa.select(security.FAILED_LOGINS))])
    assert counts == [5, 5]
    assert keystone.auth("demo").status_code == 401
    assert keystone.new_password(keystone.ids["users"]["demo"], PASSWORDS["demo"], "x").status_code == 401
    with monkeypatch.context() as later:
        clock(later, 101)
        assert keystone.auth("demo").status_code == 201
    for _ in range(3):
        keystone.auth("demo", "wrong")
    assert keystone.auth("demo").status_code == 401
    keystone.patch(f"/v3/users/{keystone.ids['users']['demo']}", {"user": {"enabled": True}})
    assert keystone.auth("demo").status_code == 201
    keystone.make("user", name="x", password="one", options={"ignore_lockout_failure_attempts": True})
    for _ in range(4):
        keystone.auth("x", "wrong")
    assert keystone.auth("x", "one").status_code == 201


def test_who_was_long_away_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    keystone = Strict(database, "disable_user_account_days_inactive=10")
    user = keystone.make("user", name="u", password="one")["id"]
    keystone.make("user", name="x", password="one", options={"ignore_user_inactivity": True})
    exempt = {"user": {"options": {"ignore_user_inactivity": True}}}
    keystone.patch(f"/v3/users/{keystone.ids['users']['admin']}", exempt)
    clock(monkeypatch, 11 * DAY)
    assert keystone.auth("u", "one").status_code == 401
    assert keystone.auth("x", "one").status_code == 201
    keystone.admin = keystone.login("admin", project="admin")
    keystone.patch(f"/v3/users/{user}", {"user": {"enabled": True}})
    assert keystone.auth("u", "one").status_code == 201


def test_too_many_failures_from_one_address(database: Database) -> None:
    keystone = Strict(database, limit=3)
    for name in ("demo", "nobody"):
        assert [keystone.auth(name, "wrong").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    refused = keystone.auth("demo")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert keystone.auth("admin").status_code == 201


def test_who_is_named_in_other_words_is_the_same(database: Database) -> None:
    keystone = Strict(database, limit=3)
    user = keystone.ids["users"]["demo"]
    names = [{"id": user}, *({"name": "demo", "domain": {"id": "default", "name": junk}} for junk in "abcd")]
    answers = []
    for name in names:
        identity = {"methods": ["password"], "password": {"user": {**name, "password": "wrong"}}}
        answers.append(keystone.request("POST", "/v3/auth/tokens", {"auth": {"identity": identity}}, token="").status_code)
    assert answers == [401, 401, 401, 429, 429]


def test_guesses_at_once_are_counted_as_one_after_another(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    keystone = Strict(database, "lockout_failure_attempts=3")
    looked, enough, answers = methods.check_password, threading.Event(), []

    def slow(given: str, hashed: str | None) -> bool:
        right = looked(given, hashed)
        assert not right or enough.wait(60)  # it was begun before there was any failure
        return right

    monkeypatch.setattr(methods, "check_password", slow)
    lucky = threading.Thread(target=lambda: answers.append(keystone.auth("demo").status_code))
    lucky.start()
    assert [keystone.auth("demo", "wrong").status_code for _ in range(3)] == [401] * 3
    enough.set()
    lucky.join()
    assert answers == [401]


def test_a_known_password_wins_no_more_guesses_of_a_passcode(database: Database) -> None:
    keystone = Strict(database, "lockout_failure_attempts=3")
    user = keystone.ids["users"]["demo"]
    secret = base64.b32encode(b"twenty bytes of seed").decode()
    keystone.make("credential", type="totp", blob=secret, user_id=user)

    def log_in(passcode: str) -> int:
        shown = {"password": {"user": {"id": user, "password": PASSWORDS["demo"]}},
                 "totp": {"user": {"id": user, "passcode": passcode}}}  # fmt: skip
        body = {"auth": {"identity": {"methods": ["password", "totp"], **shown}}}
        return int(keystone.request("POST", "/v3/auth/tokens", body, token="").status_code)

    def passcode() -> str:
        return totp.passcode(b"twenty bytes of seed", time.time())

    assert log_in(passcode()) == 201
    assert [log_in("x") for _ in range(3)] == [401, 401, 401]
    assert log_in(passcode()) == 401
    keystone.patch(f"/v3/users/{user}", {"user": {"enabled": True}})
    assert log_in(passcode()) == 201


def test_an_address_that_tries_many_names_is_refused_too(database: Database) -> None:
    keystone = Strict(database, limit=2)
    tried = [keystone.auth(f"user-{number}", "wrong").status_code for number in range(25)]
    assert tried == [401] * 20 + [429] * 5
    assert keystone.auth("admin").status_code == 429


@pytest.mark.parametrize("name", ["demo", "nobody"])
def test_a_refusal_costs_one_hash_whoever_it_is_from_the_first_on(
    database: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    keystone = Strict(database)
    hashed, right = [], bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda given, there: hashed.append(there[:7]) or right(given, there))
    monkeypatch.setattr(bcrypt, "hashpw", lambda *_: pytest.fail("one hash more for who is not there"))
    assert keystone.auth(name, "wrong").status_code == 401
    assert hashed == [f"$2b${passwords.ROUNDS:02}$".encode()]


@pytest.mark.parametrize("rule", ["odd=1", "lockout_duration", "lockout_duration=long", "password_regex=("])
def test_wrong_rules_are_named(rule: str) -> None:
    with pytest.raises(KilonovaError, match=rule.partition("=")[0]):
        security.parse([rule])


# --- keys -----------------------------------------------------------------------------------------------------------


def test_keys_rotate_and_running_processes_see_it(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys.ensure(folder)
    assert keys.numbers(folder) == [0, 1]
    ring, other = keys.KeyRing(folder), keys.KeyRing(folder)
    keystone = Strict(database, fernet=ring)
    demo = keystone.login("demo", project="demo")
    staged = (folder / "0").read_text()
    assert keys.rotate(folder) == [0, 1, 2]
    assert (folder / "2").read_text() == staged
    authenticate = tokens.Authenticator(other)  # another process, which began before the rotation
    new = keystone.login("demo", project="demo")
    assert authenticate(database, demo).user_name == authenticate(database, new).user_name == "demo"
    assert keys.rotate(folder) == [0, 2, 3]
    with pytest.raises(KilonovaError, match="requires authentication"):
        tokens.Authenticator(other)(database, demo)  # its key is gone
    with pytest.raises(KilonovaError, match="requires authentication"):
        authenticate(database, demo)  # although it has seen it when it was good
    assert tokens.Authenticator(other)(database, new).user_name == "demo"
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_the_command_rotates_the_keys_of_a_cloud(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from kilonova.cli import app

    missing = CliRunner().invoke(app, ["keys", "rotate", "--state", str(tmp_path)])
    assert isinstance(missing.exception, KilonovaError)
    keys.ensure(tmp_path / "fernet-keys")
    for told in ("0 staged, 1 secondary, 2 primary", "0 staged, 2 secondary, 3 primary"):
        done = CliRunner().invoke(app, ["keys", "rotate", "--state", str(tmp_path)])
        assert (done.exit_code, done.output.strip()) == (0, told)


def test_credentials_outlive_the_keys_of_tokens(tmp_path: Path) -> None:
    """In an older version's cloud the token keys sealed them."""
    config = Config(state=tmp_path)
    keys.ensure(config.fernet_keys, staged=False)
    sealed = keys.KeyRing(config.fernet_keys).encrypt(b"hush")
    sealer = statedir.load_sealer(config)
    statedir.load_fernet(config)
    for _ in range(4):
        keys.rotate(config.fernet_keys)
    assert sealer.decrypt(sealed) == statedir.load_sealer(config).decrypt(sealed) == b"hush"
    with pytest.raises(InvalidToken):
        keys.KeyRing(config.fernet_keys).decrypt(sealed)


def test_a_staged_key_opens_before_it_seals(tmp_path: Path) -> None:
    """A process that rotated first may seal what one that has not looked yet must open."""
    folder = tmp_path / "keys"
    keys.ensure(folder)
    staged = keys.Fernet((folder / "0").read_text())
    ring = keys.KeyRing(folder)
    assert ring.decrypt(staged.encrypt(b"x")) == b"x"
    with pytest.raises(InvalidToken):
        keys.Fernet((folder / "0").read_text()).decrypt(ring.encrypt(b"x"))


def test_an_older_cloud_s_single_key_stays(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys.ensure(folder, staged=False)
    before = (folder / "1").read_text()
    keys.ensure(folder)
    assert keys.numbers(folder) == [0, 1] and (folder / "1").read_text() == before
