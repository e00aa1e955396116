"""The config drive: an ISO 9660 image labelled `config-2` with the files that the metadata service serves.

Nova: `nova/virt/configdrive.py` (ConfigDriveBuilder).
"""

import io
import json
from pathlib import Path
from typing import Any

from kilonova.host.metadata_content import ec2_tree, openstack_files
from kilonova.model.specs import ServerSpec

LABEL = "config-2"


def write_config_drive(server: ServerSpec, path: Path) -> None:
    """Writes the image to `path`, which must not exist."""
    write_iso(config_drive_files(server), path)


def config_drive_files(server: ServerSpec) -> dict[str, bytes]:
    """Path → content of all files of the drive."""
    files = openstack_files(server, on_drive=True)
    tree = ec2_tree(server)
    for version in ("2009-04-04", "latest"):
        files[f"ec2/{version}/meta-data.json"] = json.dumps(_plain(tree["meta-data"])).encode()
        if "user-data" in tree:
            files[f"ec2/{version}/user-data"] = tree["user-data"]
    return files


def write_iso(files: dict[str, bytes], path: Path) -> None:
    """Joliet and Rock Ridge carry the real names; the ISO's own 8.3 names are numbers."""
    import pycdlib

    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL, sys_ident="LINUX")
    try:
        folders: dict[str, str] = {"": ""}
        for number, (name, content) in enumerate(sorted(files.items())):
            parent = _folder(iso, folders, name.rpartition("/")[0])
            leaf = name.rpartition("/")[2]
            iso.add_fp(
                io.BytesIO(content), len(content), f"{parent}/F{number:07d}.;1", rr_name=leaf, joliet_path=f"/{name}"
            )
        iso.write(str(path))
    finally:
        iso.close()


def _folder(iso: Any, folders: dict[str, str], name: str) -> str:
    """The ISO path of a folder, made with its parents when it is not there yet."""
    if name not in folders:
        above = _folder(iso, folders, name.rpartition("/")[0])
        folders[name] = f"{above}/D{len(folders):07d}"
        iso.add_directory(folders[name], rr_name=name.rpartition("/")[2], joliet_path=f"/{name}")
    return folders[name]


def _plain(value: Any) -> Any:
    """JSON has no need of the names by which a folder lists itself."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if name != "_name"}
    return value
