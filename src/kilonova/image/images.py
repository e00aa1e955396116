"""Images: the rows, who may see and change them. Their bytes are in stores/."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Database, Tx
from kilonova.image import locations, tasks
from kilonova.image.intake import Data
from kilonova.image.store import Stores
from kilonova.image.tables import IDS, IMAGES, MEMBERS
from kilonova.model.errors import APIError, BadRequest, Conflict, Forbidden, NotFound
from kilonova.model.ids import new_id, now
from kilonova.model.specs import ImageSpec
from kilonova.web.call import Context

Row = sa.RowMapping
AMAZON = {"aki", "ari", "ami"}


class Gone(APIError):
    """The image was deleted while its bytes came in."""

    status = 410


def visible(context: Context) -> sa.ColumnElement[bool]:
    """Which images this caller may see at all."""
    if context.is_admin:
        return sa.true()
    mine = sa.select(MEMBERS.c.image_id).where(MEMBERS.c.member_id == context.project_id)
    return (
        IMAGES.c.visibility.in_(("public", "community"))
        | (IMAGES.c.owner == context.project_id)
        | ((IMAGES.c.visibility == "shared") & IMAGES.c.id.in_(mine))
    )


def get(tx: Tx, context: Context, image_id: str) -> Row:
    row = tx.first(sa.select(IMAGES).where(IMAGES.c.id == image_id, visible(context)))
    if row is None:
        raise NotFound(f"No image found with ID {image_id}")
    return row


def is_owner(context: Context, row: Row) -> bool:
    """The owner's members, and admins, may change an image."""
    return context.is_admin or (
        "member" in context.roles and bool(context.project_id) and row["owner"] == context.project_id
    )


def get_own(tx: Tx, context: Context, image_id: str, doing: str) -> Row:
    """As `get`; Forbidden when it is another's."""
    row = get(tx, context, image_id)
    if not is_owner(context, row):
        raise Forbidden(f"You are not permitted to {doing} this image.")
    return row


def create(tx: Tx, context: Context, values: Mapping[str, Any], properties: Mapping[str, str]) -> Row:
    """A queued image without data. `values` are Glance's own attributes, checked for shape already.

    Conflict for an id that an image has, or had.
    """
    owner = values.get("owner", context.project_id)
    if owner != context.project_id and not context.is_admin:
        raise Forbidden(f"You are not permitted to create images owned by '{owner}'.")
    check_formats(values.get("disk_format"), values.get("container_format"))
    check_visibility(context, values.get("visibility", "shared"))
    row = _new_row(values.get("id") or new_id(), {**values, "owner": owner}, properties)
    if not insert_new(tx.connection, IDS, {"id": row["id"]}) or not insert_new(tx.connection, IMAGES, row):
        raise Conflict(f"Image ID {row['id']} already exists!")
    return get(tx, context, row["id"])


def _new_row(image_id: str, values: Mapping[str, Any], properties: Mapping[str, str]) -> dict[str, Any]:
    when = now()
    return {
        "id": image_id.lower(),
        "name": values.get("name"),
        "status": "queued",
        "visibility": values.get("visibility", "shared"),
        "owner": values.get("owner"),
        "protected": values.get("protected", False),
        "os_hidden": values.get("os_hidden", False),
        "container_format": values.get("container_format"),
        "disk_format": values.get("disk_format"),
        "min_disk": values.get("min_disk", 0),
        "min_ram": values.get("min_ram", 0),
        "properties": dict(properties),
        "tags": sorted(set(values.get("tags", ()))),
        "created_at": when,
        "updated_at": when,
    }


def check_formats(disk_format: str | None, container_format: str | None) -> None:
    if disk_format in AMAZON and container_format is None:
        container_format = disk_format
    if container_format in AMAZON and disk_format is None:
        disk_format = container_format
    if (disk_format in AMAZON or container_format in AMAZON) and disk_format != container_format:
        raise BadRequest(
            "Invalid mix of disk and container formats. When setting a disk or container format to one of 'aki', "
            "'ari', or 'ami', the container and disk formats must match."
        )


def check_visibility(context: Context, wanted: str) -> None:
    """Forbidden, in Glance's words, to make an image the whole cloud's."""
    part = {"public": "publicize_image", "community": "communitize_image"}.get(wanted)
    if part and not context.may(part, usual=context.is_admin or wanted == "community"):
        raise Forbidden(f"You are not authorized to complete {part} action.")


def save(tx: Tx, image_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(IMAGES.update().where(IMAGES.c.id == image_id).values(**values, updated_at=now()))


def move(tx: Tx, image_id: str, source: str, target: str, **values: Any) -> bool:
    """Take the image from one status to another; whether it was in the first."""
    moved = tx.execute(
        IMAGES.update()
        .where(IMAGES.c.id == image_id, IMAGES.c.status == source)
        .values(status=target, updated_at=now(), **values)
    )
    return moved.rowcount == 1


def delete(tx: Tx, context: Context, stores: Stores, image_id: str) -> None:
    """The row now, the bytes once that is committed."""
    row = get_own(tx, context, image_id, "delete")
    if row["protected"]:
        raise Forbidden(f"Image {image_id} is protected and cannot be deleted.")
    remove(tx, stores, row["id"])


def remove(tx: Tx, stores: Stores, image_id: str) -> None:
    """Whoever still brings its bytes finds it gone, and removes them."""
    held = locations.held(tx, image_id)
    tx.execute(MEMBERS.delete().where(MEMBERS.c.image_id == image_id))
    tx.execute(IMAGES.delete().where(IMAGES.c.id == image_id))
    tx.after_commit(lambda: stores.delete(image_id, held))


# Bytes


def ready_for_data(row: Row, target: str) -> None:
    """Whether bytes may come in: Conflict when there are some, BadRequest when a format is missing."""
    if row["status"] != "queued":
        raise Conflict(f"Image status transition from {row['status']} to {target} is not allowed")
    missing = [name for name in ("disk_format", "container_format") if not row[name]]
    if missing:
        word = "Property" if len(missing) == 1 else "Properties"
        raise BadRequest(f"{word} {', '.join(missing)} must be set prior to saving data.")


def begin_data(tx: Tx, context: Context, image_id: str, target: str) -> Row:
    """Mark that bytes come in (`saving`, `uploading` or `importing`); the image as it was."""
    row = get_own(tx, context, image_id, "upload data for")
    ready_for_data(row, target)
    if not move(tx, row["id"], "queued", target):
        raise Conflict(f"Image status transition from {row['status']} to {target} is not allowed")
    return row


def end_data(tx: Tx, image_id: str, source: str, data: Data, stores: Iterable[str]) -> None:
    """The bytes are in these stores. Gone when the image was deleted meanwhile."""
    if not move(tx, image_id, source, "active", **data.columns):
        raise _gone(image_id)
    locations.add(tx, image_id, stores)


def end_staging(tx: Tx, image_id: str, size: int) -> None:
    """The bytes wait for their import. Gone when the image was deleted meanwhile."""
    if not move(tx, image_id, "uploading", "uploading", size=size):
        raise _gone(image_id)


def is_staged(row: Row) -> bool:
    """Whether all its bytes wait for their import; until they have come, it has no size."""
    return row["status"] == "uploading" and row["size"] is not None


def _gone(image_id: str) -> Gone:
    return Gone(
        f"Image {image_id} could not be found after upload. The image may have been deleted during the upload, "
        "cleaning up the chunks uploaded."
    )


def add_copies(tx: Tx, image_id: str, stores: Iterable[str]) -> None:
    """The bytes are in these stores, too. Gone when the image was deleted meanwhile."""
    if tx.execute(IMAGES.update().where(IMAGES.c.id == image_id).values(updated_at=now())).rowcount != 1:
        raise Gone(f"Image {image_id} was deleted while it was copied.")
    locations.add(tx, image_id, stores)


def give_up_data(tx: Tx, image_id: str, source: str) -> None:
    """Back to `queued`, without a size: the upload may be tried again."""
    move(tx, image_id, source, "queued", size=None, virtual_size=None)


def tell_import(tx: Tx, image_id: str, importing: Iterable[str] = (), failed: Iterable[str] = ()) -> None:
    """Write into the image's properties which stores its import is on the way to, and which it has not come to, as Glance
    does. Nothing when the image is gone."""
    row = tx.first(sa.select(IMAGES.c.properties).where(IMAGES.c.id == image_id))
    if row is not None:
        told = {"os_glance_importing_to_stores": ",".join(importing), "os_glance_failed_import": ",".join(failed)}
        save(tx, image_id, {"properties": {**row["properties"], **told}})


def sweep(database: Database, stores: Stores) -> list[str]:
    """At start: what died with its process, uploads and imports, is queued again; what was staged whole still is. Files
    that no image owns are removed."""

    def recover(tx: Tx) -> tuple[dict[str, set[str]], set[str]]:
        for task in tasks.interrupted(tx):
            tell_import(tx, task["image_id"], failed=tasks.targets(task) or [stores.default.name])
        half = (IMAGES.c.status == "uploading") & IMAGES.c.size.is_(None)
        died = half | IMAGES.c.status.in_(("saving", "importing"))
        tx.execute(IMAGES.update().where(died).values(status="queued", size=None))
        staged = tx.execute(sa.select(IMAGES.c.id).where(IMAGES.c.status == "uploading")).scalars()
        return locations.held_in(tx), set(staged)

    return stores.sweep(*database.write(recover))


# For the other rooms


def image_spec(tx: Tx, image_id: str) -> ImageSpec:
    """What a host must know of the image. NotFound when it is gone."""
    row = tx.first(sa.select(IMAGES).where(IMAGES.c.id == image_id))
    if row is None:
        raise NotFound(f"No image found with ID {image_id}")
    properties = {key: str(value) for key, value in row["properties"].items() if not key.startswith("os_glance")}
    return ImageSpec(
        id=row["id"],
        name=row["name"] or "",
        disk_format=row["disk_format"] or "raw",
        size=row["size"] or 0,
        checksum=row["checksum"],
        min_disk_gb=row["min_disk"],
        kernel_id=properties.get("kernel_id") or None,
        ramdisk_id=properties.get("ramdisk_id") or None,
        properties=properties,
    )


@dataclass(frozen=True)
class FromFile:
    """A public image whose data is a file of this machine. `min_disk`: GiB."""

    name: str
    path: Path
    disk_format: str
    min_disk: int = 0
    properties: Mapping[str, str] = field(default_factory=dict)


def register(database: Database, stores: Stores, id: str, asked: FromFile) -> Row:
    """An active image of that id; one that there is already is left alone. The file is copied outside the transaction."""
    data = stores.adopt(id, asked.path, asked.disk_format)
    return database.write(lambda tx: _register(tx, id, asked, data, stores.default.name))


def _register(tx: Tx, id: str, asked: FromFile, data: Data, store: str) -> Row:
    present = tx.first(sa.select(IMAGES).where(IMAGES.c.id == id))
    if present is not None and present["status"] == "active":
        return present
    values = {
        "name": asked.name, "visibility": "public", "owner": None, "disk_format": asked.disk_format,
        "container_format": "bare", "min_disk": asked.min_disk, "min_ram": 0,
    }  # fmt: skip
    row = {**_new_row(id, values, asked.properties), "status": "active", **data.columns}
    insert_new(tx.connection, IDS, {"id": id})
    if present is None:
        insert_new(tx.connection, IMAGES, row)
    else:
        tx.execute(IMAGES.update().where(IMAGES.c.id == id).values(**row))
    locations.add(tx, id, [store])
    made = tx.first(sa.select(IMAGES).where(IMAGES.c.id == id))
    assert made is not None
    return made
