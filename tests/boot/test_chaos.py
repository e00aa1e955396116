"""SIGKILL, for real, at the steps of a create and a delete on a real host: a restart ends well, and nothing is left over.

The points are read from a first, undisturbed run: each step's beginning, each side of each of its outside calls, its end.
By default the middle and the end of each HOST step; `make chaos` takes all, those of the CONTROL steps too.
"""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import libvirt
import pytest
from clouds import RunningCloud, wait_for

from kilonova.client import Client, ClientError
from kilonova.flow.step import HOST
from kilonova.flows.create_server import CREATE_SERVER, DELETE_SERVER
from kilonova.host.dataplane import load

ALL = bool(os.environ.get("KILONOVA_CHAOS"))
pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.getuid() != 0, reason="a real host needs root")]


@dataclass
class Chaos:
    cloud: RunningCloud
    client: Client = field(init=False)
    images: int = 0
    missed: list[str] = field(
        default_factory=list
    )  # points that a life did not come to: some calls are made only if needed

    @property
    def order(self) -> Path:
        return Path(self.cloud.env["KILONOVA_DIE_AT"])

    def up(self) -> None:
        self.cloud.up()
        self.client = Client(self.cloud.json, "demo")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        database = sqlite3.connect(f"file:{self.cloud.state / 'kilonova.db'}?mode=ro", uri=True)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()

    def create(self) -> str:
        """A server from an image that its host has not seen, so that every part of prepare_disks runs."""
        self.images += 1
        words = {"name": f"i{self.images}", "disk_format": "raw", "container_format": "bare"}
        image = self.client.post("/image/v2/images", words)["id"]
        content, kind = self.images.to_bytes(4, "big") * 4096, {"Content-Type": "application/octet-stream"}
        self.client._send("PUT", f"/image/v2/images/{image}/file", content=content, headers=kind)
        networks = [{"uuid": self.cloud.json["networks"]["demo"]}]
        server = {
            "name": f"s{self.images}",
            "flavorRef": "1",
            "imageRef": image,
            "networks": networks,
            "config_drive": True,
        }
        with suppress(ClientError):  # it may die before it has answered
            self.client.post("/compute/v2.1/servers", {"server": server})
        return server["name"]

    def status(self, name: str) -> str:
        listed = self.client.get("/compute/v2.1/servers/detail", name=f"^{name}$")["servers"]
        return str(listed[0]["status"]) if listed else "DELETED"

    def ends(self, name: str, want: str) -> None:
        found = wait_for(lambda: (status := self.status(name)) in (want, "ERROR") and status)
        assert found == want, (self.cloud.state / "log").read_text()[-3000:]

    def die_at(self, point: str) -> None:
        if point:
            self.order.write_text(point)

    def died(self, point: str, server: str, want: str) -> None:
        """The process came to this point, died, and is up again; or the server came to its end without it."""
        process = self.cloud.process
        assert process is not None
        if point:
            wait_for(lambda: process.poll() is not None or self.has_come_to(server, want))
            if process.poll() is None and self.order.exists():
                self.order.unlink()
                self.missed.append(point)
                return
            assert process.wait(10) == -signal.SIGKILL, point
            self.up()

    def has_come_to(self, server: str, want: str) -> bool:
        try:
            return self.status(server) == want
        except ClientError:  # it has just died
            return False

    def live(self, at_create: str = "", at_delete: str = "") -> None:
        """One server's life, with a death at each of the two points; empty: none."""
        self.die_at(at_create)
        name = self.create()
        self.died(at_create, name, "ACTIVE")
        self.ends(name, "ACTIVE")
        server_id = self.client.get("/compute/v2.1/servers", name=f"^{name}$")["servers"][0]["id"]
        self.die_at(at_delete)
        with suppress(ClientError):  # the same
            self.client._send("DELETE", f"/compute/v2.1/servers/{server_id}")
        self.died(at_delete, name, "DELETED")
        self.ends(name, "DELETED")
        try:
            wait_for(lambda: not self.left(), 20)
        except AssertionError:
            pytest.fail(f"killed at {at_create!r} and at {at_delete!r}, it left {self.left()}")

    def left(self) -> dict[str, Any]:
        """All that a server may leave: taps, rules, domains, QEMUs, files, rows. Bridge and DHCP are its network's."""
        plane = load(self.cloud.state)
        assert plane is not None
        in_netns = ["nsenter", f"--net=/run/netns/{plane.netns}"]
        links = output(*in_netns, "ip", "-o", "link").split()
        of_dhcp = {f"tap{id[:11]}" for (id,) in self.rows("SELECT id FROM ports WHERE device_owner = 'network:dhcp'")}
        taps = {word.partition("@")[0].rstrip(":") for word in links if word.startswith("tap")}
        instances = self.cloud.state / "instances"
        conn = libvirt.open(plane.libvirt_uri)
        found: dict[str, Any] = {
            "taps": sorted(taps - of_dhcp),
            "rules": [
                line for line in output(*in_netns, "nft", "list", "ruleset").splitlines()
                if "tap" in line and not any(tap in line for tap in of_dhcp)
            ],
            "domains": [domain.name() for domain in conn.listAllDomains()],
            "guests": plane.status().guests,
            "folders": [path.name for path in instances.iterdir() if path.name != "_base"],
            "locks": [path.name for path in (self.cloud.state / "locks").iterdir()],
            "half files": [path.name for path in instances.rglob("*.new")],
            "ports": self.rows("SELECT id FROM ports WHERE device_owner LIKE 'compute:%'"),
            "allocations": self.rows("SELECT * FROM allocations"),
            "flows": self.rows("SELECT kind, step FROM flows WHERE state IN ('running', 'unwinding')"),
        }
        conn.close()
        return {name: what for name, what in found.items() if what}

    def points(self, kind: str) -> list[str]:
        """Of the flow of that kind that ran last, undisturbed."""
        query = f"""SELECT step, json_array_length(details, '$.calls') FROM flow_events WHERE flow_id =
                    (SELECT id FROM flows WHERE kind = '{kind}' ORDER BY created_at DESC LIMIT 1) ORDER BY id"""
        flow = CREATE_SERVER if kind == "create" else DELETE_SERVER
        runs, points = {step.name: step.runs for step in flow.steps}, []
        steps = self.rows(query)
        assert [step for step, _ in steps] == list(runs)
        for step, calls in steps:
            edges = 2 * (calls or 0)
            if ALL:
                points += [f"{step} {edge}" for edge in (*range(edges + 1), "end")]
            elif runs[step] == HOST:
                points += [f"{step} {edges // 2}", f"{step} end"] if edges else [f"{step} end"]
        return points


def output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.fixture(params=["bridge", "tap"] if ALL else ["bridge"])
def chaos(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chaos]:
    cloud = RunningCloud(tmp_path / "cloud", "auto", "--vif-type", request.param)
    cloud.env["KILONOVA_DIE_AT"] = str(tmp_path / "die-at")
    made = Chaos(cloud)
    made.up()
    yield made
    cloud.purge()


@pytest.mark.timeout(3600 if ALL else 300)
def test_killed_at_any_point_of_a_create_and_a_delete(chaos: Chaos) -> None:
    chaos.live()
    points = [chaos.points(kind) for kind in ("create", "delete")]
    print(f"{sum(map(len, points))} points: {points}")
    assert min(map(len, points)) >= 6
    for at_create, at_delete in zip_longest(*points, fillvalue=""):
        chaos.live(at_create, at_delete)
    print(f"not come to: {chaos.missed}")
    assert len(chaos.missed) <= 3
