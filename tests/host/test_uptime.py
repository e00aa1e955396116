"""A host's uptime in the words of uptime(1)."""

from pathlib import Path

import pytest

from kilonova.host.uptime import uptime


@pytest.mark.parametrize(("seconds", "since"), [
    (59, "0 min"), (5040, " 1:24"), (86400, "1 day, 0 min"), (3 * 86400 + 37000, "3 days, 10:16"),
])  # fmt: skip
def test_words(tmp_path: Path, seconds: int, since: str) -> None:
    (tmp_path / "uptime").write_text(f"{seconds}.25 1.00\n")
    (tmp_path / "loadavg").write_text("0.32 0.85 0.73 1/100 4242\n")
    assert uptime(tmp_path).split("up ", 1)[1] == f"{since},  0 users,  load average: 0.32, 0.85, 0.73"


def test_this_machine() -> None:
    assert "load average" in uptime()
