"""openstacksdk's own functional tests of one service. `run` starts this very file with the Python that has the SDK.

They are written for devstack: a clouds.yaml with a demo user, a second one in a project of its own, an admin and a system
admin, each under devstack's name. What is skipped because the demo user sees nothing of it (Neutron's agents) is tried
once more with the admin in that user's place. With nothing to talk to, each test of theirs "passes": so lines are counted.
"""

import json
import os
import subprocess
import sys
import unittest
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from cloud import SUITES
from outcomes import FAILED, PASSED, SKIPPED, Outcomes

TIMEOUT = "60"  # seconds for a test, and for each wait within one: as in the SDK's own functional jobs
OTHER_PROJECT = "alt_demo"  # devstack's name of the second user and project


def run(service: str, state: Path, work: Path) -> Outcomes:
    """The outcome of each functional test of `service` (a folder of openstack/tests/functional)."""
    entries = json.loads((state / "clouds.yaml").read_text())["clouds"]
    user, admin = entries["kilonova"], entries["kilonova-admin"]
    login = {"username": OTHER_PROJECT, "project_name": OTHER_PROJECT}
    unscoped = {name: value for name, value in admin["auth"].items() if not name.startswith("project")}
    clouds = {
        "devstack": user,
        "devstack-alt": {**user, "auth": {**user["auth"], **login}},
        "devstack-admin": admin,
        "devstack-system-admin": {**admin, "auth": {**unscoped, "system_scope": "all"}},
    }
    (work / "clouds.yaml").write_text(json.dumps({"clouds": clouds}))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
        "OS_CLIENT_CONFIG_FILE": str(work / "clouds.yaml"),
        "OS_TEST_TIMEOUT": TIMEOUT,
        "OPENSTACKSDK_FUNC_TEST_TIMEOUT": TIMEOUT,
        "OPENSTACKSDK_FLAVOR": "m1.nano",
        "OPENSTACKSDK_IMAGE": "kilonova-guest",
        "OS_LOG_CAPTURE": "1",
    }
    results = work / "results.jsonl"
    (work / "CONTRIBUTING.rst").write_text("the SDK's tests upload this file of its source tree, where they are run\n")
    with (work / "run.txt").open("w") as out:
        command = [SUITES / "python", Path(__file__).resolve(), service, user["auth"]["password"], results]
        subprocess.run(command, cwd=work, env=env, stdout=out, stderr=out, check=True)
    return {test: (outcome, reason) for test, outcome, reason in map(json.loads, results.open())}


class Recorded(unittest.TextTestResult):
    """Writes one JSON line a test: its id, what became of it, and the reason."""

    results: Path

    def record(self, test: unittest.TestCase, outcome: str, reason: str = "") -> None:
        with self.results.open("a") as file:
            file.write(json.dumps([test.id(), outcome, reason]) + "\n")

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.record(test, PASSED)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self.record(test, SKIPPED, reason)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self.record(test, FAILED, last_line(err))

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self.record(test, FAILED, last_line(err))


def last_line(err: Any) -> str:
    """testtools hands over an exception that is the text of the whole traceback."""
    return (str(err[1]).strip().splitlines() or [err[0].__name__])[-1]


def each(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for member in suite:
        if isinstance(member, unittest.TestSuite):
            yield from each(member)
        else:
            yield member


def play(service: str, only: Collection[str] | None = None) -> set[str]:
    """Run the tests of that service; the ids of those that were skipped."""
    import openstack.tests

    home = Path(openstack.tests.__file__).parent / "functional" / service
    found = each(unittest.defaultTestLoader.discover(str(home), top_level_dir=str(home.parents[3])))
    chosen = unittest.TestSuite(test for test in found if only is None or test.id() in only)
    result = unittest.TextTestRunner(resultclass=Recorded, verbosity=2).run(chosen)
    return {test.id() for test, _ in result.skipped}


def main(service: str, password: str, results: str) -> None:
    import openstack

    admin = openstack.connect(cloud="devstack-admin").identity
    project = admin.create_project(name=OTHER_PROJECT, domain_id="default")
    user = admin.create_user(name=OTHER_PROJECT, domain_id="default", password=password, default_project_id=project.id)
    admin.assign_project_role_to_user(project, user, admin.find_role("member"))
    Recorded.results = Path(results)
    skipped = play(service)
    os.environ["OPENSTACKSDK_DEMO_CLOUD"] = "devstack-admin"
    play(service, skipped)


if __name__ == "__main__":
    main(*sys.argv[1:])
