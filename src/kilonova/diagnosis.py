"""What `kilonova doctor` prints."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kilonova.host.probe import Check

MARKS = {True: Text("✓", "green"), False: Text("✗", "red")}
LESS = Text("!", "yellow")  # works without it, with less speed or a feature less


def diagnosis(checks: Iterable[Check]) -> RenderableType:
    """One line a check, its fix below it; then what it comes to."""
    checks = list(checks)
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(max_width=26)
    table.add_column(overflow="fold")
    for check in checks:
        detail = Text(check.detail)
        if not check.ok and check.fix:
            detail.append(f"\n→ {check.fix}", "bold")
        table.add_row(MARKS[check.ok] if check.ok or check.needed else LESS, check.name, detail)
    missing = [check.name for check in checks if check.needed and not check.ok]
    if missing:
        verdict = Text(
            f"Real guests cannot run here yet: {', '.join(missing)}. `--virt fake` needs none of this.", "red"
        )
    else:
        verdict = Text("This host can run real guests: `kilonova up`, or `kilonova demo`.", "green")
    return Group(table, Text(), verdict)
