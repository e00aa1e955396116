"""Ports and networks as the values a host is given: a few queries, however many ports there are."""

import ipaddress
from collections.abc import Collection, Iterable, Mapping

import msgspec
import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.specs import FixedIP, NetworkSpec, PortSpec, RuleSpec, SubnetSpec
from kilonova.network import dhcp, dns, ipam, tables
from kilonova.network.rows import Row


def port_specs(tx: Tx, port_ids: Collection[str]) -> tuple[PortSpec, ...]:
    """Without rules, which are the port loop's business; in the order of the ids, those that are gone left out."""
    if not port_ids:
        return ()
    table = tables.PORTS
    found = {row["id"]: row for row in tx.all(sa.select(table).where(table.c.id.in_(list(port_ids))))}
    return specs_of(tx, [found[port_id] for port_id in port_ids if port_id in found])


def specs_of(tx: Tx, ports: Collection[Row]) -> tuple[PortSpec, ...]:
    """The same of rows at hand."""
    addresses = ipam.fixed_ips(tx, [port["id"] for port in ports])
    return tuple(port_spec(port, addresses[port["id"]]) for port in ports)


def all_rules(of_groups: Iterable[Iterable[RuleSpec]]) -> tuple[RuleSpec, ...]:
    return tuple(dict.fromkeys(rule for rules in of_groups for rule in rules))


def with_rules(port: PortSpec, rules: tuple[RuleSpec, ...]) -> PortSpec:
    """The very same port if it has them already."""
    wanted = rules if port.port_security_enabled else ()
    return port if port.rules is wanted else msgspec.structs.replace(port, rules=wanted)


def port_spec(row: Row, addresses: Iterable[Mapping[str, str]]) -> PortSpec:
    bridge = row["vif_details"].get("bridge_name", "brq")
    hostname, domain = dns.relative(row)
    return PortSpec(
        id=row["id"],
        network_id=row["network_id"],
        mac_address=row["mac_address"],
        fixed_ips=tuple(FixedIP(subnet_id=ip["subnet_id"], ip_address=ip["ip_address"]) for ip in addresses),
        allowed_address_pairs=tuple(
            (pair["mac_address"], str(ipaddress.ip_network(pair["ip_address"], strict=False)))
            for pair in row["allowed_address_pairs"]
        ),
        admin_state_up=row["admin_state_up"],
        # Neutron trusts its own ports (is_port_trusted)
        port_security_enabled=row["port_security_enabled"] and not row["device_owner"].startswith("network:"),
        device_id=row["device_id"],
        device_owner=row["device_owner"],
        project_id=row["project_id"],
        vif_type=row["vif_type"] if row["vif_type"] in ("bridge", "tap") else "bridge",
        hostname=hostname,
        dns_domain=domain,
        dhcp_options=dhcp_options(row, 4),
        dhcp6_options=dhcp_options(row, 6),
        physical_bridge="" if bridge.startswith("brq") else bridge,
    )


def dhcp_options(row: Row, version: int) -> tuple[tuple[str, str], ...]:
    options = row["extra_dhcp_opts"]
    return tuple((each["opt_name"], each["opt_value"]) for each in options if each.get("ip_version", 4) == version)


def group_rules(tx: Tx, group_ids: Collection[str]) -> dict[str, list[RuleSpec]]:
    """group id → its rules."""
    found = {group_id: list[RuleSpec]() for group_id in group_ids}
    rules, groups = tables.SECURITY_GROUP_RULES, tables.SECURITY_GROUPS
    joined = sa.select(rules, groups.c.stateful).join(groups, groups.c.id == rules.c.security_group_id)
    for row in tx.all(joined.where(groups.c.id.in_(list(found))).order_by(rules.c.created_at, rules.c.id)):
        found[row["security_group_id"]].append(rule_spec(row))
    return found


def rule_spec(rule: Row) -> RuleSpec:
    """`rule`: with its group's `stateful`."""
    prefix = rule["remote_ip_prefix"]
    return RuleSpec(
        direction=rule["direction"],
        ethertype=rule["ethertype"],
        protocol=None if rule["protocol"] in (None, "any", "ip", "0") else rule["protocol"],
        port_range_min=rule["port_range_min"],
        port_range_max=rule["port_range_max"],
        remote_ips=(str(ipaddress.ip_network(prefix, strict=False)),) if prefix else None,
        remote_group_id=rule["remote_group_id"] or rule["remote_address_group_id"],
        stateful=rule["stateful"],
    )


def network_specs(tx: Tx, network_ids: Iterable[str], bridge_mappings: Mapping[str, str]) -> tuple[NetworkSpec, ...]:
    """In the order of the ids, each once; ids that are gone are left out. `bridge_mappings`: the host's."""
    ids = list(dict.fromkeys(network_ids))
    nets, subnets, table = tables.NETWORKS, tables.SUBNETS, tables.PORTS
    found = {row["id"]: row for row in tx.all(sa.select(nets).where(nets.c.id.in_(ids)))}
    dhcp_ports = {
        row["network_id"]: row
        for row in tx.all(sa.select(table).where(table.c.network_id.in_(ids), table.c.device_owner == dhcp.OWNER))
    }
    addresses = ipam.fixed_ips(tx, [port["id"] for port in dhcp_ports.values()])
    in_order = sa.select(subnets).where(subnets.c.network_id.in_(ids)).order_by(subnets.c.created_at, subnets.c.id)
    of_network: dict[str, list[Row]] = {network_id: [] for network_id in found}
    for row in tx.all(in_order):
        of_network[row["network_id"]].append(row)
    dhcp_ips = {ip["subnet_id"]: ip["ip_address"] for port in dhcp_ports.values() for ip in addresses[port["id"]]}
    carried = {
        network_id: [subnet_spec(row, dhcp_ips.get(row["id"])) for row in ipam.of_first_segment(tx, rows)]
        for network_id, rows in of_network.items()
    }
    return tuple(
        msgspec.structs.replace(
            network_spec(found[network_id], carried[network_id], dhcp_ports.get(network_id)),
            physical_bridge=bridge_mappings.get(found[network_id]["physical_network"], ""),
        )
        for network_id in ids
        if network_id in found
    )


def network_spec(row: Row, subnets: Iterable[SubnetSpec], dhcp_port: Row | None) -> NetworkSpec:
    """Without DHCP when the network is administratively down (Neutron: the agent's `disable_dhcp_helper`)."""
    dhcp_port = dhcp_port if row["admin_state_up"] else None
    return NetworkSpec(
        id=row["id"],
        name=row["name"],
        project_id=row["project_id"],
        mtu=row["mtu"],
        subnets=tuple(subnets),
        dns_domain=(row["dns_domain"] or dns.CLOUD_DOMAIN).rstrip("."),
        dhcp_port_id=dhcp_port["id"] if dhcp_port else None,
        dhcp_mac=dhcp_port["mac_address"] if dhcp_port else None,
    )


def subnet_spec(row: Row, dhcp_ip: str | None) -> SubnetSpec:
    return SubnetSpec(
        id=row["id"],
        cidr=row["cidr"],
        ip_version=row["ip_version"],
        gateway_ip=row["gateway_ip"],
        enable_dhcp=row["enable_dhcp"],
        dns_nameservers=tuple(row["dns_nameservers"]),
        host_routes=tuple((route["destination"], route["nexthop"]) for route in row["host_routes"]),
        ipv6_address_mode=row["ipv6_address_mode"],
        ipv6_ra_mode=row["ipv6_ra_mode"],
        dhcp_ip=dhcp_ip,
    )
