"""A server's lock: one holder at a time, and no file left once nobody holds it."""

import threading
import time
from pathlib import Path

import pytest

from kilonova.flow.worker import server_lock


def test_one_holder_at_a_time_and_no_file_left(tmp_path: Path) -> None:
    holders, most, rounds = 0, 0, []

    def work() -> None:
        nonlocal holders, most
        for _ in range(100):
            with server_lock(tmp_path, "a-server"):
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


def test_a_step_that_fails_lets_go(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), server_lock(tmp_path, "a-server"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_of_a_dead_process_hinders_nobody(tmp_path: Path) -> None:
    (tmp_path / "a-server").touch()
    with server_lock(tmp_path, "a-server"):
        assert (tmp_path / "a-server").exists()
    assert list(tmp_path.iterdir()) == []
