"""What a fake host holds: one small JSON file a thing, in a folder of its kind. Each change is one file made, replaced or
removed, so a crash leaves a state that a real host could be in."""

import json
import os
from pathlib import Path
from typing import Any

from kilonova.host.calls import outside


class Things:
    """`folder` has a folder for each kind."""

    folder: Path

    def _put(self, kind: str, name: str, value: dict[str, Any]) -> None:
        with outside(f"fake put {kind}"):
            fresh = self.folder / kind / f".{name}.{os.getpid()}"
            fresh.write_text(json.dumps(value))
            fresh.replace(self.folder / kind / name)

    def _drop(self, kind: str, name: str) -> None:
        with outside(f"fake drop {kind}"):
            (self.folder / kind / name).unlink(missing_ok=True)

    def _get(self, kind: str, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.folder / kind / name).read_text())
        except FileNotFoundError:
            return None
        return found

    def _names(self, kind: str) -> list[str]:
        return [name for name in os.listdir(self.folder / kind) if not name.startswith(".")]
