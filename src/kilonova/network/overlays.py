"""Who else carries a host's VXLAN networks, and what is behind them there (Neutron: the l2population mechanism driver)."""

from collections import defaultdict
from collections.abc import Collection

import msgspec
import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.specs import NetworkSpec, OverlaySpec, PeerSpec
from kilonova.network import provider, scheduling, tables

_P, _N = tables.PORTS, tables.NETWORKS
_IDS: sa.BindParameter[str] = sa.bindparam("ids", expanding=True)
VNIS = sa.select(_N.c.id, _N.c.segmentation_id).where(_N.c.id.in_(_IDS), _N.c.network_type == provider.VXLAN)
ELSEWHERE = (
    sa.select(_P.c.network_id, _P.c.host, _P.c.mac_address)
    .where(_P.c.network_id.in_(_IDS), _P.c.host.in_(sa.bindparam("hosts", expanding=True)))
    .where(_P.c.vif_type != "binding_failed")
    .order_by(_P.c.network_id, _P.c.host, _P.c.mac_address)
)


def of_host(tx: Tx, host: str, network_ids: Collection[str]) -> dict[str, OverlaySpec]:
    """network id → its VXLAN, of those networks that are one; none on a host without an overlay address."""
    addresses = scheduling.overlay_addresses(tx)
    local = addresses.pop(host, "")
    if not local or not network_ids:
        return {}
    vnis: dict[str, int] = dict(map(tuple, tx.execute(VNIS, {"ids": list(network_ids)}).all()))
    peers: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    asked = {"ids": list(vnis), "hosts": list(addresses)}
    for network_id, there, mac in tx.execute(ELSEWHERE, asked).all() if vnis and addresses else ():
        peers[network_id][addresses[there]].append(mac)
    return {
        network_id: OverlaySpec(
            vni=vni,
            local=local,
            peers=tuple(PeerSpec(address=address, macs=tuple(macs)) for address, macs in peers[network_id].items()),
        )
        for network_id, vni in vnis.items()
    }


def with_overlay(network: NetworkSpec, overlay: OverlaySpec | None) -> NetworkSpec:
    """The very same network if it has it already."""
    return network if network.overlay == overlay else msgspec.structs.replace(network, overlay=overlay)
