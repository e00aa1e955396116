"""Volume types at Cinder's door: their specs, who may use them, a project's own default, QoS specs."""

from test_placement_races import CLIENTS, at_once
from volume_client import ADMIN, DEMO_PROJECT, OTHER, Cinder, cinder, volume_type

__all__ = ["cinder"]


def test_types_their_specs_and_who_may_use_them(cinder: Cinder) -> None:
    made = volume_type(cinder, "gold", extra_specs={"a": "1"}, description="d")
    path = f"/types/{made['id']}"
    assert cinder.post("/types", {"volume_type": {"name": "gold"}}, ADMIN).status_code == 409
    assert cinder.post("/types", {"volume_type": {"name": "x"}}).status_code == 403
    assert cinder.get(path).json()["volume_type"]["extra_specs"] == {}
    assert cinder.get(path, ADMIN).json()["volume_type"]["extra_specs"] == {"a": "1"}
    assert cinder.post(f"{path}/extra_specs", {"extra_specs": {"b": "2"}}, ADMIN).json() == {"extra_specs": {"b": "2"}}
    assert cinder.put(f"{path}/extra_specs/b", {"b": "3"}, ADMIN).json() == {"b": "3"}
    assert cinder.put(f"{path}/extra_specs/b", {"c": "3"}, ADMIN).status_code == 400
    assert cinder.get(f"{path}/extra_specs/b", ADMIN).json() == {"b": "3"}
    assert cinder.get(f"{path}/extra_specs", ADMIN).json() == {"extra_specs": {"a": "1", "b": "3"}}
    assert cinder.delete(f"{path}/extra_specs/b", ADMIN).status_code == 202
    assert cinder.delete(f"{path}/extra_specs/b", ADMIN).status_code == 404
    assert cinder.put(path, {"volume_type": {"name": "silver", "is_public": False}}, ADMIN).status_code == 200
    assert cinder.get(path).status_code == 404
    assert "silver" not in cinder.get("/types").text
    add = {"addProjectAccess": {"project": DEMO_PROJECT}}
    assert cinder.post(f"{path}/action", add, ADMIN).status_code == 202
    assert cinder.post(f"{path}/action", add, ADMIN).status_code == 409
    assert cinder.get(path).status_code == 200 and cinder.get(path, OTHER).status_code == 404
    access = cinder.get(f"{path}/os-volume-type-access", ADMIN).json()["volume_type_access"]
    assert [each["project_id"] for each in access] == [DEMO_PROJECT]
    volume = cinder.volume(volume_type="silver")
    assert cinder.delete(path, ADMIN).status_code == 400
    cinder.delete(f"/volumes/{volume['id']}")
    cinder.run()
    assert cinder.delete(path, ADMIN).status_code == 202
    default = cinder.get("/types/default").json()["volume_type"]
    assert default["name"] == "__DEFAULT__" and cinder.delete(f"/types/{default['id']}", ADMIN).status_code == 400


def test_no_type_and_no_volume_is_encrypted(cinder: Cinder) -> None:
    path = f"/types/{volume_type(cinder, 'open')['id']}/encryption"
    assert cinder.get(path, ADMIN).json() == {}
    refused = cinder.post(path, {"encryption": {"provider": "luks", "control_location": "front-end"}}, ADMIN)
    assert refused.status_code == 403 and "Encrypted volumes are not offered" in refused.text
    assert cinder.put(f"{path}/provider", {"encryption": {"cipher": "aes-xts-plain64"}}, ADMIN).status_code == 403
    assert cinder.get(f"{path}/provider", ADMIN).status_code == 404
    assert cinder.delete(f"{path}/provider", ADMIN).status_code == 404
    assert cinder.get(path).status_code == 403
    path = f"/volumes/{cinder.volume(volume_type='open')['id']}/encryption"
    assert cinder.get(path).json() == {"encryption_key_id": None}
    assert cinder.get(f"{path}/encryption_key_id").json() == {"encryption_key_id": None}
    assert cinder.get(f"{path}/cipher").status_code == 404
    assert cinder.get(path, OTHER).status_code == 404
    sealed = cinder.image(cinder_encryption_key_id="1d7c4d5e-0000-4000-8000-000000000001")
    refused = cinder.post("/volumes", {"volume": {"size": 1, "imageRef": sealed}})
    assert refused.status_code == 400 and "offers no encrypted volumes" in refused.text


def test_a_project_may_have_a_default_type_of_its_own(cinder: Cinder) -> None:
    made, path = volume_type(cinder, "mine"), f"/default-types/{DEMO_PROJECT}"
    assert cinder.get(path, ADMIN).status_code == 404
    set_ = cinder.put(path, {"default_type": {"volume_type": "mine"}}, ADMIN)
    assert set_.json()["default_type"] == {"project_id": DEMO_PROJECT, "volume_type_id": made["id"]}
    assert cinder.get(path, ADMIN).json() == set_.json()
    assert cinder.volume()["volume_type"] == "mine" and cinder.volume(OTHER)["volume_type"] == "__DEFAULT__"
    assert len(cinder.get("/default-types", ADMIN).json()["default_types"]) == 1
    assert cinder.delete(path, ADMIN).status_code == 204
    assert cinder.volume()["volume_type"] == "__DEFAULT__"


def test_qos_specs_are_bound_to_types(cinder: Cinder) -> None:
    wish = {"qos_specs": {"name": "q", "consumer": "front-end", "read_iops_sec": "100"}}
    made = cinder.post("/qos-specs", wish, ADMIN).json()["qos_specs"]
    assert (made["consumer"], made["specs"]) == ("front-end", {"read_iops_sec": "100"})
    assert cinder.post("/qos-specs", wish, ADMIN).status_code == 409
    path, type_id = f"/qos-specs/{made['id']}", volume_type(cinder, "t")["id"]
    assert cinder.get(f"{path}/associate?vol_type_id={type_id}", ADMIN).status_code == 202
    found = cinder.get(f"{path}/associations", ADMIN).json()["qos_associations"]
    assert [each["id"] for each in found] == [type_id]
    assert cinder.get(f"/types/{type_id}", ADMIN).json()["volume_type"]["qos_specs_id"] == made["id"]
    assert cinder.delete(path, ADMIN).status_code == 400
    assert cinder.get(f"{path}/disassociate?vol_type_id={type_id}", ADMIN).status_code == 202
    assert cinder.get(f"{path}/associations", ADMIN).json() == {"qos_associations": []}
    for id in (type_id, volume_type(cinder, "u")["id"]):
        cinder.get(f"{path}/associate?vol_type_id={id}", ADMIN)
    assert len(cinder.get(f"{path}/associations", ADMIN).json()["qos_associations"]) == 2
    assert cinder.get(f"{path}/disassociate_all", ADMIN).status_code == 202
    assert cinder.get(f"{path}/associations", ADMIN).json() == {"qos_associations": []}
    assert cinder.put(path, {"qos_specs": {"write_iops_sec": "5"}}, ADMIN).status_code == 200
    assert cinder.put(f"{path}/delete_keys", {"keys": ["read_iops_sec"]}, ADMIN).status_code == 202
    assert cinder.get(path, ADMIN).json()["qos_specs"]["specs"] == {"write_iops_sec": "5"}
    assert cinder.put(f"{path}/delete_keys", {"keys": ["read_iops_sec"]}, ADMIN).status_code == 400
    cinder.post("/qos-specs", {"qos_specs": {"name": "second"}}, ADMIN)
    page = cinder.get("/qos-specs?limit=1", ADMIN).json()
    assert [each["name"] for each in page["qos_specs"]] == ["second"]
    rest = cinder.get(page["qos_specs_links"][0]["href"].partition("/v3")[2], ADMIN).json()
    assert [each["name"] for each in rest["qos_specs"]] == ["q"] and "qos_specs_links" not in rest
    odd = {"qos_specs": {"ü": "1"}}
    assert cinder.put(path, odd, ADMIN).status_code == 400  # though such a key may be there from the start
    assert cinder.put(path, {"qos_specs": {"burst/s": None}}, ADMIN).status_code == 200
    assert cinder.get(path, ADMIN).json()["qos_specs"]["specs"] == {"write_iops_sec": "5", "burst/s": None}
    assert cinder.get("/qos-specs").status_code == 403
    assert cinder.delete(path, ADMIN).status_code == 202 and cinder.get(path, ADMIN).status_code == 404


def test_a_type_that_a_group_is_being_made_of_stays(cinder: Cinder) -> None:
    cinder.put(f"/os-quota-sets/{DEMO_PROJECT}", {"quota_set": {"groups": -1}}, ADMIN)
    kind = cinder.post("/group_types", {"group_type": {"name": "g"}}, ADMIN).json()["group_type"]["id"]
    ids = [volume_type(cinder, f"t{number}")["id"] for number in range(CLIENTS // 2)]

    def work(client: int) -> int:
        if client % 2:
            return cinder.delete(f"/types/{ids[client // 2]}", ADMIN).status_code
        return cinder.post("/groups", {"group": {"group_type": kind, "volume_types": [ids[client // 2]]}}).status_code

    assert set(at_once(work)) <= {202, 400, 404}
    there = {each["id"] for each in cinder.get("/types").json()["volume_types"]}
    groups = cinder.get("/groups/detail").json()["groups"]
    assert {id for group in groups for id in group["volume_types"]} <= there
