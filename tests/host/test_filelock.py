"""A lock of a file: one holder at a time, and no file left once nobody holds it."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kilonova.filelock import held

# Counts without a lock of its own: two holders at once lose a count, or find the other's mark.
COUNT = """
import os, sys, threading
from pathlib import Path
from kilonova.filelock import held
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
def work():
    for _ in range(rounds):
        with held(folder / "locks" / "a-name"):
            mark = os.open(folder / "mark", os.O_CREAT | os.O_EXCL)
            (folder / "count").write_text(str(int((folder / "count").read_text()) + 1))
            os.close(mark)
            (folder / "mark").unlink()
threads = [threading.Thread(target=work) for _ in range(4)]
[each.start() for each in threads]
[each.join() for each in threads]
"""


def test_one_holder_at_a_time_and_no_file_left(tmp_path: Path) -> None:
    holders, most, rounds = 0, 0, []

    def work() -> None:
        nonlocal holders, most
        for _ in range(100):
            with held(tmp_path / "a-name"):
                holders += 1
                most = max(most, holders)
                time.sleep(0)  # let another thread try
                holders -= 1
            rounds.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(rounds)) == (1, 800)
    assert list(tmp_path.iterdir()) == []


def test_threads_of_several_processes_take_turns_too(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path), "100"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in processes] == [""] * 4
    assert (tmp_path / "count").read_text() == str(4 * 4 * 100)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["count", "locks"]


def test_who_fails_lets_go(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), held(tmp_path / "a-name"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_of_a_dead_process_hinders_nobody(tmp_path: Path) -> None:
    (tmp_path / "a-name").touch()
    with held(tmp_path / "a-name"):
        assert (tmp_path / "a-name").exists()
    assert list(tmp_path.iterdir()) == []
