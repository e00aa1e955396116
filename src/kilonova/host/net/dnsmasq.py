"""DHCP: one dnsmasq a network, in a namespace of its own (`qdhcp-<network id>`), joined to the bridge by a veth pair.

dnsmasq reads its host and option entries from directories whose one file is named after its content, and logs each name
it reads. So its log proves, after a SIGHUP as after a restart of ours, which entries it knows.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kilonova.host.calls import outside, run
from kilonova.host.dataplane import processes
from kilonova.host.net import leases, metadata
from kilonova.host.netns import in_netns, netns_path
from kilonova.model.errors import HostError
from kilonova.model.specs import NetworkSpec, PortSpec, SubnetSpec

METADATA_IP, METADATA_IP6 = metadata.ADDRESS[0], metadata.ADDRESS6
LEASE_SECONDS = 86400  # Neutron: dhcp_lease_duration
READ_TIMEOUT = 3.0
LOG_LIMIT = 1 << 20
NONE_AT_ALL = {("0.0.0.0",), ("::",)}  # as a subnet's dns_nameservers (Neutron): hand out no name server


def namespace_of(network_id: str) -> str:
    """Neutron's name of a network's DHCP namespace."""
    return f"qdhcp-{network_id}"


def dhcp_subnets(network: NetworkSpec) -> list[SubnetSpec]:
    """The subnets that the DHCP port has an address in; names are answered in all of them."""
    return [s for s in network.subnets if s.enable_dhcp and s.dhcp_ip]


def wants_dhcp(network: NetworkSpec) -> bool:
    return bool(network.dhcp_mac and network.dhcp_port_id and dhcp_subnets(network))


def speaks_ipv6(network: NetworkSpec) -> bool:
    return any(subnet.ip_version == 6 for subnet in network.subnets)


def is_answered(subnet: SubnetSpec) -> bool:
    """Does dnsmasq answer DHCP there (Neutron: _build_cmdline_callback)? Not where the router's advertisements say
    all (SLAAC), nor below /64, which dnsmasq refuses."""
    if subnet.ip_version == 4:
        return True
    modes = (subnet.ipv6_address_mode, subnet.ipv6_ra_mode)
    answered = modes == (None, None) or subnet.ipv6_address_mode in ("dhcpv6-stateful", "dhcpv6-stateless")
    return answered and ipaddress.ip_network(subnet.cidr, strict=False).prefixlen >= 64


def is_leased(subnet: SubnetSpec) -> bool:
    """Do its addresses come by DHCP?"""
    return is_answered(subnet) and subnet.ipv6_address_mode != "dhcpv6-stateless"


def served_ips(network: NetworkSpec, port: PortSpec) -> list[tuple[str, str]]:
    """The (subnet id, address) pairs that DHCP must hand to a port."""
    subnets = {subnet.id for subnet in dhcp_subnets(network) if is_leased(subnet)}
    return [(ip.subnet_id, ip.ip_address) for ip in port.fixed_ips if ip.subnet_id in subnets]


def device_addresses(network: NetworkSpec) -> set[str]:
    """What the DHCP port's device carries: its address in each subnet, and the metadata service's."""
    own = {f"{s.dhcp_ip}/{ipaddress.ip_network(s.cidr, strict=False).prefixlen}" for s in dhcp_subnets(network)}
    if speaks_ipv6(network):
        own |= {f"{link_local(str(network.dhcp_mac))}/64", f"{METADATA_IP6}/64"}
    return own | {f"{METADATA_IP}/32"}


def link_local(mac: str) -> str:
    """The EUI-64 link-local address of a MAC address (Neutron: `get_ipv6_addr_by_EUI64`)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + b"\0" * 6 + host))


def render_hosts(network: NetworkSpec, ports: Sequence[PortSpec]) -> str:
    """--dhcp-hostsfile (Neutron: `_output_hosts_file`): MAC, tags, name and address of each port. `id:*` makes the
    MAC the lease's identity, whatever client id a guest sends."""
    stateless = {s.id for s in dhcp_subnets(network) if is_answered(s) and not is_leased(s)}
    lines = []
    for port in sorted(ports, key=lambda port: port.id):
        tag = f"set:port-{port.id}," if port.dhcp_options or port.dhcp6_options else ""
        mac = port.mac_address.lower()
        for _, ip in served_ips(network, port):
            label = _hostname(port, ip).partition(".")[0]
            lines.append(f"{mac},id:*,{tag}{label}{_domain(network.dns_domain)},{_literal(ip)}\n")
        if port.dhcp6_options and any(ip.subnet_id in stateless for ip in port.fixed_ips):
            lines.append(f"{mac},id:*,{tag.rstrip(',')}\n")  # no address: for its options only
    return "".join(lines)


def render_names(network: NetworkSpec, ports: Sequence[PortSpec]) -> str:
    """--addn-hosts (Neutron: `_output_addn_hosts_file`): every port's name, whether it has asked for a lease or not."""
    lines = []
    for port in sorted(ports, key=lambda port: port.id):
        for ip in port.fixed_ips:
            name = _hostname(port, ip.ip_address)
            full = f"{name}{_domain(port.dns_domain or network.dns_domain)}"
            # A name of several labels may be another's in the world outside: it is known with its domain only.
            lines.append(f"{ip.ip_address} {full}\n" if "." in name else f"{ip.ip_address} {full} {name}\n")
    return "".join(lines)


def render_opts(network: NetworkSpec, ports: Sequence[PortSpec]) -> str:
    """--dhcp-optsfile (Neutron: `_output_opts_file`): routers, routes, name servers, and extra_dhcp_opts of ports."""
    lines = []
    for subnet in filter(is_answered, dhcp_subnets(network)):
        lines += (_options4 if subnet.ip_version == 4 else _options6)(network, subnet)
    for port in sorted(ports, key=lambda port: port.id):
        for family, options in (("option", port.dhcp_options), ("option6", port.dhcp6_options)):
            for name, value in options:
                if re.fullmatch(r"[a-z0-9-]+", name) and value.isprintable():
                    option = name if name.isdigit() and family == "option" else f"{family}:{name}"
                    lines.append(f"tag:port-{port.id},{option},{value}")
    return "".join(f"{line}\n" for line in lines)


def _options4(network: NetworkSpec, subnet: SubnetSpec) -> list[str]:
    tag = f"tag:subnet-{subnet.id}"
    lines = [f"{tag},option:dns-server{_name_servers(subnet)}"]
    lines.append(f"{tag},option:router,{subnet.gateway_ip}" if subnet.gateway_ip else f"{tag},option:router")
    # A client that takes option 121 ignores option 3, so the default route is in both (RFC 3442).
    # The network's other subnets are on the same wire, and come first: a route may lead over one (Neutron: _generate_opts).
    routes = [(other.cidr, "0.0.0.0") for other in network.subnets if other.ip_version == 4 and other is not subnet]
    routes += [(f"{METADATA_IP}/32", str(subnet.dhcp_ip)), *subnet.host_routes]
    if subnet.gateway_ip:
        routes.append(("0.0.0.0/0", subnet.gateway_ip))
    flat = ",".join(f"{destination},{nexthop}" for destination, nexthop in routes)
    return [*lines, f"{tag},option:classless-static-route,{flat}", f"{tag},249,{flat}"]


def _options6(network: NetworkSpec, subnet: SubnetSpec) -> list[str]:
    """Routes come by router advertisements, never by DHCPv6."""
    tag = f"tag:subnet-{subnet.id}"
    search = [f"{tag},option6:domain-search,{network.dns_domain.rstrip('.')}"] if network.dns_domain else []
    return [f"{tag},option6:dns-server{_name_servers(subnet)}", *search]


def _name_servers(subnet: SubnetSpec) -> str:
    """The subnet's own, else dnsmasq itself; an option without a value is not sent."""
    if subnet.dns_nameservers in NONE_AT_ALL:
        return ""
    own = [server for server in subnet.dns_nameservers if ipaddress.ip_address(server).version == subnet.ip_version]
    return "".join(f",{_literal(server)}" for server in own or [str(subnet.dhcp_ip)])


def _literal(ip: str) -> str:
    """As dnsmasq reads it among words that are set apart by colons."""
    return f"[{ip}]" if ":" in ip else ip


def _hostname(port: PortSpec, ip: str) -> str:
    """The server's name, or Neutron's for an address: `host-10-0-0-5`, `host-fd00--5`."""
    labels = [
        re.sub(r"[^a-z0-9-]+", "-", label).strip("-")[:63].rstrip("-") for label in port.hostname.lower().split(".")
    ]
    name = ".".join(filter(None, labels))
    return name or f"host-{re.sub('[.:]', '-', ip)}"


def _domain(domain: str) -> str:
    return f".{domain.rstrip('.')}" if domain.rstrip(".") else ""


@dataclass
class Dnsmasq:
    """The dnsmasq of one network; `directory` holds its files. It outlives this process, and is found again by them."""

    network_id: str
    directory: Path
    forward_to: str = ""  # `address#port` of a name server its namespace reaches; none: it knows its own names only
    _leases: bool = True  # does it speak DHCP at all? Where all is SLAAC it only answers names
    _known: tuple[int, str] | None = None  # (pid, version) seen in the log
    _rendered: tuple[NetworkSpec, tuple[PortSpec, ...], str, dict[str, str]] | None = None

    @property
    def namespace(self) -> str:
        return namespace_of(self.network_id)

    @property
    def pid_file(self) -> Path:
        return self.directory / "pid"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def argv(self, network: NetworkSpec, device: str) -> list[str]:
        here = self.directory
        arguments = [
            "dnsmasq", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--user=root", "--group=root",
            f"--pid-file={self.pid_file}", f"--log-facility={self.log}", f"--interface={device}",
            "--except-interface=lo", "--bind-dynamic", "--dhcp-authoritative", f"--dhcp-leasefile={here / 'leases'}",
            f"--dhcp-hostsfile={here / 'hosts'}", f"--dhcp-optsfile={here / 'opts'}", f"--addn-hosts={here / 'names'}",
            f"--dhcp-option-force=option:mtu,{network.mtu}", "--dhcp-lease-max=65536",
        ]  # fmt: skip
        if network.dns_domain:
            domain = network.dns_domain.rstrip(".")
            arguments.append(f"--domain={domain}")
            if "." not in domain:  # else others in the world may have names in it
                arguments.append(f"--local=/{domain}/")
        if self.forward_to:
            # What is ours to know (bare names, private addresses) is asked of nobody else.
            arguments += [f"--server={self.forward_to}", "--domain-needed", "--bogus-priv"]
        for subnet in filter(is_answered, dhcp_subnets(network)):
            cidr = ipaddress.ip_network(subnet.cidr, strict=False)
            size = cidr.netmask if cidr.version == 4 else cidr.prefixlen
            span = f"{cidr.network_address},static,{size},{LEASE_SECONDS}s"
            arguments.append(f"--dhcp-range=set:subnet-{subnet.id},{span}")
        return arguments

    def pid(self) -> int | None:
        return processes.pid_from(self.pid_file, f"--pid-file={self.pid_file}")

    def ensure(self, network: NetworkSpec, ports: Sequence[PortSpec], device: str) -> None:
        """Runs, with these arguments, and has read these entries. Raises HostError when its log does not say so."""
        argv = self.argv(network, device)
        self._leases = any(map(is_answered, dhcp_subnets(network)))
        version, texts = self._entries(network, tuple(ports))
        pid = self.pid()
        if pid is not None and (processes.command_line(pid) != argv or not self._inside(pid)):
            self.stop()
            pid = None
        if pid is not None and self._known == (pid, version):
            return
        for name, text in texts.items():
            self._write(name, version, text)
        if pid is None:
            run(argv, netns=self.namespace)
            pid = self.pid()
            if pid is None:
                raise HostError(f"dnsmasq of network {self.network_id} ended at once: {self._tail(400)}")
        elif not self._has_read(pid, version):
            self._release_leases(network, ports, device)
            if self.log.stat().st_size > LOG_LIMIT:
                os.truncate(self.log, 0)
            with outside("dnsmasq SIGHUP"):
                os.kill(pid, signal.SIGHUP)
        self._wait_read(pid, version)
        self._known = (pid, version)

    def _entries(self, network: NetworkSpec, ports: tuple[PortSpec, ...]) -> tuple[str, dict[str, str]]:
        """The version of its files, and the files; rendered once for as long as nothing changes."""
        if self._rendered is None or self._rendered[:2] != (network, ports):
            texts = {
                "hosts": render_hosts(network, ports),
                "opts": render_opts(network, ports),
                "names": render_names(network, ports),
            }
            version = hashlib.sha256("\0".join(texts.values()).encode()).hexdigest()[:16]
            self._rendered = (network, ports, version, texts)
        return self._rendered[2:]

    def stop(self) -> None:
        """Ends it, if it is ours; its leases stay in their file."""
        pid = self.pid()
        if pid is not None:
            with outside("dnsmasq stop"):
                processes.end([pid], lambda pid: pid == self.pid(), grace=1.0)
        self.pid_file.unlink(missing_ok=True)
        self._known = None

    def _inside(self, pid: int) -> bool:
        """In the namespace that has the name now: one deleted under dnsmasq lives on, unseen, with it."""
        try:
            there, here = os.stat(f"/proc/{pid}/ns/net"), os.stat(netns_path(self.namespace))
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def _write(self, name: str, version: str, text: str) -> None:
        directory = self.directory / name
        directory.mkdir(parents=True, exist_ok=True)
        new = directory / f".{version}"  # dnsmasq skips dot files
        new.write_text(text)
        new.replace(directory / version)
        for other in directory.iterdir():
            if other.name != version:
                other.unlink(missing_ok=True)

    def _wait_read(self, pid: int, version: str) -> None:
        end = time.monotonic() + READ_TIMEOUT
        pause = 0.0005
        while not self._has_read(pid, version):
            if time.monotonic() > end:
                raise HostError(
                    f"dnsmasq of network {self.network_id} has not read its host entries in {READ_TIMEOUT:g} s: "
                    f"{self._tail(400)}"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)

    def _has_read(self, pid: int, version: str) -> bool:
        """Its last word on each directory is this version (a line the log has lost only costs a SIGHUP)."""
        text = self._tail(1 << 16)
        dhcp = (("dnsmasq-dhcp", "hosts"), ("dnsmasq-dhcp", "opts")) if self._leases else ()
        for part, name in (*dhcp, ("dnsmasq", "names")):
            _, found, rest = text.rpartition(f"{part}[{pid}]: read {self.directory / name}/")
            if not found or rest.split("\n", 1)[0].split(" - ")[0] != version or "\n" not in rest:
                return False
        return True

    def _tail(self, size: int) -> str:
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - size))
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _release_leases(self, network: NetworkSpec, ports: Sequence[PortSpec], device: str) -> None:
        """A lease of a port that is gone would keep its address from the next owner."""
        kept = {(port.mac_address.lower(), ip) for port in ports for _, ip in served_ips(network, port)}
        servers = {subnet.cidr: str(subnet.dhcp_ip) for subnet in dhcp_subnets(network) if subnet.ip_version == 4}
        for lease in leases.read(self.directory / "leases"):
            if not any(leases.is_held(lease, mac, ip) for mac, ip in kept):
                with outside("dhcp release"), suppress(OSError):
                    in_netns(self.namespace, leases.release, lease, servers, device)
