"""POST /v2/images/{id}/import: bytes that were staged, or lie on the web, or in another store, become the image's.

An import is a thread of this process and the row of its task. A restart fails the task and queues the image again
(`images.sweep`); whatever happens, no bytes are left that no image owns. Glance: glance/async_/flows/api_image_import.py.
"""

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Database, Tx
from kilonova.image import images, locations, quotas, schemas, tasks
from kilonova.image.fetch import FetchError, WebSource
from kilonova.image.intake import Data, Intake
from kilonova.image.store import Stores
from kilonova.image.tables import IMAGES
from kilonova.model.errors import BadRequest, Conflict, Forbidden, KilonovaError
from kilonova.web.call import Call, Reply
from kilonova.web.validate import check

log = logging.getLogger(__name__)
AT_ONCE = 4  # of one project; more wait
Row = sa.RowMapping
HOLDS = ("active", "deactivated")  # statuses of an image that can be copied


class Imports:
    """Those under way in this process."""

    def __init__(self, database: Database, stores: Stores, web: WebSource | None = None) -> None:
        self.database, self.stores, self.web = database, stores, web or WebSource()
        # By project: a web server that sends its data slowly, or without an end, keeps nobody else's from coming in.
        self._slots: dict[str, threading.Semaphore] = {}
        self._ending = threading.Event()
        self._threads: set[threading.Thread] = set()

    @property
    def methods(self) -> list[str]:
        """`web-download` only where some host is allowed."""
        return ["glance-direct", *(["web-download"] if self.web.allowed else []), "copy-image"]

    def start(self, task_id: str, owner: str) -> None:
        """Run the project's task, which is committed, in the background."""
        slots = self._slots.setdefault(owner, threading.BoundedSemaphore(AT_ONCE))
        thread = threading.Thread(target=self._run, args=(task_id, slots), name="import", daemon=True)
        self._threads.add(thread)
        thread.start()

    def stop(self) -> None:
        """Those that still run give up, and say so; one that cannot be reached within 5 s is failed by the next start."""
        self._ending.set()
        deadline = time.monotonic() + 5
        for thread in list(self._threads):
            thread.join(max(deadline - time.monotonic(), 0))

    def _run(self, task_id: str, slots: threading.Semaphore) -> None:
        try:
            with slots:
                self._import(task_id)
        except Exception:  # the database is gone, too: the next start puts it right
            log.exception("the import of task %s ended without a word", task_id)
        finally:
            self._threads.discard(threading.current_thread())

    def _import(self, task_id: str) -> None:
        def begin(tx: Tx) -> tuple[Row, Row | None, list[str]]:
            tasks.begin(tx, task_id)
            task = tasks.get(tx, task_id)
            image = tx.first(sa.select(IMAGES).where(IMAGES.c.id == task["image_id"]))
            return task, image, locations.held(tx, task["image_id"])

        task, image, held = self.database.write(begin)
        image_id = task["image_id"]
        targets = tasks.targets(task) or [self.stores.default.name]
        done: list[str] = []
        try:
            if image is None:
                raise FetchError(f"Image {image_id} was deleted before its import began.")
            data = self._take(task, image, held, done)
            self.database.write(lambda tx: self._end(tx, task, data, done))
        except Exception as error:
            if not isinstance(error, KilonovaError | OSError):
                log.exception("the import of image %s failed", image_id)
            message = str(error) or type(error).__name__
            self._remove(image_id, done)
            self.database.write(lambda tx: self._fail(tx, task, targets, message))
        else:
            self.stores.unstage(image_id)

    def _take(self, task: Row, image: Row, held: list[str], done: list[str]) -> Data:
        """Bring the bytes to each store that is asked for; those that have them are added to `done`. The last error where
        all were to have them, or none has."""
        data, problem = None, None
        for name in tasks.targets(task) or [self.stores.default.name]:
            try:
                chunks, known = self._source(task, image, held + done), data.os_hash_value if data else image["os_hash_value"]
                looked_at = None if held + done else image["disk_format"]
                wanted = self._while_wanted(image, chunks)
                intake = Intake(wanted, looked_at, image["container_format"], sha512=known)
                found = self.stores.write(image["id"], intake, name)
                data = data or found
                done.append(name)
            except (KilonovaError, OSError) as error:
                problem = error
                if tasks.all_must_succeed(task):
                    break
        if data is None or (problem and tasks.all_must_succeed(task)):
            assert problem is not None
            raise problem
        return data

    def _source(self, task: Row, image: Row, held: list[str]) -> Iterable[bytes]:
        uri = source_of(task)
        if held:
            return self.stores.read(image["id"], held)
        return self.web.read(uri) if uri else self.stores.read_staged(image["id"])

    def _while_wanted(self, image: Row, chunks: Iterable[bytes]) -> Iterable[bytes]:
        """FetchError once the image is deleted, or this process ends; looked at every second."""
        looked, good = time.monotonic(), HOLDS if image["status"] in HOLDS else (image["status"],)
        for chunk in chunks:
            if self._ending.is_set():
                raise FetchError("The service ended while the data came in: ask for the import again.")
            if time.monotonic() - looked > 1:
                looked = time.monotonic()
                if self.database.read(lambda tx: _status(tx, image["id"])) not in good:
                    raise FetchError(f"Image {image['id']} was deleted while its data came in.")
            yield chunk

    def _end(self, tx: Tx, task: Row, data: Data, done: list[str]) -> None:
        image_id = task["image_id"]
        if is_copy(task):
            images.add_copies(tx, image_id, done)
        else:
            images.end_data(tx, image_id, "importing", data, done)
        images.tell_import(tx, image_id, failed=[name for name in tasks.targets(task) if name not in done])
        tasks.end(tx, task["id"], "success", f"Copied {data.size >> 20} MiB", {"image_id": image_id})

    def _fail(self, tx: Tx, task: Row, targets: list[str], message: str) -> None:
        images.give_up_data(tx, task["image_id"], "importing")
        images.tell_import(tx, task["image_id"], failed=targets)
        tasks.end(tx, task["id"], "failure", message)

    def _remove(self, image_id: str, done: list[str]) -> None:
        """Nothing else writes this image's bytes while its task is under way, or once it is deleted."""
        self.stores.delete(image_id, done)


def _status(tx: Tx, image_id: str) -> Any:
    return tx.scalar(sa.select(IMAGES.c.status).where(IMAGES.c.id == image_id))


def is_copy(task: Row) -> bool:
    return task["type"] != "import" and task["input"]["import_req"]["method"]["name"] == "copy-image"


def source_of(task: Row) -> str:
    """Where the bytes lie; "" for those that were staged."""
    if task["type"] == "import":
        return str(task["input"]["import_from"])
    return str(task["input"]["import_req"]["method"].get("uri") or "")


# The door


def import_image(call: Call) -> Reply:
    """202: the task runs; or, of a copy to stores that have the image already, there is nothing to do."""
    imports: Imports = call.services.imports
    name = _method(call, imports)
    quotas.enforce_for(call, call.tx, image_size_total=0)
    row = images.get(call.tx, call.context, call.params["image_id"])
    _ready(row, name)
    if name == "copy-image" and not call.context.is_admin:
        raise Forbidden("You are not authorized to complete copy_image action.")
    if name != "copy-image":
        row = images.get_own(call.tx, call.context, row["id"], "import data for")
    stores = _stores(call, imports.stores)
    if name == "copy-image":
        stores = _without_those_that_have_it(call, row, stores)
        if not stores:
            return Reply()
    uri = call.body["method"].get("uri")
    if name == "web-download" and not imports.web.permits(uri):
        raise BadRequest(f"URI for web-download does not pass filtering: {uri}")
    target = row["status"] if name == "copy-image" else "importing"
    if tasks.under_way(call.tx, row["id"]) or not images.move(call.tx, row["id"], row["status"], target):
        raise Conflict(f"New operation on image '{row['id']}' is not permitted as prior operation is still in progress")
    asked = {"image_id": row["id"], "import_req": call.body, "backend": stores}
    task = tasks.create(call.tx, call.context, "api_image_import", row["id"], asked)
    if name == "glance-direct":
        quotas.enforce_for(call, call.tx, image_size_total=row["size"] >> 20)
    else:
        quotas.enforce_for(call, call.tx, image_stage_total=0, image_count_uploading=0)
    images.tell_import(call.tx, row["id"], importing=stores)
    call.tx.after_commit(lambda: imports.start(task, call.context.project_id))
    return Reply()


def _stores(call: Call, stores: Stores) -> list[str]:
    """Which stores the request names (Glance: get_stores_from_request in glance/common/utils.py)."""
    header, asked = call.headers.get("x-image-meta-store"), call.body.get("stores")
    if call.body.get("all_stores", False):
        if "stores" in call.body or header:
            raise BadRequest("All_stores parameter can't be used with x-image-meta-store header or stores parameter")
        return stores.names
    if "stores" in call.body and header:
        raise BadRequest("Stores parameter and x-image-meta-store header can't be both specified")
    if "stores" not in call.body:
        asked = [header or stores.default.name]
    if not isinstance(asked, list) or not asked or any(each not in stores.names for each in asked):
        raise Conflict("One of the stores of this request is not there; GET /v2/info/stores lists them.")
    return list(dict.fromkeys(asked))


def _without_those_that_have_it(call: Call, row: Row, stores: list[str]) -> list[str]:
    held = locations.held(call.tx, row["id"])
    there = [name for name in stores if name in held]
    if there and not call.body.get("all_stores", False):
        raise BadRequest(f"Image is already present at store '{there[0]}'")
    if not held:
        raise Conflict(f"Image {row['id']} has no data that could be copied.")
    return [name for name in stores if name not in held]


def _method(call: Call, imports: Imports) -> str:
    """The import method's name, of a body that is otherwise in order, too."""
    method = call.body.get("method") if isinstance(call.body, dict) else None
    if not isinstance(method, dict):
        raise BadRequest("Import request requires a 'method' field.")
    if "name" not in method:
        raise BadRequest("Import request requires a 'name' field.")
    if method["name"] not in imports.methods:
        raise BadRequest(f"Unknown import method name '{method['name']}'.")
    for flag in ("all_stores_must_succeed", "all_stores"):
        if not isinstance(call.body.get(flag, False), bool):
            raise BadRequest(f"'{flag}' must be boolean value only")
    return str(method["name"])


def _ready(row: Row, method: str) -> None:
    if row["status"] == "active" and method != "copy-image":
        raise Conflict("Image with status active cannot be target for import")
    if row["status"] != "active" and method == "copy-image":
        raise Conflict("Only images with status active can be targeted for copying")
    if method == "web-download" and row["status"] != "queued":
        raise Conflict("Image needs to be in 'queued' state to use 'web-download' method")
    if method == "glance-direct" and not images.is_staged(row):
        raise Conflict("Image needs to be staged before 'glance-direct' method can be used")
    for name in ("container_format", "disk_format"):
        if not row[name]:
            raise Conflict(f"'{name}' needs to be set before import")


def create_task(call: Call) -> Reply:
    """POST /v2/tasks, type `import`: an image made of what lies on the web, in one request."""
    imports: Imports = call.services.imports
    if not isinstance(call.body, dict):
        raise BadRequest("Body expected in request.")
    for name in ("type", "input"):
        if name not in call.body:
            raise BadRequest(f"Task '{name}' is required")
    check(call.body, schemas.TASK_REQUEST)
    asked = call.body["input"]
    for name in ("import_from", "import_from_format", "image_properties"):
        if not asked.get(name):
            raise BadRequest(f"Input to task does not contain '{name}' field")
    if not imports.web.permits(asked["import_from"]):
        raise BadRequest(f"The given uri is not valid, or its host is not allowed: {asked['import_from']}")
    values = {"container_format": "bare", "disk_format": asked["import_from_format"], **asked["image_properties"]}
    check(values, schemas.CHECKED)
    own = {name: values[name] for name in ("name", "visibility", "container_format", "disk_format", "min_disk",
                                           "min_ram", "protected", "tags") if name in values}  # fmt: skip
    properties = {name: value for name, value in values.items() if name not in schemas.IMAGE_PROPERTIES}
    if any(name.startswith("os_glance") for name in properties):
        raise Forbidden("Attributes that begin with os_glance are reserved.")
    quotas.check_counts(properties, own.get("tags", ()))
    quotas.enforce_for(call, call.tx, image_size_total=0, image_count_total=1)
    row = images.create(call.tx, call.context, own, properties)
    images.move(call.tx, row["id"], "queued", "importing")
    quotas.enforce_for(call, call.tx, image_stage_total=0, image_count_uploading=0)
    id = tasks.create(call.tx, call.context, "import", row["id"], asked)
    call.tx.after_commit(lambda: imports.start(id, call.context.project_id))
    return Reply(tasks.view(tasks.get(call.tx, id)), headers={"Location": f"/v2/tasks/{id}"})

