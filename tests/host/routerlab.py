"""A cloud's namespace with an external bridge and, behind it, a namespace as the LAN (or as the host's root namespace)."""

import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import netlab
from netlab import Lab

from kilonova.host.calls import observed, run
from kilonova.host.net.link import list_links
from kilonova.host.netns import in_netns
from kilonova.model.specs import (
    FixedIP,
    FloatingIPSpec,
    HostNetwork,
    NetworkSpec,
    PortSpec,
    RouterPortSpec,
    RouterSpec,
    SubnetSpec,
)

LAN = "172.24.4.1"
GATEWAY = "172.24.4.10"
FLOATING = ("172.24.4.100", "172.24.4.101", "172.24.4.102")
INSIDE = "network:router_interface"


class RouterLab(Lab):
    def __init__(self, state: Path, **options: object) -> None:
        super().__init__(state, **options)
        self.lan = f"knl-{self.cloud_id[:8]}"
        self.external = NetworkSpec(
            id=str(uuid.uuid4()),
            name="public",
            project_id="p",
            mtu=1500,
            subnets=(
                SubnetSpec(id=str(uuid.uuid4()), cidr="172.24.4.0/24", ip_version=4, gateway_ip=LAN, enable_dhcp=False),
            ),
            physical_bridge="br-ex",
        )
        run(["ip", "netns", "add", self.lan])
        run(["ip", "-n", self.netns, "link", "add", "br-ex", "type", "bridge"])
        run(["ip", "-n", self.netns, "link", "set", "br-ex", "up"])
        run(["ip", "-n", self.netns, "addr", "add", "172.24.4.2/24", "dev", "br-ex"])
        run(["ip", "-n", self.netns, "link", "add", "uplink", "type", "veth", "peer", "name", "lan", "netns", self.lan])
        run(["ip", "-n", self.netns, "link", "set", "uplink", "master", "br-ex", "up"])
        run(["ip", "-n", self.lan, "addr", "add", f"{LAN}/24", "dev", "lan"])
        run(["ip", "-n", self.lan, "link", "set", "lan", "up"])
        run(["ip", "-n", self.lan, "link", "set", "lo", "up"])

    def close(self) -> None:
        before = list_links(self.netns)["br-ex"]
        try:
            super().close()
        finally:
            run(["ip", "netns", "delete", self.lan])
        assert (before.mtu, before.alias) == (1500, "")  # somebody else's

    def apply(self, desired: HostNetwork) -> dict[str, str]:
        """Until nothing is pending: the kernel takes a moment to find out that a new device has a carrier."""
        statuses = super().apply(desired)
        deadline = time.monotonic() + 5
        while self.net.pending and time.monotonic() < deadline:
            time.sleep(0.05)
            statuses = self.net.apply(desired)
        return statuses

    def routed(self, port: PortSpec, gateway: str) -> str:
        """A guest with its port's address and a default route."""
        guest = self.guest(port, f"{port.fixed_ips[0].ip_address}/24")
        run(["ip", "-n", guest, "route", "add", "default", "via", gateway])
        return guest


def network6(prefix: str, mode: str | None) -> NetworkSpec:
    subnet = SubnetSpec(
        id=str(uuid.uuid4()),
        cidr=f"{prefix}/64",
        ip_version=6,
        gateway_ip=f"{prefix}1",
        enable_dhcp=True,
        ipv6_ra_mode=mode,
        ipv6_address_mode=mode,
        dns_nameservers=("fd00:53::1",),
    )
    return NetworkSpec(id=str(uuid.uuid4()), name="six", project_id="p", mtu=1400, subnets=(subnet,))


def leg(net: NetworkSpec, *addresses: str, external: bool = False) -> RouterPortSpec:
    """With an address in each of the network's subnets, in their order."""
    fixed = tuple(
        FixedIP(subnet_id=subnet.id, ip_address=ip) for subnet, ip in zip(net.subnets, addresses, strict=False)
    )
    return RouterPortSpec(
        id=str(uuid.uuid4()), network_id=net.id, mac_address=netlab.mac(), fixed_ips=fixed, external=external
    )


def router(*legs: RouterPortSpec, **changes: object) -> RouterSpec:
    return RouterSpec(id=str(uuid.uuid4()), name="r", project_id="p", ports=legs, **changes)  # type: ignore[arg-type]


def port_of(one: RouterPortSpec, device_id: str = "") -> PortSpec:
    """A leg as the port that it is."""
    return PortSpec(
        id=one.id,
        network_id=one.network_id,
        mac_address=one.mac_address,
        fixed_ips=one.fixed_ips,
        port_security_enabled=False,
        device_id=device_id,
        device_owner="network:router_gateway" if one.external else INSIDE,
        admin_state_up=one.admin_state_up,
    )


def floating(address: str, port: PortSpec) -> FloatingIPSpec:
    fixed = port.fixed_ips[0].ip_address
    return FloatingIPSpec(id=str(uuid.uuid4()), floating_ip_address=address, fixed_ip_address=fixed, port_id=port.id)


def desired(networks: tuple[NetworkSpec, ...], ports: tuple[PortSpec, ...], *routers: RouterSpec) -> HostNetwork:
    legs = tuple(port_of(one, each.id) for each in routers for one in each.ports)
    return HostNetwork(networks=networks, ports=ports + legs, routers=routers)


def seen_source(server: str, client: str, ip: str, port: int, kind: str = "tcp", at: int | None = None) -> str | None:
    """The address that `server` sees when `client` talks to (ip, port) and gets an answer; None when it gets none.

    at: the port that the server listens on, where that is another.
    """
    sort = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    with in_netns(server, socket.socket, socket.AF_INET, sort) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("0.0.0.0", at or port))
        listening.settimeout(1)
        if kind == "tcp":
            listening.listen()
        with in_netns(client, socket.socket, socket.AF_INET, sort) as asking:
            asking.settimeout(1)
            try:
                asking.connect((ip, port))
                if kind == "tcp":
                    served, (source, _) = listening.accept()
                    with served:
                        served.sendall(b"hello")
                        assert asking.recv(9) == b"hello"
                else:
                    asking.send(b"knock")
                    _, (source, sport) = listening.recvfrom(9)
                    listening.sendto(b"hello", (source, sport))
                    assert asking.recv(9) == b"hello"
            except OSError:
                return None
    return str(source)


class Ping:
    """50 a second; how it was is known when its block has ended."""

    sent = lost = 0


@contextmanager
def pinging(netns: str, ip: str) -> Iterator[Ping]:
    ping = Ping()
    command = ["nsenter", f"--net=/run/netns/{netns}", "ping", "-i0.02", "-W1", ip]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield ping
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate()[0].split(" packets transmitted, ")
        ping.sent = int(said[0].split()[-1])
        ping.lost = ping.sent - int(said[1].split()[0])


class Crash(BaseException):
    """No handler catches it: the rest of the pass does not happen."""


def outside_calls(act: Callable[[], object]) -> list[str]:
    """The names of its outside calls, in their order."""
    names: list[str] = []
    with observed(lambda when, name: names.append(name) if when == "before" else None):
        act()
    return names


def crashes(act: Callable[[], object], name: str, times: int) -> bool:
    """Dies before it makes the outside call of this name for the `times`-th time, if it does."""
    count = 0

    def edge(when: str, each: str) -> None:
        nonlocal count
        count += (when, each) == ("before", name)
        if count == times:
            raise Crash(name)

    try:
        with observed(edge):
            act()
    except Crash:
        return True
    return False
