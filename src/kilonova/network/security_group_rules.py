"""Security group rules: what they may say (Neutron: SecurityGroupDbMixin's validations), made and deleted."""

import ipaddress
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import address_groups, query, quotas, rows, security_groups, tables
from kilonova.network import attributes as a
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = tables.SECURITY_GROUP_RULES

# neutron_lib.constants.IP_PROTOCOL_MAP
PROTOCOLS = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "icmpv6": 58, "igmp": 2, "ip": 0, "ipip": 4,
    "ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ipv6-route": 43,
    "ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112,
}  # fmt: skip
WITH_PORTS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
ICMP = (1, 58)
V6_ONLY = (41, 43, 44, 58, 59, 60)
ETHERTYPES = ("IPv4", "IPv6")


def bad(kind: str, message: str) -> BadRequest:
    return BadRequest(message, type=kind)


def protocol(value: Any) -> str | None:
    if value is None:
        return None
    word = str(value).lower() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if word in PROTOCOLS or word == "any" or (word.isascii() and word.isdigit() and len(word) < 4 and int(word) <= 255):
        return word
    raise bad(
        "SecurityGroupRuleInvalidProtocol",
        f"Security group rule protocol {str(value)[:64]} not supported. Only protocol values "
        f"{[None, *sorted(PROTOCOLS)]} and integer representations [0 to 255] are supported.",
    )


def number(word: str | None) -> int | None:
    """The protocol's number; None for any."""
    if word is None or word == "any":
        return None
    return int(word) if word.isdigit() else PROTOCOLS[word]


def named_or_none(value: Any) -> str | None:
    """An empty name is none."""
    return a.text()(value) or None if value is not None else None


def ethertype(value: Any) -> str:
    for known in ETHERTYPES:
        if isinstance(value, str) and value.lower() == known.lower():
            return known
    raise bad(
        "SecurityGroupRuleInvalidEtherType",
        f"Security group rule for ethertype '{str(value)[:64]}' not supported. Allowed values are {list(ETHERTYPES)}.",
    )


def port_value(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        return int(a.integer(0, 65535)(value))
    except ValueError:
        raise bad("SecurityGroupInvalidPortValue", f"Invalid value for port {str(value)[:64]}") from None


def ip_prefix(value: Any) -> str | None:
    """As given; a plain address gets its full length (neutron_lib: convert_ip_prefix_to_cidr)."""
    if value is None or value == "":
        return None
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        interface = ipaddress.ip_interface(value)
    except ValueError:
        raise bad("InvalidCIDR", f"Invalid CIDR {str(value)[:64]} given as IP prefix.") from None
    return value if "/" in value else f"{interface.ip}/{interface.network.prefixlen}"


ATTRIBUTES = {
    "security_group_id": a.Attribute(a.text(), default=a.REQUIRED, put=False),
    "direction": a.Attribute(a.one_of("ingress", "egress"), default=a.REQUIRED, put=False),
    "ethertype": a.Attribute(ethertype, default="IPv4", put=False),
    "protocol": a.Attribute(protocol, default=None, put=False),
    "port_range_min": a.Attribute(port_value, default=None, put=False),
    "port_range_max": a.Attribute(port_value, default=None, put=False),
    "remote_ip_prefix": a.Attribute(ip_prefix, default=None, put=False),
    "remote_group_id": a.Attribute(named_or_none, default=None, put=False),
    "remote_address_group_id": a.Attribute(named_or_none, default=None, put=False),
    "description": a.Attribute(a.text(), default=""),
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in ("id", "revision_number", "created_at", "updated_at", "normalized_cidr", "belongs_to_default_sg")
    },
}
LISTING = query.Listing(
    "security_group_rules",
    TABLE,
    {
        **query.standard_columns(
            TABLE, "security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max",
            "remote_ip_prefix", "remote_group_id", "remote_address_group_id",
        ),
        "belongs_to_default_sg": TABLE.c.security_group_id.in_(
            sa.select(tables.DEFAULT_SECURITY_GROUPS.c.security_group_id)
        ),
    },
)  # fmt: skip


def not_found(rule_id: str) -> NotFound:
    return NotFound(f"Security group rule {rule_id} does not exist", type="SecurityGroupRuleNotFound")


def get(tx: Tx, context: Context, rule_id: str) -> Row:
    return rows.find(tx, TABLE, rule_id, visible(context), not_found)


def visible(context: Context) -> sa.ColumnElement[bool]:
    """Own ones, and all of own groups, whoever made them."""
    groups = tables.SECURITY_GROUPS
    of_own_group = TABLE.c.security_group_id.in_(sa.select(groups.c.id).where(rows.owned(context, groups)))
    return sa.or_(rows.owned(context, TABLE), of_own_group)


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, LISTING, visible(call.context))


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("security_group_rule", body, ATTRIBUTES, context, create=True)
    check(values)
    group = security_groups.get(tx, context, values["security_group_id"])
    if not rows.owns(context, group):
        raise a.disallowed("create_security_group_rule")
    if values["remote_group_id"]:
        security_groups.get(tx, context, values["remote_group_id"])
    if values["remote_address_group_id"]:
        address_groups.get(tx, context, values["remote_address_group_id"])
        tx.hold(address_groups.TABLE.c.id, values["remote_address_group_id"])
    quotas.check(tx, values["project_id"], "security_group_rule")
    # The group's revision grows, so two equal rules made at the same time cannot both miss each other.
    rows.touch(tx, tables.SECURITY_GROUPS, group["id"])
    check_unique(tx, values)
    row = {"id": new_id(), **values, **rows.stamps()}
    with rows.conflict(security_groups.not_found(group["id"])):
        tx.execute(TABLE.insert().values(**row))
    return rows.find(tx, TABLE, row["id"], sa.true(), not_found)


def check(values: dict[str, Any]) -> None:
    """BadRequest for what makes no sense together."""
    check_remotes(values)
    if values["ethertype"] == "IPv6" and number(values["protocol"]) in ICMP:
        values["protocol"] = "ipv6-icmp"
    check_ports(values)
    prefix = values["remote_ip_prefix"]
    if prefix and f"IPv{ipaddress.ip_interface(prefix).version}" != values["ethertype"]:
        raise bad(
            "SecurityGroupRuleParameterConflict",
            f"Conflicting value ethertype {values['ethertype']} for CIDR {prefix}",
        )
    if number(values["protocol"]) in V6_ONLY and values["ethertype"] == "IPv4":
        raise bad(
            "SecurityGroupEthertypeConflictWithProtocol",
            f"Invalid ethertype {values['ethertype']} for protocol {values['protocol']}.",
        )


def check_remotes(values: dict[str, Any]) -> None:
    """At most one of them."""
    if sum(bool(values[key]) for key in ("remote_ip_prefix", "remote_group_id", "remote_address_group_id")) > 1:
        raise bad(
            "SecurityGroupMultipleRemoteEntites",
            "Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.",
        )


def check_ports(values: dict[str, Any]) -> None:
    """Neutron: _validate_port_range."""
    low, high, kind = values["port_range_min"], values["port_range_max"], number(values["protocol"])
    if low is None and high is None:
        return
    if kind is None:
        raise bad("SecurityGroupProtocolRequiredWithPorts", "Must also specify protocol if port range is given.")
    if kind in ICMP:
        for field, attribute, value in (("type", "port_range_min", low), ("code", "port_range_max", high)):
            if value is not None and value > 255:
                raise bad(
                    "SecurityGroupInvalidIcmpValue",
                    f"Invalid value for ICMP {field} ({attribute}) {value}. It must be 0 to 255.",
                )
        if low is None:
            raise bad(
                "SecurityGroupMissingIcmpType",
                f"ICMP code (port-range-max) {high} is provided but ICMP type (port-range-min) is missing.",
            )
    elif kind not in WITH_PORTS:
        raise bad(
            "SecurityGroupInvalidProtocolForPort",
            f"Invalid protocol {values['protocol']} for port range, only supported for "
            f"{', '.join(sorted(WITH_PORTS.values()))}.",
        )
    elif low == 0 or high == 0:
        raise bad("SecurityGroupInvalidPortValue", "Invalid value for port 0")
    elif low is None or high is None or low > high:
        raise bad("SecurityGroupInvalidPortRange", "For TCP/UDP protocols, port_range_min must be <= port_range_max")


def check_unique(tx: Tx, values: dict[str, Any]) -> None:
    """Rules that say the same in other words are the same (Neutron: _rule_to_key)."""
    keys = ("direction", "ethertype", "port_range_min", "port_range_max", "remote_group_id", "remote_address_group_id")
    same = [TABLE.c[key].is_(None) if values[key] is None else TABLE.c[key] == values[key] for key in keys]
    alike = tx.all(sa.select(TABLE).where(TABLE.c.security_group_id == values["security_group_id"], *same))
    found = next((rule["id"] for rule in alike if meaning(rule) == meaning(values)), None)
    if found:
        raise Conflict(f"Security group rule already exists. Rule id is {found}.", type="SecurityGroupRuleExists")


def meaning(rule: Any) -> tuple[int | None, str | None]:
    """Protocol and prefix, in whatever words."""
    prefix = rule["remote_ip_prefix"]
    return number(rule["protocol"]), None if prefix in ("0.0.0.0/0", "::/0") else prefix


def delete(tx: Tx, context: Context, rule_id: str) -> None:
    rule = get(tx, context, rule_id)
    tx.execute(TABLE.delete().where(TABLE.c.id == rule["id"]))
    rows.touch(tx, tables.SECURITY_GROUPS, rule["security_group_id"])
