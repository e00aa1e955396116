"""Flavors, keypairs, hosts, quotas, versions: Nova's API around servers."""

import pytest
from compute_client import ADMIN, CONTEXTS, DEMO, DEMO_PROJECT, LATEST, OTHER, OTHER_PROJECT, Nova
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from kilonova.compute import hosts, seed
from kilonova.compute.tables import HOSTS
from kilonova.db.engine import Database
from kilonova.model.ids import now

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBCRbIPIMDtmJ0kDuqKqO9yE2Z8e0uOVaxmWCXgSUI7J me@here"


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def test_versions_need_no_token(nova: Nova) -> None:
    old, root = nova.http.get("/compute/").json()["versions"]
    assert (old["id"], old["status"], old["version"], old["min_version"]) == ("v2.0", "SUPPORTED", "", "")
    assert (root["id"], root["status"], root["version"], root["min_version"]) == ("v2.1", "CURRENT", LATEST, "2.1")
    answer = nova.http.get("/compute/v2.1/")
    assert answer.json()["version"]["links"][0] == {"rel": "self", "href": "http://testserver/compute/v2.1/"}
    assert answer.headers["OpenStack-API-Version"] == "compute 2.1"
    assert answer.headers["X-OpenStack-Nova-API-Version"] == "2.1"
    old = nova.http.get("/compute/v2.1/flavors", headers={"X-Auth-Token": DEMO, "X-OpenStack-Nova-API-Version": "2.55"})
    assert old.headers["X-OpenStack-Nova-API-Version"] == "2.55"
    assert "description" in old.json()["flavors"][0]
    assert nova.get("/flavors", version="2.999").status_code == 406


def test_the_old_version_serves_the_new_one_without_microversions(nova: Nova) -> None:
    answer = nova.http.get("/compute/v2/")
    assert answer.json()["version"]["links"][0] == {"rel": "self", "href": "http://testserver/compute/v2/"}
    assert answer.json()["version"]["id"] == "v2.0"
    headers = {"X-Auth-Token": DEMO, "OpenStack-API-Version": f"compute {LATEST}"}
    flavors = nova.http.get("/compute/v2/flavors?limit=1", headers=headers)
    assert flavors.json()["flavors"][0]["links"][0]["href"] == "http://testserver/compute/v2/flavors/1"
    assert flavors.json()["flavors_links"][0]["href"].startswith("http://testserver/compute/v2/flavors?")
    assert "description" not in flavors.json()["flavors"][0]
    assert "OpenStack-API-Version" not in flavors.headers
    assert "OpenStack-API-Version" not in flavors.headers.get("Vary", "")
    body = {"server": {"name": "vm", "imageRef": nova.image, "flavorRef": "1", "strange": 1}, "more": 2}
    assert nova.http.post("/compute/v2.1/servers", json=body, headers={"X-Auth-Token": DEMO}).status_code == 400
    made = nova.http.post("/compute/v2/servers", json=body, headers=headers)
    assert made.status_code == 202, made.text
    assert made.headers["Location"] == f"http://testserver/compute/v2/servers/{made.json()['server']['id']}"
    wrong = nova.http.post("/compute/v2/servers", json={"server": {"name": "vm", "flavorRef": {}}}, headers=headers)
    assert wrong.status_code == 400
    assert nova.http.get("/compute/v3/flavors", headers=headers).status_code == 404


@pytest.mark.parametrize("version", ["2.1", "2.55", "2.61", "2.75", LATEST])
def test_flavors(nova: Nova, version: str) -> None:
    assert list(nova.flavors) == ["m1.nano", "m1.tiny", "m1.small", "m1.medium", "m1.large"]
    assert nova.database.write(seed.seed) == nova.flavors
    assert [row["id"] for row in nova.get("/flavors", version=version).json()["flavors"]] == list("12345")
    assert [row["id"] for row in nova.get("/flavors?minRam=1000&minDisk=8", version=version).json()["flavors"]] == ["5"]
    page = nova.get("/flavors/detail?limit=2&marker=1", version=version).json()
    assert [row["name"] for row in page["flavors"]] == ["m1.tiny", "m1.small"]
    assert page["flavors_links"][0]["href"].endswith("/v2.1/flavors/detail?limit=2&marker=3")
    shown = nova.get("/flavors/1", version=version).json()["flavor"]
    assert (shown["ram"], shown["disk"], shown["vcpus"]) == (128, 1, 1)
    assert shown["swap"] == (0 if version == "2.75" or version == LATEST else "")
    assert nova.get("/flavors/none", version=version).status_code == 404
    assert nova.get("/flavors?marker=none", version=version).status_code == 400
    assert nova.get("/flavors?minRam=x", version=version).status_code == 400


def test_flavors_are_made_by_administrators(nova: Nova) -> None:
    body = {"flavor": {"name": "big", "ram": "4096", "vcpus": 2, "disk": 10, "swap": 512, "id": "auto"}}
    assert nova.post("/flavors", body).status_code == 403
    made = nova.post("/flavors", body, ADMIN).json()["flavor"]
    assert (made["ram"], made["swap"]) == (4096, 512)
    assert nova.get(f"/flavors/{made['id']}", version="2.101").json()["flavor"]["rxtx_factor"] == 1.0
    assert nova.post("/flavors", body, ADMIN).status_code == 409
    again = {"flavor": {**body["flavor"], "name": "other", "id": made["id"]}}
    assert nova.post("/flavors", again, ADMIN).status_code == 409
    for wrong in ({"ram": 0}, {"vcpus": -1}, {"name": " "}, {"disk": "x"}, {"more": 1}):
        assert nova.post("/flavors", {"flavor": {**body["flavor"], "name": "w", **wrong}}, ADMIN).status_code == 400, (
            wrong
        )
    path = f"/flavors/{made['id']}"
    assert nova.put(path, {"flavor": {"description": "d"}}, ADMIN).json()["flavor"]["description"] == "d"
    specs = f"{path}/os-extra_specs"
    assert (
        nova.post(specs, {"extra_specs": {"hw:cpu_policy": "shared", "n": 3}}, ADMIN).json()["extra_specs"]["n"] == "3"
    )
    assert nova.get(f"{specs}/n").json() == {"n": "3"}
    assert nova.get(specs).json()["extra_specs"] == {"hw:cpu_policy": "shared", "n": "3"}
    assert nova.put(f"{specs}/n", {"n": "4"}, ADMIN).json() == {"n": "4"}
    assert nova.put(f"{specs}/n", {"m": "4"}, ADMIN).status_code == 400
    assert nova.delete(f"{specs}/n", ADMIN).status_code == 200
    assert nova.get(f"{specs}/n").status_code == 404
    assert nova.get(path).json()["flavor"]["extra_specs"] == {"hw:cpu_policy": "shared"}
    assert nova.delete(path, ADMIN).status_code == 202
    assert nova.get(path).status_code == 404


def test_private_flavors(nova: Nova) -> None:
    body = {"name": "hidden", "ram": 64, "vcpus": 1, "disk": 1, "id": "8", "os-flavor-access:is_public": False}
    assert nova.post("/flavors", {"flavor": body}, ADMIN).status_code == 200
    assert nova.get("/flavors/8").status_code == 404
    assert nova.get("/flavors/8/os-flavor-access", ADMIN).json() == {"flavor_access": []}
    nobody = {"addTenantAccess": {"tenant": "0" * 32}}
    assert nova.post("/flavors/8/action", nobody, ADMIN).status_code == 400
    grant = {"addTenantAccess": {"tenant": DEMO_PROJECT}}
    assert nova.post("/flavors/8/action", grant, ADMIN).json()["flavor_access"] == [
        {"flavor_id": "8", "tenant_id": DEMO_PROJECT}
    ]  # fmt: skip
    assert nova.post("/flavors/8/action", grant, ADMIN).status_code == 409
    assert nova.post("/flavors/1/action", grant, ADMIN).status_code == 409
    assert nova.get("/flavors/8").status_code == 200
    assert nova.get("/flavors/8", OTHER).status_code == 404
    assert nova.get("/flavors/1/os-flavor-access", ADMIN).status_code == 404
    assert "8" in {row["id"] for row in nova.get("/flavors?is_public=none", ADMIN).json()["flavors"]}
    assert nova.post("/flavors/8/action", {"removeTenantAccess": {"tenant": DEMO_PROJECT}}, ADMIN).status_code == 200
    assert nova.post("/flavors/8/action", {"removeTenantAccess": {"tenant": DEMO_PROJECT}}, ADMIN).status_code == 404
    assert nova.get("/flavors/8").status_code == 404


def test_keypairs(nova: Nova) -> None:
    for version, status in (("2.1", 200), ("2.2", 201), ("2.91", 201)):
        made = nova.post("/os-keypairs", {"keypair": {"name": f"k{status}{version[2:]}"}}, version=version)
        assert made.status_code == status
        pair = made.json()["keypair"]
        key = load_ssh_private_key(pair["private_key"].encode(), None)
        assert pair["public_key"].split()[0] == "ssh-ed25519"
        assert key.public_key()
        assert ("type" in pair) == (version != "2.1")
    assert nova.post("/os-keypairs", {"keypair": {"name": "none"}}).status_code == 400  # since 2.92 a key must be sent
    filed = nova.post("/os-keypairs", {"keypair": {"name": "filed", "public_key": f"{KEY}\n"}})
    assert filed.json()["keypair"]["public_key"] == f"{KEY}\n"  # as it was given
    assert nova.delete("/os-keypairs/filed").status_code == 204
    made = nova.post("/os-keypairs", {"keypair": {"name": "mine", "public_key": KEY}})
    assert made.status_code == 201
    assert made.json()["keypair"]["fingerprint"].count(":") == 15
    assert "private_key" not in made.json()["keypair"]
    assert nova.post("/os-keypairs", {"keypair": {"name": "mine", "public_key": KEY}}).status_code == 409
    for wrong in ({"public_key": "ssh-rsa x"}, {"public_key": ""}, {"name": "a/b"}, {"name": ""}, {"type": "x"}):
        body = {"keypair": {"name": "w", "public_key": KEY, **wrong}}
        assert nova.post("/os-keypairs", body).status_code == 400, wrong
    names = [row["keypair"]["name"] for row in nova.get("/os-keypairs").json()["keypairs"]]
    assert names == ["k2001", "k2012", "k20191", "mine"]
    page = nova.get("/os-keypairs?limit=1&marker=k2001").json()
    assert page["keypairs"][0]["keypair"]["name"] == "k2012"
    assert page["keypairs_links"]
    for version in ("2.1", "2.2", "2.10", LATEST):
        assert nova.get("/os-keypairs", version=version).status_code == 200
        assert nova.get("/os-keypairs/mine", version=version).json()["keypair"]["public_key"] == KEY
    assert nova.get("/os-keypairs/mine", OTHER).status_code == 404
    assert nova.get(f"/os-keypairs/mine?user_id={'a' * 32}", OTHER).status_code == 403
    assert nova.get(f"/os-keypairs/mine?user_id={'a' * 32}", ADMIN).status_code == 200
    assert nova.delete("/os-keypairs/mine").status_code == 204
    assert nova.delete("/os-keypairs/mine").status_code == 404
    assert nova.delete("/os-keypairs/k2001", version="2.1").status_code == 202
    nova.put(f"/os-quota-sets/{DEMO_PROJECT}", {"quota_set": {"key_pairs": 2}}, ADMIN)
    assert nova.post("/os-keypairs", {"keypair": {"name": "more", "public_key": KEY}}).status_code == 403


def test_x509_keypairs(nova: Nova) -> None:
    made = nova.post("/os-keypairs", {"keypair": {"name": "win", "type": "x509"}}, version="2.91").json()["keypair"]
    assert made["type"] == "x509"
    body = {"keypair": {"name": "again", "type": "x509", "public_key": made["public_key"]}}
    assert nova.post("/os-keypairs", body).json()["keypair"]["fingerprint"] == made["fingerprint"]


@pytest.mark.parametrize("version", ["2.1", "2.28", "2.33", "2.53", "2.75", "2.87", LATEST])
def test_hypervisors(nova: Nova, version: str) -> None:
    nova.active(flavorRef="3")
    for path in ("/os-hypervisors", "/os-hypervisors/detail", "/os-availability-zone", "/os-availability-zone/detail",
                 "/os-services", "/os-aggregates"):  # fmt: skip
        assert nova.get(path, ADMIN, version).status_code == 200, path
    row = nova.get("/os-hypervisors/detail", ADMIN, version).json()["hypervisors"][0]
    assert (row["hypervisor_hostname"], row["state"], row["status"]) == ("host-1", "up", "enabled")
    assert nova.get(f"/os-hypervisors/{row['id']}", ADMIN, version).status_code == 200
    assert nova.get("/os-hypervisors/77", ADMIN, version).status_code == (404 if int(version[2:]) < 53 else 400)
    minor = int(version[2:])
    if minor < 88:
        assert (row["memory_mb_used"], row["running_vms"]) == (512, 1)
        assert (
            nova.get("/os-hypervisors/statistics", ADMIN, version).json()["hypervisor_statistics"]["memory_mb_used"]
            == 512
        )
    else:
        assert "vcpus" not in row
        assert nova.get("/os-hypervisors/statistics", ADMIN, version).status_code in (400, 404)
    if minor >= 53:
        found = nova.get("/os-hypervisors?with_servers=true&hypervisor_hostname_pattern=host", ADMIN, version)
        assert found.json()["hypervisors"][0]["servers"][0]["name"] == "instance-00000001"
        assert nova.get("/os-hypervisors?hypervisor_hostname_pattern=none", ADMIN, version).status_code == 404
    else:
        assert nova.get("/os-hypervisors/host/search", ADMIN, version).json()["hypervisors"][0]["id"] == row["id"]
        assert nova.get("/os-hypervisors/host/servers", ADMIN, version).json()["hypervisors"][0]["servers"]


def test_hosts_are_for_administrators(nova: Nova) -> None:
    for path in ("/os-hypervisors", "/os-aggregates", "/os-services", "/os-availability-zone/detail",
                 "/os-quota-class-sets/default"):  # fmt: skip
        assert nova.get(path).status_code == 403, path
    assert nova.get("/os-availability-zone").json()["availabilityZoneInfo"] == [
        {"zoneName": "nova", "zoneState": {"available": True}, "hosts": None}
    ]


def test_a_silent_host_is_down(nova: Nova) -> None:
    late = now() - hosts.DOWN_AFTER
    nova.database.write(lambda tx: tx.execute(HOSTS.update().values(last_seen_at=late)))
    assert nova.get("/os-services", ADMIN).json()["services"][0]["state"] == "down"
    nova.database.write(lambda tx: hosts.heartbeat(tx, "host-1"))
    service = nova.get("/os-services", ADMIN).json()["services"][0]
    assert service["state"] == "up"
    path = f"/os-services/{service['id']}"
    assert nova.put(path, {"forced_down": True}, ADMIN).json()["service"]["state"] == "down"
    assert nova.put(path, {}, ADMIN).status_code == 400
    assert nova.put(path, {"status": "enabled", "disabled_reason": "x"}, ADMIN).status_code == 400
    assert nova.put("/os-services/none", {"status": "enabled"}, ADMIN).status_code == 400
    old = {"host": "host-1", "binary": "nova-compute"}
    assert nova.put("/os-services/disable", old, ADMIN, "2.52").json()["service"]["status"] == "disabled"
    assert nova.put("/os-services/enable", old, ADMIN, "2.1").json()["service"]["status"] == "enabled"
    assert nova.delete(path, ADMIN).status_code == 204
    assert nova.get("/os-services", ADMIN).json() == {"services": []}


@pytest.mark.parametrize("version", ["2.1", "2.52", LATEST])
def test_the_control_side_has_its_services(nova: Nova, version: str) -> None:
    listed = nova.get("/os-services", ADMIN, version).json()["services"]
    assert [(each["binary"], each["zone"], each["state"]) for each in listed] == [
        ("nova-compute", "nova", "up"), ("nova-conductor", "internal", "up"), ("nova-scheduler", "internal", "up"),
    ]  # fmt: skip
    assert len({each["id"] for each in listed}) == 3 and listed[1].keys() == listed[0].keys()
    [scheduler] = nova.get("/os-services?binary=nova-scheduler&host=host-1", ADMIN, version).json()["services"]
    words = "Updating a nova-scheduler service is not supported."
    if version == LATEST:
        answers = [nova.put(f"/os-services/{scheduler['id']}", {"status": "disabled"}, ADMIN)]
        answers.append(nova.delete(f"/os-services/{scheduler['id']}", ADMIN))
    else:
        old = {"host": "host-1", "binary": "nova-scheduler"}
        answers = [nova.put("/os-services/disable", old, ADMIN, version)]
    for answer in answers:
        assert answer.status_code == 400 and words in answer.text
    internal = nova.get("/os-availability-zone/detail", ADMIN, version).json()["availabilityZoneInfo"][0]
    assert internal["zoneName"] == "internal" and set(internal["hosts"]["host-1"]) == {"nova-conductor", "nova-scheduler"}


@pytest.mark.parametrize("version", ["2.1", "2.36", "2.39", "2.50", "2.57", LATEST])
def test_quotas_and_limits(nova: Nova, version: str) -> None:
    nova.made(flavorRef="4")
    path = f"/os-quota-sets/{DEMO_PROJECT}"
    assert nova.get(path, version=version).json()["quota_set"]["instances"] == 10
    assert nova.put(path, {"quota_set": {"cores": 1}}, ADMIN, version).status_code == 400  # two are used
    assert nova.put(path, {"quota_set": {"cores": 1, "force": True}}, ADMIN, version).json()["quota_set"]["cores"] == 1
    assert nova.put(path, {"quota_set": {"nonsense": 1}}, ADMIN, version).status_code == 400
    assert nova.put(path, {"quota_set": {"cores": -2}}, ADMIN, version).status_code == 400
    assert nova.put(path, {"quota_set": {"cores": 1}}, DEMO, version).status_code == 403
    detail = nova.get(f"{path}/detail", ADMIN, version).json()["quota_set"]
    assert detail["cores"] == {"limit": 1, "in_use": 2, "reserved": 0}
    assert nova.get(f"{path}/defaults", version=version).json()["quota_set"]["cores"] == 20
    absolute = nova.get("/limits", version=version).json()["limits"]["absolute"]
    assert (absolute["maxTotalCores"], absolute["totalCoresUsed"], absolute["totalRAMUsed"]) == (1, 2, 1024)
    assert nova.get(f"/limits?tenant_id={DEMO_PROJECT}", ADMIN, version).json()["limits"]["absolute"] == absolute
    assert nova.get(f"/limits?tenant_id={DEMO_PROJECT}", OTHER, version).status_code == 403
    assert nova.get(f"/os-quota-sets/{OTHER_PROJECT}", version=version).status_code == 403
    assert nova.get("/os-quota-sets/none", ADMIN, version).status_code == 400
    assert nova.delete(path, ADMIN, version).status_code == 202
    assert nova.get(path, version=version).json()["quota_set"]["cores"] == 20
    body = {"quota_class_set": {"cores": 30}}
    assert nova.put("/os-quota-class-sets/default", body, ADMIN, version).json()["quota_class_set"]["cores"] == 30
    assert nova.get("/os-quota-class-sets/default", ADMIN, version).status_code == 200
    assert nova.get(path, version=version).json()["quota_set"]["cores"] == 30


def test_a_user_may_have_less_than_the_project(nova: Nova) -> None:
    path, user = f"/os-quota-sets/{DEMO_PROJECT}", CONTEXTS[DEMO].user_id
    whose = f"{path}?user_id={user}"
    assert nova.put(whose, {"quota_set": {"instances": 11}}, ADMIN).status_code == 400  # the project has 10
    assert nova.put(whose, {"quota_set": {"instances": -1}}, ADMIN).status_code == 400
    assert nova.put(whose, {"quota_set": {"instances": 1}}, ADMIN).json()["quota_set"]["instances"] == 1
    assert nova.get(whose).json()["quota_set"]["instances"] == 1
    assert nova.get(path).json()["quota_set"]["instances"] == 10
    assert nova.get(f"{path}?user_id=another").json()["quota_set"]["instances"] == 10
    nova.made()
    assert nova.create().status_code == 403
    shown = nova.get(f"{path}/detail?user_id={user}", ADMIN).json()["quota_set"]["instances"]
    assert shown == {"limit": 1, "in_use": 1, "reserved": 0}
    assert nova.delete(whose, ADMIN).status_code == 202
    nova.made()
    assert nova.put(whose, {"quota_set": {"instances": 2}}, ADMIN).status_code == 200
    nova.delete(path, ADMIN)
    assert nova.get(whose).json()["quota_set"]["instances"] == 10


def test_access_addresses_are_written_the_short_way(nova: Nova) -> None:
    id = nova.made(accessIPv6="0000:0000:0000:0000:0000:babe:220.12.22.2")
    assert nova.get(f"/servers/{id}").json()["server"]["accessIPv6"] == "::babe:dc0c:1602"
    body = {"server": {"accessIPv4": "", "accessIPv6": "FE80:0::0:1"}}
    assert nova.put(f"/servers/{id}", body).json()["server"]["accessIPv6"] == "fe80::1"
