"""Every route of every service, walked from the route tables: another's project is not there, and readers do not write."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from compute_client import ADMIN, CONTEXTS, DEMO, DOMAIN, OTHER, READER, SYSTEM, Nova, authenticate
from cryptography.fernet import Fernet, MultiFernet
from image_stores import file_stores
from starlette.testclient import TestClient

from kilonova.app import SERVICES
from kilonova.compute.routes import SERVICE as COMPUTE
from kilonova.db.engine import Database
from kilonova.flow.log import Journal
from kilonova.flow.wake import Doorbell
from kilonova.flows.asks import Asks
from kilonova.flows.storage_actions import StorageActions
from kilonova.flows.stories import FLOWS
from kilonova.flows.subject import SUBJECTS
from kilonova.identity import seed
from kilonova.identity.limits import in_force
from kilonova.identity.security import Settings
from kilonova.image.imports import Imports
from kilonova.image.routes import SERVICE as IMAGE
from kilonova.model.ids import new_id
from kilonova.network.routes import SERVICE as NETWORK
from kilonova.placement.routes import SERVICE as PLACEMENT
from kilonova.volume import seed as volume_seed
from kilonova.volume import states
from kilonova.volume.routes import SERVICE as VOLUME
from kilonova.web.call import Route
from kilonova.web.router import Application
from kilonova.web.service import Service

# What a handler lets through to its look at the row, by the path's last word that is no {name}; else `{"network": {}}`.
BODIES: dict[str, Any] = {
    "os-interface": {"interfaceAttachment": {}}, "os-volumes_boot": {"server": {"name": "n"}},
    "os-volume_attachments": {"volumeAttachment": {"volumeId": "00000000-0000-4000-8000-000000000000"}},
    "shares": {"share": {"share_id": "00000000-0000-4000-8000-000000000000"}},
    "servers": {"server": {"name": "n"}}, "metadata": {"metadata": {"a": "b"}}, "tags": {"tags": ["a"]},
    "action": {"lock": None}, "images": [], "members": {"member": "m", "status": "accepted"},
    "locations": {"url": "http://example.org/"}, "os-security-groups": {"security_group": {"name": "n", "description": ""}},
    "import": {"method": {"name": "glance-direct"}}, "OS-EC2": {"tenant_id": "t"},
    "credentials": {"credential": {"type": "t"}},
    "remote-consoles": {"remote_console": {"protocol": "vnc", "type": "novnc"}},
    "rbac-policies": {"rbac_policy": {}}, "add_prefixes": {"prefixes": ["10.0.0.0/8"]},
    **{f"{verb}_allowed_address_pairs": {"port": {"allowed_address_pairs": []}} for verb in ("add", "remove")},
    "add_extraroutes": {"router": {"routes": []}}, "remove_extraroutes": {"router": {"routes": []}},
}  # fmt: skip
BODIES |= {  # by two words, where one word means several things
    "volumes": {"volume": {"name": "n"}}, "volumes/action": {"os-reserve": {}}, "snapshots": {"snapshot": {"name": "n"}},
    "snapshots/action": {"os-update_snapshot_status": {"status": "error"}}, "backups": {"backup": {"name": "n"}},
    "backups/action": {"os-reset_status": {"status": "error"}}, "restore": {"restore": {}},
    "attachments": {"attachment": {"connector": {"host": "h"}}}, "attachments/action": {"os-complete": {}},
    "groups": {"group": {"name": "n"}}, "groups/action": {"delete": {"delete-volumes": True}},
    "accept": {"accept": {"auth_key": "k"}},
    "application_credentials": {"application_credential": {"name": "n"}},
    "trusts": {"trust": {"trustor_user_id": "t", "trustee_user_id": "t", "impersonation": True}},
}  # fmt: skip
NOTHING = "00000000-0000-4000-8000-000000000000"
# What an action takes, where it takes something; its row is looked for once that is well.
ARGUMENTS: dict[str, Any] = {
    "reboot": {"type": "HARD"}, "createImage": {"name": "i"}, "resize": {"flavorRef": "1"}, "rebuild": {"imageRef": NOTHING},
    "createBackup": {"name": "b", "backup_type": "daily", "rotation": 1}, "changePassword": {"adminPass": "p"},
    "addSecurityGroup": {"name": "g"}, "removeSecurityGroup": {"name": "g"}, "addFixedIp": {"networkId": NOTHING},
    "os-getConsoleOutput": {}, **{f"{verb}FloatingIp": {"address": "192.0.2.3"} for verb in ("add", "remove")},
    "removeFixedIp": {"address": "10.0.0.3"}, "os-getVNCConsole": {"type": "novnc"},
    "os-getSerialConsole": {"type": "serial"}, "os-getSPICEConsole": {"type": "spice-html5"},
    "os-getRDPConsole": {"type": "rdp-html5"},
    "os-attach": {"instance_uuid": NOTHING, "mountpoint": "/dev/vdb"}, "os-extend": {"new_size": 2},
    "os-initialize_connection": {"connector": {"host": "h"}}, "os-terminate_connection": {"connector": {"host": "h"}},
    "os-update_readonly_flag": {"readonly": True}, "os-retype": {"new_type": "t"}, "os-reimage": {"image_id": NOTHING},
    "os-set_bootable": {"bootable": True}, "os-set_image_metadata": {"metadata": {"k": "v"}},
    "os-unset_image_metadata": {"key": "k"}, "os-volume_upload_image": {"image_name": "i"},
    "revert": {"snapshot_id": NOTHING}, "delete": {"delete-volumes": True}, "reset_status": {"status": "error"},
    "os-update_snapshot_status": {"status": "error"},
}  # fmt: skip
# Nova's actions of old, by the last microversion that has them.
UNTIL = {
    **dict.fromkeys(("addFixedIp", "removeFixedIp", "addFloatingIp", "removeFloatingIp"), (2, 43)),
    **dict.fromkeys(("os-getVNCConsole", "os-getSerialConsole", "os-getSPICEConsole", "os-getRDPConsole"), (2, 5)),
}  # fmt: skip
# Owned by nobody, or by everybody: flavors, the cloud's own documents.
COMMON = ("/v2.1/flavors", "/v2.1/os-quota-sets/{id}/defaults", "/v2.1/extensions", "/v2.0/extensions", "/v2/schemas")
# A path names a project or a user there, and Nova's, Neutron's and Keystone's rules say 403 whoever asks for another.
NAMED = ("/v2.1/os-quota-sets", "/v2.1/os-simple-tenant-usage", "/v2.0/quotas", "/v2.0/auto-allocated-topology", "/v3/")
# A reader's own: their keypairs, credentials, password, token.
OWN = ("/v2.1/os-keypairs", "/v3/credentials", "/v3/users/{id}/", "/v3/auth/tokens", "/v3/OS-TRUST/trusts")
# Nova's old names of what Neutron has.
OF_OLD = {"os-networks": "networks", "os-tenant-networks": "networks", "os-security-groups": "security-groups",
          "os-security-group-rules": "security-group-rules", "os-floating-ips": "floatingips"}  # fmt: skip
GONE = "gone"  # Nova's policy of what is no more: 410 to everybody


class Everything:
    """All services over one database, and one of each thing that a project has, made by DEMO."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.nova = Nova(database)
        found = database.write(lambda tx: seed.seed(tx, admin_password="a", demo_password="d"))
        fernet = MultiFernet([Fernet(Fernet.generate_key())])
        store = file_stores(folder)
        shared = SimpleNamespace(
            flows=self.nova.shared.flows, images=store, imports=Imports(database, store), limits=in_force,
            fernet=fernet, identity=Settings(fernet),
            storage=StorageActions(Journal(database, FLOWS, SUBJECTS, Doorbell(), "node"), Asks()),
        )  # fmt: skip
        app = Application(SERVICES, database, authenticate, shared, "http://testserver")
        self.http = TestClient(app, raise_server_exceptions=True)
        self.database = database
        network = self.nova.network()
        subnet = self.http.get("/network/v2.0/subnets", headers={"X-Auth-Token": DEMO}).json()["subnets"][0]["id"]
        group = self.nova.neutron("security-groups", {"security_group": {"name": "g"}})
        image = {"name": "i", "disk_format": "raw", "container_format": "bare", "visibility": "private"}
        self.ids = {
            "servers": self.nova.active(networks=[{"uuid": network}]), "networks": network, "subnets": subnet,
            "ports": self.nova.port(network), "security-groups": group["id"],
            "security-group-rules": group["security_group_rules"][0]["id"],
            "images": self.call("POST", "/image/v2/images", DEMO, image).json()["id"],
        }  # fmt: skip
        pool = {"name": "p", "prefixes": ["10.0.0.0/8"]}
        target = {"object_type": "network", "object_id": network, "action": "access_as_shared"}
        for collection, name, values in (
            ("subnetpools", "subnetpool", pool), ("address-scopes", "address_scope", {"name": "s", "ip_version": 4}),
            ("address-groups", "address_group", {}),
            ("rbac-policies", "rbac_policy", {**target, "target_tenant": new_id()}),
        ):  # fmt: skip
            self.ids[collection] = self.nova.neutron(collection, {name: values})["id"]
        if "POST /v2.0/routers" in NETWORK.routes:
            self.ids["routers"] = self.nova.neutron("routers", {"router": {"name": "r"}})["id"]
        self.ids["floatingips"] = self.floating()
        self.ids |= {old: self.ids[new] for old, new in OF_OLD.items()}
        trunk = {"trunk": {"port_id": self.nova.port(network)}}
        self.ids["trunks"] = self.nova.neutron("trunks", trunk)["id"]
        label = {"project_id": CONTEXTS[DEMO].project_id}
        self.ids["metering-labels"] = self.managed("metering/metering-labels", "metering_label", label)
        rule = {
            "metering_label_id": self.ids["metering-labels"],
            "direction": "ingress",
            "remote_ip_prefix": "10.0.0.0/8",
        }
        self.ids["policies"] = self.managed("qos/policies", "policy", label)
        self.ids["metering-label-rules"] = self.managed("metering/metering-label-rules", "metering_label_rule", rule)

        self.ids["os-server-groups"] = self.nova.post(
            "/os-server-groups", {"server_group": {"name": "g", "policy": "affinity"}}
        ).json()["server_group"]["id"]
        self.ids |= self.storage() | self.people(found) | {"os-volumes_boot": self.ids["servers"]}

    def floating(self) -> str:
        outside = self.nova.neutron("networks", {"network": {"router:external": True}}, ADMIN)["id"]
        self.nova.neutron("subnets", {"subnet": {"network_id": outside, "cidr": "192.0.2.0/28", "ip_version": 4}}, ADMIN)
        return str(self.nova.neutron("floatingips", {"floatingip": {"floating_network_id": outside}})["id"])

    def storage(self) -> dict[str, str]:
        """One of each thing that Cinder keeps: nothing runs, so states are written."""
        self.database.write(lambda tx: volume_seed.seed(tx))

        def made(kind: str, path: str = "", token: str = DEMO, **values: Any) -> str:
            answer = self.call("POST", f"/volume/v3/{path or kind + 's'}", token, {kind: values})
            assert answer.status_code < 300, answer.text
            return str(answer.json()[kind]["id"])

        def volume(**values: Any) -> str:
            id = made("volume", size=1, **values)
            ready = {"status": "available", "host": "h", "backend": "file"}
            self.database.write(lambda tx: states.update(tx, "volume", id, **ready))
            return id

        ids = {"volumes": volume(), "attachments": made("attachment", volume_uuid=volume())}
        ids["snapshots"] = made("snapshot", volume_id=ids["volumes"])
        ids["backups"] = made("backup", volume_id=ids["volumes"])
        ids["os-volumes"], ids["os-snapshots"] = ids["volumes"], ids["snapshots"]
        ids["os-volume-transfer"] = ids["volume-transfers"] = made("transfer", "os-volume-transfer", volume_id=volume())
        made("group_type", token=ADMIN, name="g")
        ids["groups"] = made("group", group_type="g", volume_types=["__DEFAULT__"])
        self.database.write(lambda tx: states.update(tx, "group", ids["groups"], status="available"))
        volume(group_id=ids["groups"])
        ids["group_snapshots"] = made("group_snapshot", group_id=ids["groups"])
        return ids

    def people(self, found: dict[str, Any]) -> dict[str, str]:
        """Keystone's own of a project and a user that OTHER has nothing to do with. `found`: the seed's ids."""
        user = found["users"]["demo"]
        made = self.call(
            "POST", "/identity/v3/credentials", ADMIN, {"credential": {"type": "cert", "blob": "b", "user_id": user}}
        )
        return {"users": user, "projects": found["projects"]["demo"], "credentials": made.json()["credential"]["id"]}

    def managed(self, path: str, name: str, body: dict[str, Any]) -> str:
        """The id of what only a manager can make, made by an administrator for DEMO's project."""
        return str(self.call("POST", f"/network/v2.0/{path}", ADMIN, {name: body}).json()[name]["id"])

    def call(
        self, method: str, path: str, token: str, body: Any = None, until: tuple[int, int] | None = None
    ) -> httpx.Response:
        """`until`: the last microversion of Nova's that has the operation; None: the newest."""
        major, minor = until or (2, 104)
        versions = f"compute {major}.{minor}, placement 1.39, volume 3.71"
        headers = {"X-Auth-Token": token, "OpenStack-API-Version": versions}
        if method == "PATCH" and "/images/" in path:
            headers["Content-Type"] = "application/openstack-images-v2.1-json-patch"
        if path.endswith(("/file", "/stage")) and method == "PUT":
            headers["Content-Type"] = "application/octet-stream"
        return self.http.request(method, path, json=body, headers=headers)

    def concrete(self, service: Service, path: str) -> str:
        """The route's path with the ids of what DEMO has; an id that nobody has where DEMO has none."""
        words, before = [], ""
        for word in path.strip("/").split("/"):
            if word == "{project_id}" and service is VOLUME:
                word = CONTEXTS[DEMO].project_id
            words.append(self.ids.get(before, new_id()) if word.startswith("{") else word)
            before = word
        return f"/{service.prefix}/" + "/".join(words)


@pytest.fixture
def everything(database: Database, tmp_path: Path) -> Everything:
    return Everything(database, tmp_path / "images")


def routes_with_ids() -> list[tuple[Service, str, str, Route]]:
    found = []
    for service in SERVICES:
        for key, route in service.routes.items():
            method, path = key.split()
            if "{" in path and route.policy:
                found.append((service, method, path, route))
    return found


def body_for(method: str, path: str, url: str) -> Any:
    """`path`: the route's; `url`: with its ids."""
    if method in ("GET", "DELETE"):
        return None
    words = path.strip("/").split("/")
    name = next(word for word in reversed(words) if not word.startswith("{"))
    if name == "metadata" and words[-1].startswith("{"):
        return {"meta": {url.rpartition("/")[2]: "x"}}
    both = "/".join([word for word in words if not word.startswith("{")][-2:])
    return BODIES.get(both) or BODIES.get(name, {name.removesuffix("s").replace("-", "_"): {}})


def test_what_is_anothers_is_not_there(everything: Everything) -> None:
    wrong, seen = [], 0
    for service, method, path, route in routes_with_ids():
        if path.startswith(COMMON) or route.policy == GONE:
            continue
        url = everything.concrete(service, path)
        body = body_for(method, path, url)
        action = next(iter(body), "") if route.actions else ""
        forbidden = not service.policy[route.actions.get(action, route.policy)](CONTEXTS[OTHER], {})
        expected = {403} if forbidden else {403, 404} if path.startswith(NAMED) else {404}
        if route.hidden:  # to who may not see it, it is not there
            expected = {404}
        if service is VOLUME:  # the project in the address must be the token's, and is looked at first
            bad = "{project_id}" in path or path.endswith("/accept")  # whoever has the key may accept a transfer
            expected = {403} if forbidden or ("quota" in path and not bad) else {400} if bad else {404}
        answer = everything.call(method, url, OTHER, body, route.until)
        seen += 1
        if answer.status_code not in expected:
            wrong.append((service.prefix, method, path, answer.status_code, answer.text[:120]))
    assert not wrong, "\n".join(map(str, wrong))
    assert seen > 200


def test_no_action_reaches_what_is_anothers(everything: Everything) -> None:
    wrong, seen = [], 0
    for service, method, path, route in routes_with_ids():
        if path.startswith(COMMON) or "{project_id}" in path:  # the project in the address is looked at first
            continue
        for action, line in route.actions.items():
            body, url = {action: ARGUMENTS.get(action)}, everything.concrete(service, path)
            answer = everything.call(method, url, OTHER, body, UNTIL.get(action, route.until))
            let = service.policy[line](CONTEXTS[OTHER], {})
            seen += let
            if answer.status_code != (404 if let else 403) and action != "resetNetwork":  # gone, for everybody
                wrong.append((service.prefix, path, action, answer.status_code, answer.text[:120]))
    assert not wrong, "\n".join(map(str, wrong))
    assert seen > 80


def test_the_walk_reaches_the_rows(everything: Everything) -> None:
    """What is 404 for another is there for its owner: the walk asks for ids that exist."""
    for service, path in ((COMPUTE, "/v2.1/servers/{id}"), (NETWORK, "/v2.0/networks/{id}"), (NETWORK, "/v2.0/subnets/{id}"),
                          (NETWORK, "/v2.0/ports/{id}"), (NETWORK, "/v2.0/security-groups/{id}"),
                          (NETWORK, "/v2.0/security-group-rules/{id}"), (NETWORK, "/v2.0/subnetpools/{id}"),
                          (NETWORK, "/v2.0/address-scopes/{id}"), (NETWORK, "/v2.0/address-groups/{id}"),
                          (NETWORK, "/v2.0/rbac-policies/{id}"), (IMAGE, "/v2/images/{image_id}"),
                          (VOLUME, "/v3/volumes/{id}"), (VOLUME, "/v3/snapshots/{id}"),
                          (VOLUME, "/v3/backups/{id}"), (VOLUME, "/v3/attachments/{id}"), (VOLUME, "/v3/groups/{id}"),
                          (VOLUME, "/v3/os-volume-transfer/{id}"), (VOLUME, "/v3/group_snapshots/{id}"),
                          (NETWORK, "/v2.0/routers/{id}"), (NETWORK, "/v2.0/floatingips/{id}")):  # fmt: skip
        assert everything.call("GET", everything.concrete(service, path), DEMO).status_code == 200, path


def test_anothers_things_are_in_no_list(everything: Everything) -> None:
    ids = set(everything.ids.values())
    for service in SERVICES:
        for key, route in service.routes.items():
            method, path = key.split()
            if method == "GET" and "{" not in path and route.policy:
                text = everything.call("GET", f"/{service.prefix}{path}", OTHER, None, route.until).text
                assert not [id for id in ids if id in text], path


def test_a_role_that_no_rule_names_shows_nothing_of_its_project(
    everything: Everything, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's own role: what it opens, the operator's rules would have to say. Keystone tells people of themselves."""
    monkeypatch.setitem(CONTEXTS, "painter", replace(CONTEXTS[DEMO], roles=frozenset({"painter"})))
    ids, seen = set(everything.ids.values()) - {CONTEXTS[DEMO].project_id}, 0
    for service in (COMPUTE, NETWORK, IMAGE, VOLUME, PLACEMENT):
        for key, route in service.routes.items():
            method, path = key.split()
            if method == "GET" and route.policy not in ("", GONE):
                answer = everything.call(method, everything.concrete(service, path), "painter", None, route.until)
                seen += 1
                shown = answer.status_code < 300 and [id for id in ids if id in answer.text or id in answer.request.url.path]
                assert not shown, (path, answer.text[:200])
    assert seen > 150


def test_shared_networks_are_every_role_s(everything: Everything, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neutron's get_network: readers' own, and for all what is shared or external; a service sees its project's, too."""
    kept, opened = everything.ids["networks"], everything.nova.neutron("networks", {"network": {"name": "open"}})["id"]
    target = {"object_type": "network", "object_id": opened, "action": "access_as_shared", "target_tenant": "*"}
    everything.call("POST", "/network/v2.0/rbac-policies", ADMIN, {"rbac_policy": target})
    for role, own in (("painter", False), ("reader", True), ("service", True)):
        monkeypatch.setitem(CONTEXTS, role, replace(CONTEXTS[DEMO], roles=frozenset({role})))
        listed = everything.call("GET", "/network/v2.0/networks", role).json()["networks"]
        assert (kept in {network["id"] for network in listed}) == own
        assert opened in {network["id"] for network in listed}
        for id, status in ((kept, 200 if own else 404), (opened, 200)):
            assert everything.call("GET", f"/network/v2.0/networks/{id}", role).status_code == status


def test_readers_do_not_write(everything: Everything) -> None:
    wrong, seen = [], 0
    for service in SERVICES:
        for key, route in service.routes.items():
            method, path = key.split()
            if method == "GET" or route.policy in ("", GONE) or path.startswith(OWN):
                continue
            url = everything.concrete(service, path)
            answer = everything.call(method, url, READER, body_for(method, path, url), route.until)
            seen += 1
            if answer.status_code != (404 if route.hidden else 403):
                wrong.append((service.prefix, method, path, answer.status_code, answer.text[:120]))
    assert not wrong, "\n".join(map(str, wrong))
    assert seen > 120


@pytest.mark.parametrize("token", [SYSTEM, DOMAIN])
def test_only_a_project_s_token_opens_what_projects_have(everything: Everything, token: str) -> None:
    """Nova, Neutron, Glance and Placement enforce scopes: an administrator of the system is none of any project."""
    for service in (COMPUTE, NETWORK, IMAGE, VOLUME, PLACEMENT):
        for key, route in service.routes.items():
            method, path = key.split()
            if route.policy:
                url = everything.concrete(service, path)
                refused = 404 if route.hidden else 403
                answer = everything.call(method, url, token, body_for(method, path, url), route.until)
                assert answer.status_code == refused, path
    assert everything.call("GET", "/identity/v3/projects", token).status_code == 200


def test_administrators_reach_what_others_have(everything: Everything) -> None:
    for name, path in (
        ("servers", "/compute/v2.1/servers"),
        ("images", "/image/v2/images"),
        ("ports", "/network/v2.0/ports"),
    ):
        assert everything.call("GET", f"{path}/{everything.ids[name]}", ADMIN).status_code == 200
