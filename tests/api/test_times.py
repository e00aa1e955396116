"""Times at the ends of what a calendar of four digits holds, wherever a service reads one: told, or refused, never a 500."""

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from compute_client import ADMIN, ADMIN_PROJECT, DEMO, DEMO_PROJECT
from test_isolation import Everything

from kilonova.db.engine import Database
from kilonova.identity import times
from kilonova.model.errors import BadRequest
from kilonova.model.ids import read_time
from kilonova.volume.backups import SERVICE

BEYOND = ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00")  # in UTC they are in years that there are not
WITHIN = ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59+14:00")
SERVER, VOLUME = "/compute/v2.1/servers/{servers}", f"/volume/v3/{DEMO_PROJECT}"
QUERIES = (
    "/image/v2/images?created_at=", "/image/v2/images?updated_at=gt:", "/compute/v2.1/servers?changes-since=",
    "/compute/v2.1/servers/detail?changes-before=", SERVER + "/os-instance-actions?changes-since=",
    SERVER + "/os-instance-actions?changes-before=", "/compute/v2.1/os-migrations?changes-since=",
    "/compute/v2.1/os-migrations?changes-before=", VOLUME + "/volumes?created_at=gt:",
    VOLUME + "/volumes/detail?updated_at=lt:", "/identity/v3/OS-REVOKE/events?since=",
)  # fmt: skip


@pytest.fixture
def everything(database: Database, tmp_path: Path) -> Everything:
    return Everything(database, tmp_path / "images")


def test_a_time_is_in_utc_or_none() -> None:
    assert read_time("2026-01-02T03:04:05 02:00").isoformat() == "2026-01-02T01:04:05"
    assert [read_time(text).year for text in WITHIN] == [9999, 1, 9999]
    for text in BEYOND:
        with pytest.raises(ValueError, match="outside the years 1 to 9999"):
            read_time(text)


@pytest.mark.parametrize("query", QUERIES)
def test_queries(everything: Everything, query: str) -> None:
    url = query.replace("{servers}", everything.ids["servers"])
    for texts, status in ((BEYOND, 400), (WITHIN, 200)):
        for text in texts:
            answer = everything.call("GET", url + quote(text), ADMIN if "os-mig" in url or "REVOKE" in url else DEMO)
            assert answer.status_code == status, (text, answer.text)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59.999999Z", *BEYOND])
def test_expiry(text: str) -> None:
    """An `expires_at`, of application credentials and trusts alike."""
    assert times.parse(text) is None
    with pytest.raises(BadRequest, match="Timestamp not in expected format"):
        times.expiry(text)
    assert times.stamp(times.parse(WITHIN[0])) == "9999-12-31T23:59:59.000000Z"


def test_a_backup_s_record(everything: Everything) -> None:
    for when in (*BEYOND, 20260101, None):
        record = dict.fromkeys(("id", "location", "volume_id"), everything.ids["servers"]) | {
            "availability_zone": "nova", "host": "h", "backend": "b", "size": 1, "object_count": 0, "metadata": {},
            "data_timestamp": when,
        }  # fmt: skip
        url = base64.b64encode(json.dumps(record).encode()).decode()
        asked = {"backup-record": {"backup_service": SERVICE, "backup_url": url}}
        answer = everything.call("POST", f"/volume/v3/{ADMIN_PROJECT}/backups/import_record", ADMIN, asked)
        assert answer.status_code == 400 and "Can't parse backup record" in answer.text, (when, answer.text)
