"""What every image store must do, on the real thing: whole images or nothing, from any place, and nothing left."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_stores import LABS, FileLab, get, put

from kilonova.db.engine import Database
from kilonova.flows.controlside import LocalControlSide
from kilonova.image import images
from kilonova.image.intake import Intake
from kilonova.image.store import Stores
from kilonova.image.stores import STORES, Store
from kilonova.model.errors import HostError, Unavailable, UnsupportedMediaType

MIB = 1 << 20
IMAGE, OTHER = "0b6e6c1c-0000-4000-8000-000000000001", "0b6e6c1c-0000-4000-8000-000000000002"
CONTENT = b"".join(hashlib.sha512(str(number).encode()).digest() for number in range(1000)) + b"end"

# One worker a kind: what the tests of a kind share is made once.
KINDS = [pytest.param(kind, marks=pytest.mark.xdist_group(f"image-store-{kind}")) for kind in sorted(STORES)]


@pytest.fixture(scope="module", params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileLab]:
    if why_not := LABS[request.param].why_not():
        pytest.skip(why_not)
    made = LABS[request.param](tmp_path_factory.mktemp("images"))
    yield made
    made.close()


@pytest.fixture
def store(lab: FileLab) -> Iterator[Store]:
    made = lab.store("one")
    yield made
    made.sweep(())
    assert not [name for name in lab.everything() if "one" in name and IMAGE[:8] in name]


def large() -> bytes:
    """More than goes to S3 in one part, most of it empty."""
    return CONTENT + bytes(20 * MIB) + CONTENT + bytes(20 * MIB + 1)


@pytest.mark.parametrize("content", [b"", b"\0", CONTENT, bytes(MIB), CONTENT + bytes(3 * MIB + 5)], ids=range(5))
def test_what_is_written_is_read(store: Store, content: bytes) -> None:
    data = put(store, IMAGE, content, piece=100_000)
    assert (data.size, data.checksum) == (len(content), hashlib.md5(content).hexdigest())
    assert get(store, IMAGE) == content
    put(store, OTHER, b"another")
    put(store, IMAGE, CONTENT[::-1])
    assert (get(store, IMAGE), get(store, OTHER)) == (CONTENT[::-1], b"another")
    store.delete(IMAGE)
    with pytest.raises(Unavailable):
        store.read(IMAGE)
    assert get(store, OTHER) == b"another"
    store.delete(IMAGE)


def test_a_part_is_read_from_anywhere(store: Store) -> None:
    content = large()
    put(store, IMAGE, content)
    assert get(store, IMAGE) == content
    for start, length in ((0, 1), (5, 3), (0, len(content)), (21 * MIB - 7, 2 * MIB), (len(content) - 1, 1), (3, 0)):
        assert get(store, IMAGE, start, length) == content[start : start + length], (start, length)
    assert get(store, IMAGE, len(content) - 10) == content[-10:]
    begun = store.read(IMAGE)
    assert content.startswith(next(begun))
    begun.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [0, 100, 40 * MIB])
def test_of_what_is_refused_nothing_is_kept(lab: FileLab, store: Store, size: int) -> None:
    def cut() -> Iterator[bytes]:
        for place in range(0, size, MIB):
            yield bytes(min(MIB, size - place))
        raise ConnectionAbortedError("the client is gone")

    put(store, OTHER, b"there already")
    with pytest.raises(ConnectionAbortedError):
        store.write(IMAGE, cut())
    with pytest.raises(UnsupportedMediaType):
        store.write(IMAGE, Intake(iter([bytes(size)]), "qcow2"))
    assert [name for name in lab.everything() if OTHER not in name] == []
    with pytest.raises(UnsupportedMediaType):
        store.write(OTHER, Intake(iter([bytes(size)]), "qcow2"))
    assert get(store, OTHER) == b"there already"


def test_a_sweep_leaves_the_known_ones_and_other_clouds(lab: FileLab, store: Store) -> None:
    other = lab.store("two")
    for cloud in (store, other):
        put(cloud, IMAGE, b"of a cloud")
        put(cloud, OTHER, b"of a cloud")
    lab.half_written(store, IMAGE)
    gone = store.sweep([IMAGE])
    assert len(gone) == 2 and [OTHER in name for name in gone].count(True) == 1, gone
    assert get(store, IMAGE) == get(other, IMAGE) == get(other, OTHER) == b"of a cloud"
    with pytest.raises(Unavailable):
        store.read(OTHER)
    assert store.sweep([IMAGE]) == []
    assert len(other.sweep([])) == 2


def test_a_host_fetches_what_it_boots_from(database: Database, store: Store, tmp_path: Path) -> None:
    (tmp_path / "guest").write_bytes(CONTENT + bytes(5 * MIB))
    stores = Stores([store], tmp_path / "staged")
    images.register(database, stores, IMAGE, images.FromFile("guest", tmp_path / "guest", "raw"))
    control = LocalControlSide(database, None, None, stores, "host")  # type: ignore[arg-type]
    control.fetch_image(IMAGE, tmp_path / "base")
    assert (tmp_path / "base").read_bytes() == (tmp_path / "guest").read_bytes()
    assert (tmp_path / "base").stat().st_blocks * 512 < 2 * MIB  # what is empty takes no room
    store.delete(IMAGE)
    with pytest.raises(HostError, match="cannot be read"):
        control.fetch_image(IMAGE, tmp_path / "other")


def test_what_it_tells(lab: FileLab, store: Store) -> None:
    put(store, IMAGE, CONTENT)
    assert store.kind == lab.kind and store.name == "images" and IMAGE in store.url(IMAGE)
    assert store.description and store.properties()
    path = store.path(IMAGE)
    assert path is None or path.read_bytes() == CONTENT
