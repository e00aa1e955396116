"""docs/api.md against the descriptions and the route tables: behind them for a while, perhaps, but never ahead."""

import re
import warnings

import openapi
import operations as ops
import pytest

ROW = re.compile(r"^\| `(.*)` \| (yes|no) \| (.*) \|$")
needs_descriptions = pytest.mark.skipif(
    not openapi.available(), reason=f"OpenStack's descriptions are not in {openapi.HOME} (KILONOVA_OPENAPI names the folder)"
)  # fmt: skip


def page() -> dict[str, list[tuple[str, bool, str]]]:
    """Heading → its table's rows: name, offered, why."""
    found: dict[str, list[tuple[str, bool, str]]] = {}
    for line in ops.PAGE.read_text().partition(ops.MARK)[2].splitlines():
        if line.startswith("### "):
            rows = found[line.removeprefix("### ")] = []
        elif fits := ROW.match(line):
            rows.append((fits[1], fits[2] == "yes", fits[3]))
    return found


@needs_descriptions
def test_what_is_not_offered_says_why() -> None:
    lines = [line for about in ops.DESCRIPTIONS for line in ops.table(about)] + ops.table_of_actions()
    silent = [str(line.operation) for line in lines if not line.offered and not line.reason]
    assert not silent, f"neither a route nor a reason in {ops.REASONS.name}: {silent}"


@needs_descriptions
def test_what_has_a_route_is_shown_by_a_test() -> None:
    lines = [line for about in ops.DESCRIPTIONS for line in ops.table(about)] + ops.table_of_actions()
    unseen = [str(line.operation) for line in lines if ops.has_route(line.operation) and not line.test]
    assert not unseen, f"no test had a good answer of {unseen}: write one, then `make api-shown TESTS=tests/api/test_….py`"


@needs_descriptions
def test_each_reason_is_of_an_operation() -> None:
    for about, patterns in ops.reasons().items():
        every = ops.operations(about) + (ops.server_actions() if about == "compute" else [])
        idle = [pattern for pattern in patterns if not any(ops.fits(each, pattern) for each in every)]
        assert not idle, f"{about}: {ops.REASONS.name} speaks of what no description has: {idle}"


@needs_descriptions
def test_the_page_has_every_operation_and_claims_none_that_is_not_there() -> None:
    told = page()
    for heading, lines in [
        *((about, ops.table(about)) for about in ops.DESCRIPTIONS), ("Actions of servers", ops.table_of_actions())
    ]:  # fmt: skip
        names = [line.operation.action or str(line.operation) for line in lines]
        assert [name for name, _, _ in told[heading]] == names, f"run `{ops.COMMAND}`"
        there = {name for name, line in zip(names, lines, strict=True) if line.offered}
        claimed = {name for name, yes, _ in told[heading] if yes} - there
        assert not claimed, f"docs/api.md says that these are offered: {sorted(claimed)}; run `{ops.COMMAND}`"
    if ops.PAGE.read_text() != ops.written():
        warnings.warn(f"docs/api.md is behind the route tables: run `{ops.COMMAND}`", stacklevel=1)


def test_the_tests_that_the_page_names_are_there() -> None:
    named = set(ops.shown().values())
    assert named
    for test in sorted(named):
        path, _, name = test.partition("::")
        file = ops.DOCS.parent / path
        there = file.exists() and f"def {name}(" in file.read_text()
        assert there, f"{test} is no more: rename it in {ops.SHOWN.name}, or run `make api-shown` and `{ops.COMMAND}`"
