"""The metadata of volumes and of snapshots over HTTP: the same six operations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from kilonova.model.errors import BadRequest, NotFound
from kilonova.volume import snapshots, states, volumes
from kilonova.volume.requests import check_metadata, invalid
from kilonova.web.call import Call


@dataclass(frozen=True)
class Metadata:
    """`kind`: volume or snapshot; `find(tx, context, id)`: its row; `check`: refuses a change of it as it is now."""

    kind: str
    find: Callable[..., sa.RowMapping]
    check: Callable[[sa.RowMapping], None] = lambda row: None

    def all(self, call: Call) -> dict[str, Any]:
        return {"metadata": self._row(call)["metadata"]}

    def add(self, call: Call) -> dict[str, Any]:
        return {"metadata": self._keep(call, {**self._row(call)["metadata"], **call.body["metadata"]})}

    def replace(self, call: Call) -> dict[str, Any]:
        return {"metadata": self._keep(call, dict(call.body["metadata"]))}

    def show(self, call: Call) -> dict[str, Any]:
        return {"meta": {call.params["id"]: self._known(call)[call.params["id"]]}}

    def set(self, call: Call) -> dict[str, Any]:
        meta = call.body["meta"]
        if call.params["id"] not in meta:
            raise BadRequest("Request body and URI mismatch.")
        self._keep(call, {**self._row(call)["metadata"], **meta})
        return {"meta": meta}

    def delete(self, call: Call) -> None:
        self._keep(call, {key: value for key, value in self._known(call).items() if key != call.params["id"]})

    def _row(self, call: Call) -> sa.RowMapping:
        return self.find(call.tx, call.context, call.params[f"{self.kind}_id"])

    def _known(self, call: Call) -> dict[str, str]:
        """NotFound when the key in the address is not among it."""
        row = self._row(call)
        if call.params["id"] not in row["metadata"]:
            raise NotFound(f"{self.kind.capitalize()} {row['id']} has no metadata with key {call.params['id']}.")
        found: dict[str, str] = row["metadata"]
        return found

    def _keep(self, call: Call, metadata: dict[str, str]) -> dict[str, str]:
        row = self._row(call)
        self.check(row)
        check_metadata(metadata, row["metadata"])
        states.update(call.tx, self.kind, row["id"], metadata=metadata)
        return metadata


def _check_volume(volume: sa.RowMapping) -> None:
    if volume["status"] in ("maintenance", "uploading"):
        raise invalid("volume", f"Updating volume metadata is not allowed for volumes in {volume['status']} status.")


OF_VOLUME, OF_SNAPSHOT = Metadata("volume", volumes.get, _check_volume), Metadata("snapshot", snapshots.get)
