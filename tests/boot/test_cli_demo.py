"""What a newcomer meets: the demo on this machine, its end, and the sentences of its failures."""

import os
import subprocess
from pathlib import Path

import pytest
from clouds import BIN

pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.getuid() != 0, reason="a real host needs root")]
DEMO = """
import sys
from pathlib import Path
from kilonova import demo
demo.LOGIN_DEADLINE = 3
demo.BUILT_GUEST = Path(sys.argv[2])
sys.exit(demo.Demo(once=True, state=Path(sys.argv[1])).run())
"""


def demo(state: Path, guest: Path) -> tuple[int, str]:
    """Of another guest image, and impatient."""
    argv = [BIN / "python", "-c", DEMO, state, guest]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_it_ends_with_a_login_and_leaves_only_its_log(tmp_path: Path) -> None:
    argv = [BIN / "kilonova", "demo", "--once", "--state", tmp_path / "demo"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("kilonova ready http://127.0.0.1:", "set_active: Success", "a port of the bridge", "Linux my-server"):
        assert said in done.stdout
    assert "\x1b" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["demo.log"]


def test_a_guest_that_never_answers(tmp_path: Path) -> None:
    silent = tmp_path / "silent.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", silent, "32M"], check=True)
    code, said = demo(tmp_path / "demo", silent)
    assert code == 1
    assert "(its console is empty)" in said
    assert "logging in by ssh failed: no answer in 3 s" in said
    assert f"the cloud's log is {tmp_path}/demo.log" in said
    assert not (tmp_path / "demo").exists()


def test_what_is_not_a_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("years of work")
    guest = tmp_path / "guest"
    code, said = demo(tmp_path / "mine", guest)
    assert code == 1
    assert f"the guest image {guest} is missing\n  What to do: `make image` builds it" in said
    guest.write_text("")
    code, said = demo(tmp_path / "mine", guest)
    assert code == 1
    assert "is not empty, and the demo removes its directory in the end" in said
    assert (tmp_path / "mine" / "thesis").exists()
