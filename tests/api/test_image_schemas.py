"""Glance's schemas: what is shown is what they say."""

from pathlib import Path

import jsonschema
import pytest
from image_client import Glance

from kilonova.db.engine import Database
from kilonova.image.schemas import SCHEMAS


@pytest.fixture
def glance(database: Database, tmp_path: Path) -> Glance:
    return Glance(database, tmp_path)


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_is_a_schema_that_knows_its_name(glance: Glance, name: str) -> None:
    schema = glance("GET", f"/schemas/{name}").json()
    jsonschema.Draft4Validator.check_schema(schema)
    assert schema["name"] == name
    assert glance("GET", f"/schemas/{name}s").status_code == (200 if f"{name}s" in SCHEMAS else 404)


def test_what_is_listed_fits_its_schema(glance: Glance) -> None:
    made = glance.image(my_own="x", tags=["t"])
    source = {"image_properties": {}, "import_from": "http://127.0.0.1/i", "import_from_format": "raw"}
    glance("POST", "/tasks", {"type": "import", "input": source}, who="admin")
    for path, name in (("images", "images"), (f"images/{made['id']}", "image"), ("tasks", "tasks")):
        shown, schema = glance("GET", f"/{path}", who="admin").json(), glance("GET", f"/schemas/{name}").json()
        jsonschema.Draft4Validator(schema).validate(shown)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft4Validator(schema).validate({**shown, **dict.fromkeys(("images", "tasks", "id", "status"), 1)})


def test_a_property_by_itself_names_what_it_requires(glance: Glance) -> None:
    """Glance has two schemas of them: within a namespace, or an object, it may require nothing."""
    bare = {"title": "t", "type": "string", "required": []}
    namespace = {"namespace": "n", "properties": {"p": bare}}
    assert glance("POST", "/metadefs/namespaces", namespace, who="admin").status_code == 201
    path = "/metadefs/namespaces/n/properties"
    assert glance("POST", path, {"name": "q", **bare}, who="admin").status_code == 400
    assert glance("POST", path, {"name": "q", **bare, "required": ["p"]}, who="admin").status_code == 201
    assert glance("PUT", f"{path}/q", {"name": "q", **bare}, who="admin").status_code == 400
    assert glance("GET", f"{path}/p", who="admin").json()["required"] == []
    assert glance("POST", "/metadefs/namespaces/n/objects", {"name": "o", "required": []}, who="admin").status_code == 201
