"""Nova behind its HTTP door, with Neutron beside it; flows are only written down, and played by hand."""

import datetime
from typing import Any

import httpx
import msgspec
import openapi
from starlette.testclient import TestClient

from kilonova.compute import hosts, scheduler, seed, states
from kilonova.compute.flows import Action, Event
from kilonova.compute.routes import SERVICE
from kilonova.db.engine import Database, Tx
from kilonova.host.diagnostics import Diagnostics, Disk, Nic
from kilonova.identity.tables import PROJECTS
from kilonova.image.tables import IMAGES
from kilonova.model.errors import Unauthorized, Unavailable
from kilonova.model.ids import new_id, now
from kilonova.model.specs import HostInventory, ImageSpec
from kilonova.network import ports
from kilonova.network import routes as network_routes
from kilonova.web.call import Context
from kilonova.web.policy import with_implied
from kilonova.web.router import Application

DEMO, OTHER, ADMIN, READER = "demo", "other", "admin", "reader"
SYSTEM, DOMAIN = "system", "domain"  # administrators without a project
DEMO_PROJECT, OTHER_PROJECT, ADMIN_PROJECT = "1" * 32, "2" * 32, "3" * 32
CONTEXTS = {
    DEMO: Context(user_id="a" * 32, project_id=DEMO_PROJECT, roles=with_implied(frozenset({"member"}))),
    READER: Context(user_id="b" * 32, project_id=DEMO_PROJECT, roles=frozenset({"reader"})),
    OTHER: Context(user_id="c" * 32, project_id=OTHER_PROJECT, roles=with_implied(frozenset({"member"}))),
    ADMIN: Context(user_id="d" * 32, project_id=ADMIN_PROJECT, roles=with_implied(frozenset({"admin"}))),
    SYSTEM: Context(user_id="d" * 32, system=True, roles=with_implied(frozenset({"admin"}))),
    DOMAIN: Context(user_id="d" * 32, domain_id="default", roles=with_implied(frozenset({"admin"}))),
}
LATEST = "2.104"


class WrittenDown:
    """A flow engine that only remembers what it was asked."""

    vif_type = "bridge"

    def __init__(self) -> None:
        self.started: list[tuple[str, str]] = []
        self.looks = 0
        self.noted: list[tuple[str, str, str | None]] = []
        self.requests: dict[str, list[Action]] = {}
        self.cached: list[tuple[str, str]] = []
        self.deaf: set[str] = set()  # hosts that do not listen
        self.passwords: list[tuple[str, str, str, str]] = []
        self.agent_refuses: str | None = None

    def start(self, tx: Tx, kind: str, server_id: str, context: Context, data: dict[str, Any]) -> None:
        tx.after_commit(lambda: self._note(kind, server_id, context))

    def note(self, tx: Tx, action: str, server_id: str, context: Context, error: str | None = None) -> None:
        tx.after_commit(lambda: self.noted.append((action, server_id, error)))

    def look(self, tx: Tx) -> None:
        tx.after_commit(self._look)

    def _look(self) -> None:
        self.looks += 1

    def _note(self, kind: str, server_id: str, context: Context) -> None:
        self.started.append((kind, server_id))
        when = datetime.datetime(2026, 1, 2, 3, 4, 5, 678)
        failed = Event("prepare_disks", when, when, "Error", "Traceback: no space", "host-1", "no space left")
        steps = (Event("allocate_ports", when, when, "Success", None, None, None), failed)
        who = (context.request_id, context.user_id, context.project_id)
        self.requests.setdefault(server_id, []).insert(0, Action(kind, *who, when, when, None, steps))

    def actions(self, tx: Tx, server_id: str) -> list[Action]:
        return self.requests.get(server_id, [])

    def action(self, tx: Tx, server_id: str, request_id: str) -> Action | None:
        return next((action for action in self.actions(tx, server_id) if action.request_id == request_id), None)

    def diagnostics(self, server_id: str, host: str) -> dict[str, Any]:
        nic = Nic(mac_address="fa:16:3e:00:00:01", dev="tap0", rx_octets=1, rx_packets=2, rx_errors=3, rx_drop=4,
                  tx_octets=5, tx_packets=6, tx_errors=7, tx_drop=8)  # fmt: skip
        disk = Disk(dev="vda", read_requests=1, read_bytes=2, write_requests=3, write_bytes=4, errors=5)
        found = Diagnostics(power_state=1, memory_kib=65536, max_memory_kib=131072, cpu_times=(17,), disks=(disk,),
                            memory_stats={"actual": 65536}, nics=(nic, Nic(mac_address="fa:16:3e:00:00:02")))  # fmt: skip
        return dict(msgspec.to_builtins(found))

    def cache_image(self, host: str, image: ImageSpec) -> None:
        if host in self.deaf:
            raise Unavailable(f"Host {host} is not connected.")
        self.cached.append((host, image.id))

    def set_admin_password(self, server_id: str, host: str, user: str, password: str) -> str | None:
        self.passwords.append((server_id, host, user, password))
        return self.agent_refuses

    def console_output(self, server_id: str, host: str, length: int | None) -> str:
        lines = [f"line {number} of {host}" for number in range(5)]
        return "\n".join(lines if length is None else lines[len(lines) - length :]) + "\x07"


class Services:
    def __init__(self) -> None:
        self.flows = WrittenDown()
        self.limits = lambda tx, service, project_id: dict[str, int]()  # Keystone's: none


def authenticate(database: Database, token: str) -> Context:
    if token not in CONTEXTS:
        raise Unauthorized("The request you have made requires authentication.")
    return CONTEXTS[token]


class Nova:
    """`nova.post("/servers", {...})`: every answer is held against Nova's own description of it."""

    def __init__(self, database: Database) -> None:
        self.database, self.shared = database, Services()
        services = [SERVICE, network_routes.SERVICE]
        application = Application(services, database, authenticate, self.shared, "http://testserver")
        self.http = TestClient(application, raise_server_exceptions=True)
        self.flavors = database.write(seed.seed)
        self.add_host("host-1")
        for project in (DEMO_PROJECT, OTHER_PROJECT, ADMIN_PROJECT):
            row = {"id": project, "domain_id": "default", "parent_id": "default", "name": project[:4], "extra": {},
                   "options": {}}  # fmt: skip
            database.write(lambda tx, row=row: tx.execute(PROJECTS.insert().values(**row)))
        self.image = self.add_image()

    def call(
        self, method: str, path: str, body: Any = None, token: str | None = DEMO, version: str = LATEST
    ) -> httpx.Response:
        headers = {"OpenStack-API-Version": f"compute {version}"} | ({"X-Auth-Token": token} if token else {})
        response = self.http.request(method, f"/compute/v2.1{path}", json=body, headers=headers)
        assert response.status_code < 500, response.text
        route = "/v2.1" + path.partition("?")[0]
        if openapi.available() and response.content and openapi.find_path("compute", route):
            action = next(iter(body)) if path.endswith("/action") and isinstance(body, dict) and body else None
            openapi.check_response("compute", method, route, response.status_code, response.json(), version, action)
        if response.status_code >= 400:
            error = next(iter(response.json().values()))
            assert error["code"] == response.status_code
            assert error["message"]
        return response

    def get(self, path: str, token: str = DEMO, version: str = LATEST) -> httpx.Response:
        return self.call("GET", path, None, token, version)

    def post(self, path: str, body: Any, token: str = DEMO, version: str = LATEST) -> httpx.Response:
        return self.call("POST", path, body, token, version)

    def put(self, path: str, body: Any = None, token: str = DEMO, version: str = LATEST) -> httpx.Response:
        return self.call("PUT", path, body, token, version)

    def delete(self, path: str, token: str = DEMO, version: str = LATEST) -> httpx.Response:
        return self.call("DELETE", path, None, token, version)

    def neutron(self, path: str, body: Any, token: str = DEMO) -> dict[str, Any]:
        response = self.http.post(f"/network/v2.0/{path}", json=body, headers={"X-Auth-Token": token})
        assert response.status_code == 201, response.text
        return next(iter(response.json().values()))

    def network(self, name: str = "net", cidr: str | None = "10.0.0.0/24", token: str = DEMO) -> str:
        id = self.neutron("networks", {"network": {"name": name}}, token)["id"]
        if cidr:
            self.neutron("subnets", {"subnet": {"network_id": id, "cidr": cidr, "ip_version": 4}}, token)
        return str(id)

    def port(self, network: str, token: str = "demo") -> str:
        return str(self.neutron("ports", {"port": {"network_id": network}}, token)["id"])

    def add_host(self, name: str, vcpus: int = 8, memory_mb: int = 16384, disk_gb: int = 100) -> None:
        inventory = HostInventory(
            hostname=name, vcpus=vcpus, memory_mb=memory_mb, disk_gb=disk_gb, cpu_info={"arch": "x"}
        )
        self.database.write(lambda tx: hosts.report_inventory(tx, inventory))

    def add_image(self, **values: Any) -> str:
        row = {
            "id": new_id(), "name": "guest", "status": "active", "visibility": "public", "owner": ADMIN_PROJECT,
            "protected": False, "os_hidden": False, "container_format": "bare", "disk_format": "qcow2", "min_disk": 0,
            "min_ram": 0, "size": 1 << 20, "virtual_size": 1 << 20, "properties": {}, "tags": [],
            "created_at": now(), "updated_at": now(), **values,
        }  # fmt: skip
        self.database.write(lambda tx: tx.execute(IMAGES.insert().values(**row)))
        return str(row["id"])

    def body(self, **values: Any) -> dict[str, Any]:
        """A create's body; a value None leaves the key out."""
        server = {"name": "vm", "imageRef": self.image, "flavorRef": "1", "networks": "none", **values}
        return {"server": {key: value for key, value in server.items() if value is not None}}

    def create(self, token: str = DEMO, version: str = LATEST, **values: Any) -> httpx.Response:
        return self.post("/servers", self.body(**values), token, version)

    def made(self, token: str = DEMO, **values: Any) -> str:
        response = self.create(token, **values)
        assert response.status_code == 202, response.text
        return str(response.json()["server"]["id"])

    def play_create(self, id: str, token: str = DEMO) -> None:
        """What the create flow writes to the database."""

        def run(tx: Tx) -> None:
            row = states.get_row(tx, id)
            ports.allocate_ports(
                tx, server_id=id, project_id=row["project_id"], availability_zone="nova", hostname=row["hostname"],
                requested=row["requested_networks"], security_group_ids=row["security_group_ids"],
            )  # fmt: skip
            scheduler.select_destination(tx, id, set())
            states.set_active(tx, id)

        self.database.write(run)

    def active(self, token: str = DEMO, **values: Any) -> str:
        id = self.made(token, **values)
        self.play_create(id, token)
        return id


def messages(response: httpx.Response) -> str:
    return str(next(iter(response.json().values()))["message"])
