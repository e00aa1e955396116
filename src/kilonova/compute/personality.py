"""Files that a server is given by its request (Nova's `personality`, until 2.56).

They lie on its config drive, whose `meta_data.json` names them, and cloud-init writes them where they belong; into a disk
nothing is written (Nova: `inject_partition = -2`, its default). Nova: `_check_injected_file_quota`.
"""

import base64
import binascii

from kilonova.compute import quotas
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, OverQuota


def check(tx: Tx, project_id: str, files: list[dict[str, str]]) -> list[dict[str, str]]:
    """[{"path", "contents": base64}, …] as they are kept. BadRequest, or OverQuota in Nova's words."""
    limits = quotas.limits(tx, project_id)
    if _exceeds(len(files), limits["injected_files"]):
        raise OverQuota("Personality file limit exceeded")
    for file in files:
        if set(file) != {"path", "contents"}:
            raise BadRequest("Bad personality format: a file has a path and contents.")
        if _exceeds(len(file["path"].encode()), most := limits["injected_file_path_bytes"]):
            raise OverQuota(f"Personality file path exceeds maximum {most}")
        if _exceeds(_size(file["contents"]), most := limits["injected_file_content_bytes"]):
            raise OverQuota(f"Personality file content exceeds maximum {most}")
    return files


def _exceeds(value: int, most: int) -> bool:
    return 0 <= most < value


def _size(contents: str) -> int:
    """In bytes, decoded."""
    try:
        return len(base64.b64decode(contents, validate=True))
    except (binascii.Error, ValueError) as error:
        short = contents[:100]
        raise BadRequest(
            f"Invalid input for field/attribute contents. Value: {short}. {short!r} is not a 'base64'"
        ) from error
