"""What an explanation of a path looks up: the same values that hosts are given, one thing at a time."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.specs import NetworkSpec, PortSpec, RouterSpec, RuleSpec
from kilonova.network import ipam, ports, router_ports, router_specs, security_groups, specs, tables
from kilonova.network.rows import Row

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Net = ipaddress.IPv4Network | ipaddress.IPv6Network
PORTS, HELD, NETS, FLOATING = tables.PORTS, tables.IP_ALLOCATIONS, tables.NETWORKS, tables.FLOATING_IPS


@dataclass(frozen=True)
class Place:
    """A port: its row, and as its host sees it."""

    row: Row
    spec: PortSpec

    @property
    def addresses(self) -> list[IP]:
        return [ipaddress.ip_address(ip.ip_address) for ip in self.spec.fixed_ips]


class Lookup:
    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self._networks: dict[str, NetworkSpec] = {}
        self._rows: dict[str, Row] = {}

    def place(self, port_id: str) -> Place | None:
        row = self.tx.first(sa.select(PORTS).where(PORTS.c.id == port_id))
        return Place(row, specs.port_spec(row, ipam.fixed_ips(self.tx, [port_id])[port_id])) if row else None

    def places(self, *where: Any) -> list[Place]:
        found = self.tx.all(sa.select(PORTS).where(*where).order_by(PORTS.c.position, PORTS.c.created_at, PORTS.c.id))
        addresses = ipam.fixed_ips(self.tx, [row["id"] for row in found])
        return [Place(row, specs.port_spec(row, addresses[row["id"]])) for row in found]

    def holders(self, address: IP, network_id: str | None = None) -> list[Place]:
        """The ports that have this fixed address, in one network or in all."""
        held = sa.select(HELD.c.port_id).where(HELD.c.ip_address == str(address))
        return self.places(PORTS.c.id.in_(held if network_id is None else held.where(HELD.c.network_id == network_id)))

    def sharing(self, address: IP, network_id: str) -> list[Place]:
        """The ports of a network that may take this address as well (allowed address pairs)."""
        found = self.places(PORTS.c.network_id == network_id)
        return [
            each
            for each in found
            if any(address in ipaddress.ip_network(c) for _, c in each.spec.allowed_address_pairs)
        ]

    def network_row(self, network_id: str) -> Row:
        if network_id not in self._rows:
            row = self.tx.first(sa.select(NETS).where(NETS.c.id == network_id))
            assert row is not None
            self._rows[network_id] = row
        return self._rows[network_id]

    def network(self, network_id: str) -> NetworkSpec:
        if network_id not in self._networks:
            self._networks[network_id] = specs.network_specs(self.tx, [network_id], {})[0]
        return self._networks[network_id]

    def router_of(self, port_id: str) -> tuple[Row, RouterSpec] | None:
        """The router that the port is a leg of."""
        legs, routers = tables.ROUTER_PORTS, tables.ROUTERS
        row = self.tx.first(
            sa.select(routers).join(legs, legs.c.router_id == routers.c.id).where(legs.c.port_id == port_id)
        )
        return (row, self._spec(row)) if row else None

    def router_of_floating(self, port_id: str) -> tuple[Row, RouterSpec] | None:
        """The router that answers for the floating IP whose own port this is."""
        routers = tables.ROUTERS
        row = self.tx.first(
            sa.select(routers)
            .join(FLOATING, FLOATING.c.router_id == routers.c.id)
            .where(FLOATING.c.floating_port_id == port_id)
        )
        return (row, self._spec(row)) if row else None

    def _spec(self, row: Row) -> RouterSpec:
        ident = row["id"]
        legs = router_ports.legs(self.tx, [ident])[ident]
        floating = router_specs.floating_ips(self.tx, [ident]).get(ident, [])
        forwardings = router_specs.port_forwardings(self.tx, [ident]).get(ident, [])
        return router_specs.router_spec(row, legs, floating, forwardings)

    def floating_of(self, port_id: str) -> list[Row]:
        return list(self.tx.all(sa.select(FLOATING).where(FLOATING.c.fixed_port_id == port_id).order_by(FLOATING.c.id)))

    def rules(self, port_id: str) -> list[tuple[Row, RuleSpec]]:
        groups = ports.security_groups_of(self.tx, [port_id])[port_id]
        found, table = security_groups.rules_of(self.tx, groups), tables.SECURITY_GROUPS
        kept = self.tx.all(sa.select(table.c.id, table.c.stateful).where(table.c.id.in_(groups)))
        stateful = {row["id"]: row["stateful"] for row in kept}
        return [
            (rule, specs.rule_spec({**rule, "stateful": stateful[group]})) for group in groups for rule in found[group]
        ]

    def members(self, group_id: str) -> list[Net]:
        """The addresses of a group's ports, allowed address pairs included; of an address group its own."""
        bound, plain = tables.PORT_SECURITY_GROUPS, tables.ADDRESS_GROUPS
        if (row := self.tx.first(sa.select(plain.c.addresses).where(plain.c.id == group_id))) is not None:
            return networks_of(row["addresses"])
        inside = self.places(PORTS.c.id.in_(sa.select(bound.c.port_id).where(bound.c.security_group_id == group_id)))
        return networks_of(
            [str(ip) for each in inside for ip in each.addresses]
            + [cidr for each in inside for _, cidr in each.spec.allowed_address_pairs]
        )


def networks_of(texts: Iterable[str] | Sequence[str]) -> list[Net]:
    return [ipaddress.ip_network(text, strict=False) for text in texts]
