"""Servers over HTTP: made, shown at every microversion, listed, changed, deleted."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from compute_client import (
    ADMIN,
    ADMIN_PROJECT,
    DEMO,
    DEMO_PROJECT,
    LATEST,
    OTHER,
    OTHER_PROJECT,
    READER,
    Nova,
    messages,
)

from kilonova.compute import scheduler, states
from kilonova.compute.spec import server_spec
from kilonova.compute.tables import SERVERS
from kilonova.db.engine import Database
from kilonova.model.errors import NoValidHost
from kilonova.network import seed as network_seed
from kilonova.network.ports import deallocate_ports
from kilonova.network.tables import PORTS
from statements import statements

VERSIONS = [
    "2.1",
    "2.3",
    "2.9",
    "2.16",
    "2.19",
    "2.26",
    "2.36",
    "2.42",
    "2.47",
    "2.63",
    "2.69",
    "2.73",
    "2.75",
    "2.90",
    LATEST,
]


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def test_a_create_answers_at_once_and_asks_for_a_flow(nova: Nova) -> None:
    made = nova.create(networks="none", metadata={"a": "b"}, tags=["x", "y"], hostname="h-1", description="d")
    assert made.status_code == 202
    server = made.json()["server"]
    assert made.headers["Location"] == f"http://testserver/compute/v2.1/servers/{server['id']}"
    assert len(server["adminPass"]) == 12
    assert server["security_groups"] == [{"name": "default"}]
    assert nova.shared.flows.started == [("create", server["id"])]
    shown = nova.get(f"/servers/{server['id']}").json()["server"]
    assert (shown["status"], shown["OS-EXT-STS:vm_state"], shown["OS-EXT-STS:task_state"]) == (
        "BUILD",
        "building",
        "scheduling",
    )
    assert (shown["metadata"], shown["tags"], shown["description"]) == ({"a": "b"}, ["x", "y"], "d")
    assert shown["OS-EXT-SRV-ATTR:hostname"] == "h-1"
    assert shown["flavor"]["original_name"] == "m1.nano"
    assert shown["image"]["id"] == nova.image


@pytest.mark.parametrize("version", VERSIONS)
def test_bodies_at_every_microversion(nova: Nova, version: str) -> None:
    """The client holds each answer against Nova's own description."""
    id = nova.active(networks=[{"uuid": nova.network()}])
    broken = nova.made()
    nova.database.write(lambda tx: states.set_error(tx, broken, "no", "because"))
    for token in (DEMO, ADMIN):
        for path in (f"/servers/{id}", f"/servers/{broken}", "/servers/detail?all_tenants=0", "/servers"):
            assert nova.get(path, token, version).status_code == 200, path
    assert nova.put(f"/servers/{id}", {"server": {"name": "new"}}, version=version).json()["server"]["name"] == "new"


def test_an_active_server(nova: Nova) -> None:
    network = nova.network()
    id = nova.active(networks=[{"uuid": network}])
    shown = nova.get(f"/servers/{id}").json()["server"]
    assert (shown["status"], shown["OS-EXT-STS:power_state"], shown["progress"]) == ("ACTIVE", 1, 100)
    address = shown["addresses"]["net"][0]
    assert address["OS-EXT-IPS:type"] == "fixed"
    assert address["addr"].startswith("10.0.0.")
    assert shown["security_groups"] == [{"name": "default"}]
    assert shown["OS-SRV-USG:launched_at"]
    assert "OS-EXT-SRV-ATTR:host" not in shown
    seen = nova.get(f"/servers/{id}", ADMIN).json()["server"]
    assert seen["OS-EXT-SRV-ATTR:host"] == "host-1"
    assert seen["OS-EXT-SRV-ATTR:instance_name"] == "instance-00000001"
    assert seen["host_status"] == "UP"
    ports = nova.get(f"/servers/{id}/os-interface").json()["interfaceAttachments"]
    assert [(port["net_id"], port["mac_addr"]) for port in ports] == [(network, address["OS-EXT-IPS-MAC:mac_addr"])]
    assert nova.get(f"/servers/{id}/os-interface/{ports[0]['port_id']}").json() == {"interfaceAttachment": ports[0]}
    assert nova.get(f"/servers/{id}/os-interface/{id}").status_code == 404
    assert nova.get(f"/servers/{id}/ips").json() == {"addresses": {"net": [{"version": 4, "addr": address["addr"]}]}}
    assert nova.get(f"/servers/{id}/ips/net").json()["net"][0]["addr"] == address["addr"]
    assert nova.get(f"/servers/{id}/ips/other").status_code == 404
    assert nova.get(f"/servers/{id}/os-security-groups").json()["security_groups"][0]["name"] == "default"


def test_others_do_not_see_it(nova: Nova) -> None:
    id = nova.active()
    for method, path, body in (
        ("GET", "", None), ("DELETE", "", None), ("PUT", "", {"server": {"name": "x"}}), ("GET", "/metadata", None),
        ("GET", "/tags", None), ("GET", "/ips", None), ("GET", "/os-interface", None),
        ("GET", "/os-instance-actions", None), ("POST", "/action", {"os-getConsoleOutput": {}}),
        ("POST", "/action", {"lock": None}),
    ):  # fmt: skip
        assert nova.call(method, f"/servers/{id}{path}", body, OTHER).status_code == 404, path
    assert nova.get("/servers", OTHER).json() == {"servers": []}
    assert nova.get(f"/servers/{id}", ADMIN).status_code == 200
    assert nova.get(f"/servers/{id}", READER).status_code == 200
    assert nova.delete(f"/servers/{id}", READER).status_code == 403
    assert nova.create(READER).status_code == 403
    assert nova.call("GET", "/servers", token=None).status_code == 401


def test_delete(nova: Nova) -> None:
    id = nova.active()
    assert nova.delete(f"/servers/{id}").status_code == 204
    assert nova.delete(f"/servers/{id}").status_code == 204
    assert nova.shared.flows.started == [("create", id), ("delete", id)]
    assert nova.get(f"/servers/{id}").json()["server"]["OS-EXT-STS:task_state"] == "deleting"
    nova.database.write(lambda tx: states.set_deleted(tx, id))
    assert nova.get(f"/servers/{id}").status_code == 404
    assert nova.delete(f"/servers/{id}").status_code == 404
    assert len(nova.get(f"/servers/{id}/os-instance-actions").json()["instanceActions"]) == 2
    assert nova.get(f"/servers/{id}/os-instance-actions", version="2.20").status_code == 404
    assert [row["id"] for row in nova.get("/servers?deleted=true", ADMIN).json()["servers"]] == []
    found = nova.get("/servers/detail?deleted=true&all_tenants=1", ADMIN).json()["servers"]
    assert [(row["id"], row["status"]) for row in found] == [(id, "DELETED")]
    assert nova.get("/servers?status=deleted").status_code == 403


def test_lock_keeps_users_out(nova: Nova) -> None:
    id = nova.active()
    assert nova.post(f"/servers/{id}/action", {"lock": {"locked_reason": "mine"}}).status_code == 202
    shown = nova.get(f"/servers/{id}").json()["server"]
    assert (shown["locked"], shown["locked_reason"]) == (True, "mine")
    assert nova.delete(f"/servers/{id}").status_code == 409
    assert nova.post(f"/servers/{id}/action", {"unlock": None}).status_code == 202
    assert nova.delete(f"/servers/{id}").status_code == 204


def test_actions(nova: Nova) -> None:
    id = nova.active()
    got = nova.post(f"/servers/{id}/action", {"os-getConsoleOutput": {"length": 2}})
    assert (got.status_code, got.json()) == (200, {"output": "line 3 of host-1\nline 4 of host-1"})
    assert nova.post(f"/servers/{id}/action", {"os-getConsoleOutput": {}}).json()["output"].startswith("line 0")
    assert nova.post(f"/servers/{id}/action", {"os-getConsoleOutput": {"length": "x"}}).status_code == 400
    refused = nova.post(f"/servers/{id}/action", {"fly": None})
    assert (refused.status_code, messages(refused)) == (400, "There is no such action: fly")
    assert nova.post(f"/servers/{id}/action", {"lock": None, "unlock": None}).status_code == 400
    assert nova.post(f"/servers/{id}/action", {"os-resetState": {"state": "error"}}).status_code == 403
    assert nova.post(f"/servers/{id}/action", {"os-resetState": {"state": "error"}}, ADMIN).status_code == 202
    assert nova.get(f"/servers/{id}").json()["server"]["status"] == "ERROR"
    waiting = nova.made()
    assert nova.post(f"/servers/{waiting}/action", {"os-getConsoleOutput": {}}).status_code == 409


def test_instance_actions_show_each_step(nova: Nova) -> None:
    id = nova.made()
    listed = nova.get(f"/servers/{id}/os-instance-actions").json()["instanceActions"]
    assert [(action["action"], action["project_id"]) for action in listed] == [("create", DEMO_PROJECT)]
    request = listed[0]["request_id"]
    path = f"/servers/{id}/os-instance-actions/{request}"
    for version in ("2.1", "2.51", "2.58", "2.62", "2.84", LATEST):
        mine, all_ = nova.get(path, version=version).json(), nova.get(path, ADMIN, version).json()
        minor = int(version[2:])
        assert ("events" in mine["instanceAction"]) == (minor >= 51)
        event = all_["instanceAction"]["events"][1]
        assert (event["event"], event["result"], event["traceback"]) == (
            "prepare_disks",
            "Error",
            "Traceback: no space",
        )
        assert (event.get("host"), event.get("details")) == (
            "host-1" if minor >= 62 else None, "no space left" if minor >= 84 else None,
        )  # fmt: skip
        if minor >= 62:
            seen = mine["instanceAction"]["events"][1]
            assert "traceback" not in seen
            assert "host" not in seen
            assert "details" not in seen
            assert seen["hostId"] == event["hostId"] != ""
    assert nova.get(f"/servers/{id}/os-instance-actions/req-none").status_code == 404
    assert nova.get(f"/servers/{id}/os-instance-actions?marker=req-none").status_code == 400
    assert nova.get(f"/servers/{id}/os-instance-actions?limit=1").json()["links"][0]["rel"] == "next"
    assert nova.get(f"/servers/{id}/os-instance-actions?changes-since=2030-01-01T00:00:00Z").json() == {
        "instanceActions": []
    }


def test_why_not(nova: Nova) -> None:
    """No host fits: the fault says of each host which rule refused it, and the arithmetic."""
    nova.add_host("host-2", memory_mb=64)
    nova.post("/flavors", {"flavor": {"name": "huge", "ram": 20000, "vcpus": 1, "disk": 1, "id": "99"}}, ADMIN)
    id = nova.made(flavorRef="99")
    with pytest.raises(NoValidHost) as raised:
        nova.play_create(id)
    nova.database.write(lambda tx: states.set_error(tx, id, str(raised.value), "Traceback"))
    shown = nova.get(f"/servers/{id}").json()["server"]
    assert shown["status"] == "ERROR"
    message = shown["fault"]["message"]
    assert "host-1: MEMORY_MB: asked 20000" in message
    assert "host-2: MEMORY_MB: asked 20000" in message
    assert "16384" in message
    assert "64" in message
    assert "details" not in shown["fault"]
    assert nova.get(f"/servers/{id}", ADMIN).json()["server"]["fault"]["details"] == "Traceback"


def test_the_scheduler(nova: Nova) -> None:
    nova.add_host("host-2", memory_mb=32768)

    def place(id: str, excluded: set[str]) -> str:
        return nova.database.write(lambda tx: scheduler.select_destination(tx, id, excluded))

    first, second = nova.made(), nova.made(ADMIN, host="host-1")
    assert place(first, set()) == "host-2"  # the most free RAM
    assert place(first, set()) == "host-2"  # again is the same
    assert place(second, set()) == "host-1"
    assert place(nova.made(), {"host-2"}) == "host-1"
    services = {s["host"]: s["id"] for s in nova.get("/os-services", ADMIN).json()["services"]}
    body = {"status": "disabled", "disabled_reason": "paint"}
    assert nova.put(f"/os-services/{services['host-2']}", body, ADMIN).json()["service"]["disabled_reason"] == "paint"
    assert place(nova.made(), set()) == "host-1"
    with pytest.raises(NoValidHost, match="disabled: paint"):
        place(nova.made(), {"host-1"})
    with pytest.raises(NoValidHost, match="an earlier attempt failed there"):
        place(nova.made(), {"host-1"})
    nova.database.write(lambda tx: scheduler.release_allocation(tx, first))
    used = {
        h["hypervisor_hostname"]: h for h in nova.get("/os-hypervisors/detail", ADMIN, "2.87").json()["hypervisors"]
    }
    assert used["host-1"]["running_vms"] == 3


def test_many_at_once(nova: Nova) -> None:
    assert nova.create(min_count=2, max_count=3, return_reservation_id=True).json()["reservation_id"].startswith("r-")
    assert sorted(row["name"] for row in nova.get("/servers").json()["servers"]) == ["vm-1", "vm-2", "vm-3"]
    assert nova.create(min_count=3, max_count=2).status_code == 400
    assert nova.create(max_count=2, hostname="one").status_code == 400


def test_a_network_is_made_for_who_has_none_and_asks(nova: Nova) -> None:
    projects = {"demo_project_id": DEMO_PROJECT, "admin_project_id": ADMIN_PROJECT}
    nova.database.write(lambda tx: network_seed.seed(tx, **projects, public_cidr="172.24.4.0/24"))
    assert nova.create(OTHER, networks="auto", min_count=2).status_code == 202

    def names(what: str) -> list[str]:
        found = nova.http.get(f"/network/v2.0/{what}?project_id={OTHER_PROJECT}", headers={"X-Auth-Token": OTHER})
        return [row["name"] for row in found.json()[what]]

    assert names("networks") == ["auto_allocated_network"]
    assert names("routers") == ["auto_allocated_router"]
    id = nova.active(OTHER, networks="auto")
    assert list(nova.get(f"/servers/{id}", OTHER).json()["server"]["addresses"]) == ["auto_allocated_network"]
    assert len(names("networks")) == 1


def test_listing(nova: Nova) -> None:
    ids = [nova.active(name=f"web{n}", tags=[f"t{n}", "all"]) for n in range(3)]
    names = lambda query, token=DEMO, version=LATEST: [  # noqa: E731
        row["name"] for row in nova.get(f"/servers{query}", token, version).json()["servers"]
    ]
    assert names("") == ["web2", "web1", "web0"]
    assert names("?sort_key=display_name&sort_dir=asc") == ["web0", "web1", "web2"]
    assert names("?name=b[01]") == ["web1", "web0"]
    assert names(f"?limit=1&marker={ids[2]}") == ["web1"]
    assert names(f"?sort_key=uuid&sort_dir=asc&marker={sorted(ids)[0]}") == [
        f"web{ids.index(id)}" for id in sorted(ids)[1:]
    ]
    assert names("?tags=all,t1") == ["web1"]
    assert names("?tags-any=t0,t1") == ["web1", "web0"]
    assert names("?not-tags=t0") == ["web2", "web1"]
    assert names("?status=ACTIVE") == ["web2", "web1", "web0"]
    assert names("?status=ERROR") == []
    assert names(f"?flavor=1&image={nova.image}") == ["web2", "web1", "web0"]
    assert names("?flavor=none") == []
    assert names("?host=host-1") == ["web2", "web1", "web0"]  # ignored: not for users
    assert names("?host=none&all_tenants=1", ADMIN) == []
    assert names("?host=host-1&all_tenants=1", ADMIN) == ["web2", "web1", "web0"]
    assert names("", ADMIN) == []
    assert names(f"?all_tenants=true&tenant_id={DEMO_PROJECT}", ADMIN) == ["web2", "web1", "web0"]
    assert names("?changes-since=2030-01-01T00:00:00Z") == []
    assert names("?locked=false") == ["web2", "web1", "web0"]
    page = nova.get("/servers/detail?limit=2").json()
    assert page["servers_links"][0]["href"].endswith(f"/compute/v2.1/servers/detail?limit=2&marker={ids[1]}")
    for query, version in (
        ("?limit=-1", LATEST), ("?limit=x", LATEST), (f"?marker={nova.image}", LATEST), ("?name=[", LATEST),
        ("?status=nonsense", LATEST), ("?nonsense=1", LATEST), ("?sort_key=nonsense", "2.1"), ("?_x=1", "2.1"),
        ("?changes-since=yesterday", LATEST),
        ("?changes-since=2030-01-01T00:00:00Z&changes-before=2029-01-01T00:00:00Z", LATEST),
    ):  # fmt: skip
        assert nova.get(f"/servers{query}", version=version).status_code == 400, query
    assert nova.get("/servers?status=nonsense", version="2.37").json() == {"servers": []}
    assert nova.get("/servers?all_tenants=1").status_code == 403
    assert nova.get("/servers?sort_key=host").status_code == 403


def test_find_by_address(nova: Nova) -> None:
    id = nova.active(networks=[{"uuid": nova.network(), "fixed_ip": "10.0.0.77"}])
    nova.active()
    assert [row["id"] for row in nova.get(r"/servers?ip=^10\.0\.0\.77$").json()["servers"]] == [id]
    assert nova.get("/servers?ip=10.9").json() == {"servers": []}


def test_what_a_host_is_given(nova: Nova) -> None:
    key = nova.post("/os-keypairs", {"keypair": {"name": "k"}}, version="2.1").json()["keypair"]["public_key"]
    port = nova.port(nova.network())
    id = nova.active(
        name="My Server",
        networks=[{"port": port}],
        key_name="k",
        metadata={"a": "b"},
        config_drive=True,
        adminPass="pw",
    )
    spec = nova.database.read(lambda tx: server_spec(tx, id))
    assert (spec.id, spec.instance_name, spec.name, spec.hostname) == (
        id,
        "instance-00000001",
        "My Server",
        "my-server",
    )
    assert (spec.flavor.name, spec.flavor.memory_mb, spec.flavor.disk_gb) == ("m1.nano", 128, 1)
    assert spec.image is not None
    assert (spec.image.id, spec.image.disk_format) == (nova.image, "qcow2")
    assert spec.project_name == DEMO_PROJECT[:4]
    assert spec.keypair is not None
    assert spec.keypair.public_key == key
    assert [p.id for p in spec.ports] == [port]
    assert spec.ports[0].tap == f"tap{port[:11]}"
    assert spec.network(spec.ports[0].network_id).subnets[0].cidr == "10.0.0.0/24"
    assert (spec.metadata, spec.config_drive, spec.admin_password) == ({"a": "b"}, True, None)
    waiting = nova.made(adminPass="pw")
    assert nova.database.read(lambda tx: server_spec(tx, waiting)).admin_password == "pw"


def test_two_creates_do_not_share_the_last_place(nova: Nova) -> None:
    nova.put(f"/os-quota-sets/{DEMO_PROJECT}", {"quota_set": {"instances": 1}}, ADMIN)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: nova.create().status_code, range(4)))
    assert sorted(answers) == [202, 403, 403, 403]


def test_metadata(nova: Nova) -> None:
    id = nova.active(metadata={"a": "1"})
    path = f"/servers/{id}/metadata"
    assert nova.post(path, {"metadata": {"b": "2"}}).json() == {"metadata": {"a": "1", "b": "2"}}
    assert nova.put(path, {"metadata": {"c": "3"}}).json() == {"metadata": {"c": "3"}}
    assert nova.put(f"{path}/d", {"meta": {"d": "4"}}).json() == {"meta": {"d": "4"}}
    assert nova.put(f"{path}/d", {"meta": {"e": "4"}}).status_code == 400
    assert nova.get(f"{path}/d").json() == {"meta": {"d": "4"}}
    assert nova.delete(f"{path}/d").status_code == 204
    assert nova.get(f"{path}/d").status_code == 404
    assert nova.delete(f"{path}/d").status_code == 404
    assert nova.get(path).json() == {"metadata": {"c": "3"}}
    assert nova.post(path, {"metadata": {str(n): "" for n in range(128)}}).status_code == 403
    assert nova.post(path, {"metadata": {"": "x"}}).status_code == 400
    assert nova.post(path, {"metadata": {"k" * 256: "x"}}).status_code == 400
    assert nova.post(path, {"metadata": {"a": 1}}).status_code == 400
    assert nova.post(f"/servers/{nova.made()}/metadata", {"metadata": {"a": "b"}}).status_code == 409


def test_tags(nova: Nova) -> None:
    id = nova.active()
    path = f"/servers/{id}/tags"
    first = nova.put(f"{path}/red")
    assert (first.status_code, first.headers["Location"]) == (
        201,
        f"http://testserver/compute/v2.1/servers/{id}/tags/red",
    )
    assert nova.put(f"{path}/red").status_code == 204
    assert nova.get(f"{path}/red").status_code == 204
    assert nova.get(f"{path}/blue").status_code == 404
    assert nova.put(path, {"tags": ["blue", "green"]}).json() == {"tags": ["blue", "green"]}
    assert nova.delete(f"{path}/blue").status_code == 204
    assert nova.delete(f"{path}/blue").status_code == 404
    assert nova.get(path).json() == {"tags": ["green"]}
    assert nova.put(path, {"tags": [f"t{n}" for n in range(51)]}).status_code == 400
    assert nova.put(f"{path}/a,b").status_code == 400
    assert nova.delete(path).status_code == 204
    assert nova.get(path).json() == {"tags": []}
    assert nova.get(path, version="2.25").status_code == 404


def test_a_thousand_servers_take_few_queries(nova: Nova) -> None:
    network = nova.network(cidr="10.0.0.0/16")
    one = nova.active(networks=[{"uuid": network}])

    def copies(first: int, end: int) -> None:
        def write(tx) -> None:  # type: ignore[no-untyped-def]
            row = dict(states.get_row(tx, one))
            del row["number"]
            ids = [(f"00000000-0000-4000-8000-{n:012d}", f"vm{n}") for n in range(first, end)]
            tx.execute(SERVERS.insert(), [{**row, "id": id, "name": name} for id, name in ids])

        nova.database.write(write)

    def listed() -> tuple[int, int]:
        """How many servers in detail, by how many queries."""
        headers = {"X-Auth-Token": DEMO, "OpenStack-API-Version": f"compute {LATEST}"}
        with statements(nova.database) as asked:
            got = nova.http.get("/compute/v2.1/servers/detail", headers=headers)
        return len(got.json()["servers"]), len(asked)

    copies(0, 9)
    listed()  # what a process asks once
    of_ten = listed()
    copies(9, 999)
    of_thousand = listed()
    assert (of_ten[0], of_thousand[0]) == (10, 1000)
    assert of_thousand[1] < 2 * of_ten[1]  # a long list of ids is asked in two pieces



def test_another_projects_port_is_no_device_of_a_server(nova: Nova) -> None:
    """A port may name any device; one that names another project's server is refused, or is not counted."""
    server = nova.active(networks=[{"uuid": nova.network()}])
    theirs = nova.network("theirs", "10.1.0.0/24", OTHER)
    headers, named = {"X-Auth-Token": OTHER}, {"device_id": server, "device_owner": "compute:nova"}
    answer = nova.http.post("/network/v2.0/ports", json={"port": {"network_id": theirs, **named}}, headers=headers)
    assert (answer.status_code, "DeviceIDNotOwnedByTenant" in answer.text) == (409, True)
    port = nova.neutron("ports", {"port": {"network_id": theirs}}, OTHER)["id"]
    for body in (named, {"device_id": server}):
        answer = nova.http.put(f"/network/v2.0/ports/{port}", json={"port": body}, headers=headers)
        assert answer.status_code == 409, answer.text
    own = {"port": {"network_id": theirs, "device_id": "of nobody else"}}
    assert nova.http.post("/network/v2.0/ports", json=own, headers=headers).status_code == 201
    nova.database.write(lambda tx: tx.execute(PORTS.update().where(PORTS.c.id == port).values(**named)))
    known = nova.database.read(lambda tx: server_spec(tx, server))
    assert [each.network_id == theirs for each in known.ports] == [False]
    (own_port,) = (each.id for each in known.ports)
    for shown in (
        nova.get(f"/servers/{server}"),
        *(nova.get(f"/servers/{server}/{part}") for part in ("ips", "os-interface")),
    ):
        assert "10.1.0" not in shown.text, shown.text
    held = nova.get(f"/servers/{server}/os-interface").json()["interfaceAttachments"]
    assert [each["port_id"] for each in held] == [own_port]
    assert nova.get("/servers?ip=10.1.0").json()["servers"] == []
    assert nova.delete(f"/servers/{server}/os-interface/{port}").status_code == 404
    before = nova.http.get(f"/network/v2.0/ports/{port}", headers=headers).json()
    nova.database.write(lambda tx: deallocate_ports(tx, server, known.project_id))
    assert nova.http.get(f"/network/v2.0/ports/{port}", headers=headers).json() == before
