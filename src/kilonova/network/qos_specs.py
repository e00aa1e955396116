"""QoS policies as the values a host is given with its ports: one query, however many ports there are."""

import msgspec
import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.specs import LimitSpec, PacketLimitSpec, PortSpec, QosSpec
from kilonova.network import tables
from kilonova.network.service_tables import QOS_NETWORK_BINDINGS, QOS_PORT_BINDINGS, QOS_RULES

NONE = QosSpec()
_P, _OWN, _OF_NETWORK, _RULES = tables.PORTS, QOS_PORT_BINDINGS, QOS_NETWORK_BINDINGS, QOS_RULES
# A port's own policy goes before its network's, which is not for the network's own devices (Neutron:
# should_apply_to_port).
RULES_OF_HOST = (
    sa.select(
        _P.c.id,
        _RULES.c.type,
        _RULES.c.direction,
        sa.func.coalesce(_RULES.c.max_kbps, _RULES.c.max_kpps),
        sa.func.coalesce(_RULES.c.max_burst_kbps, _RULES.c.max_burst_kpps),
        _RULES.c.dscp_mark,
    )
    .select_from(_P)
    .join(_OWN, _OWN.c.port_id == _P.c.id, isouter=True)
    .join(_OF_NETWORK, _OF_NETWORK.c.network_id == _P.c.network_id, isouter=True)
    .join(_RULES, _RULES.c.qos_policy_id == sa.func.coalesce(_OWN.c.policy_id, _OF_NETWORK.c.policy_id))
    .where(
        _P.c.host == sa.bindparam("of_host"),
        sa.or_(_OWN.c.policy_id.is_not(None), sa.not_(_P.c.device_owner.like("network:%"))),
    )
)


def of_host(tx: Tx, host: str) -> dict[str, QosSpec]:
    """port id → what its policy says, for the host's ports that have one with rules."""
    found: dict[str, QosSpec] = {}
    for port_id, kind, direction, rate, burst, mark in tx.execute(RULES_OF_HOST, {"of_host": host}).all():
        before = found.get(port_id, NONE)
        if kind == "dscp_marking":
            found[port_id] = msgspec.structs.replace(before, dscp=mark)
        elif kind == "bandwidth_limit" and rate:  # 0 is none
            found[port_id] = msgspec.structs.replace(before, **{direction: LimitSpec(kbps=rate, burst_kb=burst)})
        elif kind == "packet_rate_limit" and rate:
            limit = PacketLimitSpec(kpps=rate, burst_kpps=burst)
            found[port_id] = msgspec.structs.replace(before, **{f"{direction}_packets": limit})
    return found


def with_qos(port: PortSpec, qos: QosSpec) -> PortSpec:
    """The very same port if it has it already."""
    return port if port.qos == qos else msgspec.structs.replace(port, qos=qos)
