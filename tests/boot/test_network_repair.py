"""A running cloud's network, damaged by hand while the cloud was stopped: one `up` puts it right, and leaves what is right
alone. Namespaces on the ports' taps are the guests, and a namespace behind a link is the LAN."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from clouds import BIN, RunningCloud, wait_for
from test_cli_tls import written_certificates

from kilonova.host.net.netlink import NETLINK_NETFILTER, Netlink
from kilonova.host.netns import in_netns

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="a real host needs root"),
    pytest.mark.xdist_group("network-repair"),
    pytest.mark.timeout(300),
]
GATEWAY, FLOATING, ON_LAN = "198.18.50.1", "198.18.50.100", "198.18.50.50"
PASSES = 4.0  # seconds: time for the first passes of the port loop


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


def within(netns: str, *words: str) -> bool:
    return subprocess.run(["ip", "netns", "exec", netns, *words], capture_output=True, check=False).returncode == 0


def pings(netns: str, address: str) -> bool:
    return within(netns, "ping", "-c1", "-W1", address)


class Site:
    """Two guests behind a router with a gateway on the LAN, the first with a floating IP; a third guest on the LAN."""

    def __init__(self, folder: Path) -> None:
        self.lan = f"knl{uuid.uuid4().hex[:8]}"
        ip("netns", "add", self.lan)
        ip("link", "add", self.lan, "type", "veth", "peer", "name", "eth0", "netns", self.lan)
        ip("-n", self.lan, "addr", "add", f"{GATEWAY}/24", "dev", "eth0")
        ip("-n", self.lan, "link", "set", "eth0", "up")
        self.link = self.link_state()
        image = folder / "image"
        image.write_bytes(bytes(1 << 20))
        self.ca = written_certificates(folder)
        tls = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"), "--tls-ca", self.ca)
        options = ("--guest-image", str(image), "--physnet", f"lan={self.lan}", *tls)
        self.cloud = RunningCloud(folder / "cloud", "qemu", *options).up()
        self.guests: list[str] = []
        self.netns = str(self.cloud.json["netns"])

    def link_state(self) -> tuple[Any, ...]:
        found = json.loads(ip("-json", "-details", "addr", "show", self.lan))[0]
        return found["ifindex"], found["address"], found.get("master"), found["promiscuity"], "UP" in found["flags"]

    def make(self) -> None:
        admin = self.cloud.connect("kilonova-admin").network
        self.made = admin
        provider = ("--provider-network-type", "flat", "--provider-physical-network", "lan")
        env = {
            **os.environ,
            "OS_CLIENT_CONFIG_FILE": str(self.cloud.state / "clouds.yaml"),
            "OS_CLOUD": "kilonova-admin",
        }
        command = [BIN / "openstack", "network", "create", "--external", *provider, "lan"]
        subprocess.run(command, env=env, check=True, capture_output=True)
        self.external = admin.find_network("lan")
        admin.create_subnet(
            network_id=self.external.id, cidr="198.18.50.0/24", ip_version=4, gateway_ip=GATEWAY,
            allocation_pools=[{"start": "198.18.50.10", "end": "198.18.50.199"}],
        )  # fmt: skip
        self.network = admin.create_network(name="inside")
        subnet = admin.create_subnet(network_id=self.network.id, cidr="10.77.0.0/24", ip_version=4)
        self.router = admin.create_router(name="r", external_gateway_info={"network_id": self.external.id})
        admin.add_interface_to_router(self.router.id, subnet_id=subnet.id)
        group = admin.create_security_group(name="ping")
        admin.create_security_group_rule(security_group_id=group.id, direction="ingress", protocol="icmp")
        self.one, self.two = (self.guest(self.network.id, f"10.77.0.{n}", group.id, "10.77.0.1") for n in (11, 12))
        self.direct = self.guest(self.external.id, ON_LAN, group.id, GATEWAY)
        admin.create_ip(
            floating_network_id=self.external.id, floating_ip_address=FLOATING, port_id=self.ports[self.one].id
        )
        wait_for(self.works, 30)

    def guest(self, network_id: str, address: str, group: str, gateway: str) -> str:
        port = self.made.create_port(
            network_id=network_id, fixed_ips=[{"ip_address": address}], security_group_ids=[group],
            binding_host_id=socket.gethostname(), device_owner="compute:nova", device_id=str(uuid.uuid4()),
        )  # fmt: skip
        assert port.binding_vif_type == "bridge"
        name, tap = f"kng-{port.id[:11]}", f"tap{port.id[:11]}"
        ip("netns", "add", name)
        self.guests.append(name)
        peer = ("peer", "name", "eth0", "address", port.mac_address, "netns", name)
        ip("-n", self.netns, "link", "add", tap, "type", "veth", *peer)
        ip("-n", self.netns, "link", "set", tap, "alias", f"kilonova:{self.cloud.json['id']}")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", name, "route", "add", "default", "via", gateway)
        self.ports = {**getattr(self, "ports", {}), name: port}
        return name

    def works(self) -> bool:
        """All that the network is for."""
        return (
            pings(self.one, "10.77.0.12")
            and pings(self.lan, FLOATING)
            and pings(self.two, GATEWAY)
            and pings(self.lan, ON_LAN)
            and pings(self.direct, FLOATING)
            and not self.connects()
            and bool(self.dnsmasq())
        )

    def connects(self) -> bool:
        """Through a port that no rule opens."""
        with in_netns(self.two, socket.create_server, ("10.77.0.12", 8022)):
            try:
                in_netns(self.one, socket.create_connection, ("10.77.0.12", 8022), 0.3).close()
            except OSError:
                return False
        return True

    def dnsmasq(self) -> list[str]:
        """The pids of the networks' DHCP servers, when each has one."""
        found = [ip("netns", "pids", f"qdhcp-{network.id}").split() for network in (self.network, self.external)]
        return [pid for pids in found for pid in pids] if all(found) else []

    def generations(self) -> dict[str, int]:
        """Each commit to the rules of a namespace raises its number."""
        found = {}
        for netns in (self.netns, f"qrouter-{self.router.id}"):
            with closing(Netlink(netns, NETLINK_NETFILTER)) as connection:
                found[netns] = connection.nft_generation()
        return found

    def close(self) -> None:
        try:
            self.cloud.purge()
            assert self.link_state() == self.link
        finally:
            ip("link", "delete", self.lan)
            for name in (*self.guests, self.lan):
                ip("netns", "delete", name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("repair"))
    try:
        made.make()
        yield made
    finally:
        made.close()


def pcap(data: bytes) -> list[str]:
    """The packets, in tcpdump's words."""
    shown = subprocess.run(["tcpdump", "-nn", "-r", "-"], input=data, capture_output=True, check=True).stdout.decode()
    return [line for line in shown.splitlines() if "ICMP" in line]


def test_packets_are_seen_on_stdout_in_a_file_and_over_https_with_a_token(site: Site, tmp_path: Path) -> None:
    port, file = site.ports[site.one], tmp_path / "one.pcap"
    ping = subprocess.Popen(
        ["ip", "netns", "exec", site.two, "ping", "-q", "-i", "0.05", "10.77.0.11"], stdout=subprocess.DEVNULL
    )
    try:
        command = [BIN / "kilonova", "capture", "--state", site.cloud.state, port.id, "--packets", "20"]
        said = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        assert any("10.77.0.12 > 10.77.0.11: ICMP echo request" in line for line in pcap(said)), said
        subprocess.run([*command, "-w", file], capture_output=True, check=True, timeout=60)
        assert any("10.77.0.11 > 10.77.0.12: ICMP echo reply" in line for line in pcap(file.read_bytes()))
        url = f"{site.cloud.json['url']}/network/v2.0/kilonova/ports/{port.id}/capture?packets=20&seconds=30"
        assert url.startswith("https://")
        with httpx.Client(verify=ssl.create_default_context(cafile=site.ca), timeout=60) as client:
            answer = client.get(url, headers={"X-Auth-Token": site.made.session.get_token()})
            assert answer.status_code == 200 and pcap(answer.content)
            assert client.get(url).status_code == 401
            theirs = site.cloud.connect().auth_token
            assert client.get(url, headers={"X-Auth-Token": theirs}).status_code == 404
    finally:
        ping.terminate()
        ping.wait()


def test_a_path_through_a_router_is_tried_and_the_devices_are_named(site: Site) -> None:
    for start, end in ((GATEWAY, FLOATING), (site.ports[site.two].id, "outside")):
        said = site.cloud.kilonova("path", start, end)
        assert "say the same" in said and f"qrouter-{site.router.id} on" in said, said
    tree = site.cloud.kilonova("topology")
    for word in (
        f"brq{site.network.id[:11]}",
        "brp-lan",
        f"qrouter-{site.router.id}",
        f"qdhcp-{site.network.id}",
        FLOATING,
    ):
        assert word in tree, tree
    for port in site.ports.values():
        assert f"tap{port.id[:11]}" in tree, tree


def test_one_pass_repairs_what_was_done_by_hand(site: Site) -> None:
    site.cloud.stop(signal.SIGKILL)
    netns, network = site.netns, site.network.id
    table = f"kilonova_{site.cloud.json['id'][:8]}"
    ip("-n", netns, "link", "delete", f"brq{network[:11]}")
    ip("netns", "exec", netns, "nft", "flush", "ruleset")
    for pid in site.dnsmasq():
        os.kill(int(pid), signal.SIGKILL)
    ip("netns", "delete", f"qrouter-{site.router.id}")
    ip("netns", "delete", f"qdhcp-{network}")
    ip("-n", netns, "link", "delete", "phy-lan")
    ip("-n", netns, "link", "delete", "br-ex")
    ip("link", "set", site.lan, "down")
    for name, alias in (("tapstray-ours", f"kilonova:{site.cloud.json['id']}"), ("tapstray-other", "mine")):
        ip("-n", netns, "tuntap", "add", name, "mode", "tap")
        ip("-n", netns, "link", "set", name, "alias", alias)
    ip("-n", netns, "tuntap", "add", "plugged-in", "mode", "tap")
    assert not site.works()
    site.cloud.up()
    wait_for(site.works, 30)
    assert table in ip("netns", "exec", netns, "nft", "list", "tables")
    wait_for(lambda: "tapstray-ours" not in ip("-n", netns, "link"), 30)
    assert "tapstray-other" in ip("-n", netns, "link")  # not ours
    ip("-n", netns, "link", "delete", "tapstray-other")
    # Another's device in a bridge of ours would be among the guests, behind no filter of a port.
    ip("-n", netns, "link", "set", "plugged-in", "master", f"brq{network[:11]}")
    wait_for(lambda: "master" not in ip("-n", netns, "link", "show", "plugged-in"), 30)
    ip("-n", netns, "link", "delete", "plugged-in")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_right_is_left_alone_and_no_packet_is_lost(site: Site, number: int) -> None:
    time.sleep(1)  # the kernel's own late changes, such as a bridge port's state
    before, servers = site.generations(), site.dnsmasq()
    spaces = [site.netns, f"qrouter-{site.router.id}", f"qdhcp-{site.network.id}", f"qdhcp-{site.external.id}"]
    monitors = [
        subprocess.Popen(
            ["ip", "-n", name, "-o", "monitor", "link", "address", "route"], stdout=subprocess.PIPE, text=True
        )
        for name in spaces
    ]
    flows = [(site.one, "10.77.0.12"), (site.two, GATEWAY), (site.lan, FLOATING), (site.lan, ON_LAN)]
    running = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, "ping", "-q", "-i", "0.02", address], stdout=subprocess.PIPE, text=True
        )
        for name, address in flows
    ]
    site.cloud.stop(number)
    time.sleep(0.5)
    site.cloud.up()
    time.sleep(PASSES)
    for each in running:
        each.send_signal(signal.SIGINT)
        said = each.communicate(timeout=10)[0]
        counts = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        assert counts is not None, said
        sent, received = map(int, counts.groups())
        assert sent > 100 and sent - received <= 1, said  # the last one may still be on its way
    seen = []
    for monitor in monitors:
        monitor.terminate()
        seen += monitor.communicate(timeout=10)[0].splitlines()
    assert seen == []
    assert site.generations() == before
    assert site.dnsmasq() == servers
    assert site.works()
