"""What the API does with ports: bodies checked, policy of each attribute, then rows (Neutron: Ml2Plugin.create_port …)."""

import ipaddress
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict
from kilonova.network import (
    agents,
    associations,
    dns,
    ipam,
    macs,
    networks,
    ports,
    qos_policies,
    query,
    quotas,
    router_ports,
    rows,
    security_groups,
    sharing,
    tables,
    tags,
    trunks,
)
from kilonova.network import attributes as a
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = tables.PORTS
MAX_PAIRS = 10
PLAIN = ("name", "description", "admin_state_up", "device_id", "device_owner", "dns_name", "dns_domain")


def address_or_cidr(value: Any) -> str:
    """As given: an allowed address pair may be a whole network."""
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        ipaddress.ip_interface(value)
    except ValueError:
        raise ValueError(f"'{value}' is not a valid IP address or subnet") from None
    return value


PAIRS = a.list_of(a.mapping({"ip_address": address_or_cidr}, {"mac_address": a.mac_address}), limit=MAX_PAIRS)
DHCP_OPTION = a.mapping(
    {"opt_name": a.text(64), "opt_value": a.or_none(a.text())},
    {"ip_version": lambda value: a.one_of(4, 6)(a.integer()(value))},
)


def dhcp_options(value: Any) -> list[dict[str, Any]]:
    options = a.list_of(DHCP_OPTION)(value)
    for option in options:
        option.setdefault("ip_version", 4)
        if not option["opt_name"].strip() or "\n" in option["opt_name"] or "\n" in (option["opt_value"] or ""):
            raise ValueError(f"'{option['opt_name']}' is not a DHCP option's name, or its value has line breaks")
    return options


ATTRIBUTES = {
    "network_id": a.Attribute(a.identifier, default=a.REQUIRED, put=False),
    "name": a.Attribute(a.text(), default=""),
    "description": a.Attribute(a.text(), default=""),
    "admin_state_up": a.Attribute(a.boolean, default=True),
    "mac_address": a.Attribute(a.or_none(a.mac_address)),  # null: a new one
    "fixed_ips": a.Attribute(a.list_of(a.mapping({}, {"subnet_id": a.identifier, "ip_address": a.ip_address}))),
    "device_id": a.Attribute(a.text(), default=""),
    "device_owner": a.Attribute(a.text(), default=""),
    "security_groups": a.Attribute(a.list_of(a.identifier, unique=True)),
    "port_security_enabled": a.Attribute(a.boolean),
    "allowed_address_pairs": a.Attribute(PAIRS),
    "extra_dhcp_opts": a.Attribute(dhcp_options),
    "qos_policy_id": qos_policies.POLICY_ID,
    "tags": a.Attribute(tags.given, default=(), put=False),
    "dns_name": a.Attribute(dns.port_name, default=""),
    "dns_domain": a.Attribute(dns.domain, default=""),
    "binding:host_id": a.Attribute(a.or_none(a.text()), default="", admin=True),
    "binding:profile": a.Attribute(a.documents, admin=True),
    "binding:vnic_type": a.Attribute(a.one_of("normal"), default="normal"),
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in (
            "id", "status", "revision_number", "created_at", "updated_at", "binding:vif_type",
            "binding:vif_details", "qos_network_policy_id", "dns_assignment",
        )
    },
}  # fmt: skip


def by_fixed_ips(values: list[str]) -> sa.ColumnElement[bool]:
    """`fixed_ips=ip_address=10.0.0.3`, `subnet_id=…`, `ip_address_substr=…`: all kinds named must fit one address."""
    held, wanted = tables.IP_ALLOCATIONS, dict[str, list[str]]()
    for value in values:
        key, _, text = value.partition("=")
        wanted.setdefault(key, []).append(text)
    if unknown := sorted(set(wanted) - {"ip_address", "subnet_id", "ip_address_substr"}):
        raise a.bad_request(f"Invalid input for fixed_ips. Reason: {unknown} cannot be filtered by.")
    found = sa.select(held.c.port_id)
    for key in {"ip_address", "subnet_id"} & set(wanted):
        found = found.where(held.c[key].in_(wanted[key]))
    if parts := wanted.get("ip_address_substr"):
        found = found.where(sa.or_(*(held.c.ip_address.contains(part, autoescape=True) for part in parts)))
    return TABLE.c.id.in_(found)


def by_security_groups(values: list[str]) -> sa.ColumnElement[bool]:
    bound = tables.PORT_SECURITY_GROUPS
    return TABLE.c.id.in_(sa.select(bound.c.port_id).where(bound.c.security_group_id.in_(values)))


LISTING = query.Listing(
    "ports",
    TABLE,
    query.standard_columns(
        TABLE, "name", "network_id", "mac_address", "admin_state_up", "status", "device_id", "device_owner",
        "port_security_enabled",
        **{"binding:host_id": "host", "binding:vif_type": "vif_type", "binding:vnic_type": "vnic_type"},
    ),
    {"fixed_ips": by_fixed_ips, "security_groups": by_security_groups},
)  # fmt: skip


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    if not call.context.is_admin and any(key in ("binding:host_id", "binding:vif_type") for key, _ in call.query):
        raise a.disallowed("get_port:binding:host_id")
    return query.page(call, LISTING, ports.visible(call.context))


# Parts of a request that are the network's owner's, and an operator's to give: `create_port:mac_address`.
OF_OWNERS = ("mac_address", "port_security_enabled", "allowed_address_pairs", "device_owner", "fixed_ips:ip_address")


def check_policy(tx: Tx, context: Context, network: Row, values: dict[str, Any], action: str) -> None:
    """What only an admin or the network's owner may set (Neutron's policies create_port:* and update_port:*)."""
    owner = rows.owns(context, network)
    if owner and not context.parts:
        return
    rules = {
        "mac_address": "mac_address" in values,
        "port_security_enabled": "port_security_enabled" in values,
        "allowed_address_pairs": bool(values.get("allowed_address_pairs")),
        "dns_domain": bool(values.get("dns_domain")),  # else one could be any name of the world to others
        "device_owner": str(values.get("device_owner", "")).startswith("network:"),
        "fixed_ips:ip_address": any("ip_address" in entry for entry in values.get("fixed_ips", ())),
        "fixed_ips:subnet_id": any("subnet_id" in entry for entry in values.get("fixed_ips", ()))
        and not sharing.is_shared(tx, context, sharing.NETWORK, network["id"]),
    }
    target = {"network:project_id": network["project_id"]}
    for attribute, used in rules.items():
        if used and not context.may(f"{action}:{attribute}", owner, **target):
            raise a.disallowed(action, f"{action}:{attribute}")


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("port", body, ATTRIBUTES, context, create=True)
    if values.get("mac_address") is None:
        values.pop("mac_address", None)
    network = networks.get(tx, context, values["network_id"])
    check_policy(tx, context, network, values, "create_port")
    associations.check_device(tx, context, values["device_owner"], values["device_id"])
    project_id = values["project_id"]
    quotas.check(tx, project_id, "port")
    of_network = values["device_owner"].startswith("network:")
    secure = {**network, **values}["port_security_enabled"] and not of_network
    groups = groups_for(tx, context, project_id, values.get("security_groups"), secure)
    pairs = values.get("allowed_address_pairs", [])
    check_pairs_allowed(pairs, secure)
    mac = values.get("mac_address") or macs.free_mac(tx, network["id"])
    columns: dict[str, Any] = {
        **{key: values[key] for key in PLAIN},
        "tags": list(values["tags"]),
        "project_id": project_id,
        "mac_address": mac,
        "port_security_enabled": secure,
        "allowed_address_pairs": with_macs(pairs, mac),
        "extra_dhcp_opts": merged_options([], values.get("extra_dhcp_opts", [])),
        "vnic_type": values["binding:vnic_type"],
        "profile": values.get("binding:profile", {}),
    }
    port = ports.insert(tx, network, columns, values.get("fixed_ips"), groups)
    check_pairs(tx, port)
    if values.get("qos_policy_id"):
        qos_policies.attach(tx, context, "port", port["id"], values["qos_policy_id"])
    if values["binding:host_id"]:
        bind_by_request(tx, port, values["binding:host_id"])
    return ports.get_any(tx, port["id"])


def groups_for(tx: Tx, context: Context, project_id: str, asked: list[str] | None, secure: bool) -> list[str]:
    """The port's groups: those asked for, if the caller sees them; else the project's default one."""
    if asked and not secure:
        raise BadRequest(
            "Port security must be enabled and port must have an IP address in order to use security groups.",
            type="PortSecurityAndIPRequiredForSecurityGroups",
        )
    if asked is None:
        return [security_groups.ensure_default(tx, project_id)] if secure else []
    for group_id in asked:
        security_groups.get(tx, context, group_id)
    return asked


def check_pairs_allowed(pairs: list[dict[str, str]], secure: bool) -> None:
    if pairs and not secure:
        raise Conflict(
            "Port Security must be enabled in order to have allowed address pairs on a port.",
            type="AddressPairAndPortSecurityRequired",
        )


def with_macs(pairs: list[dict[str, str]], mac: str) -> list[dict[str, str]]:
    """Each pair with its MAC address, the port's own by default. BadRequest for two alike."""
    full = [{"mac_address": pair.get("mac_address", mac), "ip_address": pair["ip_address"]} for pair in pairs]
    for index, pair in enumerate(full):
        if pair in full[:index]:
            raise BadRequest(
                f"Request contains duplicate address pair: mac_address {pair['mac_address']} ip_address "
                f"{pair['ip_address']}.",
                type="DuplicateAddressPairInRequest",
            )
    return full


def check_pairs(tx: Tx, port: Row) -> None:
    own = {ip["ip_address"] for ip in ipam.fixed_ips(tx, [port["id"]])[port["id"]]}
    for pair in port["allowed_address_pairs"]:
        if pair["mac_address"] == port["mac_address"] and pair["ip_address"] in own:
            raise BadRequest(
                "Port's Fixed IP and Mac Address match an address pair entry.",
                type="AddressPairMatchesPortFixedIPAndMac",
            )


def merged_options(present: list[dict[str, Any]], given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Options by (name, version); a null value takes one away (Neutron: _update_extra_dhcp_opts_on_port)."""
    merged = {(option["opt_name"], option["ip_version"]): option for option in [*present, *given]}
    return [option for option in merged.values() if option["opt_value"] is not None]


def bind_by_request(tx: Tx, port: Row, host: str) -> None:
    """binding:host_id as an admin gives it: bound where a host of that name has reported, else binding_failed."""
    if agents.is_known(tx, host):
        ports.bind(tx, port, host, "bridge")
    else:
        rows.touch(tx, TABLE, port["id"], **{**ports.UNBOUND, "host": host, "vif_type": "binding_failed"})


def update(tx: Tx, context: Context, port_id: str, body: Any) -> Row:
    port = ports.get(tx, context, port_id)
    values = a.prepare("port", body, ATTRIBUTES, context, create=False)
    if not rows.owns(context, port):
        raise a.foreign()
    network = networks.get_any(tx, port["network_id"])
    if values.get("mac_address", "") is None:
        values["mac_address"] = macs.free_mac(tx, network["id"])
    check_policy(tx, context, network, values, "update_port")
    if {"device_owner", "device_id"} & set(values):
        device = {**port, **values}
        associations.check_device(tx, context, device["device_owner"], device["device_id"])
    columns: dict[str, Any] = {key: values[key] for key in PLAIN if key in values}
    columns |= security_columns(tx, context, port, values)
    columns |= mac_column(tx, context, port, values)
    if "qos_policy_id" in values:
        qos_policies.attach(tx, context, "port", port["id"], values["qos_policy_id"])
    if "binding:profile" in values:
        columns["profile"] = values["binding:profile"]
    if "extra_dhcp_opts" in values:
        columns["extra_dhcp_opts"] = merged_options(port["extra_dhcp_opts"], values["extra_dhcp_opts"])
    with rows.conflict(macs.in_use(network["id"], {**port, **columns}["mac_address"])):
        rows.touch(tx, TABLE, port["id"], **columns)
    changed = ports.get_any(tx, port["id"])
    if "fixed_ips" in values:
        ipam.change(tx, changed, values["fixed_ips"])
        check_changed_addresses(tx, changed)
    check_pairs(tx, changed)
    host = values.get("binding:host_id", port["host"]) or ""
    if host != port["host"]:
        if host:
            bind_by_request(tx, changed, host)
        else:
            rows.touch(tx, TABLE, port["id"], **ports.UNBOUND)
    return ports.get_any(tx, port["id"])


def change_pairs(tx: Tx, context: Context, port_id: str, body: Any, *, add: bool) -> Row:
    """PUT add_allowed_address_pairs, remove_allowed_address_pairs: the others stay as they are."""
    port = ports.get(tx, context, port_id)
    if not isinstance(body, dict) or set(body) != {"allowed_address_pairs"}:
        raise a.bad_request(
            "Invalid input for allowed_address_pairs. Reason: a list of them, and nothing else, is required."
        )
    given = with_macs(a.checked("allowed_address_pairs", PAIRS, body["allowed_address_pairs"]), port["mac_address"])
    others = [pair for pair in port["allowed_address_pairs"] if pair not in given]
    return update(tx, context, port_id, {"allowed_address_pairs": [*others, *given] if add else others})


def check_changed_addresses(tx: Tx, port: Row) -> None:
    """A floating IP's fixed address stays, and a router's leg overlaps no other."""
    held = ipam.fixed_ips(tx, [port["id"]])[port["id"]]
    associations.check_addresses_kept(tx, port, [ip["ip_address"] for ip in held])
    router_ports.check_changed_leg(tx, port, [ip["subnet_id"] for ip in held])


def security_columns(tx: Tx, context: Context, port: Row, values: dict[str, Any]) -> dict[str, Any]:
    """Port security, groups and address pairs after the update; they must fit each other."""
    after: dict[str, Any] = {**port, **values}
    secure: bool = after["port_security_enabled"]
    held = ports.security_groups_of(tx, [port["id"]])[port["id"]]
    if "security_groups" in values:
        groups = groups_for(tx, context, port["project_id"], values["security_groups"], secure)
        ports.set_security_groups(tx, port["id"], groups)
    elif held and not secure:
        raise Conflict(
            "Port has security group associated. Cannot disable port security or IP address until security group "
            "is removed.",
            type="PortSecurityPortHasSecurityGroup",
        )
    check_pairs_allowed(after["allowed_address_pairs"], secure)
    pairs = with_macs(after["allowed_address_pairs"], after["mac_address"])
    return {"port_security_enabled": secure, "allowed_address_pairs": pairs}


def mac_column(tx: Tx, context: Context, port: Row, values: dict[str, Any]) -> dict[str, Any]:
    mac: str = {**port, **values}["mac_address"]
    if mac == port["mac_address"]:
        return {}
    if not context.may("update_port:mac_address"):
        raise a.disallowed("update_port", "update_port:mac_address")
    if port["vif_type"] not in ("unbound", "binding_failed"):
        raise Conflict(
            f"Unable to complete operation on port {port['id']}, port is already bound, port type: "
            f"{port['vif_type']}, old_mac {port['mac_address']}, new_mac {mac}.",
            type="PortBound",
        )
    if macs.is_taken(tx, port["network_id"], mac):
        raise macs.in_use(port["network_id"], mac)
    return {"mac_address": mac}


def delete(tx: Tx, context: Context, port_id: str) -> None:
    port = ports.get(tx, context, port_id)
    associations.check_deletable(tx, port)
    trunks.check_port_deletable(tx, port["id"])
    associations.delete_ports(tx, [port["id"]])
