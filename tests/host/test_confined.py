"""qemu-img on a tenant's bytes: what it may reach and take, where the inspection of an image has missed something."""

import os
import struct
import tracemalloc
from pathlib import Path

import pytest

from kilonova.host import confined
from kilonova.host.calls import run
from kilonova.model.errors import HostError

CLUSTER = 1 << 16
MIB = 1 << 20


def one_cluster_many_times(path: Path, tables: int, every: int) -> None:
    """A QCOW2 of 384 KiB and `tables` times 512 MiB: its level 1 names one level 2 table, which has the same data in each
    `every`th cluster."""
    size = tables * 8192 * CLUSTER
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, 16, size, 0, tables, 3 * CLUSTER, CLUSTER, 1, 0, 0
    ) + struct.pack(">QQQII", 0, 0, 0, 4, 104)
    copied = 1 << 63
    parts = (
        header,
        struct.pack(">Q", 2 * CLUSTER),
        struct.pack(">6H", *[1] * 6),
        struct.pack(">Q", 4 * CLUSTER | copied) * tables,
        b"".join(struct.pack(">Q", 0 if place % every else 5 * CLUSTER | copied) for place in range(8192)),
        b"A" * CLUSTER,
    )
    path.write_bytes(b"".join(part.ljust(CLUSTER, b"\0") for part in parts))


def test_what_it_makes_is_whole_and_ours(tmp_path: Path) -> None:
    source, target = tmp_path / "image", tmp_path / "raw"
    one_cluster_many_times(source, 1, 4096)
    assert confined.info(source, "qcow2")["virtual-size"] == 512 * MIB
    assert confined.end_of_data(source, "qcow2") == 6 * CLUSTER == source.stat().st_size
    confined.convert(source, "qcow2", target, 512 * MIB)
    assert target.stat().st_size == 512 * MIB
    assert (target.stat().st_uid, target.stat().st_gid) == (0, 0)
    with target.open("rb") as file:
        assert file.read(CLUSTER + 1) == b"A" * CLUSTER + b"\0"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_it_has_no_right_to_another_file(tmp_path: Path, mode: int) -> None:
    """One that root could read: by its mode, or in a directory that is root's alone."""
    folder = tmp_path / "others"
    folder.mkdir(mode=0o700)
    secret = folder / "secret"
    secret.write_bytes(b"another's" * 120_000)
    secret.chmod(mode)
    source = tmp_path / "image"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(source)])
    with pytest.raises(HostError, match="Permission denied"):
        confined.end_of_data(source, "qcow2")
    with pytest.raises(HostError, match="Permission denied"):
        confined.convert(source, "qcow2", tmp_path / "raw", secret.stat().st_size)


def test_it_writes_no_more_than_was_told(tmp_path: Path) -> None:
    source, target = tmp_path / "image", tmp_path / "raw"
    one_cluster_many_times(source, 2, 1)
    with pytest.raises(HostError, match="File too large"):
        confined.convert(source, "qcow2", target, MIB)
    assert target.stat().st_blocks == 0


def test_as_many_extents_as_there_are_take_no_memory_of_ours(tmp_path: Path) -> None:
    source = tmp_path / "image"
    one_cluster_many_times(source, 8, 2)
    tracemalloc.start()
    try:
        assert confined.end_of_data(source, "qcow2") == 6 * CLUSTER
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB


def test_its_threads_fit_into_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many QEMU starts differs from run to run, and with the processors and the disk: there is room for all 64."""
    monkeypatch.setattr(confined, "MEMORY", 320 * MIB)
    plain, source = tmp_path / "plain", tmp_path / "image"
    plain.write_bytes(os.urandom(64 * MIB))
    run(["qemu-img", "convert", "-W", "-m", "16", "-f", "raw", "-O", "qcow2", str(plain), str(source)])
    for name in map(str, range(5)):
        confined.convert(source, "qcow2", tmp_path / name, 64 * MIB)
        assert (tmp_path / name).stat().st_size == 64 * MIB
        (tmp_path / name).unlink()


def test_a_program_that_it_is_started_by_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "image"
    one_cluster_many_times(source, 1, 4096)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="unshare is not installed on this host"):
        confined.info(source, "qcow2")
