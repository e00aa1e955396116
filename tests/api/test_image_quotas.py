"""Image quotas by unified limits, at Glance's door."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from compute_client import DEMO, Nova
from identity_client import Keystone
from image_client import Glance

from kilonova.db.engine import Database
from kilonova.identity import limits

MIB = 1 << 20
DIRECT = {"method": {"name": "glance-direct"}}


@pytest.fixture
def glance(database: Database, tmp_path: Path) -> Glance:
    return Glance(database, tmp_path)


def usage(glance: Glance, who: str = "alice") -> dict[str, tuple[int, int]]:
    """Resource → (usage, limit)."""
    told = glance("GET", "/info/usage", who=who).json()["usage"]
    return {name.removeprefix("image_"): (each["usage"], each["limit"]) for name, each in told.items()}


def test_usage(glance: Glance) -> None:
    assert glance.upload(glance.image()["id"], bytes(3 * MIB)).status_code == 204
    assert glance.upload(glance.image()["id"], bytes(2 * MIB), kind="stage").status_code == 204
    glance.image()
    glance.limits = {"image_count_total": 7}
    assert usage(glance) == {"size_total": (3, -1), "stage_total": (2, -1), "count_total": (3, 7), "count_uploading": (1, -1)}
    assert {used for used, _ in usage(glance, "bob").values()} == {0}


def test_the_number_of_images(glance: Glance) -> None:
    glance.limits = {"image_count_total": 1}
    first = glance.image()
    body = {"name": "image", "disk_format": "raw", "container_format": "bare"}
    refused = glance("POST", "/images", body)
    assert refused.status_code == 413
    assert "Resource image_count_total is over limit of 1 due to current usage 1 and delta 1" in refused.text
    glance.image("bob")
    glance("DELETE", f"/images/{first['id']}")
    glance.image()
    glance.limits = {"image_count_total": -1}
    glance.image()


def test_the_size_of_all_images(glance: Glance) -> None:
    glance.limits = {"image_size_total": 2}
    one, other, third = (glance.image()["id"] for _ in range(3))
    assert glance.upload(one, bytes(3 * MIB)).status_code == 413
    assert glance("GET", f"/images/{one}").json()["status"] == "queued" and glance.files() == []
    assert glance.upload(one, bytes(2 * MIB)).status_code == 204
    assert glance.upload(other, bytes(MIB)).status_code == 413
    assert glance.upload(other, bytes(10)).status_code == 204  # less than a MiB is none, as Glance counts
    assert glance.upload(third, bytes(MIB), kind="stage").status_code == 204
    assert glance("POST", f"/images/{third}/import", DIRECT).status_code == 413
    assert glance("GET", f"/images/{third}").json()["status"] == "uploading"
    glance("DELETE", f"/images/{one}")
    assert glance("POST", f"/images/{third}/import", DIRECT).status_code == 202


def test_what_is_staged(glance: Glance) -> None:
    glance.limits = {"image_stage_total": 1}
    one, other = glance.image()["id"], glance.image()["id"]
    assert glance.upload(one, bytes(2 * MIB), kind="stage").status_code == 413
    assert glance.upload(one, bytes(MIB), kind="stage").status_code == 204
    assert glance.upload(other, bytes(MIB), kind="stage").status_code == 413
    assert glance.upload(other, bytes(MIB)).status_code == 204
    assert usage(glance)["stage_total"] == (1, 1)


def test_what_comes_in(glance: Glance) -> None:
    glance.limits = {"image_count_uploading": 1}
    one, other = glance.image()["id"], glance.image()["id"]
    assert glance.upload(one, b"data", kind="stage").status_code == 204
    for kind in ("stage", "file"):
        refused = glance.upload(other, b"data", kind=kind)
        assert refused.status_code == 413 and "image_count_uploading" in refused.text
        assert glance("GET", f"/images/{other}").json()["status"] == "queued"
    assert glance.upload(glance.image("bob")["id"], b"data", "bob").status_code == 204
    glance("DELETE", f"/images/{one}")
    assert glance.upload(other, b"data").status_code == 204


def test_many_at_once_take_the_last_places(glance: Glance) -> None:
    glance.limits = {"image_count_total": 5, "image_count_uploading": 3}
    body = {"name": "image", "disk_format": "raw", "container_format": "bare"}
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: glance("POST", "/images", body), range(16)))
        assert sorted(each.status_code for each in made) == [201] * 5 + [413] * 11
        ids = [each.json()["id"] for each in made if each.status_code == 201]
        staged = list(pool.map(lambda id: glance.upload(id, b"data", kind="stage").status_code, ids))
    assert sorted(staged) == [204] * 3 + [413] * 2
    assert usage(glance)["count_uploading"] == (3, 3)


def test_a_snapshot_is_an_image_too(database: Database) -> None:
    nova, keystone = Nova(database), Keystone(database)
    server = nova.active()
    service = keystone.get("/v3/services?type=image").json()["services"][0]["id"]
    limit = {"service_id": service, "resource_name": "image_count_total", "default_limit": 0}
    assert keystone.post("/v3/registered_limits", {"registered_limits": [limit]}).status_code == 201
    asked = {"createImage": {"name": "snapshot"}}
    refused = nova.post(f"/servers/{server}/action", asked, DEMO)
    assert refused.status_code == 413 and "image_count_total" in refused.text


def test_the_limits_in_force(database: Database) -> None:
    keystone = Keystone(database)
    service = keystone.get("/v3/services?type=image").json()["services"][0]["id"]
    demo = keystone.get("/v3/projects?name=demo").json()["projects"][0]["id"]

    def in_force(project: str = demo) -> dict[str, int]:
        return database.read(lambda tx: limits.in_force(tx, "image", project))

    def register(default: int, **more: str) -> None:
        asked = {"service_id": service, "resource_name": "image_count_total", "default_limit": default, **more}
        assert keystone.post("/v3/registered_limits", {"registered_limits": [asked]}).status_code == 201

    assert in_force() == {}
    register(3)
    assert in_force() == {"image_count_total": 3}
    register(4, region_id="RegionOne")
    assert in_force() == {"image_count_total": 4}
    own = {"service_id": service, "region_id": "RegionOne", "resource_name": "image_count_total", "resource_limit": 9}
    assert keystone.post("/v3/limits", {"limits": [{**own, "project_id": demo}]}).status_code == 201
    assert in_force() == {"image_count_total": 9} and in_force("another") == {"image_count_total": 4}
    assert database.read(lambda tx: limits.in_force(tx, "compute", demo)) == {}


def test_how_much_one_image_may_have(glance: Glance) -> None:
    """Glance's image_property_quota, image_tag_quota and image_member_quota: 128 each."""
    many = {f"p{number}": "v" for number in range(128)}
    tags = [f"t{number:03}" for number in range(128)]

    def refused(answer: httpx.Response, of: str) -> None:
        said = f"The limit has been exceeded on the number of allowed image {of}. Attempted: 129, Maximum: 128"
        assert answer.status_code == 413 and said in answer.text, answer.text

    refused(glance("POST", "/images", {"name": "n", **many, "one": "more"}), "properties")
    refused(glance("POST", "/images", {"name": "n", "tags": [*tags, "more"]}), "tags")
    image = glance.image(tags=tags, **many)
    path = f"/images/{image['id']}"
    refused(glance.patch(image["id"], [{"op": "add", "path": "/one", "value": "more"}]), "properties")
    refused(glance.patch(image["id"], [{"op": "replace", "path": "/tags", "value": [*tags, "more"]}]), "tags")
    refused(glance("PUT", f"{path}/tags/more"), "tags")
    assert glance("PUT", f"{path}/tags/t000").status_code == 204
    swap = [{"op": "remove", "path": "/p0"}, {"op": "add", "path": "/one", "value": "more"}]
    assert glance.patch(image["id"], swap).status_code == 200
    for number in range(128):
        assert glance("POST", f"{path}/members", {"member": f"m{number}"}).status_code == 200
    refused(glance("POST", f"{path}/members", {"member": "more"}), "members for this image")
    shown = glance("GET", path).json()
    assert (len(shown["tags"]), "p0" in shown, shown["one"]) == (128, False, "more")
    assert len(glance("GET", f"{path}/members").json()["members"]) == 128
