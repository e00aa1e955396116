"""Bytes over HTTP: upload, stage, download. Each opens its own short transactions round the long I/O."""

import re

from kilonova.db.engine import Tx
from kilonova.image import images, locations, quotas
from kilonova.image.intake import Intake
from kilonova.image.store_handlers import stores_of
from kilonova.model.errors import APIError, BadRequest, Forbidden, UnsupportedMediaType
from kilonova.web.call import Call, Reply
from kilonova.web.validate import whole


class RangeNotSatisfiable(APIError):
    status = 416


def _expected_size(call: Call) -> int | None:
    """What the client said it would send, where it said so."""
    text = call.headers.get("x-openstack-image-size") or call.headers.get("content-length")
    if text is None:
        return None
    size = whole(text)
    if size is None:
        raise BadRequest("Invalid or missing image size in request headers.")
    return size


def _binary(call: Call) -> None:
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/octet-stream":
        raise UnsupportedMediaType(f"Invalid content type {kind}; image data is application/octet-stream.")


def _begin(call: Call, status: str, **room: int) -> images.Row:
    """The image, from now on in `status`, unless the project has too much already, or too much on its way."""

    def begin(tx: Tx) -> images.Row:
        quotas.enforce_for(call, tx, **room)
        row = images.begin_data(tx, call.context, call.params["image_id"], status)
        quotas.enforce_for(call, tx, image_count_uploading=0)
        return row

    return call.database.write(begin)


def upload(call: Call) -> None:
    """Then it is active, or whatever happened it is queued again, without any bytes."""
    _binary(call)
    size, stores = _expected_size(call), stores_of(call)
    name = call.headers.get("x-image-meta-store", stores.default.name)
    if name not in stores.names:
        raise BadRequest(f"Store for identifier {name} not found")
    row = _begin(call, "saving", image_size_total=(size or 0) >> 20)
    image_id, written = row["id"], False
    try:
        intake = Intake(call.stream, row["disk_format"], row["container_format"], size)
        data = stores.write(image_id, intake, name)
        written = True
        call.database.write(lambda tx: images.end_data(tx, image_id, "saving", data, [name]))
    except BaseException:
        if written:
            stores.delete(image_id, [name])
        call.database.write(lambda tx: images.give_up_data(tx, image_id, "saving"))
        raise


def stage(call: Call) -> None:
    _binary(call)
    size = _expected_size(call)
    row = _begin(call, "uploading", image_stage_total=(size or 0) >> 20)
    image_id, stores = row["id"], stores_of(call)
    try:
        staged = stores.stage(image_id, call.stream)
        if size is not None and staged != size:
            raise BadRequest(f"Expected {size} bytes of image data but received {staged}.")
        call.database.write(lambda tx: images.end_staging(tx, image_id, staged))
    except BaseException:
        stores.unstage(image_id)
        call.database.write(lambda tx: images.give_up_data(tx, image_id, "uploading"))
        raise


def download(call: Call) -> Reply:
    def find(tx: Tx) -> tuple[images.Row, list[str]]:
        row = images.get(tx, call.context, call.params["image_id"])
        return row, locations.held(tx, row["id"])

    row, held = call.database.read(find)
    if row["status"] == "deactivated" and not call.context.is_admin:
        raise Forbidden("The requested image has been deactivated. Image data download is forbidden.")
    if row["status"] not in ("active", "deactivated") or row["checksum"] is None:  # none came yet, or none ever will
        return Reply(status=204)
    size = int(row["size"])
    headers = {"Content-Type": "application/octet-stream", "Content-MD5": row["checksum"], "Accept-Ranges": "bytes"}
    part = _range(call.headers.get("range"), size)
    start, length = part or (0, size)
    headers["Content-Length"] = str(length)
    if part:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    if call.method == "HEAD":
        return Reply(b"", headers=headers)
    return Reply(stores_of(call).read(row["id"], held, start, length), 206 if part else 200, headers)


def _range(text: str | None, size: int) -> tuple[int, int] | None:
    """(start, length) of `bytes=a-b`, `bytes=a-` or `bytes=-n`; None where the whole is wanted."""
    if not text:
        return None
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip(), re.ASCII)
    if not match or not any(match.groups()):
        raise RangeNotSatisfiable(f"The Range {text!r} is not understood; give one as bytes=0-1023.")
    first, last = (whole(group) for group in match.groups())
    if first is None:
        start, end = max(size - (last or 0), 0), size - 1
    else:
        start, end = first, size - 1 if last is None else min(last, size - 1)
    if start >= size or end < start:
        raise RangeNotSatisfiable(f"The Range {text!r} lies outside the {size} bytes of the image.")
    return start, end - start + 1
