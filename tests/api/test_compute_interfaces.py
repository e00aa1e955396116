"""os-interface at Nova's door: whose port it may be, what is answered, and what is refused."""

from typing import Any

import pytest
from compute_client import ADMIN, OTHER, READER, Nova

from kilonova.compute import interfaces, states
from kilonova.db.engine import Database
from kilonova.web.validate import is_uuid


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def attach(nova: Nova, id: str, token: str = "demo", version: str = "2.96", **asked: Any) -> Any:
    body = {"interfaceAttachment": asked} if asked else None
    return nova.post(f"/servers/{id}/os-interface", body, token, version)


def test_a_port_is_made_on_a_network_or_is_the_user_s_own(nova: Nova) -> None:
    first, second = nova.network("one"), nova.network("two", "10.1.0.0/24")
    id = nova.active(networks=[{"uuid": first, "tag": "front"}])
    made = attach(nova, id, net_id=second, tag="back").json()["interfaceAttachment"]
    assert (made["net_id"], made["tag"], made["port_state"]) == (second, "back", "DOWN")
    assert nova.shared.flows.started[-1] == ("attach_interface", id)
    port = nova.port(second)
    assert attach(nova, id, port_id=port).json()["interfaceAttachment"]["port_id"] == port
    asked = attach(nova, id, net_id=first, fixed_ips=[{"ip_address": "10.0.0.209"}]).json()["interfaceAttachment"]
    assert [ip["ip_address"] for ip in asked["fixed_ips"]] == ["10.0.0.209"]
    listed = nova.get(f"/servers/{id}/os-interface").json()["interfaceAttachments"]
    assert [entry["tag"] for entry in listed] == ["front", "back", None, None]
    assert "tag" not in nova.get(f"/servers/{id}/os-interface/{port}", version="2.69").json()["interfaceAttachment"]

    assert nova.delete(f"/servers/{id}/os-interface/{listed[0]['port_id']}").status_code == 202
    assert nova.shared.flows.started[-1] == ("detach_interface", id)
    nova.database.write(lambda tx: interfaces.release(tx, states.get_row(tx, id), listed[0]["port_id"]))
    nova.database.write(lambda tx: interfaces.release(tx, states.get_row(tx, id), port))
    listed = nova.get(f"/servers/{id}/os-interface").json()["interfaceAttachments"]
    assert [entry["tag"] for entry in listed] == ["back", None]
    answer = nova.http.get(f"/network/v2.0/ports/{port}", headers={"X-Auth-Token": "demo"}).json()["port"]
    assert (answer["device_id"], answer["device_owner"]) == ("", "")


def test_without_a_wish_it_is_the_one_network_there_is(nova: Nova) -> None:
    id = nova.active()
    assert attach(nova, id).status_code == 400  # there is none
    network = nova.network()
    made = attach(nova, id).json()["interfaceAttachment"]
    assert (made["net_id"], is_uuid(made["port_id"])) == (network, True)
    nova.network("other", "10.1.0.0/24")
    assert attach(nova, id).status_code == 400  # which?


def test_interfaces_are_refused_as_nova_does(nova: Nova) -> None:
    network, nowhere = nova.network(), "11111111-1111-1111-1111-111111111111"
    id, port = nova.active(networks=[{"uuid": network}]), nova.port(network)
    held = nova.get(f"/servers/{id}/os-interface").json()["interfaceAttachments"][0]
    address = held["fixed_ips"][0]["ip_address"]
    for asked, status in (
        ({"net_id": network, "port_id": port}, 400),
        ({"fixed_ips": [{"ip_address": "10.0.0.209"}]}, 400),
        ({"net_id": network, "fixed_ips": [{"ip_address": "10.7.0.9"}]}, 400),
        ({"net_id": network, "fixed_ips": [{"ip_address": address}]}, 409),
        ({"net_id": "x"}, 400), ({"net_id": nowhere}, 404), ({"port_id": nowhere}, 404),
        ({"port_id": held["port_id"]}, 409), ({"colour": "red"}, 400),
    ):  # fmt: skip
        answer = attach(nova, id, **asked)
        assert answer.status_code == status, (asked, answer.text)
    assert attach(nova, id, version="2.48", net_id=network, tag="t").status_code == 400
    assert attach(nova, id, READER, net_id=network).status_code == 403
    assert attach(nova, id, OTHER, net_id=network).status_code == 404
    theirs = nova.port(nova.network("theirs", "10.2.0.0/24", OTHER), OTHER)
    assert attach(nova, id, ADMIN, port_id=theirs).status_code == 400  # whoever asks, it is not the server's project's
    assert nova.delete(f"/servers/{id}/os-interface/{port}").status_code == 404
    for state, value in (("vm_state", "suspended"), ("task_state", "rebooting"), ("locked_by", "admin")):
        before = nova.database.read(lambda tx, state=state: states.get_row(tx, id)[state])
        nova.database.write(lambda tx, state=state, value=value: states._update(tx, id, **{state: value}))
        assert attach(nova, id, net_id=network).status_code == 409
        assert nova.delete(f"/servers/{id}/os-interface/{held['port_id']}").status_code == 409
        nova.database.write(lambda tx, state=state, value=before: states._update(tx, id, **{state: value}))
    assert len(nova.get(f"/servers/{id}/os-interface").json()["interfaceAttachments"]) == 1
