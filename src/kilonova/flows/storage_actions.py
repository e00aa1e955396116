"""The volume API's hands: starts flows, asks hosts, and looks for it into the services that it does not know."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from kilonova.compute.tables import BLOCK_DEVICES
from kilonova.db.engine import Tx
from kilonova.flow.log import Journal
from kilonova.flows.asks import Asks
from kilonova.identity import limits
from kilonova.identity.tables import PROJECTS
from kilonova.image import delivery, images, quotas
from kilonova.image.tables import IMAGES
from kilonova.web.call import Context
from kilonova.web.validate import is_uuid

# What a delete breaks off: it undoes what they did. It waits, by a 409, for the end of any other.
BROKEN_OFF = {"create_volume", "create_snapshot", "create_backup"}


class StorageActions:
    """`volume/flows.py`: Flows."""

    def __init__(self, journal: Journal, asks: Asks) -> None:
        self.journal, self.asks = journal, asks

    def begin(self, tx: Tx, kind: str, subject_id: str, context: Context, data: dict[str, Any]) -> None:
        self.journal.start(tx, kind, subject_id, _who(context), data)

    def start(self, tx: Tx, kind: str, subject_id: str, context: Context, data: dict[str, Any]) -> None:
        running = self.journal.running(tx, subject_id)
        if running is None or running["kind"] in (*BROKEN_OFF, kind):
            self.journal.start_or_turn(tx, kind, subject_id, _who(context), data)
        else:
            self.journal.start(tx, kind, subject_id, _who(context), data)

    def find_images(self, tx: Tx, context: Context, id: str, name: str) -> list[Mapping[str, Any]]:
        seen = images.visible(context)
        if is_uuid(id):
            found = tx.all(sa.select(IMAGES).where(IMAGES.c.id == id, seen))
            if found:
                return [{**row} for row in found]
        return [{**row} for row in tx.all(sa.select(IMAGES).where(IMAGES.c.name == name, seen))]

    def reserve_image(self, tx: Tx, context: Context, values: dict[str, Any], properties: dict[str, str]) -> str:
        quotas.enforce(tx, limits.in_force, context.project_id, image_count_total=1)
        return delivery.reserve(tx, context, values, properties)

    def server_with(self, tx: Tx, attachment_ids: list[str]) -> str | None:
        query = sa.select(BLOCK_DEVICES.c.server_id).where(BLOCK_DEVICES.c.attachment_id.in_(attachment_ids)).limit(1)
        server_id: str | None = tx.scalar(query)
        return server_id

    def project_exists(self, tx: Tx, project_id: str) -> bool:
        return tx.scalar(sa.select(PROJECTS.c.id).where(PROJECTS.c.id == project_id)) is not None

    def connect_volume(self, host: str, name: str, backend: str) -> dict[str, Any]:
        found: dict[str, Any] = self.asks.ask(host, "connect_volume", name=name, backend=backend)
        return found

    def stored_volumes(self, host: str, backend: str) -> dict[str, int]:
        found: dict[str, int] = self.asks.ask(host, "stored_volumes", backend=backend)
        return found

    def has_snapshot(self, host: str, name: str, backend: str) -> bool:
        return bool(self.asks.ask(host, "has_snapshot", name=name, backend=backend))


def _who(context: Context) -> dict[str, str]:
    return {"project_id": context.project_id, "user_id": context.user_id, "request_id": context.request_id}
