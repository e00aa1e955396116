"""Two hosts that reach the control side over a wire and in no other way: what an agent adds is the wire alone."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from handcloud import DEMO, Shared
from image_stores import file_stores
from starlette.testclient import TestClient
from wire import wired

from kilonova.compute import seed
from kilonova.compute.routes import SERVICE as COMPUTE
from kilonova.console.door import ConsoleDoor
from kilonova.db.engine import Database
from kilonova.flow.log import Journal
from kilonova.flow.wake import Doorbell
from kilonova.flow.worker import ControlWorkers, HostSeam, LocalSeam
from kilonova.flows.actions import FlowActions
from kilonova.flows.asks import Asks
from kilonova.flows.controlside import LocalControlSide
from kilonova.flows.hostside import HostRunner, answer
from kilonova.flows.stories import FLOWS
from kilonova.flows.subject import SUBJECTS
from kilonova.host.contract import LOOK, QUESTIONS, Answer, Ask, ControlSide, Host
from kilonova.host.fake import FakeHost
from kilonova.host.fake_consoles import BANNER
from kilonova.image.imports import Imports
from kilonova.image.routes import SERVICE as IMAGE
from kilonova.model.errors import Unavailable
from kilonova.network.routes import SERVICE as NETWORK
from kilonova.web.router import Application


class Region:
    """The control side with its workers, and two fake hosts with theirs, each behind its own wire."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.asks, images = database, Asks(), file_stores(folder)
        journal = Journal(database, FLOWS, SUBJECTS, Doorbell(), "node")
        flows, imports = FlowActions(journal, self.asks, "bridge"), Imports(database, images)
        shared = Shared(flows, images, None, imports)  # type: ignore[arg-type]
        services = (COMPUTE, NETWORK, IMAGE)
        beside = {"console": ConsoleDoor(database, shared.flows, "http://testserver")}
        application = Application(
            services, database, lambda database, token: DEMO, shared, "http://testserver", beside=beside
        )
        self.http = TestClient(application)
        self.control = ControlWorkers(journal, self.asks.look)
        self.hosts = {name: FakeHost(name, folder / name, vcpus=1, memory_mb=1024, disk_gb=100) for name in ("a", "b")}
        self.runners = []
        for name, host in self.hosts.items():
            control: ControlSide = wired(ControlSide, LocalControlSide(database, journal, self.asks, images, name))
            work: HostSeam = wired(HostSeam, LocalSeam(journal, lambda: None))
            self.runners.append(HostRunner(host, work, control, folder / f"{name}-locks"))

    def api(self, method: str, path: str, body: Any = None) -> Any:
        answered = self.http.request(method, path, json=body)
        assert answered.status_code < 400, answered.text
        return answered.json() if answered.content else None

    def start(self) -> None:
        for part in (self.control, *self.runners):
            part.start(after_boot=True) if isinstance(part, HostRunner) else part.start()
        for runner in self.runners:
            assert runner.inventory.reported.wait(10)

    def stop(self) -> None:
        for part in (self.control, *self.runners):
            part.stop()


@pytest.fixture
def region(database: Database, tmp_path: Path) -> Iterator[Region]:
    made = Region(database, tmp_path)
    made.start()
    yield made
    made.stop()


def eventually(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_servers_on_two_hosts_that_only_the_seam_reaches(region: Region) -> None:
    flavor = region.database.write(seed.seed)["m1.nano"]
    image = region.api("POST", "/image/v2/images", {"disk_format": "raw", "container_format": "bare"})["id"]
    kind = {"Content-Type": "application/octet-stream"}
    region.http.put(f"/image/v2/images/{image}/file", content=b"\0" * 512, headers=kind).raise_for_status()
    network = region.api("POST", "/network/v2.0/networks", {"network": {}})["network"]["id"]
    region.api(
        "POST", "/network/v2.0/subnets", {"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.9.0.0/24"}}
    )
    wish = {"name": "s", "flavorRef": flavor, "imageRef": image, "networks": [{"uuid": network}], "min_count": 6}
    region.api("POST", "/compute/v2.1/servers", {"server": wish})

    def servers() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = region.api("GET", "/compute/v2.1/servers/detail")["servers"]
        return listed

    eventually(lambda: {server["status"] for server in servers()} == {"ACTIVE"})
    assert len(servers()) == 6
    assert sorted(server for host in region.hosts.values() for server in host.power_states()) == sorted(
        server["id"] for server in servers()
    )
    assert all(host.power_states() for host in region.hosts.values())
    for server in servers():
        path, ask = f"/compute/v2.1/servers/{server['id']}/action", {"os-getConsoleOutput": {"length": 1}}
        assert region.api("POST", path, ask) == {"output": "LAST LINE\n"}
        console = region.api("POST", path, {"os-getSerialConsole": {"type": "serial"}})["console"]["url"]
        with region.http.websocket_connect(console.removeprefix("http://testserver")) as socket:
            assert socket.receive_bytes() == BANNER
            socket.send_bytes(b"hello\r")
            assert socket.receive_bytes() == b"hello\r\n"
        region.api("DELETE", f"/compute/v2.1/servers/{server['id']}")
    eventually(lambda: servers() == [])
    assert not any(things for host in region.hosts.values() for things in host.leftovers().values())


def test_a_host_that_does_not_listen_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="Host a is not connected"):
        Asks().ask("a", "console_output", server_id="s", length=None)


def test_a_question_is_answered_by_its_host_alone() -> None:
    asks, answers = Asks(), []
    assert asks.next("a", 0) is None and asks.next("b", 0) is None
    thread = threading.Thread(target=lambda: answers.append(asks.ask("a", "console_output", server_id="s", length=1)))
    thread.start()
    asked = asks.next("a", 10)
    assert asked is not None and asked.arguments == {"server_id": "s", "length": 1}
    assert asks.next("b", 0) is None
    asks.answer(Answer("another", "wrong"))
    asks.answer(Answer(asked.id, "right"))
    thread.join()
    assert answers == ["right"]
    asks.answer(Answer(asked.id, "too late"))


def test_looks_become_one_until_the_host_looks() -> None:
    asks = Asks()
    assert asks.next("a", 0) is None
    asks.look()
    asks.look()
    assert asks.next("a", 10) == Ask("", LOOK)
    assert asks.next("a", 0) is None


def test_a_host_answers_questions_and_nothing_else(tmp_path: Path) -> None:
    host = FakeHost("a", tmp_path)
    assert all(hasattr(Host, question) for question in QUESTIONS)
    refused = answer(host, Ask("1", "purge", {}))
    assert refused.error == "purge is no question to a host" and tmp_path.exists()
