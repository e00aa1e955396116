"""Cinder's lines of policy that ask of parts of requests, and of what answers show: an operator's to give and to take."""

from typing import Any

import pytest
from volume_client import ADMIN, DEMO, Cinder, cinder, volume_type

from kilonova.policy_file import PolicyFile
from kilonova.volume import parts

__all__ = ["cinder"]


@pytest.fixture
def ruled(cinder: Cinder) -> Any:
    """`ruled({part: rule})`: from now on these hold, and no others."""
    file = cinder.folder / "policy.yaml"

    def hold(rules: dict[str, str]) -> None:
        file.write_text("".join(f'"{part}": "{rule}"\n' for part, rule in rules.items()))
        services = [service for service, _ in cinder.http.app.services.values()]
        cinder.http.app.policies = PolicyFile(file, services)

    return hold


def shown(cinder: Cinder) -> set[str]:
    """The parts of policy by which DEMO sees something."""
    volume = cinder.get("/volumes/detail").json()["volumes"][0]
    snapshot = cinder.get("/snapshots/detail").json()["snapshots"][0]
    kinds = {each["name"]: each for each in cinder.get("/types").json()["volume_types"]}
    backup = cinder.get("/backups/detail").json()["backups"][0]
    group_type = cinder.get("/group_types").json()["group_types"][0]
    group = cinder.get("/groups/detail").json()["groups"][0]
    fields = {
        parts.HOST: (volume, "os-vol-host-attr:host"),
        parts.MIGRATION: (volume, "os-vol-mig-status-attr:migstat"),
        parts.PROJECT: (volume, "os-vol-tenant-attr:tenant_id"),
        parts.SNAPSHOT: (snapshot, "os-extended-snapshot-attributes:progress"),
        parts.EXTRA_SPECS: (kinds["shared"], "extra_specs"),
        parts.ALL_EXTRA_SPECS: (kinds["shared"].get("extra_specs", {}), "vendor:secret"),
        parts.QOS_SPECS: (kinds["shared"], "qos_specs_id"),
        parts.IS_PUBLIC: (kinds["shared"], "os-volume-type-access:is_public"),
        parts.OF_BACKUP: (backup, "os-backup-project-attr:project_id"),
        parts.OF_GROUP: (group, "project_id"),
        parts.GROUP_SPECS: (group_type, "group_specs"),
    }
    return {part for part, (body, field) in fields.items() if field in body}


def test_what_answers_show_is_the_operator_s_to_say(cinder: Cinder, ruled: Any) -> None:
    kind = volume_type(cinder, "shared", extra_specs={"multiattach": "<is> True", "vendor:secret": "s"})
    volume = cinder.volume(volume_type="shared")
    cinder.made("snapshot", volume_id=volume["id"])
    cinder.made("backup", volume_id=volume["id"])
    group_type = cinder.post("/group_types", {"group_type": {"name": "g"}}, ADMIN).json()["group_type"]
    cinder.made("group", name="g", group_type=group_type["id"], volume_types=[kind["id"]])
    readers = set(parts.READERS)
    assert shown(cinder) == readers
    all_of_them = {*readers, *(part for part in parts.PARTS if parts.PARTS[part].startswith("GET"))}
    ruled(dict.fromkeys(all_of_them, "rule:project_reader_api"))
    assert shown(cinder) == all_of_them - {parts.OF_GROUP_SNAPSHOT}  # nothing here is one
    assert cinder.get(f"/types/{kind['id']}/extra_specs/vendor:secret").json() == {"vendor:secret": "s"}
    ruled(dict.fromkeys(all_of_them, "!"))
    assert shown(cinder) == set()
    assert cinder.get(f"/types/{kind['id']}/extra_specs/vendor:secret").status_code == 404


def test_what_is_asked_of_a_volume_is_the_operator_s_to_give(cinder: Cinder, ruled: Any) -> None:
    volume_type(cinder, "shared", extra_specs={"multiattach": "<is> True"})
    image, volume, gone = cinder.image(), cinder.volume(), cinder.volume()
    held = cinder.volume(volume_type="shared")
    assert cinder.act(held, "os-set_bootable", {"bootable": True}).status_code == 200
    for server in ("1" * 32, "2" * 32):
        assert cinder.act(held, "os-attach", {"instance_uuid": server, "mountpoint": "/dev/vdb"}).status_code == 202

    def asked(*tokens: str) -> dict[str, list[int]]:
        def each(part: str, method: str, path: str, body: Any) -> list[int]:
            answers = [cinder.call(method, path, body, token) for token in tokens]
            for answer in answers:
                assert answer.status_code != 403 or part in answer.text, answer.text
            return [answer.status_code for answer in answers]

        act = f"/volumes/{volume['id']}/action"
        return {
            part: each(part, *request)
            for part, request in {
                parts.FROM_IMAGE: ("POST", "/volumes", {"volume": {"size": 1, "imageRef": image}}),
                parts.MULTIATTACH: ("POST", "/volumes", {"volume": {"size": 1, "volume_type": "shared"}}),
                parts.UPLOAD_PUBLIC: (
                    "POST", act, {"os-volume_upload_image": {"image_name": "i", "visibility": "public"}},
                ),
                parts.EXTEND_ATTACHED: ("POST", f"/volumes/{held['id']}/action", {"os-extend": {"new_size": 2}}),
                parts.MULTIATTACH_BOOTABLE: (
                    "POST", "/attachments", {"attachment": {"volume_uuid": held["id"], "instance_uuid": "3" * 32}},
                ),
                parts.FORCE_DELETE: ("DELETE", f"/volumes/{gone['id']}?force=true", None),
            }.items()
        }  # fmt: skip

    ruled(dict.fromkeys(parts.PARTS, "!"))
    assert asked(DEMO, ADMIN) == {part: [403, 403] for part in asked(DEMO)}
    ruled({})
    usual = asked(DEMO)
    assert [usual.pop(part) for part in (parts.UPLOAD_PUBLIC, parts.FORCE_DELETE)] == [[403], [403]]
    assert [403] not in usual.values()
    ruled(dict.fromkeys([*parts.PARTS, "publicize_image"], "role:member"))  # the image service has its word, too
    assert [asked(DEMO)[part] for part in (parts.UPLOAD_PUBLIC, parts.FORCE_DELETE)] == [[202], [202]]
    reserved = cinder.volume()
    attachment = {"volume_uuid": reserved["id"], "instance_uuid": "4" * 32}
    assert cinder.post("/attachments", {"attachment": attachment}).status_code == 200
    ruled({parts.REIMAGE_RESERVED: "!"})
    again = {"os-reimage": {"image_id": image, "reimage_reserved": True}}
    assert parts.REIMAGE_RESERVED in cinder.post(f"/volumes/{reserved['id']}/action", again).text
