"""What became of each test, and which of those that did not pass have a reason that we know."""

import tomllib
from collections import Counter, defaultdict
from pathlib import Path

PASSED, FAILED, SKIPPED, MISSING = "ok", "FAILED", "SKIPPED", "MISSING"
# test → (one of the above; the last error of its traceback, or why it was skipped)
Outcomes = dict[str, tuple[str, str]]


def known_reasons(suite: str) -> dict[str, str]:
    """Part of a test's id → why it cannot pass."""
    with (Path(__file__).parent / "known.toml").open("rb") as file:
        return dict(tomllib.load(file)["sdk" if suite.startswith("sdk-") else "tempest"])


def report(suite: str, found: Outcomes, target: Path) -> int:
    """Print counts, and what did not pass by its reason; one line a test into `target`. The number without a known reason."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    named: dict[str, list[str]] = defaultdict(list)
    unnamed = []
    known = known_reasons(suite)
    for test, (outcome, reason) in found.items():
        counts[test.rsplit(".", 2)[0].partition(".")[2].removeprefix("tests.functional.")][outcome] += 1
        line = f"{outcome:8}{test}  {reason}".rstrip()
        if outcome == PASSED:
            continue
        part = next((part for part in known if part in test), None)
        if part is None:
            unnamed.append(line)
        else:
            named[part].append(line)
    target.write_text("".join(f"{outcome:8}{test}  {why}".rstrip() + "\n" for test, (outcome, why) in found.items()))
    for group, of_it in sorted(counts.items()):
        print(f"  {group:48}" + "  ".join(f"{count} {outcome}" for outcome, count in sorted(of_it.items())))
    for part, lines in named.items():
        print(f"{part} ({len(lines)}): {known[part]}", *lines, sep="\n  ")
    if unnamed:
        print("no reason is known for:", *unnamed, sep="\n  ")
    if passing := [part for part in known if part not in named and any(part in test for test in found)]:
        print("passed, though known.toml says why not:", *passing, sep="\n  ")
    total = Counter(outcome for outcome, _ in found.values())
    of_all = (PASSED, FAILED, SKIPPED, MISSING)
    print(f"{suite}: " + ", ".join(f"{total[outcome]} {outcome}" for outcome in of_all if total[outcome]))
    return len(unnamed)
