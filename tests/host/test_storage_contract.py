"""What every volume backend must do, on the real thing: bytes are kept, twice is as once, a crash anywhere mends."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from storagelab import LABS, StorageLab

from kilonova.host.calls import observed
from kilonova.host.storage import BACKENDS, GIB, Backend
from kilonova.model.errors import HostError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: block devices, namespaces")

VOLUME, OTHER, SNAPSHOT = "volume-1", "volume-2", "snapshot-1"
PLACES = (0, 4096 * 3 + 17, GIB - 8)
EMPTY = b"\0" * 8


# One worker a kind: what the tests of a kind share is made once.
KINDS = [pytest.param(kind, marks=pytest.mark.xdist_group(f"storage-{kind}")) for kind in sorted(BACKENDS)]


@pytest.fixture(scope="module", params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageLab]:
    if why_not := LABS[request.param].why_not():
        pytest.skip(why_not)
    made = LABS[request.param](tmp_path_factory.mktemp("storage"))
    yield made
    made.close()


@pytest.fixture
def backend(lab: StorageLab) -> Iterator[Backend]:
    yield lab.backend
    clean(lab.backend)
    assert lab.left() == {}


def clean(backend: Backend) -> None:
    for name in backend.volumes():
        backend.disconnect(name)
        backend.delete_snapshot(SNAPSHOT, name)
    for name in backend.volumes():
        backend.delete(name)


def write(backend: Backend, name: str, word: bytes, places: tuple[int, ...] = PLACES) -> None:
    with backend.local_path(name) as path, path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(word)
        file.flush()
        os.fsync(file.fileno())


def read(backend: Backend, name: str, places: tuple[int, ...] = PLACES, length: int = 8) -> list[bytes]:
    with backend.local_path(name) as path, path.open("rb") as file:
        return [file.read(length) for place in places if file.seek(place) == place]


def size(backend: Backend, name: str) -> int:
    with backend.local_path(name) as path, path.open("rb") as file:
        return file.seek(0, 2)


def test_a_new_volume_is_empty_and_keeps_what_is_written(backend: Backend) -> None:
    backend.create(VOLUME, 1)
    assert size(backend, VOLUME) == GIB
    assert backend.volumes() == {VOLUME: GIB}
    assert read(backend, VOLUME) == [EMPTY] * 3
    write(backend, VOLUME, b"the word")
    backend.create(VOLUME, 1)
    assert read(backend, VOLUME) == [b"the word"] * 3


def test_a_snapshot_stays_as_it_was_and_comes_back(backend: Backend) -> None:
    backend.create(VOLUME, 1)
    write(backend, VOLUME, b"one one ")
    backend.create_snapshot(SNAPSHOT, VOLUME)
    write(backend, VOLUME, b"two two ")
    backend.create_snapshot(SNAPSHOT, VOLUME)
    assert read(backend, SNAPSHOT) == [b"one one "] * 3
    assert backend.volumes() == {VOLUME: GIB}
    backend.extend(VOLUME, 2)
    backend.revert(VOLUME, SNAPSHOT)
    assert read(backend, VOLUME) == [b"one one "] * 3
    assert size(backend, VOLUME) == 2 * GIB
    assert read(backend, SNAPSHOT) == [b"one one "] * 3
    write(backend, VOLUME, b"thrice..")
    assert read(backend, SNAPSHOT) == [b"one one "] * 3


def test_a_volume_of_a_snapshot_is_its_own(backend: Backend) -> None:
    backend.create(VOLUME, 1)
    write(backend, VOLUME, b"one one ")
    backend.create_snapshot(SNAPSHOT, VOLUME)
    backend.create_from_snapshot(OTHER, 2, SNAPSHOT)
    assert size(backend, OTHER) == 2 * GIB
    assert read(backend, OTHER, (2 * GIB - 8,)) == [EMPTY]
    write(backend, OTHER, b"another ")
    assert read(backend, SNAPSHOT) == read(backend, VOLUME) == [b"one one "] * 3
    backend.delete_snapshot(SNAPSHOT, VOLUME)
    backend.delete(VOLUME)
    assert read(backend, OTHER) == [b"another "] * 3


def test_a_clone_is_its_own(backend: Backend) -> None:
    backend.create(VOLUME, 1)
    write(backend, VOLUME, b"one one ")
    backend.clone(OTHER, 1, VOLUME)
    write(backend, VOLUME, b"changed ")
    assert read(backend, OTHER) == [b"one one "] * 3
    backend.delete(VOLUME)
    assert read(backend, OTHER) == [b"one one "] * 3
    assert backend.volumes() == {OTHER: GIB}


def test_a_volume_grows_and_never_shrinks(backend: Backend) -> None:
    backend.create(VOLUME, 1)
    write(backend, VOLUME, b"the word")
    for _ in range(2):
        backend.extend(VOLUME, 3)
    backend.extend(VOLUME, 2)
    assert size(backend, VOLUME) == backend.volumes()[VOLUME] == 3 * GIB
    assert read(backend, VOLUME) == [b"the word"] * 3
    assert read(backend, VOLUME, (GIB, 3 * GIB - 8)) == [EMPTY] * 2


def test_a_connected_volume_can_be_opened_until_it_is_disconnected(lab: StorageLab, backend: Backend) -> None:
    backend.create(VOLUME, 1)
    write(backend, VOLUME, b"the word")
    info = backend.connect(VOLUME)
    assert backend.connect(VOLUME) == info
    assert set(info) == {"driver_volume_type", "data"}
    assert lab.read_as_guest(info, PLACES[1], 8) == b"the word"
    lab.write_as_guest(info, PLACES[2], b"a guest.")
    assert read(backend, VOLUME, PLACES[1:]) == [b"the word", b"a guest."]
    backend.extend(VOLUME, 2)
    assert backend.connect(VOLUME) == info
    assert lab.read_as_guest(info, 2 * GIB - 8, 8) == EMPTY
    for _ in range(2):
        backend.disconnect(VOLUME)
    assert read(backend, VOLUME, PLACES[1:]) == [b"the word", b"a guest."]


def test_a_volume_is_managed_by_another_name(backend: Backend) -> None:
    backend.create("legacy-disk", 1)
    write(backend, "legacy-disk", b"the word")
    for _ in range(2):
        backend.rename("legacy-disk", VOLUME)
    assert backend.volumes() == {VOLUME: GIB}
    assert read(backend, VOLUME) == [b"the word"] * 3


@pytest.mark.parametrize(
    "ask",
    [
        lambda b: b.extend(VOLUME, 2),
        lambda b: b.clone(OTHER, 1, VOLUME),
        lambda b: b.create_snapshot(SNAPSHOT, VOLUME),
        lambda b: b.create_from_snapshot(OTHER, 1, SNAPSHOT),
        lambda b: b.connect(VOLUME),
        lambda b: b.rename(VOLUME, OTHER),
        lambda b: b.create("../../etc/shadow", 1),
        lambda b: b.delete("-a"),
        lambda b: b.local_path(VOLUME).__enter__(),
    ],
)
def test_what_there_is_not_is_said(backend: Backend, ask: Callable[[Backend], Any]) -> None:
    with pytest.raises(HostError, match=r"has no|cannot be the name"):
        ask(backend)
    assert backend.volumes() == {}


def test_what_is_gone_may_be_deleted_again(backend: Backend) -> None:
    backend.delete_snapshot(SNAPSHOT, VOLUME)
    backend.disconnect(VOLUME)
    backend.delete(VOLUME)


def test_capacity_is_of_the_real_place(lab: StorageLab, backend: Backend) -> None:
    lab.check_capacity(backend.stats())


class Crash(BaseException):
    """No handler catches it: the rest of the verb does not happen."""


Act = Callable[[Backend], Any]
WRITTEN: list[Act] = [lambda b: b.create(VOLUME, 1), lambda b: write(b, VOLUME, b"one one ")]
STATES: dict[str, list[Act]] = {
    "nothing": [],
    "volume": WRITTEN,
    "snapshot": [*WRITTEN, lambda b: b.create_snapshot(SNAPSHOT, VOLUME), lambda b: write(b, VOLUME, b"changed ")],
    "connected": [*WRITTEN, lambda b: b.connect(VOLUME)],
}
VERBS: dict[str, tuple[str, Act, dict[str, bytes]]] = {
    "create": ("nothing", lambda b: b.create(VOLUME, 1), {VOLUME: EMPTY}),
    "create_from_snapshot": ("snapshot", lambda b: b.create_from_snapshot(OTHER, 1, SNAPSHOT), {OTHER: b"one one "}),
    "clone": ("volume", lambda b: b.clone(OTHER, 1, VOLUME), {OTHER: b"one one ", VOLUME: b"one one "}),
    "delete": ("volume", lambda b: b.delete(VOLUME), {}),
    "extend": ("connected", lambda b: b.extend(VOLUME, 2), {VOLUME: b"one one "}),
    "create_snapshot": ("connected", lambda b: b.create_snapshot(SNAPSHOT, VOLUME), {SNAPSHOT: b"one one "}),
    "delete_snapshot": ("snapshot", lambda b: b.delete_snapshot(SNAPSHOT, VOLUME), {VOLUME: b"changed "}),
    "revert": ("snapshot", lambda b: b.revert(VOLUME, SNAPSHOT), {VOLUME: b"one one ", SNAPSHOT: b"one one "}),
    "connect": ("volume", lambda b: b.connect(VOLUME), {VOLUME: b"one one "}),
    "disconnect": ("connected", lambda b: b.disconnect(VOLUME), {VOLUME: b"one one "}),
    "rename": ("volume", lambda b: b.rename(VOLUME, OTHER), {OTHER: b"one one "}),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_dies_anywhere_is_repeated(lab: StorageLab, backend: Backend, verb: str) -> None:
    state, act, expected = VERBS[verb]
    edge, want = 1, None
    while True:
        clean(backend)
        assert lab.left() == {}
        for prepare in STATES[state]:
            prepare(backend)
        where = crash_after(edge, lab.reads, lambda: act(backend))
        act(backend)
        assert {name: read(backend, name)[1] for name in expected} == expected, where
        picture = (backend.volumes(), lab.picture())
        want = want or picture
        assert picture == want, where
        if not where:
            break
        edge += 1
    act(backend)
    assert (backend.volumes(), lab.picture()) == want
    assert edge > 1 or verb in ("connect", "disconnect")  # nothing to be done where guests open the thing itself


def crash_after(edge: int, reads: frozenset[str], act: Callable[[], object]) -> str:
    """Where it crashed: after which outside call that changes anything; empty when there are fewer than `edge`.

    Before one, all is as it was after the one before.
    """
    seen = [0, ""]

    def observer(when: str, name: str) -> None:
        seen[0] += when == "after" and name not in reads
        if seen == [edge, ""]:
            seen[1] = f"{when} {name}"
            raise Crash(seen[1])

    try:
        with observed(observer):
            act()
    except Crash:
        pass
    return str(seen[1])


def test_blocks_are_shared_where_the_file_system_can(tmp_path: Path) -> None:
    if shutil.which("mkfs.btrfs") is None or "btrfs" not in Path("/proc/filesystems").read_text():
        pytest.skip("needs btrfs-progs, and a kernel with btrfs")
    with LABS["btrfs"](tmp_path) as lab:
        lab.backend.create(VOLUME, 1)
        with lab.backend.local_path(VOLUME) as path, path.open("r+b") as file:
            file.write(os.urandom(32 << 20))
        used = lab.used()
        lab.backend.create_snapshot(SNAPSHOT, VOLUME)
        lab.backend.clone(OTHER, 1, VOLUME)
        assert lab.used() - used < 4 << 20
        assert read(lab.backend, OTHER, length=1 << 20) == read(lab.backend, VOLUME, length=1 << 20)
