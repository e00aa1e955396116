"""MAC addresses: random, and one of a kind in their network."""

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict
from kilonova.model.ids import new_mac
from kilonova.network import tables


def is_taken(tx: Tx, network_id: str, mac: str) -> bool:
    ports = tables.PORTS
    held = sa.select(ports.c.id).where(ports.c.network_id == network_id, ports.c.mac_address == mac)
    return tx.scalar(held) is not None


def in_use(network_id: str, mac: str) -> Conflict:
    """neutron_lib.exceptions.MacAddressInUse."""
    return Conflict(
        f"Unable to complete operation for network {network_id}. The mac address {mac} is in use.",
        type="MacAddressInUse",
    )


def free_mac(tx: Tx, network_id: str) -> str:
    mac = new_mac()
    while is_taken(tx, network_id, mac):
        mac = new_mac()
    return mac
