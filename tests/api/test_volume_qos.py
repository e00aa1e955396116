"""QoS specs of the front end are what guests' disks are held to."""

import time

import pytest
from volume_client import ADMIN, Cinder, cinder

from kilonova.volume import states
from kilonova.volume.specs import front_end_qos

__all__ = ["cinder"]


@pytest.mark.parametrize("consumer", ["front-end", "both", "back-end"])
def test_a_volume_has_those_of_its_type(cinder: Cinder, consumer: str) -> None:
    wish = {
        "name": "q",
        "consumer": consumer,
        "total_bytes_sec": "1000000",
        "read_iops_sec_per_gb": "50",
        "note": "gold",
        "unset": None,
    }
    made = cinder.post("/qos-specs", {"qos_specs": wish}, ADMIN).json()["qos_specs"]
    kind = cinder.post("/types", {"volume_type": {"name": "gold"}}, ADMIN).json()["volume_type"]
    assert cinder.get(f"/qos-specs/{made['id']}/associate?vol_type_id={kind['id']}", ADMIN).status_code == 202
    for volume_type, expected in (
        ("gold", {"total_bytes_sec": "1000000", "read_iops_sec": "150", "note": "gold"}),
        ("__DEFAULT__", {}),
    ):
        volume = cinder.volume(size=3, volume_type=volume_type)
        found = cinder.database.read(lambda tx, id=volume["id"]: front_end_qos(tx, states.get_row(tx, "volume", id)))
        assert found == (expected if consumer != "back-end" else {})


def test_keys_are_taken_away_in_time_that_their_number_bounds(cinder: Cinder) -> None:
    """Each spec was looked for among all keys, while nobody else wrote: with the largest bodies for an hour."""
    specs = {f"k{number}": "v" for number in range(20_000)}
    made = cinder.post("/qos-specs", {"qos_specs": {"name": "q", **specs}}, ADMIN).json()["qos_specs"]
    begun = time.monotonic()
    path = f"/qos-specs/{made['id']}"
    assert cinder.put(f"{path}/delete_keys", {"keys": ["k1"] * 100_000 + ["k0"]}, ADMIN).status_code == 202
    assert time.monotonic() - begun < 10
    left = cinder.get(path, ADMIN).json()["qos_specs"]["specs"]
    assert set(left) == set(specs) - {"k0", "k1"}
