"""What the newest microversions (2.97 to 2.104) change, held against the description by every answer."""

from typing import Any

import pytest
from compute_client import ADMIN, DEMO, OTHER, Nova, messages

from kilonova.compute import block_devices, spec
from kilonova.compute.devices import Device
from kilonova.compute.tables import SERVERS
from kilonova.db.engine import Database
from kilonova.model.ids import new_id


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def test_there_are_no_shares(nova: Nova) -> None:
    path = f"/servers/{nova.active()}/shares"
    assert nova.get(path).json() == {"shares": []}
    assert nova.get(f"{path}?a=b").status_code == 400
    assert nova.get(path, OTHER).status_code == 404
    assert nova.get(path, version="2.96").status_code == 404
    assert nova.get(f"{path}/{new_id()}").status_code == 404
    assert nova.delete(f"{path}/{new_id()}").status_code == 404
    refused = nova.post(path, {"share": {"share_id": new_id()}})
    assert (refused.status_code, "shared file systems" in messages(refused)) == (403, True)
    assert nova.post(path, {"share": {"share_id": "7"}}).status_code == 400


def test_a_server_tells_its_images_properties(nova: Nova) -> None:
    """Those that Nova knows (2.98); in a list, too."""
    image = nova.add_image(properties={"hw_disk_bus": "scsi", "os_distro": "debian", "mine": "x"})
    id = nova.active(imageRef=image)
    want = {"hw_disk_bus": "scsi", "os_distro": "debian"}
    assert nova.get(f"/servers/{id}").json()["server"]["image"]["properties"] == want
    assert nova.get("/servers/detail").json()["servers"][0]["image"]["properties"] == want
    assert nova.put(f"/servers/{id}", {"server": {"name": "n"}}).json()["server"]["image"]["properties"] == want
    assert "properties" not in nova.get(f"/servers/{id}", version="2.97").json()["server"]["image"]
    rebuilt = nova.post(f"/servers/{id}/action", {"rebuild": {"imageRef": nova.image}})
    assert rebuilt.json()["server"]["image"]["properties"] == {}


def test_a_server_tells_its_hints(nova: Nova) -> None:
    """As Nova keeps them: each a list (2.100)."""
    near = nova.active()
    hints = {"same_host": near, "different_host": [near], "mine": "x", "build_near_host_ip": "10.0.0.1"}
    id = nova.post("/servers", nova.body() | {"os:scheduler_hints": hints}).json()["server"]["id"]
    want = hints | {"same_host": [near], "mine": ["x"]}
    assert nova.get(f"/servers/{id}").json()["server"]["scheduler_hints"] == want
    assert nova.get(f"/servers/{near}").json()["server"]["scheduler_hints"] == {}
    assert "scheduler_hints" not in nova.get(f"/servers/{id}", version="2.99").json()["server"]


@pytest.mark.parametrize("hints", [{"same_host": "x" * 3, "different_host": "y"}, {"group": 7}, {"cidr": "24"},
                                   {"build_near_host_ip": "here"}, {"target_cell": ""}])  # fmt: skip
def test_wrong_hints(nova: Nova, hints: dict[str, Any]) -> None:
    assert nova.post("/servers", nova.body() | {"os:scheduler_hints": hints}).status_code == 400


def test_flavors_have_lost_what_nobody_used(nova: Nova) -> None:
    """rxtx_factor and disabled (2.102)."""
    gone = {"rxtx_factor", "OS-FLV-DISABLED:disabled"}
    for path in ("/flavors/detail", "/flavors/1"):
        for version, there in (("2.101", True), ("2.102", False)):
            found = nova.get(path, version=version).json()
            flavor = found["flavors"][0] if "flavors" in found else found["flavor"]
            assert (gone <= set(flavor), bool(gone & set(flavor))) == (there, there)
    body = {"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 0, "rxtx_factor": 2}}
    assert nova.post("/flavors", body, ADMIN).status_code == 400
    assert nova.post("/flavors", body, ADMIN, "2.101").status_code == 200
    assert nova.get("/flavors?sort_key=rxtx_factor").status_code == 400
    assert nova.get("/flavors?sort_key=rxtx_factor", version="2.101").status_code == 200


def test_flavors_are_found_by_name(nova: Nova) -> None:
    def names(text: str, version: str = "2.102") -> list[str]:
        return [row["name"] for row in nova.get(f"/flavors?name={text}", version=version).json()["flavors"]]

    assert names("tiny") == ["m1.tiny"]
    assert names("^m1.(nano|LARGE)$") == ["m1.nano", "m1.large"]
    assert names("none") == []
    assert nova.get("/flavors/detail?name=tiny").json()["flavors"][0]["name"] == "m1.tiny"
    assert nova.get("/flavors?name=(").status_code == 400
    assert nova.get("/flavors?name=tiny", version="2.101").status_code == 400
    assert len(names("tiny", "2.74")) == 5  # not known then, and let by


@pytest.mark.parametrize(("path", "since"), [
    ("/servers/{}", 102), ("/servers/{}/ips", 102), ("/servers/{}/metadata", 102), ("/servers/{}/topology", 102),
    ("/flavors/1", 102), ("/extensions", 102), ("/os-availability-zone", 102), ("/os-server-groups", 75),
    ("/flavors", 75), ("/servers", 75), ("/os-keypairs", 75), ("/limits", 75), ("/os-quota-sets/{project}", 75),
    ("/servers/{}/os-volume_attachments", 75), ("/servers/{}/os-instance-actions", 58),
])  # fmt: skip
def test_queries_are_held_to_what_is_known(nova: Nova, path: str, since: int) -> None:
    path = path.replace("{project}", "1" * 32).replace("{}", nova.active())
    assert nova.get(path).status_code == 200
    refused = nova.get(f"{path}?strange=1", version=f"2.{since}")
    assert (refused.status_code, "'strange' was unexpected" in messages(refused)) == (400, True)
    before = f"2.{since - 1}"
    if not path.endswith("topology"):
        assert nova.get(f"{path}?strange=1", version=before).status_code == 200


def test_the_old_name_of_servers_is_gone(nova: Nova) -> None:
    id = nova.active()
    assert nova.get(f"/os-volumes_boot/{id}", version="2.102").status_code == 200
    assert nova.get(f"/os-volumes_boot/{id}", version="2.103").status_code == 404
    assert nova.get("/os-volumes_boot?strange=1", version="2.102").status_code == 400


def test_a_server_is_pinned_and_unpinned(nova: Nova, database: Database) -> None:
    id = nova.active()
    shown = nova.get(f"/servers/{id}").json()["server"]
    assert (shown["pinned_availability_zone"], shown["OS-EXT-AZ:availability_zone"]) == (None, "nova")

    def pin(zone: Any, version: str = "2.104") -> Any:
        return nova.put(f"/servers/{id}", {"server": {"pinned_availability_zone": zone}}, version=version)

    assert pin("nova", "2.103").status_code == 400
    assert pin("").status_code == 400
    away = pin("moon")
    assert (away.status_code, "current availability zone 'nova'" in messages(away)) == (409, True)
    for zone in ("nova", "nova", None, None, "nova"):
        assert pin(zone).json()["server"]["pinned_availability_zone"] == zone
    other = pin("moon")
    assert (other.status_code, "Unpin first" in messages(other)) == (409, True)
    database.write(lambda tx: tx.execute(SERVERS.update().values(host=None, availability_zone=None)))
    assert pin("nova").status_code == 409


def test_no_server_has_numa_nodes(nova: Nova) -> None:
    path = f"/servers/{nova.active()}/topology"
    assert nova.get(path).json() == {"nodes": [], "pagesize_kb": None}
    assert nova.get(path, OTHER).status_code == 404
    assert nova.get(path, version="2.77").status_code == 404


def test_no_migration_is_live(nova: Nova) -> None:
    path = f"/servers/{nova.active()}/migrations/1"
    assert nova.delete(path).status_code == 403
    assert nova.delete(path, ADMIN).status_code == 409
    assert nova.post(f"{path}/action", {"force_complete": None}, ADMIN).status_code == 409
    assert nova.post(f"{path}/action", {"force_complete": 1}, ADMIN).status_code == 400
    assert nova.delete(path, ADMIN, "2.23").status_code == 404


def test_there_is_no_bare_metal(nova: Nova) -> None:
    for path in ("", "/1"):
        headers = {"X-Auth-Token": ADMIN, "OpenStack-API-Version": "compute 2.35"}
        assert nova.http.get(f"/compute/v2.1/os-baremetal-nodes{path}", headers=headers).status_code == 501
    assert nova.get("/os-baremetal-nodes", DEMO, "2.35").status_code == 403
    assert nova.get("/os-baremetal-nodes", ADMIN, "2.36").status_code == 404
    refused = nova.post("/os-baremetal-nodes", {"node": {}}, ADMIN, "2.35")
    assert (refused.status_code, "node-create" in messages(refused)) == (400, True)
    assert nova.delete("/os-baremetal-nodes/1", ADMIN, "2.35").status_code == 400
    for action, command in (("add_interface", "port-create"), ("remove_interface", "port-delete"), ("x", "no such")):
        refused = nova.post("/os-baremetal-nodes/1/action", {action: None}, ADMIN, "2.35")
        assert (refused.status_code, command in messages(refused)) == (400, True)


def test_no_deleted_server_comes_back(nova: Nova) -> None:
    refused = nova.post(f"/servers/{nova.active()}/action", {"restore": None})
    assert (refused.status_code, "vm_state active" in messages(refused)) == (409, True)


def test_versions_by_name(nova: Nova) -> None:
    assert nova.get("/versions/v2.1").json()["version"]["version"] == "2.104"
    assert nova.get("/versions/v2.0").json()["version"]["version"] == ""
    assert nova.get("/versions/v3").status_code == 404
    assert nova.get("/os-simple-tenant-usage/", ADMIN).status_code == 404  # the usage of a project without a name


def test_a_server_is_told_the_tags_of_its_devices(nova: Nova, database: Database) -> None:
    network, volume = nova.network(), new_id()
    port = nova.port(network)
    id = nova.active(networks=[{"uuid": network}, {"port": port, "tag": "front"}])
    made = Device("volume", "volume", volume, size_gb=1, name="/dev/vdb", tag="data")
    database.write(lambda tx: block_devices.add(tx, id, made, volume_id=volume))
    found = database.read(lambda tx: spec.server_spec(tx, id))
    assert found.port_tags == {port: "front"}
    shown = nova.get(f"/servers/{id}/os-interface").json()["interfaceAttachments"]
    assert {one["port_id"]: one["tag"] for one in shown if one["tag"]} == {port: "front"}


def test_a_version_for_each_service_may_come_in_a_header_of_its_own(nova: Nova) -> None:
    """As in one header with commas; curl sends them so."""
    for one, other in (("compute 2.35", "volume 3.71"), ("volume 3.71", "compute 2.35")):
        headers = [("X-Auth-Token", ADMIN), ("OpenStack-API-Version", one), ("OpenStack-API-Version", other)]
        answer = nova.http.get("/compute/v2.1/servers", headers=headers)
        assert answer.headers["OpenStack-API-Version"] == "compute 2.35"
