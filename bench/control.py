"""The control: what libvirt alone takes for the same guests, in the same namespace, over disks that are there already."""

import json
import shutil
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import libvirt
from cloud import Cloud


@dataclass(frozen=True)
class Guests:
    """The guest XML of servers of ours, and copies of their files."""

    cloud: Cloud
    xml: dict[str, str]  # server id → XML
    kept: Path

    @classmethod
    def keep(cls, cloud: Cloud, name: str, folder: Path) -> "Guests":
        """While the servers called `name` live: their journal has the XML that libvirt was given."""
        kept = folder / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        found = {}
        with sqlite3.connect(f"file:{cloud.state / 'kilonova.db'}?mode=ro", uri=True) as database:
            for server_id in cloud.ids(name):
                query = (
                    "SELECT flow_events.details FROM flow_events JOIN flows ON flows.id = flow_id"
                    " WHERE flow_events.step = 'get_guest_xml' AND subject_id = ? ORDER BY flow_events.id DESC"
                )
                row = database.execute(query, (server_id,)).fetchone()
                found[server_id] = json.loads(row[0])["returned"]["xml"]
                source = cloud.state / "instances" / server_id
                subprocess.run(["cp", "-a", "--sparse=always", source, f"{kept}-{server_id}"], check=True)
        return cls(cloud, found, kept)

    def run(self) -> tuple[float, float]:
        """Once the servers are deleted: seconds to define, start paused and resume all at once; to destroy and undefine."""
        instances = self.cloud.state / "instances"
        for server_id in self.xml:
            shutil.move(f"{self.kept}-{server_id}", instances / server_id)
        socket = f"/run/kilonova/{self.cloud.json['id'][:8]}/libvirt/libvirt-sock"
        connection = libvirt.open(f"qemu+unix:///system?socket={socket}")
        try:
            with ThreadPoolExecutor(max_workers=len(self.xml)) as threads:
                start = time.perf_counter()
                domains = list(threads.map(lambda xml: _made(connection, xml), self.xml.values()))
                made = time.perf_counter() - start
                start = time.perf_counter()
                list(threads.map(_gone, domains))
                return made, time.perf_counter() - start
        finally:
            connection.close()
            for server_id in self.xml:
                shutil.rmtree(instances / server_id)


def _made(connection: libvirt.virConnect, xml: str) -> libvirt.virDomain:
    domain = connection.defineXML(xml)
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    domain.resume()
    return domain


def _gone(domain: libvirt.virDomain) -> None:
    domain.destroy()
    domain.undefine()
