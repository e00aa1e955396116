"""What the volume API needs of the flow engine, of hosts, and of the services that it does not know."""

from collections.abc import Mapping
from typing import Any, Protocol

from kilonova.db.engine import Tx
from kilonova.web.call import Context


class Flows(Protocol):
    """The API's hands."""

    def begin(self, tx: Tx, kind: str, subject_id: str, context: Context, data: dict[str, Any]) -> None:
        """Begin a flow in this transaction. Conflict when the subject has a running one."""

    def start(self, tx: Tx, kind: str, subject_id: str, context: Context, data: dict[str, Any]) -> None:
        """Begin a flow; one that runs is turned into it."""

    def find_images(self, tx: Tx, context: Context, id: str, name: str) -> list[Mapping[str, Any]]:
        """The image of that id if the caller may see it, else those of that name: Glance's rows."""

    def reserve_image(self, tx: Tx, context: Context, values: dict[str, Any], properties: dict[str, str]) -> str:
        """A queued image that a volume will fill; its id."""

    def server_with(self, tx: Tx, attachment_ids: list[str]) -> str | None:
        """A server that has its volume by one of these attachments: it must be asked to let go."""

    def project_exists(self, tx: Tx, project_id: str) -> bool: ...

    def connect_volume(self, host: str, name: str, backend: str) -> dict[str, Any]:
        """Cinder's connection_info of a volume on that host. Does I/O: never inside a transaction."""

    def stored_volumes(self, host: str, backend: str) -> dict[str, int]:
        """Name → bytes of all that is in a backend. Does I/O."""

    def has_snapshot(self, host: str, name: str, backend: str) -> bool:
        """Does I/O."""
