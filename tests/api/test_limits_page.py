"""docs/limits.md tells the numbers that hold."""

import importlib
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "limits.md"


def test_the_page_of_limits_tells_those_that_hold() -> None:
    rows = re.findall(r"^\| .* \| (\d+) \| .* \| `([\w.]+)\.(\w+)` \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) > 25
    told = {f"{module}.{name}": int(number) for number, module, name in rows}
    held = {f"{module}.{name}": getattr(importlib.import_module(f"kilonova.{module}"), name) for _, module, name in rows}
    assert told == held
