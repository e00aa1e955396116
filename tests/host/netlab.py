"""A cloud's namespace with guests on veth pairs in place of QEMU's taps; all gone at the end."""

import ipaddress
import os
import random
import re
import socket
import struct
import time
import uuid
from dataclasses import fields
from pathlib import Path

from kilonova.host.calls import observed, run
from kilonova.host.dataplane.namespaces import listed_namespaces
from kilonova.host.net.backend import HostNet
from kilonova.host.net.link import list_links
from kilonova.host.net.metadata import Source
from kilonova.host.netns import in_netns, netns_path
from kilonova.model.errors import HostError
from kilonova.model.specs import FixedIP, HostNetwork, NetworkSpec, PortSpec, RuleSpec, SubnetSpec

EGRESS = (RuleSpec(direction="egress", ethertype="IPv4"), RuleSpec(direction="egress", ethertype="IPv6"))
PING = RuleSpec(direction="ingress", ethertype="IPv4", protocol="icmp")


def tcp(port: int) -> RuleSpec:
    return RuleSpec(direction="ingress", ethertype="IPv4", protocol="tcp", port_range_min=port, port_range_max=port)


def load_br_netfilter() -> None:
    """On in new namespaces, and off for the host's own bridges when it is us who loads it."""
    switches = Path("/proc/sys/net/bridge")
    if not switches.exists():
        run(["modprobe", "br_netfilter"])
        for switch in switches.glob("bridge-nf-call-*"):
            switch.write_text("0")


class Lab:
    """`options`: those of HostNet, and the metadata service's (`metadata.Source`)."""

    def __init__(self, state: Path, **options: object) -> None:
        self.state = state
        self.cloud_id = str(uuid.uuid4())
        self.netns = f"knt-{self.cloud_id[:8]}"
        load_br_netfilter()
        run(["ip", "netns", "add", self.netns])
        self.guests: list[str] = []
        given = {each.name: options.pop(each.name) for each in fields(Source) if each.name in options}
        self.options: dict[str, object] = {"source": Source(**given), **options}  # type: ignore[arg-type]
        self.net = HostNet(self.netns, self.cloud_id, state, **self.options)  # type: ignore[arg-type]

    def restart(self) -> None:
        """As a new process would find things."""
        self.net.close()
        self.net = HostNet(self.netns, self.cloud_id, self.state, **self.options)  # type: ignore[arg-type]

    def close(self) -> None:
        try:
            self.net.purge()
            assert listed_namespaces(self.state) == []
            assert {n for n in list_links(self.netns) if n.startswith(("brq", "tap"))} <= set(self.taps())
        finally:
            self.net.close()
            for guest in self.guests:
                run(["ip", "netns", "delete", guest])
            run(["ip", "netns", "delete", self.netns])
        assert not netns_path(self.netns).exists()

    def taps(self) -> list[str]:
        return [f"tap{guest.removeprefix('kng-')}" for guest in self.guests]

    def guest(self, port: PortSpec, address: str | None = None) -> str:
        """The namespace of a guest whose NIC is the port's tap; `address` (with its length) if it is not to use DHCP."""
        guest = f"kng-{port.id[:11]}"
        run(["ip", "netns", "add", guest])
        self.guests.append(guest)
        for name, value in (("accept_dad", "0"), ("accept_ra", "1")):  # its addresses are there at once
            in_netns(guest, Path(f"/proc/sys/net/ipv6/conf/default/{name}").write_text, value)
        peer = ["peer", "name", "eth0", "address", port.mac_address, "netns", guest]
        run(["ip", "-n", self.netns, "link", "add", port.tap, "type", "veth", *peer])
        run(["ip", "-n", guest, "link", "set", "eth0", "up"])
        run(["ip", "-n", guest, "link", "set", "lo", "up"])
        if address:
            run(["ip", "-n", guest, "addr", "add", address, "dev", "eth0"])
        return guest

    def apply(self, desired: HostNetwork) -> dict[str, str]:
        """One pass, and the kernel's moment until carrier is known and the guests' bridge ports forward."""
        statuses = self.net.apply(desired)
        plugged = {link.name for link in list_links(self.netns).values() if link.master and link.up} & set(self.taps())
        deadline = time.monotonic() + 3
        while plugged and time.monotonic() < deadline:
            lines = run(["bridge", "-n", self.netns, "link"]).splitlines()
            if sum(
                "state forwarding" in line and line.split()[1].split("@")[0].rstrip(":") in plugged for line in lines
            ) == len(plugged):
                break
            time.sleep(0.02)
        return statuses

    def writes(self, desired: HostNetwork) -> list[str]:
        """The outside calls of one apply that may change something."""
        calls: list[str] = []
        with observed(lambda when, name: calls.append(name) if when == "before" else None):
            self.net.apply(desired)
        reads = ("nft -s", "unshare --net")  # what the rules are, and what they should look like
        return [
            name
            for name in calls
            if name not in reads and not (name.startswith("netlink") and name.endswith(("list", "get", "generation")))
        ]


def network(cidr: str = "10.0.0.0/24", **changes: object) -> NetworkSpec:
    base = cidr.rsplit(".", 1)[0]
    subnet = {"gateway_ip": f"{base}.1", "enable_dhcp": True, "dhcp_ip": f"{base}.2"}
    subnet |= {key: changes.pop(key) for key in list(changes) if key in SubnetSpec.__struct_fields__}  # type: ignore[misc]
    ident = str(uuid.uuid4())
    return NetworkSpec(
        id=ident,
        name="net",
        project_id="p",
        mtu=1450,
        subnets=(SubnetSpec(id=str(uuid.uuid4()), cidr=cidr, ip_version=4, **subnet),),  # type: ignore[arg-type]
        dhcp_port_id=str(uuid.uuid4()),
        dhcp_mac=mac(),
        **changes,  # type: ignore[arg-type]
    )


def port(net: NetworkSpec, ip: str, **changes: object) -> PortSpec:
    device = {"device_id": str(uuid.uuid4()), "project_id": "p"}
    values = {"rules": EGRESS, "vif_type": "tap", "mac_address": mac(), **device} | changes
    fixed = (FixedIP(subnet_id=net.subnets[0].id, ip_address=ip),)
    return PortSpec(id=str(uuid.uuid4()), network_id=net.id, fixed_ips=fixed, **values)  # type: ignore[arg-type]


def mac() -> str:
    return "fa:16:3e:" + ":".join(f"{random.randrange(256):02x}" for _ in range(3))


def pings(guest: str, ip: str, source: str | None = None) -> bool:
    try:
        run(["ping", "-c1", "-W0.6", *(["-I", source] if source else []), ip], netns=guest)
    except HostError:
        return False
    return True


def connects(guest: str, ip: str, port: int, timeout: float = 0.6) -> bool:
    def connect() -> bool:
        try:
            socket.create_connection((ip, port), timeout).close()
        except OSError:
            return False
        return True

    return in_netns(guest, connect)


def listener(guest: str, port: int) -> socket.socket:
    return in_netns(guest, socket.create_server, ("0.0.0.0", port))


def http_get(guest: str, path: str, server: str = "169.254.169.254", posted: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of a GET; of a POST when something is posted."""
    request = f"GET {path} HTTP/1.0\r\n\r\n"
    if posted is not None:
        request = f"POST {path} HTTP/1.0\r\nContent-Length: {len(posted)}\r\n\r\n"

    def get() -> tuple[int, bytes]:
        with socket.create_connection((server, 80), 3) as sock:
            sock.sendall(request.encode() + (posted or b""))
            data = b"".join(iter(lambda: sock.recv(65536), b""))
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    return in_netns(guest, get)


def packet_socket(guest: str) -> socket.socket:
    def open_() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.bind(("eth0", 3))
        sock.settimeout(1.0)
        return sock

    return in_netns(guest, open_)


def raw(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_frame(src_mac: str, dst_mac: str, src: str, dst: str, sport: int, dport: int, payload: bytes) -> bytes:
    udp = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(src), socket.inet_aton(dst)
    )
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return raw(dst_mac) + raw(src_mac) + b"\x08\x00" + head + udp


def arp_frame(src_mac: str, sender_mac: str, sender_ip: str, target_ip: str) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + raw(sender_mac) + socket.inet_aton(sender_ip)
    return b"\xff" * 6 + raw(src_mac) + b"\x08\x06" + body + b"\0" * 6 + socket.inet_aton(target_ip)


def receives(sock: socket.socket, needle: bytes, timeout: float = 0.4) -> bool:
    """Does a frame that contains `needle` arrive?"""
    sock.settimeout(timeout)
    try:
        while True:
            if needle in sock.recv(65536):
                return True
    except TimeoutError:
        return False


def dhcp(guest: str, mac_address: str, timeout: float = 3.0) -> dict[int | str, bytes]:
    """DISCOVER, OFFER, REQUEST, ACK: the options of the ACK, its address as `ip`. Empty when nobody answers."""
    xid = os.urandom(4)

    def message(kind: int, *extra: bytes) -> bytes:
        packet = struct.pack("!BBBB4sHH", 1, 1, 6, 0, xid, 0, 0x8000) + b"\0" * 16 + raw(mac_address).ljust(16, b"\0")
        asked = b"\x37\x08" + bytes((1, 3, 6, 26, 121, 12, 15, 42))
        packet += b"\0" * 192 + b"\x63\x82\x53\x63" + bytes((53, 1, kind)) + asked + b"".join(extra) + b"\xff"
        return udp_frame(
            mac_address, "ff:ff:ff:ff:ff:ff", "0.0.0.0", "255.255.255.255", 68, 67, packet.ljust(300, b"\0")
        )

    def answer(sock: socket.socket) -> dict[int | str, bytes]:
        try:
            while True:
                frame = sock.recv(65536)
                start = frame.find(b"\x63\x82\x53\x63")
                if start < 0 or xid not in frame or frame[12:14] != b"\x08\x00" or frame[42] != 2:
                    continue
                options: dict[int | str, bytes] = {"ip": frame[58:62], "from": frame[26:30]}
                at = start + 4
                while at < len(frame) and frame[at] != 255:
                    options[frame[at]] = frame[at + 2 : at + 2 + frame[at + 1]]
                    at += 2 + frame[at + 1]
                return options
        except TimeoutError:
            return {}

    with packet_socket(guest) as sock:
        sock.settimeout(timeout)
        sock.send(message(1))
        offer = answer(sock)
        if not offer:
            return {}
        sock.send(message(3, b"\x32\x04" + offer["ip"], b"\x36\x04" + offer[54]))
        return answer(sock)


def pids_with(argument: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if re.fullmatch(r"\d+", name):
            try:
                if argument.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


def link_local(mac_address: str) -> str:
    octets = raw(mac_address)
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + b"\0" * 6 + host))


def dhcp6(guest: str, duid: bytes, *, stateful: bool = True, timeout: float = 8.0) -> dict[int | str, bytes]:
    """SOLICIT, ADVERTISE, REQUEST, REPLY (or INFORMATION-REQUEST, REPLY): the reply's options, its address as `ip`,
    or its refusal as `status`. Empty when nobody answers. `duid`: the client's."""

    def option(code: int, value: bytes) -> bytes:
        return struct.pack("!HH", code, len(value)) + value

    def options(data: bytes) -> dict[int | str, bytes]:
        found: dict[int | str, bytes] = {}
        while len(data) >= 4:
            code, size = struct.unpack_from("!HH", data)
            found[code], data = data[4 : 4 + size], data[4 + size :]
        return found

    def ask(sock: socket.socket, kind: int, *extra: bytes) -> dict[int | str, bytes]:
        xid = os.urandom(3)
        asked = option(6, struct.pack("!HHH", 23, 24, 7))
        message = bytes([kind]) + xid + option(1, duid) + asked + option(8, b"\0\0") + b"".join(extra)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:  # a multicast may be lost while the bridge still learns of the group
            sock.sendto(message, ("ff02::1:2", 547, 0, socket.if_nametoindex("eth0")))
            try:
                answer = sock.recv(65536)
            except TimeoutError:
                continue
            if answer[1:4] == xid:
                return options(answer[4:])
        return {}

    def talk() -> dict[int | str, bytes]:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
            sock.bind(("::", 546))
            if not stateful:
                return ask(sock, 11)
            association = option(3, struct.pack("!III", 1, 0, 0))
            offer = ask(sock, 1, association)
            if 3 not in offer:
                return offer
            reply = ask(sock, 3, option(2, offer[2]), option(3, offer[3]))
            inner = options(reply.get(3, b"")[12:])
            if 5 in inner:
                reply["ip"] = inner[5][:16]
            if 13 in inner or 13 in reply:
                reply["status"] = inner.get(13, reply.get(13, b""))
            return reply

    return in_netns(guest, talk)
