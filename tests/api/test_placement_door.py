"""Placement over HTTP, on both databases."""

import uuid
from typing import Any

import httpx
import openapi
import pytest
from starlette.testclient import TestClient

from kilonova.db.engine import Database
from kilonova.placement.routes import SERVICE
from kilonova.web.call import Context
from kilonova.web.router import Application

ADMIN = Context(user_id="u", project_id="p", roles=frozenset({"admin", "manager", "member", "reader"}))
SERVICE_USER = Context(user_id="s", project_id="s", roles=frozenset({"service"}))
READER = Context(user_id="v", project_id="q", roles=frozenset({"member", "reader"}))


class Placement:
    """One client; the token names who asks."""

    def __init__(self, database: Database) -> None:
        who = {"admin": ADMIN, "reader": READER, "service": SERVICE_USER}
        app = Application([SERVICE], database, lambda _, token: who[token], None, "http://testserver")
        self.http = TestClient(app, raise_server_exceptions=False)

    def __call__(
        self, method: str, path: str, body: Any = None, version: str = "1.39", who: str = "admin", **query: Any
    ) -> httpx.Response:
        headers = {"X-Auth-Token": who, "OpenStack-API-Version": f"placement {version}"}
        answer = self.http.request(method, "/placement" + path, json=body, params=query or None, headers=headers)
        if openapi.available() and answer.content:
            openapi.check_response("placement", method, path, answer.status_code, answer.json(), version)
        return answer

    def host(self, name: str, parent: str | None = None, **totals: int) -> str:
        made = self("POST", "/resource_providers", {"name": name, "parent_provider_uuid": parent})
        assert made.status_code == 200, made.text
        uuid_ = made.json()["uuid"]
        if totals:
            inventories = {key: {"total": total} for key, total in totals.items()}
            body = {"resource_provider_generation": 0, "inventories": inventories}
            assert self("PUT", f"/resource_providers/{uuid_}/inventories", body).status_code == 200
        return str(uuid_)

    def take(self, provider: str, consumer: str | None = None, generation: int | None = None, **resources: int) -> Any:
        body = {
            "allocations": {provider: {"resources": resources}}, "project_id": "p", "user_id": "u",
            "consumer_generation": generation, "consumer_type": "INSTANCE",
        }  # fmt: skip
        return self("PUT", f"/allocations/{consumer or uuid.uuid4()}", body)


@pytest.fixture
def placement(database: Database) -> Placement:
    return Placement(database)


def error(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    (only,) = answer.json()["errors"]
    assert only["status"] == status and only["request_id"] == answer.headers["X-Openstack-Request-Id"]
    return dict(only)


def test_discovery_needs_no_token(placement: Placement) -> None:
    answer = placement.http.get("/placement/")
    assert answer.json()["versions"][0] == {
        "id": "v1.0", "min_version": "1.0", "max_version": "1.39", "status": "CURRENT",
        "links": [{"rel": "self", "href": ""}],
    }  # fmt: skip


def test_provider_life(placement: Placement) -> None:
    old = placement("POST", "/resource_providers", {"name": "old"}, version="1.0")
    assert old.status_code == 201 and old.content == b""
    path = old.headers["Location"].removeprefix("http://testserver/placement")
    shown = placement("GET", path, version="1.0").json()
    assert shown["generation"] == 0 and [link["rel"] for link in shown["links"]] == ["self", "inventories", "usages"]
    assert "parent_provider_uuid" not in shown
    new = placement("GET", path)
    assert new.json()["root_provider_uuid"] == shown["uuid"] and "Last-Modified" in new.headers
    assert placement("PUT", path, {"name": "renamed"}).json()["name"] == "renamed"
    clash = placement("POST", "/resource_providers", {"name": "renamed"})
    assert error(clash, 409)["code"] == "placement.duplicate_name"
    assert placement("DELETE", path).status_code == 204
    assert "found for delete" in error(placement("DELETE", path), 404)["detail"]


def test_tree(placement: Placement) -> None:
    root = placement.host("root")
    child = placement.host("child", parent=root)
    error(placement("DELETE", f"/resource_providers/{root}"), 409)
    listed = placement("GET", "/resource_providers", in_tree=child).json()["resource_providers"]
    assert {item["uuid"] for item in listed} == {root, child}
    loop = {"name": "root", "parent_provider_uuid": child}
    assert "loop" in error(placement("PUT", f"/resource_providers/{root}", loop), 400)["detail"]
    alone = placement("PUT", f"/resource_providers/{child}", {"name": "child", "parent_provider_uuid": None})
    assert alone.json()["root_provider_uuid"] == child


def test_inventory_generation_is_compared(placement: Placement) -> None:
    host = placement.host("host", VCPU=4)
    path = f"/resource_providers/{host}/inventories"
    assert placement("GET", path).json()["resource_provider_generation"] == 1
    stale = {"resource_provider_generation": 0, "total": 8}
    assert error(placement("PUT", f"{path}/VCPU", stale), 409)["code"] == "placement.concurrent_update"
    fresh = placement("PUT", f"{path}/VCPU", {"resource_provider_generation": 1, "total": 8, "reserved": 8})
    assert fresh.json()["reserved"] == 8
    old = placement(
        "PUT", f"{path}/VCPU", {"resource_provider_generation": 2, "total": 8, "reserved": 8}, version="1.25"
    )
    assert "greater than or equal to total" in error(old, 400)["detail"]
    unknown = {"resource_provider_generation": 2, "inventories": {"NO_SUCH": {"total": 1}}}
    assert "No such resource class NO_SUCH" in error(placement("PUT", path, unknown), 400)["detail"]
    assert placement("DELETE", f"{path}/VCPU").status_code == 204
    error(placement("GET", f"{path}/VCPU"), 404)


def test_allocations_and_usages(placement: Placement) -> None:
    host, consumer = placement.host("host", VCPU=4, MEMORY_MB=1000), str(uuid.uuid4())
    assert placement.take(host, consumer, VCPU=3, MEMORY_MB=200).status_code == 204
    held = placement("GET", f"/allocations/{consumer}").json()
    assert held["allocations"] == {host: {"generation": 2, "resources": {"VCPU": 3, "MEMORY_MB": 200}}}
    assert (held["consumer_generation"], held["consumer_type"], held["project_id"]) == (1, "INSTANCE", "p")
    over = error(placement.take(host, VCPU=2), 409)
    assert "exceed the capacity: asked 2, free 1 of 4" in over["detail"]
    assert "expected 1 but got None" in error(placement.take(host, consumer, VCPU=1), 409)["detail"]
    assert placement.take(host, consumer, 1, VCPU=4).status_code == 204  # its own 3 count as free
    usages = placement("GET", f"/resource_providers/{host}/usages").json()["usages"]
    assert usages == {"VCPU": 4, "MEMORY_MB": 0}
    total = placement("GET", "/usages", project_id="p").json()["usages"]
    assert total == {"INSTANCE": {"VCPU": 4, "consumer_count": 1}}
    inventories = f"/resource_providers/{host}/inventories"
    assert error(placement("DELETE", inventories), 409)["code"] == "placement.inventory.inuse"
    error(placement("DELETE", f"/resource_providers/{host}"), 409)
    assert placement("DELETE", f"/allocations/{consumer}").status_code == 204
    error(placement("DELETE", f"/allocations/{consumer}"), 404)
    assert placement("GET", f"/allocations/{consumer}").json() == {"allocations": {}}


def test_old_allocation_form(placement: Placement) -> None:
    host, consumer = placement.host("host", VCPU=4), str(uuid.uuid4())
    body = {"allocations": [{"resource_provider": {"uuid": host}, "resources": {"VCPU": 1}}]}
    assert placement("PUT", f"/allocations/{consumer}", body, version="1.0").status_code == 204
    assert "consumer_generation" not in placement("GET", f"/allocations/{consumer}", version="1.12").json()
    missing = {"allocations": {str(uuid.uuid4()): {"resources": {"VCPU": 1}}}, "project_id": "p", "user_id": "u"}
    assert (
        "does not exist" in error(placement("PUT", f"/allocations/{consumer}", missing, version="1.12"), 400)["detail"]
    )


def test_traits_and_classes(placement: Placement) -> None:
    host = placement.host("host", VCPU=4)
    assert placement("PUT", "/traits/CUSTOM_FAST").status_code == 201
    assert placement("PUT", "/traits/CUSTOM_FAST").status_code == 204
    error(placement("PUT", "/traits/FAST"), 400)
    error(placement("DELETE", "/traits/HW_CPU_X86_AVX"), 400)
    traits = {"traits": ["CUSTOM_FAST"], "resource_provider_generation": 1}
    assert placement("PUT", f"/resource_providers/{host}/traits", traits).json()["traits"] == ["CUSTOM_FAST"]
    error(placement("PUT", f"/resource_providers/{host}/traits", traits), 409)
    error(placement("DELETE", "/traits/CUSTOM_FAST"), 409)
    assert placement("GET", "/traits", name="startswith:CUSTOM").json() == {"traits": ["CUSTOM_FAST"]}
    for required, count in (("CUSTOM_FAST", 1), ("!CUSTOM_FAST", 0), ("in:CUSTOM_FAST,HW_CPU_X86_AVX", 1)):
        query = {"resources": "VCPU:1", "required": required}
        answer = placement("GET", "/allocation_candidates", **query).json()
        assert len(answer["allocation_requests"]) == count
        assert len(placement("GET", "/resource_providers", **query).json()["resource_providers"]) == count
    assert placement("PUT", "/resource_classes/CUSTOM_GOLD").status_code == 201
    assert placement("PUT", "/resource_classes/CUSTOM_GOLD").status_code == 204
    assert placement("GET", "/resource_classes/CUSTOM_GOLD").json()["name"] == "CUSTOM_GOLD"
    renamed = placement("PUT", "/resource_classes/CUSTOM_GOLD", {"name": "CUSTOM_TIN"}, version="1.2")
    assert renamed.json()["name"] == "CUSTOM_TIN"
    error(placement("GET", "/resource_classes/CUSTOM_GOLD"), 404)
    assert placement("DELETE", "/resource_classes/CUSTOM_TIN").status_code == 204
    error(placement("DELETE", "/resource_classes/VCPU"), 400)


def test_reshape_moves_inventory_with_its_users(placement: Placement) -> None:
    root, consumer = placement.host("root", VGPU=4), str(uuid.uuid4())
    child = placement.host("child", root)
    assert placement.take(root, consumer, VGPU=2).status_code == 204
    body = {
        "inventories": {
            root: {"resource_provider_generation": 2, "inventories": {}},
            child: {"resource_provider_generation": 0, "inventories": {"VGPU": {"total": 4}}},
        },
        "allocations": {
            consumer: {
                "allocations": {child: {"resources": {"VGPU": 2}}}, "project_id": "p", "user_id": "u",
                "consumer_generation": 1, "consumer_type": "INSTANCE",
            }
        },
    }  # fmt: skip
    error(placement("POST", "/reshaper", body), 403)  # a service's alone, not an administrator's
    assert placement("POST", "/reshaper", body, who="service").status_code == 204
    assert list(placement("GET", f"/allocations/{consumer}").json()["allocations"]) == [child]
    error(placement("POST", "/reshaper", body, who="service"), 409)


def test_policy(placement: Placement) -> None:
    error(placement("GET", "/resource_providers", who="reader"), 403)
    assert placement("GET", "/usages", who="reader", project_id="q").status_code == 200
    error(placement("GET", "/usages", who="reader", project_id="p"), 403)
    for wrong in ({}, {"project_id": ""}, {"project_id": "p" * 256}, {"project_id": "p", "user_id": ""},
                  {"project_id": "p", "consumer_type": "odd"}):  # fmt: skip
        error(placement("GET", "/usages", **wrong), 400)
    assert placement("DELETE", "/").status_code == 405


@pytest.mark.parametrize("path", ["/resource_providers", "/allocations", "/reshaper", "/resource_classes"])
@pytest.mark.parametrize("body", [None, [], {}, {"name": 7}, {"name": "x" * 300}, {"a": {"allocations": 1}}, "text"])
def test_bad_bodies_are_refused(placement: Placement, path: str, body: Any) -> None:
    who = "service" if path == "/reshaper" else "admin"
    assert error(placement("POST", path, body, who=who), 400)["detail"]


def test_what_a_provider_has_is_shown_and_removed_piece_by_piece(placement: Placement) -> None:
    host = placement.host("host", VCPU=8)
    path = f"/resource_providers/{host}"
    assert placement("POST", "/resource_classes", {"name": "CUSTOM_A"}).status_code == 201
    assert "CUSTOM_A" in [each["name"] for each in placement("GET", "/resource_classes").json()["resource_classes"]]
    made = placement("POST", f"{path}/inventories", {"resource_class": "CUSTOM_A", "total": 3})
    assert made.status_code == 201, made.text
    assert placement("GET", f"{path}/inventories/CUSTOM_A").json()["total"] == 3
    assert placement("PUT", "/traits/CUSTOM_T").status_code == 201
    assert placement("GET", "/traits/CUSTOM_T").status_code == 204
    generation = placement("GET", path).json()["generation"]
    traits = {"resource_provider_generation": generation, "traits": ["CUSTOM_T"]}
    assert placement("PUT", f"{path}/traits", traits).status_code == 200
    assert placement("GET", f"{path}/traits").json()["traits"] == ["CUSTOM_T"]
    assert placement("DELETE", "/traits/CUSTOM_T").status_code == 409
    assert placement("DELETE", f"{path}/traits").status_code == 204
    assert placement("DELETE", "/traits/CUSTOM_T").status_code == 204
    assert placement("GET", f"{path}/aggregates").json()["aggregates"] == []
    consumer = str(uuid.uuid4())
    claim = {"allocations": {host: {"resources": {"CUSTOM_A": 1}}}, "project_id": "p", "user_id": "u",
             "consumer_generation": None, "consumer_type": "INSTANCE"}  # fmt: skip
    assert placement("POST", "/allocations", {consumer: claim}).status_code == 204
    assert list(placement("GET", f"{path}/allocations").json()["allocations"]) == [consumer]
    assert placement("DELETE", f"{path}/inventories").status_code == 409
    assert placement("DELETE", f"/allocations/{consumer}").status_code == 204
    assert placement("DELETE", f"{path}/inventories").status_code == 204
    assert placement("GET", f"{path}/inventories").json()["inventories"] == {}


def test_one_request_has_so_many_and_no_more(placement: Placement) -> None:
    """Each is looked up, or a row of its own; and what is of the wrong kind is told before what is there twice."""
    host = placement.host("host", VCPU=2000)
    path, ids = f"/resource_providers/{host}", [str(uuid.uuid4()) for _ in range(1001)]
    claim = {"allocations": {host: {"resources": {"VCPU": 1}}}, "project_id": "p", "user_id": "u",
             "consumer_generation": None, "consumer_type": "INSTANCE"}  # fmt: skip
    for number, status in ((1000, 200), (1001, 400)):
        generation = placement("GET", path).json()["generation"]
        body: dict[str, Any] = {"resource_provider_generation": generation, "aggregates": ids[:number]}
        assert placement("PUT", f"{path}/aggregates", body).status_code == status
    for number, status in ((1001, 400), (1000, 204)):
        assert placement("POST", "/allocations", dict.fromkeys(ids[:number], claim)).status_code == status
    mixed = {"resource_provider_generation": 0, "traits": ["A", 1] * 400}
    assert "not of type" in error(placement("PUT", f"{path}/traits", mixed), 400)["detail"]


def test_one_uuid_written_in_two_ways_is_refused(placement: Placement) -> None:
    """Each would take the other's place, or both the same row."""
    host, consumer = placement.host("host", VCPU=8), str(uuid.uuid4())
    bare = host.replace("-", "")
    one = {"resources": {"VCPU": 1}}
    claim = {"project_id": "p", "user_id": "u", "consumer_generation": None, "consumer_type": "INSTANCE"}
    right = {**claim, "allocations": {host: one}}
    double = {**claim, "allocations": {host: one, bare: one}}
    old = {"allocations": [{"resource_provider": {"uuid": each}, **one} for each in (host, bare)]}
    stock = {"resource_provider_generation": 1, "inventories": {"VCPU": {"total": 4}}}
    for answer in (
        placement("POST", "/allocations", {consumer: right, consumer.upper(): right}),
        placement("POST", "/allocations", {consumer: double}),
        placement("PUT", f"/allocations/{consumer}", double),
        placement("PUT", f"/allocations/{consumer}", old, version="1.0"),
        placement("POST", "/reshaper", {"inventories": {host: stock, bare: stock}, "allocations": {}}, who="service"),
        placement(
            "POST", "/reshaper", {"inventories": {host: stock}, "allocations": {consumer: right, consumer.upper(): right}},
            who="service",
        ),
    ):  # fmt: skip
        assert "is named twice" in error(answer, 400)["detail"]
    assert placement("GET", f"/resource_providers/{host}/usages").json()["usages"] == {"VCPU": 0}


def test_a_claim_names_a_thousand_providers_and_classes_at_most(placement: Placement) -> None:
    consumer, one = str(uuid.uuid4()), {"resources": {"VCPU": 1}}
    claim = {"project_id": "p", "user_id": "u", "consumer_generation": None, "consumer_type": "INSTANCE"}
    host = placement.host("host", VCPU=8)
    for number, words in ((1000, "does not exist"), (60_000, "too many properties")):
        many = {f"{each:032x}": one for each in range(number)}
        answer = placement("PUT", f"/allocations/{consumer}", {**claim, "allocations": many})
        assert words in error(answer, 400)["detail"]
    for number, words in ((1000, "No such resource class"), (60_000, "too many properties")):
        classes = {f"CUSTOM_{each}": 1 for each in range(number)}
        answer = placement("PUT", f"/allocations/{consumer}", {**claim, "allocations": {host: {"resources": classes}}})
        assert words in error(answer, 400)["detail"]
