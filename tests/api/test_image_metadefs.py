"""Metadata definitions at Glance's door."""

from pathlib import Path
from typing import Any

import pytest
from image_client import Glance

from kilonova.db.engine import Database

N = "/metadefs/namespaces"
PORT = {"title": "Port", "type": "integer", "minimum": 1, "default": 80, "enum": [80, 443]}
WHOLE = {
    "namespace": "OS::Web", "display_name": "Web", "description": "Servers", "visibility": "public",
    "resource_type_associations": [{"name": "OS::Nova::Server", "prefix": "hw:"}],
    "properties": {"port": PORT}, "tags": [{"name": "fast"}],
    "objects": [{"name": "nginx", "required": ["port"], "properties": {"port": PORT}}],
}  # fmt: skip


@pytest.fixture
def glance(database: Database, tmp_path: Path) -> Glance:
    return Glance(database, tmp_path)


def admin(glance: Glance, method: str, path: str, body: Any = None, **more: Any) -> Any:
    return glance(method, path, body, who="admin", **more)


def made(glance: Glance, **values: Any) -> str:
    body = {"namespace": "ns", "visibility": "public", **values}
    answer = admin(glance, "POST", N, body)
    assert answer.status_code == 201, answer.text
    return f"{N}/{body['namespace']}"


def test_a_namespace_with_all_that_can_be_in_it(glance: Glance) -> None:
    answer = admin(glance, "POST", N, WHOLE)
    assert answer.status_code == 201 and answer.headers["Location"] == "/v2/metadefs/namespaces/OS::Web"
    shown = glance("GET", f"{N}/OS::Web").json()
    assert shown == answer.json()
    assert (shown["owner"], shown["protected"], shown["tags"]) == ("p-admin", False, [{"name": "fast"}])
    assert shown["properties"] == {"port": PORT} and shown["objects"][0]["required"] == ["port"]
    assert shown["self"] == "/v2/metadefs/namespaces/OS::Web" and shown["schema"] == "/v2/schemas/metadefs/namespace"
    prefixed = glance("GET", f"{N}/OS::Web?resource_type=OS::Nova::Server").json()
    assert list(prefixed["properties"]) == ["hw:port"] and prefixed["objects"][0]["required"] == ["hw:port"]
    assert glance("GET", f"{N}/OS::Web/properties/hw:port?resource_type=OS::Nova::Server").json()["name"] == "port"
    assert glance("GET", f"{N}/OS::Web/properties/port?resource_type=OS::Nova::Server").status_code == 404
    again = admin(glance, "POST", N, WHOLE)
    assert again.status_code == 409 and "already exists" in again.text
    twice = {**WHOLE, "namespace": "other", "tags": [{"name": "a"}, {"name": "a"}]}
    assert admin(glance, "POST", N, twice).status_code == 409
    assert glance("GET", f"{N}/other").status_code == 404  # all of it or nothing
    assert admin(glance, "DELETE", f"{N}/OS::Web").status_code == 204
    assert glance("GET", f"{N}/OS::Web").status_code == 404


def test_who_sees_and_who_writes(glance: Glance) -> None:
    made(glance, namespace="open")
    made(glance, namespace="alice", visibility="private", owner="p-alice")

    def names(who: str) -> list[str]:
        return sorted(each["namespace"] for each in glance("GET", N, who=who).json()["namespaces"])

    assert names("alice") == names("watcher") == names("admin") == ["alice", "open"] and names("bob") == ["open"]
    for tail in ("", "/objects", "/properties", "/resource_types", "/tags"):
        assert glance("GET", f"{N}/alice{tail}").status_code == 200
        assert glance("GET", f"{N}/alice{tail}", who="bob").status_code == 404
    body = {"namespace": "mine", "name": "n", "title": "t", "type": "string", "tags": []}
    for method, path in (
        ("POST", N), ("PUT", f"{N}/alice"), ("DELETE", f"{N}/alice"), ("POST", f"{N}/alice/objects"),
        ("POST", f"{N}/alice/properties"), ("POST", f"{N}/alice/resource_types"), ("POST", f"{N}/alice/tags/n"),
        ("DELETE", f"{N}/alice/tags"),
    ):  # fmt: skip
        assert glance(method, path, body).status_code == 403, path


def test_pages_and_filters(glance: Glance) -> None:
    for name in ("a", "b", "c"):
        made(glance, namespace=name, visibility="private" if name == "b" else "public")
    admin(glance, "POST", f"{N}/c/resource_types", {"name": "OS::Nova::Flavor"})
    first = admin(glance, "GET", f"{N}?limit=2&sort_key=namespace&sort_dir=asc").json()
    assert [each["namespace"] for each in first["namespaces"]] == ["a", "b"]
    rest = admin(glance, "GET", first["next"].removeprefix("/v2")).json()
    assert [each["namespace"] for each in rest["namespaces"]] == ["c"] and "next" not in rest
    assert rest["namespaces"][0]["resource_type_associations"][0]["name"] == "OS::Nova::Flavor"
    for query, found in (("visibility=private", ["b"]), ("resource_types=OS::Nova::Flavor,x", ["c"])):
        assert [each["namespace"] for each in admin(glance, "GET", f"{N}?{query}").json()["namespaces"]] == found
    for bad, status in (("limit=x", 400), ("limit=-1", 400), ("sort_dir=up", 400), ("sort_key=x", 400),
                        ("visibility=shared", 400), ("marker=none", 404)):  # fmt: skip
        assert admin(glance, "GET", f"{N}?{bad}").status_code == status, bad


def test_updates(glance: Glance) -> None:
    path = made(glance, display_name="old")
    made(glance, namespace="taken")
    changed = admin(glance, "PUT", path, {"namespace": "new", "description": "d"})
    assert changed.status_code == 200, changed.text
    body = changed.json()
    assert (body["namespace"], body["visibility"], body.get("display_name")) == ("new", "private", None)
    assert admin(glance, "PUT", f"{N}/new", {"namespace": "taken"}).status_code == 409
    assert admin(glance, "PUT", f"{N}/new", {"namespace": "new", "self": "x"}).status_code == 403
    assert admin(glance, "PUT", path, {"namespace": "ns"}).status_code == 404


@pytest.mark.parametrize(("kind", "body"), [
    ("objects", {"name": "one", "description": "d", "required": [], "properties": {"port": PORT}}),
    ("properties", {"name": "one", **PORT}), ("tags", {"name": "one"}),
])  # fmt: skip
def test_what_is_in_a_namespace(glance: Glance, kind: str, body: dict[str, Any]) -> None:
    path = f"{made(glance)}/{kind}"
    create = f"{path}/one" if kind == "tags" else path
    answer = admin(glance, "POST", create, None if kind == "tags" else body)
    assert answer.status_code == 201, answer.text
    shown = glance("GET", f"{path}/one").json()
    assert shown == answer.json() and {name: shown[name] for name in body} == body
    assert admin(glance, "POST", create, None if kind == "tags" else body).status_code == 409
    listed = glance("GET", path).json()[kind]
    assert list(listed) == ["one"] if kind == "properties" else [each["name"] for each in listed] == ["one"]
    assert admin(glance, "PUT", f"{path}/one", {**body, "name": "two"}).json()["name"] == "two"
    assert admin(glance, "PUT", f"{path}/one", body).status_code == 404
    admin(glance, "POST", create, None if kind == "tags" else body)
    assert admin(glance, "PUT", f"{path}/two", body).status_code == 409
    assert admin(glance, "DELETE", f"{path}/one").status_code == 204
    gone = glance("GET", f"{path}/one")
    assert gone.status_code == 404 and "was not found in namespace=ns" in gone.text
    assert admin(glance, "DELETE", path).status_code == 204 and not glance("GET", path).json()[kind]


def test_tags_all_at_once(glance: Glance) -> None:
    path = f"{made(glance)}/tags"

    def names() -> list[str]:
        return sorted(each["name"] for each in glance("GET", path).json()["tags"])

    both = {"tags": [{"name": "a"}, {"name": "b"}]}
    assert admin(glance, "POST", path, both).json() == both and names() == ["a", "b"]
    assert admin(glance, "POST", path, {"tags": [{"name": "c"}]}).status_code == 201 and names() == ["c"]
    more = admin(glance, "POST", path, both, headers={"X-Openstack-Append": "True"})
    assert more.status_code == 201 and names() == ["a", "b", "c"]
    assert admin(glance, "POST", path, both, headers={"X-Openstack-Append": "True"}).status_code == 409
    assert [each["name"] for each in glance("GET", f"{path}?sort_key=name&limit=1").json()["tags"]] == ["c"]


@pytest.mark.parametrize("kind", ["objects", "tags", "resource_type_associations"])
def test_one_request_defines_so_many_and_no_more(glance: Glance, kind: str) -> None:
    """Each is a row of its own, and meanwhile nobody else writes."""
    many = [{"name": str(number)} for number in range(1001)]
    refused = admin(glance, "POST", "/metadefs/namespaces", {"namespace": "N", kind: many})
    assert refused.status_code == 400 and "at most 1000" in refused.text
    if kind == "tags":
        tags = f"{made(glance)}/tags"
        assert admin(glance, "POST", tags, {kind: many}).status_code == 400
        assert admin(glance, "POST", tags, {kind: many[1:]}).status_code == 201


def test_resource_types(glance: Glance) -> None:
    path = f"{made(glance)}/resource_types"
    known = [each["name"] for each in glance("GET", "/metadefs/resource_types").json()["resource_types"]]
    assert "OS::Nova::Server" in known
    asked = {"name": "My::Type", "prefix": "my_", "properties_target": "image"}
    answer = admin(glance, "POST", path, asked)
    assert answer.status_code == 201 and asked.items() <= answer.json().items()
    assert admin(glance, "POST", path, asked).status_code == 409
    assert glance("GET", path).json()["resource_type_associations"] == [answer.json()]
    assert admin(glance, "DELETE", f"{path}/My::Type").status_code == 204
    assert admin(glance, "DELETE", f"{path}/My::Type").status_code == 404
    types = [each["name"] for each in glance("GET", "/metadefs/resource_types").json()["resource_types"]]
    assert types == [*known, "My::Type"]  # it stays


def test_what_is_protected_stays(glance: Glance) -> None:
    path = made(glance, **{key: value for key, value in WHOLE.items() if key != "namespace"}, protected=True)
    for tail in ("", "/objects", "/objects/nginx", "/properties", "/properties/port", "/tags", "/tags/fast",
                 "/resource_types/OS::Nova::Server"):  # fmt: skip
        refused = admin(glance, "DELETE", f"{path}{tail}")
        assert refused.status_code == 403 and "is protected and cannot be deleted" in refused.text, tail
    assert admin(glance, "PUT", path, {"namespace": "ns"}).json()["protected"] is False
    assert admin(glance, "DELETE", path).status_code == 204


@pytest.mark.parametrize("body", [
    None, [], {}, {"namespace": ""}, {"namespace": "x" * 81}, {"namespace": 7}, {"namespace": "x", "visibility": "shared"},
    {"namespace": "x", "description": "x" * 501}, {"namespace": "x", "extra": 1}, {"namespace": "x", "tags": [{}]},
    {"namespace": "x", "objects": [{"name": "x" * 81}]}, {"namespace": "x", "properties": {"x" * 81: PORT}},
    {"namespace": "x", "properties": {"p": {"type": "string"}}}, {"namespace": "x", "properties": []},
    {"namespace": "x", "properties": {"p": {**PORT, "odd": 1}}}, {"namespace": "x", "owner": None},
    {"namespace": "x", "resource_type_associations": [{"prefix": "p"}]},
])  # fmt: skip
def test_bad_namespaces_are_refused(glance: Glance, body: Any) -> None:
    assert admin(glance, "POST", N, body).status_code == 400
    assert admin(glance, "POST", f"{made(glance)}/objects", body).status_code == 400


def test_other_bad_bodies(glance: Glance) -> None:
    path = made(glance)
    for tail, body in (
        ("properties", {"name": "n", "type": "string"}), ("properties", {"name": "n", "title": "t", "type": "odd"}),
        ("objects", {"name": "n", "required": "n"}), ("resource_types", {"prefix": "p"}), ("tags", {"tags": ["a"]}),
        ("tags", None), ("tags/" + "x" * 81, None),
    ):  # fmt: skip
        assert admin(glance, "POST", f"{path}/{tail}", body).status_code == 400, (tail, body)


def test_schemas(glance: Glance) -> None:
    for name, of in (
        ("namespace", "namespace"), ("namespaces", "namespaces"), ("object", "object"), ("objects", "objects"),
        ("property", "property"), ("properties", "properties"), ("tag", "tag"), ("tags", "tags"),
        ("resource_type", "resource_type_association"), ("resource_types", "resource_type_associations"),
    ):  # fmt: skip
        assert glance("GET", f"/schemas/metadefs/{name}").json()["name"] == of
    assert glance("GET", "/schemas/metadefs/none").status_code == 404
