"""Whose packets may be streamed, and how the stream is asked for; the packets themselves are tests/host's."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from network_client import ADMIN, DEMO, OTHER, READER, Neutron, authenticate, refused
from sitelab import HOST, Site
from starlette.testclient import TestClient

from kilonova.db.engine import Database
from kilonova.network.routes import SERVICE
from kilonova.web.router import Application


class Hands:
    """A host whose every capture is three pieces, the second of them silence."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.closed = 0

    def capture(self, *asked: Any) -> Iterator[bytes]:
        self.asked.append(asked)
        return self.pieces()

    def pieces(self) -> Iterator[bytes]:
        try:
            yield from (b"head", b"", b"tail")
        finally:
            self.closed += 1


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def site(database: Database, hands: Hands) -> Site:
    neutron = Neutron(database)
    shared = SimpleNamespace(flows=hands)
    neutron.http = TestClient(Application([SERVICE], database, authenticate, shared, "http://testserver"))
    return Site(neutron)


def url(port: str) -> str:
    return f"/v2.0/kilonova/ports/{port}/capture"


def test_the_owner_and_the_administrator_get_the_stream(site: Site, hands: Hands) -> None:
    port = site.port("net", "a")
    for token in (DEMO, ADMIN):
        answer = site.neutron.get(f"{url(port)}?seconds=5&packets=7", token)
        assert (answer.status_code, answer.content) == (200, b"headtail")
        assert answer.headers["content-type"] == "application/vnd.tcpdump.pcap"
    assert hands.asked == [(HOST, f"tap{port[:11]}", 5, 7)] * 2 and hands.closed == 2


def test_nobody_else_does(site: Site, hands: Hands) -> None:
    port = site.port("net", "a")
    refused(site.neutron.get(url(port), OTHER), 404, "PortNotFound")
    assert site.neutron.get(url(port), READER).status_code == 403
    assert site.neutron.get(url(port), "").status_code == 401
    site.put("network", site.nets["net"], shared=True)
    theirs = site.neutron.make("port", token=OTHER, network_id=site.nets["net"])["id"]
    site.put("port", theirs, **{"binding:host_id": HOST})
    assert site.neutron.get(f"/v2.0/ports/{theirs}", DEMO).status_code == 200  # the network's owner sees it
    refused(site.neutron.get(url(theirs), DEMO), 403, "PolicyNotAuthorized")
    assert hands.asked == []


def test_what_cannot_be_captured(site: Site, hands: Hands) -> None:
    unbound = site.neutron.make("port", network_id=site.nets["net"])["id"]
    refused(site.neutron.get(url(unbound)), 409, "PortNotBound")
    port = site.port("net", "a")
    for query in ("seconds=0", "seconds=x", "seconds=3601", "packets=0", "packets=1000001", "packets="):
        refused(site.neutron.get(f"{url(port)}?{query}"), 400, "InvalidInput")
    assert hands.asked == []
