"""Lists of tempest's tests: `configuration` writes a tempest.conf for a cloud, `outcomes` reads what a run printed.

A list is a file of ids, or, where there is no such file, all installed tests whose ids begin like that, those of tempest's
plugins too: `neutron_tempest_plugin.api`. These ask for extensions that are not offered; what they need of them is skipped.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from cloud import KILONOVA, SUITES
from outcomes import FAILED, MISSING, Outcomes

RESULT = re.compile(r"^\{\d+\} (\S.*?)(?: \[[\d.]+s\])? \.\.\. (ok|FAILED|SKIPPED)(?:: (.*))?$")
CLASS = re.compile(r"setUpClass \(([\w.]+)\)")
ERROR = re.compile(r"^    ([\w.]*(?:Error|Exception|Fault|exceptions\.\w+|Mismatch\w*|Timeout\w*)[\w.]*: ?.*)$")


def configuration(template: str, cloud: dict[str, Any], workspace: Path) -> str:
    """The template with each `@NAME@` from `cloud.json`; KeyError names one that we do not know."""
    image, alternative = cloud["images"]["kilonova-guest"], cloud["images"]["kilonova-guest-alt"]
    values = {
        "WS": str(workspace),
        "BASE": cloud["url"],
        "ADMIN_PASSWORD": cloud["admin_password"],
        "IMAGE1": image["id"],
        "IMAGE2": alternative["id"],
        "IMAGE_FILE": image["file"],
        "FLAVOR_SMALL": cloud["flavors"]["m1.nano"],
        "FLAVOR_BIGGER": cloud["flavors"]["m1.tiny"],
        "DEMO_NET": "demo",
        "PUBLIC_NET_ID": cloud["networks"]["public"],
        "GUEST_USER": cloud["guest"]["user"],
        "GUEST_PASSWORD": cloud["guest"]["password"],
    }
    lines = [line for line in template.splitlines() if not line.startswith("#")]
    return re.sub(r"@(\w+)@", lambda found: values[found[1]], "\n".join(lines)) + "\n"


def outcomes(text: str) -> Outcomes:
    """What a run printed, by test; what happened to a whole class stands under the class's name."""
    found: Outcomes = {}
    name = ""
    for line in text.splitlines():
        if result := RESULT.match(line):
            name = result[1].split("[")[0]
            name = inside[1] if (inside := CLASS.search(name)) else name
            found[name] = (result[2], result[3] or "")
        elif name and found[name][0] == FAILED and (error := ERROR.match(line)):
            found[name] = (FAILED, error[1][:400])
    return found


def offered(conf: str, state: Path) -> str:
    """The configuration, with the extensions that the cloud itself lists in place of all there may be."""
    env = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(state / "clouds.yaml"), "OS_CLOUD": "kilonova"}
    command = [KILONOVA.parent / "openstack", "extension", "list", "--network", "-f", "value", "-c", "Alias"]
    aliases = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.split()
    return re.sub(r"(?m)^api_extensions = all$", f"api_extensions = {','.join(aliases)}", conf)


def with_multiattach(conf: str, state: Path) -> str:
    """The configuration, with a volume type for volumes of several servers: tempest looks for one that is there."""
    env = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(state / "clouds.yaml"), "OS_CLOUD": "kilonova-admin"}
    command = ["volume", "type", "create", "--property", "multiattach=<is> True", "multiattach"]
    subprocess.run([KILONOVA.parent / "openstack", *command], env=env, check=True, capture_output=True)
    return re.sub(r"(?m)^\[volume\]$", "[volume]\nvolume_type_multiattach = multiattach", conf)


def installed(prefix: str, conf: Path, workspace: Path, env: dict[str, str]) -> str:
    """The ids of the installed tests that begin with `prefix`, one a line."""
    begin = ["tempest", "init", "--workspace-path", workspace.parent / "workspaces.yaml", workspace]
    subprocess.run(begin, env=env, check=True, capture_output=True)
    env = env | {"TEMPEST_CONFIG_DIR": str(conf.parent), "TEMPEST_CONFIG": conf.name}
    command = ["tempest", "run", "--list-tests"]
    listed = subprocess.run(command, cwd=workspace, env=env, check=True, capture_output=True, text=True).stdout
    return "".join(f"{line}\n" for line in listed.splitlines() if line.startswith(f"{prefix}."))


def run(suite: str, acceptance: Path, state: Path, work: Path, jobs: int) -> Outcomes:
    """The outcome of each test of the list `suite`, in its order; tempest's workspace is left in `work`."""
    workspace, conf, ids = work / "workspace", work / "tempest.conf", acceptance / f"{suite}.txt"
    (work / "tmp").mkdir(parents=True)
    env = {**os.environ, "PATH": f"{SUITES}:{os.environ['PATH']}", "TMPDIR": str(work / "tmp")}
    cloud = json.loads((state / "cloud.json").read_text())
    text = configuration((acceptance / "tempest.conf.template").read_text(), cloud, workspace)
    text = with_multiattach(text, state)
    conf.write_text(text if ids.is_file() else offered(text, state))
    if not ids.is_file():
        ids = work / "ids.txt"
        ids.write_text(installed(suite, conf, workspace, env))
    runner = ["bash", acceptance / "run-tempest.sh", conf, ids, str(jobs), workspace]
    subprocess.run(runner, env=env, stdout=subprocess.DEVNULL, check=False)  # its counts know tempest's own tests only
    found = outcomes((workspace / "run.txt").read_text())
    tests = [line.split("[")[0].strip() for line in ids.read_text().splitlines() if line.strip()]
    missing = (MISSING, "no outcome: see run.txt")
    return {test: found.get(test) or found.get(test.rpartition(".")[0]) or missing for test in tests}
