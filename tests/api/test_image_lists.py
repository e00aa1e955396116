"""Pages of images: in every order all there are, each once, as one list has them."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from image_client import Glance

from kilonova.db.engine import Database
from kilonova.image import listing
from statements import statements

NAMES = ("a", "b", None, "a", "", "c", None, "b", "a", "d", "e", "b")
ORDERS = ["name", "name:asc", "size:asc,name:desc", "disk_format:asc,created_at", "container_format,name:asc,id:asc"]


@pytest.fixture
def glance(database: Database, tmp_path: Path) -> Glance:
    made = Glance(database, tmp_path)
    for place, name in enumerate(NAMES):
        image = made.image(name=name, disk_format=("raw", "qcow2")[place % 2], place=str(place % 3))
        made("PUT", f"/images/{image['id']}/tags/{'even' if place % 2 else 'odd'}")
        if place % 4 == 0:
            assert made.upload(image["id"], b"x" * (1 + place % 3)).status_code in (204, 400)
    return made


def walk(glance: Glance, **query: Any) -> list[str]:
    """The ids of all pages, following `next`."""
    found: list[str] = []
    answer = glance("GET", "/images", **query)
    while True:
        assert answer.status_code == 200, answer.text
        body = answer.json()
        found += [image["id"] for image in body["images"]]
        if "next" not in body:
            return found
        answer = glance.http.get(f"/image{body['next']}", headers={"X-Auth-Token": "alice"})


@pytest.mark.parametrize("sort", ORDERS)
@pytest.mark.parametrize("filters", [{}, {"tag": "odd"}, {"place": "1"}, {"disk_format": "raw"}, {"name": "a"}])
def test_pages_are_the_list_in_pieces(
    glance: Glance, monkeypatch: pytest.MonkeyPatch, sort: str, filters: dict[str, str]
) -> None:
    monkeypatch.setattr(listing, "STRETCH", 3)
    whole = glance("GET", "/images", sort=sort, limit=1000, **filters).json()["images"]
    ids = [image["id"] for image in whole]
    assert len(ids) == len(set(ids)) > 0
    for key, way in reversed([(part.partition(":")[0], part.partition(":")[2] or "desc") for part in sort.split(",")]):
        values = [image[key] for image in whole if key == sort.split(",")[0].partition(":")[0]]
        assert values == sorted(values, key=lambda value: (value is not None, value), reverse=way == "desc")
    for limit in (1, 2, 5, 12):
        assert walk(glance, sort=sort, limit=limit, **filters) == ids


def test_a_page_reads_no_more_rows_than_it_shows(glance: Glance) -> None:
    """With tags, times and properties in stretches; else the database sifts."""
    with statements(glance.database) as seen:
        glance("GET", "/images", limit=2, name="a", visibility="shared", sort="size:asc")
    [query] = [text for text in seen if "FROM images" in text and "ORDER BY" in text]
    assert "images.name IN" in query and "images.visibility =" in query and "LIMIT" in query


def test_whoever_may_not_see_the_marker_has_no_page(glance: Glance) -> None:
    image = glance.image(who="bob", visibility="private")
    assert glance("GET", "/images", marker=image["id"]).status_code == 400
    assert glance("GET", "/images", marker=image["id"], who="bob").status_code == 200


def test_an_image_of_no_size_is_neither_small_nor_large(glance: Glance) -> None:
    large, small = (glance.names(**{key: "2"}) for key in ("size_min", "size_max"))
    sized = [image for image in glance("GET", "/images", limit=100).json()["images"] if image["size"] is not None]
    assert sorted(itertools.chain(large, small), key=str) == sorted(
        [image["name"] for image in sized] + [image["name"] for image in sized if image["size"] == 2], key=str
    )


def test_a_sort_key_counts_once(glance: Glance) -> None:
    """Each is a term of the statement, of which SQLite takes so many."""
    sort = ",".join(["name:asc"] * 3000 + ["name:desc"])
    assert glance("GET", "/images", sort=sort).json()["images"] == glance("GET", "/images", sort="name:asc").json()["images"]
