"""What `kilonova topology`, `path` and `capture` show of the network: of the API's answers, pure but for the stream."""

import ipaddress
import sys
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from kilonova.client import Client
from kilonova.model.errors import KilonovaError

Body = dict[str, Any]
MARKS = {True: Text("✓", "green"), False: Text("✗", "red"), None: Text("?", "yellow")}
WORDS = {True: "reaches", False: "cannot reach", None: "cannot be said to reach"}


def topology(client: Client) -> Body:
    """All networks with their subnets and ports, all routers with their legs; each with its devices."""
    servers = {each["id"]: each["name"] for each in client.get("/compute/v2.1/servers", all_tenants="1")["servers"]}
    subnets, ports = defaultdict[str, list[Body]](list), defaultdict[str, list[Body]](list)
    for subnet in client.get("/network/v2.0/subnets")["subnets"]:
        subnets[subnet["network_id"]].append(subnet)
    found_ips = client.get("/network/v2.0/floatingips")["floatingips"]
    floating = {each["port_id"]: each["floating_ip_address"] for each in found_ips}
    listed = client.get("/network/v2.0/ports")["ports"]
    carriers = {each["id"]: each["router_id"] for each in found_ips if each["router_id"]}
    for port in listed:
        port["device"] = device(port, carriers)
        port["server"] = servers.get(port["device_id"])
        port["floating_ip_address"] = floating.get(port["id"])
        ports[port["network_id"]].append(port)
    tunnels = {
        agent["host"]: address
        for agent in client.get("/network/v2.0/agents")["agents"]
        if (address := agent["configurations"].get("tunneling_ip"))
    }
    networks = client.get("/network/v2.0/networks")["networks"]
    for network in networks:
        network["bridge"] = next(
            (name for port in ports[network["id"]] if (name := port["binding:vif_details"].get("bridge_name"))), None
        )
        network["subnets"], network["ports"] = subnets[network["id"]], ports[network["id"]]
        network["overlays"] = overlays(network, tunnels)
    routers = client.get("/network/v2.0/routers")["routers"]
    for router in routers:
        router["namespace"] = f"qrouter-{router['id']}"
        router["ports"] = [port for port in listed if port["device_id"] == router["id"]]
    return {"networks": networks, "routers": routers}


def overlays(network: Body, tunnels: dict[str, str]) -> list[str]:
    """The VXLAN devices that carry it between hosts. tunnels: host → its overlay address, where it has one."""
    if network.get("provider:network_type") != "vxlan":
        return []
    hosts = sorted({port["binding:host_id"] for port in network["ports"]} & tunnels.keys())
    return [f"vxlan-{network['provider:segmentation_id']} at {tunnels[host]} on {host}" for host in hosts]


def device(port: Body, carriers: Body) -> str:
    """Where a port is on its host: its tap, and for one of the network's own the other end, in its namespace.

    carriers: floating IP's id → the router that carries it.
    """
    owner, ident = port["device_owner"], port["id"][:11]
    if port["device_id"] in carriers:
        return f"NAT in qrouter-{carriers[port['device_id']]}"
    if not port["binding:host_id"]:
        return ""
    inside = {
        "network:dhcp": f" ↔ ns-{ident} in qdhcp-{port['network_id']}",
        "network:router_interface": f" ↔ qr-{ident} in qrouter-{port['device_id']}",
        "network:router_gateway": f" ↔ qg-{ident} in qrouter-{port['device_id']}",
    }
    return f"tap{ident}{inside.get(owner, '')}"


def topology_tree(found: Body) -> RenderableType:
    return Group(*map(network_tree, found["networks"]), *map(router_tree, found["routers"]))


def network_tree(network: Body) -> Tree:
    kind = network.get("provider:network_type") or "local"
    words = [kind, *(["external"] if network["router:external"] else []), *(["shared"] if network["shared"] else [])]
    bridge = f" on bridge {network['bridge']}" if network["bridge"] else ", on no host yet"
    tree = Tree(f"[bold]network {escape(network['name'] or network['id'])}[/] ({', '.join(words)}){bridge}")
    for subnet in network["subnets"]:
        gateway = f"gateway {subnet['gateway_ip']}" if subnet["gateway_ip"] else "no gateway"
        name = f" {escape(subnet['name'])}" if subnet["name"] else ""
        tree.add(f"subnet{name} {subnet['cidr']}, {gateway}, {'DHCP' if subnet['enable_dhcp'] else 'no DHCP'}")
    for overlay in network["overlays"]:
        tree.add(escape(overlay))
    for port in network["ports"]:
        tree.add(port_line(port))
    return tree


def port_line(port: Body) -> str:
    owner = port["device_owner"]
    what = f"server {port['server']}" if port["server"] else owner.removeprefix("network:").replace("_", " ") or "port"
    addresses = ", ".join(ip["ip_address"] for ip in port["fixed_ips"]) or "no address"
    floating = f" = {port['floating_ip_address']}" if port["floating_ip_address"] else ""
    host = f" on {port['binding:host_id']}" if port["binding:host_id"] else ""
    where = f"{port['device']}{host}" if port["device"] else "on no host"
    return escape(f"{what} {addresses}{floating} {port['status']}: {where} [{port['id']}]")


def router_tree(router: Body) -> Tree:
    state = router["status"] if router["admin_state_up"] else "administratively down"
    tree = Tree(f"[bold]router {escape(router['name'] or router['id'])}[/] {state}: namespace {router['namespace']}")
    for port in router["ports"]:
        tree.add(port_line(port))
    for route in router["routes"]:
        tree.add(f"route {route['destination']} via {route['nexthop']}")
    return tree


def place(client: Client, named: str) -> str:
    """What the API takes: an address, `outside`, a port's id, or a server's or a port's name turned into its id."""
    with suppress(ValueError):
        return str(ipaddress.ip_address(named))
    if named == "outside":
        return named
    servers = client.get("/compute/v2.1/servers", all_tenants="1")["servers"]
    listed = client.get("/network/v2.0/ports", fields="id")["ports"]
    found = [each["id"] for each in servers if named in (each["id"], each["name"])]
    found = found or [each["id"] for each in listed if each["id"] == named]
    found = found or [each["id"] for each in client.get("/network/v2.0/ports", name=named)["ports"]]
    if len(found) != 1:
        many = f"{len(found)} things have" if found else "no server and no port has"
        raise KilonovaError(f"{many} the name or id {named}; an address, or `outside`, may be given too")
    return str(found[0])


def port_of(client: Client, named: str) -> str:
    """The id of the port to capture: as `place`, the first port of a server, or the one that has an address."""
    asked = place(client, named)
    ports = client.get("/network/v2.0/ports")["ports"]
    found = [p["id"] for p in ports if asked in (p["id"], p["device_id"], *(ip["ip_address"] for ip in p["fixed_ips"]))]
    if not found:
        raise KilonovaError(f"no port belongs to {named}; `kilonova topology` shows them")
    return str(found[0])


def path_text(path: Body) -> RenderableType:
    """The hops, what decides, and what the live rules said."""
    asked = path["protocol"] + (f" port {path['port']}" if path["port"] else "")
    lines: list[RenderableType] = []
    for hop in path["hops"]:
        where = f"  [{hop['device']}]" if hop.get("device") else ""
        lines.append(Text(f"  {hop['kind']:<9} {hop['detail']}{where}"))
    verdict = Text.assemble(
        MARKS[path["reachable"]], f" {path['from']} {WORDS[path['reachable']]} {path['to']} by {asked}. "
    )
    verdict.append(path["explanation"])
    return Group(*lines, verdict, *live_lines(path.get("live")))


def live_lines(live: Body | None) -> list[Text]:
    if live is None:
        return []
    if live["agrees"] is None:
        return [Text(f"Not tried on the live rules: {live['why']}", "yellow")]
    lines = [
        Text("The rules that are loaded now say the same.")
        if live["agrees"]
        else Text("The rules that are loaded now do otherwise: the host is not (yet) as it should be.", "red")
    ]
    for each in live["crossings"]:
        where, how = each["bridge"] or each["router"], "passed" if each["delivered"] else "dropped"
        lines.append(Text(f"  {where} on {each['host']}: {how}"))
        lines += [Text(f"    {rule}") for rule in each["rules"][-3:]]
        lines += [Text(f"    wrong: {wrong}", "red") for wrong in each["wiring"]]
    return lines


def record(client: Client, port_id: str, file: str, seconds: int, packets: int) -> int:
    """The port's packets into a file, `-` being stdout, until Ctrl-C; the bytes written.

    KilonovaError, and no capture, when the file cannot be written; no file when there is no capture.
    """
    written = 0
    path = f"/network/v2.0/kilonova/ports/{port_id}/capture"
    with client.stream(path, seconds=str(seconds), packets=str(packets)) as pieces, opened(file) as out:
        print(f"kilonova: capturing tap{port_id[:11]}; Ctrl-C ends it", file=sys.stderr)
        try:
            for piece in pieces:
                out.write(piece)
                out.flush()
                written += len(piece)
        except (KeyboardInterrupt, BrokenPipeError):
            pass
    return written


def opened(file: str) -> IO[bytes]:
    """KilonovaError names a file that cannot be written."""
    if file == "-":
        return open(sys.stdout.fileno(), "wb", closefd=False)
    try:
        return Path(file).open("wb")
    except OSError as error:
        raise KilonovaError(f"cannot write {file}: {error.strerror}") from error
