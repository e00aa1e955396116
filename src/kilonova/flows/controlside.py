"""The control side, as one host sees it (`host/contract.py`'s ControlSide), beside the database.

An agent on another host will find the same methods behind HTTPS.
"""

from dataclasses import dataclass
from pathlib import Path

from kilonova.compute import hosts, servers, spec
from kilonova.db.engine import Database, Tx
from kilonova.flow.log import Journal
from kilonova.flows.asks import Asks
from kilonova.flows.power_server import resume_on_boot
from kilonova.flows.sync_power import sync_power_states
from kilonova.host.contract import Answer, Ask
from kilonova.host.storage.file import copy_at_rest
from kilonova.image import delivery
from kilonova.image.store import Stores
from kilonova.model.errors import APIError, HostError, NotFound
from kilonova.model.specs import HostInventory, HostNetwork, ServerSpec
from kilonova.network import agents, associations, ports
from kilonova.network.desired import Desired
from kilonova.volume import services


@dataclass
class LocalControlSide:
    """For the host named `host`."""

    database: Database
    journal: Journal
    asks: Asks
    images: Stores
    host: str

    def __post_init__(self) -> None:
        self._desired = Desired(self.host)

    def desired_network(self) -> HostNetwork:
        return self.database.read(self._desired.read)

    def report_ports(self, statuses: dict[str, str]) -> None:
        news = self._desired.news(statuses)

        def write(tx: Tx) -> None:
            for port_id in ports.set_statuses(tx, news):
                self.journal.wake(tx, f"port:{port_id}")
            associations.set_statuses(tx, news)

        if news:
            self.database.write(write)

    def report_inventory(self, inventory: HostInventory) -> None:
        def write(tx: Tx) -> None:
            hosts.report_inventory(tx, inventory)
            agents.report(tx, self.host, inventory.bridge_mappings, inventory.overlay_ip)
            services.report_inventory(tx, inventory)

        self.database.write(write)

    def report_power_states(self, power_states: dict[str, int], age: float) -> bool:
        return self.database.write(lambda tx: sync_power_states(tx, self.journal, self.host, power_states, age))

    def report_boot(self, power_states: dict[str, int]) -> None:
        self.database.write(lambda tx: resume_on_boot(tx, self.journal, self.host, power_states) and None)

    def server(self, server_id: str) -> ServerSpec | None:
        try:
            return self.database.read(lambda tx: spec.server_spec(tx, server_id))
        except NotFound:
            return None

    def set_guest_password(self, server_id: str, password: str) -> bool:
        return self.database.write(lambda tx: servers.set_guest_password(tx, server_id, password))

    def fetch_image(self, image_id: str, target: Path) -> None:
        try:
            here = delivery.fetch(self.database, self.images, image_id, target)
            if here is not None:
                copy_at_rest(here, target)
        except (HostError, APIError) as error:
            raise HostError(f"The data of image {image_id} cannot be read.") from error

    def store_image(self, image_id: str, source: Path, disk_format: str) -> None:
        delivery.accept(self.database, self.images, image_id, source, disk_format)

    def drop_image(self, image_id: str) -> None:
        delivery.withdraw(self.database, self.images, image_id)

    def rotate_backups(self, image_id: str, keep: int) -> None:
        delivery.rotate(self.database, self.images, image_id, keep)

    def next_ask(self, timeout: float) -> Ask | None:
        return self.asks.next(self.host, timeout)

    def answer(self, answer: Answer) -> None:
        self.asks.answer(answer)
