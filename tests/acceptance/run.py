"""Run suites that are not ours against a cloud of our own: `run.py [--sdk SERVICE] [LIST…]`, or `make acceptance`.

A LIST is one of tempest's tests. The folder named by $ACCEPTANCE holds it: `LIST.txt` (ids of tests, one a line),
`tempest.conf.template` with `@NAME@` to fill in, and `run-tempest.sh CONF IDS WORKERS WORKSPACE`. What is no such list is
the beginning of ids of installed tests: `neutron_tempest_plugin.api`. The list `debian-cloud-image` boots an unmodified
Debian with its cloud-init. `--sdk network` runs the functional tests of that service out of openstacksdk. Every suite gets
a cloud brought up and taken down for it. Under `--work` are left, for each suite, its log, the cloud's log, and
`SUITE.results.txt`: one line a test.

The exit code is 0 if every test passed but those that `known.toml` names, with the reason.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import debian_image
import outcomes
import sdk_suite
import tempest_lists
from cloud import REPO, running_cloud


def run(suite: str, args: argparse.Namespace) -> int:
    """How many of the suite's tests did not pass for no known reason."""
    work, state = args.work / suite, args.work / "cloud"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    began = time.monotonic()
    with running_cloud(state, args.virt, work / "cloud.log"):
        if suite.startswith("sdk-"):
            found = sdk_suite.run(suite.removeprefix("sdk-").replace("-", "_"), state, work)
        elif suite == debian_image.NAME:
            found = debian_image.run(state, work)
        else:
            found = tempest_lists.run(suite, args.acceptance, state, work, args.jobs)
    target = args.work / f"{suite}.results.txt"
    unknown = outcomes.report(suite, found, target)
    print(f"{time.monotonic() - began:.0f} s; all of it in {target}", flush=True)
    return unknown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lists", nargs="*", metavar="LIST", help="a list's name, or a beginning of ids")
    parser.add_argument("--sdk", action="append", default=[], metavar="SERVICE", help="the SDK's tests of this service")
    parser.add_argument("--virt", default="auto", choices=("auto", "qemu", "kvm", "fake"))
    parser.add_argument("--jobs", type=int, default=2, help="tests of tempest at a time")
    parser.add_argument("--work", type=Path, default=REPO / "build" / "acceptance")
    default = Path(os.environ.get("ACCEPTANCE") or REPO.parent / "shared" / "acceptance")
    parser.add_argument("--acceptance", type=Path, default=default, help="default: $ACCEPTANCE")
    args = parser.parse_args()
    args.acceptance, args.work = args.acceptance.resolve(), args.work.resolve()
    if set(args.lists) - {debian_image.NAME} and not (args.acceptance / "tempest.conf.template").is_file():
        sys.exit(f"{args.acceptance} has no tempest.conf.template: name the folder of the lists with ACCEPTANCE=DIR")
    return 1 if sum([run(suite, args) for suite in [*args.lists, *(f"sdk-{service}" for service in args.sdk)]]) else 0


if __name__ == "__main__":
    sys.exit(main())
