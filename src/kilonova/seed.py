"""What every new cloud has: users, flavors, networks, images. Doing it again changes nothing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kilonova.compute import seed as compute
from kilonova.config import Config
from kilonova.db.engine import Database, Tx
from kilonova.identity import seed as identity
from kilonova.image import images
from kilonova.image.store import Stores
from kilonova.model.errors import KilonovaError
from kilonova.model.ids import new_id
from kilonova.network import seed as network
from kilonova.volume import seed as volume

GUEST_NAMES = ("kilonova-guest", "kilonova-guest-alt")
GUEST_PROPERTIES = {"hw_scsi_model": "virtio-scsi"}  # the one SCSI controller that it has a driver for
BUILT_GUEST = Path(__file__).resolve().parents[2] / "build" / "guest.qcow2"


def seed(database: Database, stores: Stores, config: Config, known: dict[str, Any]) -> dict[str, Any]:
    """Returns cloud.json's `images`, `flavors`, `networks` and `public_cidr`. `known` is what cloud.json said before."""
    cidr = known.get("public_cidr") or config.public_cidr or "172.24.0.0/24"

    passwords = {name: known[name] for name in ("admin_password", "demo_password")}

    def write(tx: Tx) -> dict[str, Any]:
        projects = identity.seed(tx, **passwords)["projects"]
        owners = {f"{name}_project_id": projects[name] for name in ("demo", "admin")}
        on_a_lan = "public" in dict(config.physnets)
        volume.seed(tx)
        networks = network.seed(tx, **owners, public_cidr=None if on_a_lan else cidr)
        return {"flavors": compute.seed(tx), "networks": networks, "public_cidr": cidr}

    with ThreadPoolExecutor(1) as beside:  # passwords and images are hashed, which two CPUs do at once
        found = beside.submit(_images, database, stores, config, known.get("images", {}))
        seeded = database.write(write)
    return seeded | {"images": found.result()}


def _images(database: Database, stores: Stores, config: Config, known: dict[str, Any]) -> dict[str, Any]:
    wanted = dict(config.images)
    built = [name for name in GUEST_NAMES if name not in wanted and name not in known]
    for name in built:
        wanted[name] = _guest_file(config)
    found = dict(known)
    for name, path in wanted.items():
        if name in known:
            continue
        identifier = new_id()
        disk_format = "qcow2" if path.open("rb").read(4) == b"QFI\xfb" else "raw"
        properties = GUEST_PROPERTIES if name in built else {}
        images.register(database, stores, identifier, images.FromFile(name, path, disk_format, properties=properties))
        found[name] = {"id": identifier, "file": str(path.resolve())}
    return found


def _guest_file(config: Config) -> Path:
    path = config.guest_image or BUILT_GUEST
    if path.exists():
        return path
    if not config.fake:
        raise KilonovaError(
            f"the guest image {path} is missing; `make image` builds it, or name one with --guest-image"
        )
    empty = config.state / "empty.raw"  # a fake guest boots nothing
    with empty.open("wb") as file:
        file.truncate(1 << 20)
    return empty
