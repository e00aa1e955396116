"""Backups keep what differs, give it back byte for byte, and say when they are damaged."""

from pathlib import Path

import pytest

from kilonova.host.storage.backups import CHUNK, Backups
from kilonova.model.errors import Cancelled, HostError
from kilonova.model.ids import new_id


def volume(path: Path, words: dict[int, bytes], chunks: int = 8) -> bytes:
    with path.open("wb") as file:
        file.truncate(chunks * CHUNK)
        for place, word in words.items():
            file.seek(place)
            file.write(word)
    return path.read_bytes()


def never() -> bool:
    return False


@pytest.fixture
def backups(tmp_path: Path) -> Backups:
    return Backups(tmp_path / "backups")


def restored(backups: Backups, backup_id: str, target: Path, size: int) -> bytes:
    target.write_bytes(b"\xaa" * size)
    backups.restore(backup_id, target, never)
    return target.read_bytes()


def test_every_byte_comes_back_and_zeros_cost_nothing(backups: Backups, tmp_path: Path) -> None:
    whole, source = new_id(), tmp_path / "v"
    content = volume(source, {5: b"first", 3 * CHUNK - 2: b"over the edge"})
    kept = backups.write(whole, source, None, never)
    assert kept < 20000
    assert restored(backups, whole, tmp_path / "w", len(content)) == content


def test_an_incremental_backup_keeps_the_difference_alone(backups: Backups, tmp_path: Path) -> None:
    whole, second, third, source = new_id(), new_id(), new_id(), tmp_path / "v"
    noise = bytes(range(256)) * 4096
    first = volume(source, {0: noise, 2 * CHUNK: noise[::-1]})
    size = backups.write(whole, source, None, never)
    then = volume(source, {0: noise, 2 * CHUNK: noise[::-1], 4 * CHUNK: b"new"})
    assert backups.write(second, source, whole, never) < size
    assert backups.write(third, source, second, never) == 0
    assert restored(backups, third, tmp_path / "w", len(then)) == then
    assert restored(backups, whole, tmp_path / "w", len(first)) == first


def test_writing_again_after_a_crash_gives_the_same(backups: Backups, tmp_path: Path) -> None:
    whole, source = new_id(), tmp_path / "v"
    content = volume(source, {7: b"x" * 3 * CHUNK})
    asked = iter([True])
    with pytest.raises(Cancelled):
        backups.write(whole, source, None, lambda: next(asked))
    with pytest.raises(HostError, match="no backup"):
        backups.restore(whole, source, never)
    assert backups.write(whole, source, None, never) == backups.write(whole, source, None, never)
    assert restored(backups, whole, tmp_path / "w", len(content)) == content


def test_damage_is_seen(backups: Backups, tmp_path: Path) -> None:
    whole, source = new_id(), tmp_path / "v"
    volume(source, {0: bytes(range(256)) * 4096})
    backups.write(whole, source, None, never)
    kept = backups.folder / whole / "chunks"
    spoilt = bytearray(kept.read_bytes())
    spoilt[40] ^= 255
    kept.write_bytes(spoilt)
    with pytest.raises(HostError):
        backups.restore(whole, source, never)


def test_gone_is_gone_and_no_name_leads_elsewhere(backups: Backups, tmp_path: Path) -> None:
    whole, source = new_id(), tmp_path / "v"
    volume(source, {})
    backups.write(whole, source, None, never)
    backups.delete(whole)
    backups.delete(whole)
    assert backups.names() == []
    with pytest.raises(ValueError):
        backups.delete("../v")
    assert source.exists()
