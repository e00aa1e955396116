"""Names of ports, as the host's dnsmasq answers them (Neutron: DNSDomainPortsExtensionDriver, neutron_lib's validators).

A port is known by its `dns_name` in its own domain, else in its network's, else in the cloud's; one without a name by its
address. No name server of the world outside is told, so floating IPs have no names.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kilonova.model.specs import DNS_DOMAIN
from kilonova.network import attributes as a
from kilonova.network.rows import Row

CLOUD_DOMAIN = f"{DNS_DOMAIN}."  # Neutron: the option dns_domain
MAX = 255


def check_labels(value: str) -> None:
    """RFC 1123, section 2.1; a dot at the end is allowed."""
    try:
        bare = value.removesuffix(".")
        if len(bare) > MAX:
            raise ValueError(f"'{bare}' exceeds the {MAX} character FQDN limit")
        for label in bare.split("."):
            check_label(label)
        last = bare.rpartition(".")
        if last[1] and last[2].isdecimal():
            raise ValueError(f"TLD '{last[2]}' must not be all numeric")
    except ValueError as error:
        raise ValueError(f"'{value[:64]}' not a valid PQDN or FQDN. Reason: {str(error)[:200]}") from None


def check_label(label: str) -> None:
    if not label:
        raise ValueError("Encountered an empty component")
    if label.startswith("-") or label.endswith("-"):
        raise ValueError(f"Name '{label}' must not start or end with a hyphen")
    if not re.fullmatch(r"[a-z0-9-]{1,63}", label):
        raise ValueError(
            f"Name '{label}' must be 1-63 characters long, each of which can only be alphanumeric or a hyphen"
        )


def port_name(value: Any) -> str:
    """Below a domain; or with it, a dot at the end, when that is the cloud's (neutron_lib: validate_dns_name)."""
    name = str(a.text(MAX)(value)).lower()
    if not name:
        return ""
    check_labels(name)
    if not name.endswith("."):
        if len(name) + len(CLOUD_DOMAIN) + 1 > MAX:
            raise ValueError(f"'{name[:64]}…' and the domain '{CLOUD_DOMAIN}' are more than {MAX} characters")
    elif not name.endswith(f".{CLOUD_DOMAIN}"):
        raise ValueError(
            "The dns_name passed is a FQDN. Its higher level labels must be equal to the dns_domain option, that has "
            f"been set to '{CLOUD_DOMAIN}'. It must also include one or more valid DNS labels to the left of it"
        )
    return name


def floating_name(value: Any) -> str:
    """neutron_lib: validate_fip_dns_name."""
    name = str(a.text(MAX)(value)).lower()
    if name.endswith("."):
        raise ValueError(f"'{name}' is a FQDN. It should be a relative domain name")
    if name:
        check_labels(name)
    return name


def domain(value: Any) -> str:
    """With a dot at the end; empty for none (neutron_lib: validate_dns_domain)."""
    name = str(a.text(MAX - 2)(value)).lower()
    if name and not name.endswith("."):
        raise ValueError(f"'{name}' is not a FQDN")
    if name:
        check_labels(name)
    return name


def relative(port: Row) -> tuple[str, str]:
    """The name that a host knows the port by, and its own domain if it has one, without a dot at the end."""
    name: str = port["dns_name"]
    if name.endswith("."):
        return name.removesuffix(f".{CLOUD_DOMAIN}"), DNS_DOMAIN
    return name, port["dns_domain"].rstrip(".") if name else ""


def assignment(port: Row, network_domain: str, fixed_ips: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The attribute dns_assignment. `network_domain`: "" where the network has none."""
    name, own = port["dns_name"], port["dns_domain"] if port["dns_name"] else ""
    found = []
    for address in (ip["ip_address"] for ip in fixed_ips):
        hostname = name or f"host-{re.sub('[.:]', '-', address)}"
        fqdn = name if name.endswith(".") else f"{hostname}.{own or network_domain or CLOUD_DOMAIN}"
        found.append({"ip_address": address, "hostname": hostname, "fqdn": fqdn})
    return found
