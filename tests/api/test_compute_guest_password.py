"""A password that a guest posted, and hosts' uptimes, on both databases."""

import pytest
from compute_client import ADMIN, OTHER, READER, Nova

from kilonova.compute import hosts, servers, spec
from kilonova.db.engine import Database
from kilonova.model.specs import HostInventory


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def test_a_guest_posts_its_password_once(nova: Nova) -> None:
    id = nova.active()
    path = f"/servers/{id}/os-server-password"
    assert nova.get(path).json() == {"password": ""}
    assert nova.database.write(lambda tx: servers.set_guest_password(tx, id, "secret"))
    assert not nova.database.write(lambda tx: servers.set_guest_password(tx, id, "other"))
    assert nova.get(path).json() == {"password": "secret"}
    assert nova.database.read(lambda tx: spec.server_spec(tx, id)).guest_password == "secret"
    assert nova.get(path, token=OTHER).status_code == 404
    assert nova.delete(path, token=READER).status_code == 403
    assert nova.delete(path).status_code == 204
    assert nova.get(path).json() == {"password": ""}


def test_uptime(nova: Nova) -> None:
    words = " 12:00:00 up  1:23,  0 users,  load average: 0.10, 0.20, 0.30"
    inventory = HostInventory(hostname="host-1", vcpus=8, memory_mb=16384, disk_gb=100, uptime=words)
    nova.database.write(lambda tx: hosts.report_inventory(tx, inventory))
    (host,) = nova.get("/os-hypervisors", token=ADMIN).json()["hypervisors"]
    path = f"/os-hypervisors/{host['id']}"
    assert nova.get(f"{path}/uptime", token=ADMIN, version="2.87").json()["hypervisor"]["uptime"] == words
    assert nova.get(f"{path}/uptime", token=ADMIN).status_code == 404
    assert nova.get(path, token=ADMIN).json()["hypervisor"]["uptime"] == words
    assert nova.get(f"{path}/uptime", version="2.87").status_code == 403
    nova.add_host("host-2")
    second = nova.get("/os-hypervisors", token=ADMIN).json()["hypervisors"][1]["id"]
    assert nova.get(f"/os-hypervisors/{second}/uptime", token=ADMIN, version="2.87").status_code == 400
