"""A whole cloud on the fake host, run by hand: one turn of its workers after another, so that each can be failed.

The host reaches the control side over a wire (wire.py) and in no other way, as a host with an agent will.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import Fernet, MultiFernet
from image_stores import file_stores
from kept import Kept
from starlette.testclient import TestClient
from wire import wired

from kilonova.compute import seed as compute_seed
from kilonova.compute.routes import SERVICE as COMPUTE
from kilonova.compute.tables import BLOCK_DEVICES, MIGRATIONS, SERVERS
from kilonova.db.engine import Database, Tx
from kilonova.flow.log import Journal
from kilonova.flow.step import CONTROL, RUNNING_STATES, Flow, HostWork, Outcome, Running
from kilonova.flow.tables import EVENTS, FLOWS
from kilonova.flow.wake import Doorbell
from kilonova.flow.worker import HostSeam, LocalSeam, control_turn, host_turn
from kilonova.flows.actions import FlowActions
from kilonova.flows.asks import Asks
from kilonova.flows.controlside import LocalControlSide
from kilonova.flows.hostside import run_verb
from kilonova.flows.storage_actions import StorageActions
from kilonova.flows.stories import FLOWS as SERVER_FLOWS
from kilonova.flows.subject import SUBJECTS
from kilonova.host.contract import ControlSide
from kilonova.host.fake import FakeHost
from kilonova.identity.limits import in_force
from kilonova.image.images import sweep
from kilonova.image.imports import Imports
from kilonova.image.quotas import Limits
from kilonova.image.routes import SERVICE as IMAGE
from kilonova.image.store import Stores
from kilonova.network.routes import SERVICE as NETWORK
from kilonova.network.tables import PORTS
from kilonova.placement.tables import ALLOCATIONS
from kilonova.volume.routes import SERVICE as VOLUME
from kilonova.volume.tables import BACKUPS, GROUPS, SNAPSHOTS, VOLUMES
from kilonova.web.call import Context
from kilonova.web.router import Application

DEMO = Context(user_id="u" * 32, user_name="demo", project_id="p" * 32, project_name="demo",
                    roles=frozenset({"member", "reader"}))  # fmt: skip
ADMIN = replace(DEMO, user_id="a" * 32, roles=frozenset({"admin", "member", "reader"}))  # in the same project


def authenticate(database: Database, token: str) -> Context:
    return ADMIN if token == "admin" else DEMO


class Crash(BaseException):
    """The process dies here."""


@dataclass(frozen=True)
class Shared:
    flows: FlowActions
    images: Stores
    fernet: MultiFernet
    imports: Imports
    storage: StorageActions | None = None
    limits: Limits = in_force


NOTES = ("free_port", "swapped", "came_with")


def furnished(cloud: "HandCloud") -> None:
    cloud.furnish()


class HandCloud:
    """The real services and flows over a fake host; nothing runs unless a test turns it."""

    def __init__(self, database: Database, folder: Path) -> None:
        """`folder`: an empty one; what is kept of the cloud lies in others beside it."""
        self.database, self.folder = database, folder
        self._kept: dict[Callable[..., Any], tuple[Any, Kept, dict[str, Any]]] = {}
        # (before | after, verb), or, with no transaction open, (reaching | unwinding, CONTROL step) → what happens then;
        # a HOST verb that is a do and a later undo of one flow is there "<verb> again".
        self.faults: dict[tuple[str, str], Callable[[], None]] = {}
        self.twice: set[str] = set()  # HOST steps to be run twice
        self.crashes = 0
        self.free_port = ""  # of the user's, on no server at first
        self.swapped = ""  # the volume whose place another takes
        self.came_with: dict[str, set[str]] = {}  # server → the volumes that were made with it
        self.claimed: dict[str, Any] = {}  # step → what a worker had in hand when it began it
        self.killed: dict[str, Any] = {}  # the same, of the workers that died there
        self.host = FakeHost("fake-1", folder / "fake", vcpus=8, memory_mb=8192, disk_gb=100)
        self.host.backends = ("file", "other")
        self.boot()

    def boot(self, stories: dict[str, Flow] = SERVER_FLOWS) -> None:
        """What a start of the process does: a new journal, the dead one's leases void."""
        flows = {name: self.faulty(flow) for name, flow in stories.items()}
        self.journal = Journal(self.database, flows, SUBJECTS, Doorbell(), "node")
        self.journal.void_leases()
        control_step = self.journal.control_step

        def watched(row: sa.RowMapping, host: str | None = None) -> sa.RowMapping | None:
            self.claimed[row["step"]] = row
            self.at("unwinding" if row["state"] == "unwinding" else "reaching", row["step"])
            return control_step(row, host)

        self.journal.control_step = watched  # type: ignore[method-assign]
        images, asks = file_stores(self.folder), Asks()
        sweep(self.database, images)
        local = LocalControlSide(self.database, self.journal, asks, images, self.host.name)
        self.control_side: ControlSide = wired(ControlSide, local)
        self.seam: HostSeam = wired(HostSeam, LocalSeam(self.journal, lambda: None))
        (self.folder / "locks").mkdir(exist_ok=True)
        fernet = MultiFernet([Fernet(Fernet.generate_key())])
        flows, storage = FlowActions(self.journal, asks, "bridge"), StorageActions(self.journal, asks)
        shared = Shared(flows, images, fernet, Imports(self.database, images), storage)
        services = (COMPUTE, NETWORK, IMAGE, VOLUME)
        application = Application(services, self.database, authenticate, shared, "http://testserver")
        self.http = TestClient(application)

    def furnish(self) -> None:
        """A flavor, an image, a network: what a create asks for."""
        flavors = self.database.write(compute_seed.seed)
        self.flavor, self.larger_flavor = flavors["m1.nano"], flavors["m1.small"]
        image = {"name": "i", "disk_format": "raw", "container_format": "bare"}
        self.image = self.api("POST", "/image/v2/images", image)["id"]
        content = {"Content-Type": "application/octet-stream"}
        self.http.put(f"/image/v2/images/{self.image}/file", content=b"\0" * 65536, headers=content).raise_for_status()
        self.network = self.api("POST", "/network/v2.0/networks", {"network": {"name": "n"}})["network"]["id"]
        subnet = {"network_id": self.network, "ip_version": 4, "cidr": "10.9.0.0/24"}
        self.api("POST", "/network/v2.0/subnets", {"subnet": subnet})
        self.furnish_storage()
        own = {"port": {"network_id": self.network, "name": "the user's own"}}
        self.port = self.api("POST", "/network/v2.0/ports", own)["port"]["id"]

    def furnish_storage(self) -> None:
        """Two backends with a volume type for each, and a type of groups."""
        self.control_side.report_inventory(self.host.inventory())
        headers = {"X-Auth-Token": "admin", "OpenStack-API-Version": "volume 3.71"}
        for name, backend in (("here", "file"), ("elsewhere", "other")):
            wish = {"volume_type": {"name": name, "extra_specs": {"volume_backend_name": backend}}}
            self.http.post("/volume/v3/types", json=wish, headers=headers).raise_for_status()
        made = self.http.post("/volume/v3/group_types", json={"group_type": {"name": "g"}}, headers=headers)
        self.group_type = made.json()["group_type"]["id"]

    def prepared(self, prepare: Callable[["HandCloud"], Any]) -> Any:
        """What `prepare` gives, done to a cloud that is furnished and no more; whatever was there before is gone.

        It is done once: from then on its end is kept. It must end at rest, and say all there is to say in its answer and
        in NOTES.
        """
        if prepare not in self._kept:
            if prepare is not furnished:
                self.prepared(furnished)
            answer = prepare(self)
            notes = {name: getattr(self, name) for name in NOTES}
            self._kept[prepare] = answer, Kept.of(self.database, self.folder, self._beside()), notes
        answer, kept, notes = self._kept[prepare]
        kept.put_back()
        vars(self).update({**notes, "faults": {}, "twice": set(), "claimed": {}, "killed": {}})
        self.boot()
        self.control_side.report_inventory(self.host.inventory())  # its sign of life may be old
        return answer

    def _beside(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-{len(self._kept)}")

    def close(self) -> None:
        """The cloud is no more, nor is what was kept of it."""
        self.database.close()
        for _, kept, _ in self._kept.values():
            kept.drop()
        shutil.rmtree(self.folder)

    def at(self, when: str, step: str) -> None:
        fault = self.faults.pop((when, step), None)
        if fault:
            fault()

    def die(self, step: str) -> None:
        self.killed[step] = self.claimed[step]
        raise Crash(step)

    def faulty(self, flow: Flow) -> Flow:
        """The flow, its CONTROL steps with a fault point on either side; HOST steps have theirs in `verb`."""

        def wrap(act: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(act)
            def wrapped(tx: Tx, running: Running) -> Any:
                self.at("before", act.__name__)
                result = act(tx, running)
                self.at("after", act.__name__)
                return result

            return wrapped

        steps = tuple(
            replace(step, do=wrap(step.do), undo=wrap(step.undo) if step.undo else None)
            if step.runs == CONTROL
            else step
            for step in flow.steps
        )
        return replace(flow, steps=steps)

    def verb(self, work: HostWork, cancelled: Callable[[], bool]) -> Outcome:
        self.claimed[work.verb] = work
        point = f"{work.verb} again" if work.verb in work.results else work.verb  # the undo of a later step
        self.at("before", point)
        if work.verb in self.twice:
            self.twice.remove(work.verb)
            run_verb(self.host, self.control_side, work, cancelled)
        outcome = run_verb(self.host, self.control_side, work, cancelled)
        self.at("after", point)
        return outcome

    def api(self, method: str, path: str, body: Any = None, version: str = "2.1", token: str = "demo") -> Any:
        headers = {"OpenStack-API-Version": f"compute {version}", "X-Auth-Token": token}
        answer = self.http.request(method, path, json=body, headers=headers)
        assert answer.status_code < 400, answer.text
        return answer.json() if answer.content else None

    def guest_writes(self, server_id: str, words: str) -> None:
        disk = {**json.loads((self.host.folder / "disks" / server_id).read_text()), "content": words}
        (self.host.folder / "disks" / server_id).write_text(json.dumps(disk))

    def disk(self, server_id: str, kind: str = "disks") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.host.folder / kind / server_id).read_text())
        return found

    def allocated(self) -> dict[str, dict[str, int]]:
        """Consumer → resource class → amount."""
        found: dict[str, dict[str, int]] = {}
        for row in self.database.read(lambda tx: tx.all(sa.select(ALLOCATIONS))):
            found.setdefault(row["consumer"], {})[row["resource_class"]] = row["used"]
        return found

    def migrations(self) -> list[tuple[str, str]]:
        """(server, status) of those of servers that live."""
        living = SERVERS.c.deleted_at.is_(None)
        query = sa.select(MIGRATIONS).join(SERVERS, SERVERS.c.id == MIGRATIONS.c.server_id).where(living)
        rows = self.database.read(lambda tx: tx.all(query.order_by(MIGRATIONS.c.number)))
        return [(row["server_id"], row["status"]) for row in rows]

    def images(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api("GET", "/image/v2/images")["images"]
        return found

    def drop_images(self) -> None:
        """Those that servers have given."""
        for image in self.images():
            if image["id"] != self.image:
                self.api("DELETE", f"/image/v2/images/{image['id']}")

    def create(self) -> str:
        """POST /servers as the demo user; the id of a server in BUILD. Its ports: one to be made, and one of the user's
        own; a volume that comes and goes with it."""
        self.control_side.report_inventory(self.host.inventory())  # its sign of life
        networks = [{"uuid": self.network}, {"port": self.port}]
        volume = {
            "source_type": "blank", "destination_type": "volume", "volume_size": 1, "volume_type": "here",
            "delete_on_termination": True,
        }  # fmt: skip
        body = {
            "name": "s", "flavorRef": self.flavor, "imageRef": self.image, "networks": networks,
            "block_device_mapping_v2": [volume],
        }  # fmt: skip
        server_id: str = self.api("POST", "/compute/v2.1/servers", {"server": body}, version="2.67")["server"]["id"]
        return server_id

    def volumes(self) -> dict[str, str]:
        """volume id → its status."""
        rows = self.database.read(lambda tx: tx.all(sa.select(VOLUMES)))
        return {row["id"]: row["status"] for row in rows}

    def volumes_of(self, server_id: str) -> dict[str, str]:
        """volume id → its status."""
        columns = (BLOCK_DEVICES.c.volume_id, VOLUMES.c.status)
        query = sa.select(*columns).join(VOLUMES, VOLUMES.c.id == BLOCK_DEVICES.c.volume_id)
        rows = self.database.read(lambda tx: tx.all(query.where(BLOCK_DEVICES.c.server_id == server_id)))
        return {row["volume_id"]: row["status"] for row in rows}

    def delete(self, server_id: str) -> None:
        self.api("DELETE", f"/compute/v2.1/servers/{server_id}")

    def port_loop(self) -> None:
        self.control_side.report_ports(self.host.apply_network(self.control_side.desired_network()))

    def turn(self) -> bool:
        worked = control_turn(self.journal)
        worked |= host_turn(self.seam, self.host.name, self.verb, self.folder / "locks", self.port_loop)
        return worked

    def hurry(self) -> bool:
        """Let the pauses of what waits or is owed pass at once."""
        waiting = FLOWS.c.state.in_(RUNNING_STATES) & (FLOWS.c.wake_at > 0)
        update = FLOWS.update().where(waiting).values(wake_at=0.0)
        return bool(self.database.write(lambda tx: tx.execute(update).rowcount))

    def run(self, most: int = 200) -> None:
        """Until nothing runs any more; a crash is followed by a restart."""
        for _ in range(most):
            try:
                if not self.turn() and not self.turn() and not self.hurry():
                    return
            except Crash:
                self.crashes += 1
                self.boot()
                self.port_loop()
        raise AssertionError(f"the flows do not come to an end: {self.events()}")

    def host_goes_down(self) -> None:
        """Guests and taps are gone; disks stay."""
        for kind in ("domains", "taps", "bridges"):
            shutil.rmtree(self.host.folder / kind)
            (self.host.folder / kind).mkdir()

    def server(self, server_id: str) -> sa.RowMapping:
        row = self.database.read(lambda tx: tx.first(sa.select(SERVERS).where(SERVERS.c.id == server_id)))
        assert row is not None
        return row

    def unfinished(self) -> bool:
        running = sa.select(FLOWS.c.id).where(FLOWS.c.state.in_(RUNNING_STATES))
        return self.database.read(lambda tx: tx.scalar(running)) is not None

    def events(self) -> list[tuple[str, str | None]]:
        rows = self.database.read(lambda tx: tx.all(sa.select(EVENTS).order_by(EVENTS.c.id)))
        return [(row["step"], row["result"]) for row in rows]

    def left(self) -> dict[str, Any]:
        """What a clean slate has none of."""
        bound = PORTS.c.device_owner.like("compute:%") | (PORTS.c.host != "")
        bound &= PORTS.c.device_owner != "network:dhcp"  # it is the network's
        ports = self.database.read(lambda tx: tx.all(sa.select(PORTS).where(bound)))
        allocations = self.database.read(lambda tx: tx.all(sa.select(ALLOCATIONS)))
        things = {"ports": [port["id"] for port in ports], "allocations": [dict(row) for row in allocations]}
        half = [image for image in self.images() if image["status"] != "active" or image["name"] == "s-shelved"]
        things["images"] = [image["id"] for image in half]
        for table in (VOLUMES, SNAPSHOTS, BACKUPS, GROUPS):
            things[f"rows of {table.name}"] = list(
                self.database.read(lambda tx, table=table: tx.execute(sa.select(table.c.id)).scalars())  # type: ignore[misc]
            )
        things["locks"] = [path.name for path in (self.folder / "locks").iterdir()]
        return {kind: found for kind, found in {**things, **self.host.leftovers()}.items() if found}
