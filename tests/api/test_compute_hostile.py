"""Whatever is sent, Nova answers with an error of its own: the client fails on any 5xx."""

import time
from typing import Any

import pytest
from compute_client import ADMIN, DEMO_PROJECT, LATEST, Nova

from kilonova.compute.patterns import Pattern
from kilonova.db.engine import Database
from kilonova.model.errors import BadRequest

PATHS = (
    "/servers/%00", "/flavors/%00", "/os-keypairs/%00", "/servers?name=%00", "/servers?flavor=%00", "/servers?marker=%00",
    "/flavors?marker=%00", "/os-quota-sets/%00", "/os-hypervisors/9999999999999999999", f"/servers/{'x' * 3000}",
    "/servers?uuid=%00", f"/servers?limit={'9' * 4400}", f"/flavors?limit={'9' * 4400}", f"/flavors?minRam={'9' * 4400}",
    f"/os-hypervisors/{'9' * 4400}", "/servers?limit=99999999999999999999999", "/flavors?minRam=99999999999999999999999",
)  # fmt: skip
SERVERS: tuple[dict[str, Any], ...] = (
    {"name": "a\x00b"}, {"description": "a\x00b"}, {"metadata": {"a": "\x00"}}, {"user_data": "AAAA\x00"},
    {"key_name": "a\x00"}, {"hostname": "a\x00b"}, {"flavorRef": "\x00"}, {"availability_zone": "\x00"},
    {"security_groups": [{"name": "a\x00b"}]}, {"tags": ["\x00"]}, {"adminPass": "\x00"}, {"adminPass": "x" * 300},
    {"imageRef": "\x00"}, {"min_count": 10**30}, {"max_count": "9" * 30}, {"networks": [{"uuid": "\x00"}]},
)  # fmt: skip
BODIES: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/os-keypairs", {"keypair": {"name": "x", "public_key": "ssh-rsa \x00"}}),
    ("POST", "/flavors", {"flavor": {"name": "x", "ram": 10**12, "vcpus": 1, "disk": 1}}),
    ("POST", "/flavors", {"flavor": {"name": "x", "ram": "9" * 20, "vcpus": 1, "disk": 1}}),
    ("PUT", f"/os-quota-sets/{DEMO_PROJECT}", {"quota_set": {"cores": "9" * 20}}),
    ("PUT", f"/os-quota-sets/{DEMO_PROJECT}", {"quota_set": {"cores": "--1"}}),
)


def test_nothing_is_answered_with_a_500(database: Database) -> None:
    nova = Nova(database)
    for path in PATHS:
        for version in ("2.1", LATEST):
            nova.get(path, ADMIN, version)
    for values in SERVERS:
        nova.create(**values)
    for method, path, body in BODIES:
        assert nova.call(method, path, body, ADMIN).status_code == 400, body
    nova.put(f"/os-quota-sets/{DEMO_PROJECT}", {"quota_set": {"instances": -1}}, ADMIN)
    id = nova.active()
    nova.put(f"/servers/{id}/tags/%00")
    for tag in ("%0d%0aX-Evil:1", "%F0%9F%A6%80", "%7F", "%E2%80%AE", "caf%C3%A9", "%ff"):
        made = nova.put(f"/servers/{id}/tags/{tag}")
        assert "X-Evil" not in made.headers
        assert made.status_code == 201 and made.headers["Location"].isprintable() and made.headers["Location"].isascii()
    for action in (
        {"os-getConsoleOutput": None},
        {"os-getConsoleOutput": {"length": "9" * 30}},
        {"lock": {"x": 1}},
        {},
    ):
        assert nova.post(f"/servers/{id}/action", action).status_code == 400, action


@pytest.mark.parametrize("name", ["my key", "under_score-1"])
def test_names_with_odd_letters_are_found(database: Database, name: str) -> None:
    nova = Nova(database)
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBCRbIPIMDtmJ0kDuqKqO9yE2Z8e0uOVaxmWCXgSUI7J"
    assert nova.post("/os-keypairs", {"keypair": {"name": name, "public_key": key}}).status_code == 201
    assert nova.get(f"/os-keypairs/{name}").status_code == 200


def test_a_pattern_of_endless_ways_holds_nobody_up(database: Database) -> None:
    nova = Nova(database)
    id = nova.active(name="a" * 40 + "!")
    for path in ("/servers?name=(a%2B)%2B$", "/servers?name=(a|aa)%2B$", f"/flavors?name={'(.?){40}' * 4}x"):
        began = time.monotonic()
        refused = nova.get(path, version=LATEST)
        assert refused.status_code == 400 and "takes too long" in refused.text, path
        assert time.monotonic() - began < 5
    for pattern, found in (("(A%2B)!$", [id]), ("^(a|b)*$", []), ("(?i)^A%2B!", [id]), ("[!]", [id])):
        answer = nova.get(f"/servers?name={pattern}", version=LATEST).json()
        assert [row["id"] for row in answer["servers"]] == found, pattern
    assert nova.get("/servers?ip=(10|172)[.]", version=LATEST).json()["servers"] == []
    assert nova.get("/servers?name=(", version=LATEST).status_code == 400


def test_a_pattern_of_two_repetitions_is_tried_in_a_thousand_names_for_a_second() -> None:
    """Each takes a hundredth: together they would hold everybody up for half a minute."""
    begun = time.monotonic()
    with pytest.raises(BadRequest, match="takes too long"):
        Pattern("name", "x*x*y").found_in(["x" * 255] * 1000)
    assert time.monotonic() - begun < 10
    assert Pattern("name", "a*b*c").found_in(["xABC"] * 1000) == [True] * 1000
