"""Many at once on one subnet: never two ports with one address, and the right error at the end, on both databases.

Through a real server on loopback: each thread has a connection of its own, and all of them have a request under way.
"""

import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
import uvicorn
from network_client import ADMIN, CONTEXTS, DEMO, Neutron

from kilonova.db.engine import Database

ASKED, WORKERS = 1000, 200
ROOM = 253 - 1  # of a /24: without its network, broadcast and gateway addresses, and the DHCP server's


@pytest.mark.timeout(600)
def test_a_thousand_ports_on_one_subnet(database: Database) -> None:
    neutron = Neutron(database)
    neutron.put(f"/v2.0/quotas/{CONTEXTS[DEMO].project_id}", {"quota": {"port": -1}}, ADMIN)
    network = neutron.make("network")
    neutron.make("subnet", network_id=network["id"], cidr="10.0.0.0/24", ip_version=4)

    asked, each = json.dumps({"port": {"network_id": network["id"]}}), ASKED // WORKERS
    together = threading.Barrier(WORKERS)

    def create(port: int) -> list[tuple[int, str]]:
        found = []
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=300)) as connection:
            connection.connect()
            together.wait(60)
            for _ in range(each):
                headers = {"X-Auth-Token": DEMO, "Content-Type": "application/json"}
                connection.request("POST", "/network/v2.0/ports", asked, headers)
                answer = connection.getresponse()
                body = json.load(answer)
                refusal = body.get("NeutronError", {}).get("type", "")
                found.append((answer.status, refusal or body["port"]["fixed_ips"][0]["ip_address"]))
        return found

    with served(neutron) as port, ThreadPoolExecutor(WORKERS) as pool:
        answers = [answer for some in pool.map(create, [port] * WORKERS) for answer in some]
    addresses = [address for status, address in answers if status == 201]
    assert Counter((status, what) for status, what in answers if status != 201) == {
        (409, "IpAddressGenerationFailure"): ASKED - ROOM
    }
    assert len(addresses) == len(set(addresses)) == ROOM
    ports = neutron.list("ports", f"?network_id={network['id']}")
    held = [ip["ip_address"] for port in ports for ip in port["fixed_ips"]]
    assert len(held) == len(set(held)) == len(ports) == ROOM + 1  # nothing half done


def at_once(neutron: Neutron, asked: list[tuple[str, str, Any]]) -> Counter[tuple[int, str]]:
    """How many of these requests (method, path, body), all under way together, had which answer: status, error."""
    together = threading.Barrier(len(asked))

    def ask(request: tuple[str, str, Any]) -> tuple[int, str]:
        together.wait(60)
        answer = neutron.call(*request)
        return answer.status_code, answer.json().get("NeutronError", {}).get("type", "") if answer.content else ""

    with ThreadPoolExecutor(len(asked)) as pool:
        return Counter(pool.map(ask, asked))


def test_floating_ips_until_there_are_none(database: Database) -> None:
    neutron = Neutron(database)
    public = neutron.make("network", ADMIN, **{"router:external": True})["id"]
    pool = [{"start": "172.24.4.200", "end": "172.24.4.206"}]
    neutron.make(
        "subnet", ADMIN, network_id=public, cidr="172.24.4.0/24", ip_version=4, allocation_pools=pool, enable_dhcp=False
    )
    answers = at_once(neutron, [("POST", "/v2.0/floatingips", {"floatingip": {"floating_network_id": public}})] * 20)
    assert answers == {(201, ""): 7, (409, "IpAddressGenerationFailure"): 13}
    found = [each["floating_ip_address"] for each in neutron.list("floatingips")]
    assert sorted(found) == [f"172.24.4.{number}" for number in range(200, 207)]
    assert len(neutron.list("ports", f"?network_id={public}", ADMIN)) == 7  # none left by the thirteen


def test_one_address_for_many(database: Database) -> None:
    neutron = Neutron(database)
    network = neutron.make("network")["id"]
    neutron.make("subnet", network_id=network, cidr="10.0.0.0/24", ip_version=4)
    port = {"port": {"network_id": network, "fixed_ips": [{"ip_address": "10.0.0.209"}]}}
    assert at_once(neutron, [("POST", "/v2.0/ports", port)] * 12) == {
        (201, ""): 1,
        (409, "IpAddressAlreadyAllocated"): 11,
    }
    assert len(neutron.list("ports", "?device_owner=")) == 1


def test_one_subnet_of_a_network_whoever_asks(database: Database) -> None:
    neutron = Neutron(database)
    network, router = neutron.make("network")["id"], neutron.make("router")["id"]
    overlapping = [{"network_id": network, "cidr": f"10.0.0.0/{24 - n % 3}", "ip_version": 4} for n in range(9)]
    made = at_once(neutron, [("POST", "/v2.0/subnets", {"subnet": each}) for each in overlapping])
    assert made == {(201, ""): 1, (400, "InvalidInput"): 8}
    [subnet] = neutron.list("subnets")
    attach = ("PUT", f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet["id"]})
    assert sorted(status for status, _ in at_once(neutron, [attach] * 6).elements()) == [200, *[400] * 5]
    legs = neutron.list("ports", f"?device_id={router}")
    assert [ip["ip_address"] for leg in legs for ip in leg["fixed_ips"]] == ["10.0.0.1"]


@contextmanager
def served(neutron: Neutron) -> Iterator[int]:
    """The port of a real HTTP server."""
    with socket.create_server(("127.0.0.1", 0), backlog=WORKERS) as listener:
        settings = uvicorn.Config(neutron.http.app, log_config=None, access_log=False, lifespan="off", http="httptools")
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)
