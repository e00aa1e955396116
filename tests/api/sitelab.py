"""Networks, ports in groups of their own, routers and floating IPs made at Neutron's door, and the paths between them."""

from typing import Any

import httpx
from network_client import ADMIN, DEMO, OTHER, Neutron

from kilonova.network import agents, ports

HOST = "host-1"
CIDRS = {"net": "10.0.0.0/24", "two": "10.1.0.0/24", "same": "10.0.0.0/24"}


class Site:
    """`net`, `two`, and `same`, whose addresses are `net`'s; each port has the group of its name, all are ACTIVE."""

    def __init__(self, neutron: Neutron, public: str = "172.24.4.0/24") -> None:
        self.neutron = neutron
        neutron.database.write(lambda tx: agents.report(tx, HOST, {"public": "br-ex"}))
        self.nets = {name: neutron.make("network", name=name)["id"] for name in CIDRS}
        for name, cidr in CIDRS.items():
            neutron.make("subnet", network_id=self.nets[name], cidr=cidr, ip_version=4)
        external = {"router:external": True, "provider:network_type": "flat", "provider:physical_network": "public"}
        self.public = neutron.make("network", token=ADMIN, name="public", **external)["id"]
        subnet = {"cidr": public, "ip_version": 4, "enable_dhcp": False}
        neutron.make("subnet", token=ADMIN, network_id=self.public, **subnet)
        self.groups: dict[str, str] = {}

    def group(self, name: str) -> str:
        if name not in self.groups:
            self.groups[name] = self.neutron.make("security_group", name=name)["id"]
        return self.groups[name]

    def rule(self, group: str, **values: Any) -> str:
        values = {"direction": "ingress", **values}
        return str(self.neutron.make("security_group_rule", security_group_id=self.group(group), **values)["id"])

    def port(self, network: str, group: str, **values: Any) -> str:
        values = {"security_groups": [self.group(group)], **values}
        made = str(self.neutron.make("port", network_id=self.nets[network], **values)["id"])
        self.put("port", made, **{"binding:host_id": HOST})
        self.wired()
        return made

    def others_port(self) -> str:
        net = self.neutron.make("network", token=OTHER, name="theirs")["id"]
        self.neutron.make("subnet", token=OTHER, network_id=net, cidr="10.5.0.0/24", ip_version=4)
        made = str(self.neutron.make("port", token=OTHER, network_id=net)["id"])
        self.put("port", made, **{"binding:host_id": HOST})
        self.wired()
        return made

    def put(self, kind: str, ident: str, **values: Any) -> None:
        response = self.neutron.put(f"/v2.0/{kind}s/{ident}", {kind: values}, ADMIN)
        assert response.status_code == 200, response.text
        self.wired()

    def wired(self) -> None:
        """What the port loop would report."""
        found = self.neutron.list("ports", token=ADMIN)
        self.statuses({each["id"]: "ACTIVE" if each["admin_state_up"] else "DOWN" for each in found})

    def statuses(self, statuses: dict[str, str]) -> None:
        self.neutron.database.write(lambda tx: ports.set_statuses(tx, statuses) and None)

    def router(self, *networks: str) -> str:
        made = str(self.neutron.make("router", name="r")["id"])
        for network in networks:
            self.attach(made, network)
        return made

    def attach(self, router: str, network: str) -> None:
        subnet = self.neutron.list("subnets", f"?network_id={self.nets[network]}")[0]["id"]
        done = self.neutron.put(f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet})
        assert done.status_code == 200, done.text
        self.wired()

    def gateway(self, router: str, **values: Any) -> None:
        self.put("router", router, external_gateway_info={"network_id": self.public, **values})

    def floating(self, port: str) -> str:
        made = self.neutron.make("floatingip", floating_network_id=self.public, port_id=port)
        return str(made["floating_ip_address"])

    def ask(self, start: str, end: str, token: str = DEMO, **query: str) -> httpx.Response:
        words = "".join(f"&{key}={value}" for key, value in query.items())
        return self.neutron.get(f"/v2.0/kilonova/path?from={start}&to={end}{words}", token)

    def path(self, start: str, end: str, token: str = DEMO, **query: str) -> dict[str, Any]:
        response = self.ask(start, end, token, **query)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()["path"]
        return found
