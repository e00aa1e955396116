"""The verbs on a server over HTTP: when Nova allows each, what it sets at once, and how it refuses."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from compute_client import ADMIN, LATEST, OTHER, READER, Nova, messages

from kilonova.compute import block_devices, rescue, states
from kilonova.compute.devices import Device
from kilonova.compute.spec import server_spec
from kilonova.compute.tables import HOSTS
from kilonova.compute.verbs import ALLOW_REBOOT, HARD_REBOOT, VERBS
from kilonova.db.engine import Database
from kilonova.flows.stories import FLOWS
from kilonova.image.tables import IMAGES

VM_STATES = (
    "active", "building", "paused", "suspended", "stopped", "rescued", "resized", "error", "shelved", "shelved_offloaded",
)  # fmt: skip
ARGUMENTS: dict[str, Any] = {"reboot": {"type": "SOFT"}, "reboot HARD": {"type": "HARD"}}  # others take null
ALL = {**VERBS, **rescue.VERBS, "reboot HARD": HARD_REBOOT}


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def put(nova: Nova, id: str, **values: Any) -> None:
    nova.database.write(lambda tx: states._update(tx, id, **values))


def ask(nova: Nova, id: str, name: str, token: str | None = None, version: str = LATEST) -> Any:
    action = name.partition(" ")[0]
    return nova.post(f"/servers/{id}/action", {action: ARGUMENTS.get(name)}, token or ADMIN, version)


@pytest.mark.parametrize("name", ALL)
def test_each_verb_is_allowed_where_nova_allows_it(nova: Nova, name: str) -> None:
    verb, id = ALL[name], nova.active()
    word = verb.word or verb.flow
    for vm_state in VM_STATES:
        put(nova, id, vm_state=vm_state, task_state=None)
        answer = ask(nova, id, name)
        if vm_state not in verb.vm_states:
            assert answer.status_code == 409
            assert messages(answer) == f"Cannot '{word}' instance {id} while it is in vm_state {vm_state}"
            continue
        assert answer.status_code in (200, 202), answer.text
        assert nova.shared.flows.started[-1] == (verb.flow, id)
        assert nova.get(f"/servers/{id}").json()["server"]["OS-EXT-STS:task_state"] == verb.task_state
        put(nova, id, task_state="deleting")
        again = ask(nova, id, name)
        assert again.status_code == 409
        assert messages(again) == f"Cannot '{word}' instance {id} while it is in task_state deleting"


@pytest.mark.parametrize("name", ALL)
def test_the_flow_of_each_verb_begins_in_the_task_state_that_was_set(name: str) -> None:
    assert FLOWS[ALL[name].flow].steps[0].task_state == ALL[name].task_state


@pytest.mark.parametrize("name", ALL)
def test_each_verb_has_its_lock_and_its_policy(nova: Nova, name: str) -> None:
    verb, id = ALL[name], nova.active()
    put(nova, id, vm_state=min(verb.vm_states), locked_by="admin")
    reader = ask(nova, id, name, READER)
    assert (reader.status_code, messages(reader)) == (
        403,
        f"Policy doesn't allow os_compute_api:{verb.policy} to be performed.",
    )
    assert ask(nova, id, name, OTHER).status_code in (403, 404)
    if ask(nova, id, name, "demo").status_code != 403:
        assert messages(ask(nova, id, name, "demo")) == f"Instance {id} is locked"
    assert nova.shared.flows.started == [("create", id)]
    assert ask(nova, id, name, ADMIN).status_code in (200, 202)


@pytest.mark.parametrize("name", ALL)
def test_a_server_that_never_ran_or_has_no_host_is_refused(nova: Nova, name: str) -> None:
    verb, id = ALL[name], nova.active()
    put(nova, id, vm_state=min(verb.vm_states), launched_at=None)
    assert messages(ask(nova, id, name)) == f"Instance {id} is in an invalid state for '{verb.word or verb.flow}'"
    put(nova, id, host=None)
    refused = ask(nova, id, name)
    assert (refused.status_code, messages(refused)) == (409, f"Instance {id} is not ready")


def test_of_two_requests_at_once_one_wins(nova: Nova) -> None:
    id = nova.active()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(nova, id, "os-stop"), range(4)))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert messages(refused) == f"Cannot 'stop' instance {id} while it is in task_state powering-off"
    assert nova.shared.flows.started == [("create", id), ("stop", id)]


def test_a_hard_reboot_is_allowed_while_something_lesser_is_under_way(nova: Nova) -> None:
    id = nova.active()
    for task_state in sorted(state for state in ALLOW_REBOOT if state):
        put(nova, id, task_state=task_state)
        refused = ask(nova, id, "reboot")
        assert messages(refused) == f"Cannot 'reboot' instance {id} while it is in task_state {task_state}"
        assert ask(nova, id, "reboot HARD").status_code == 202
        assert nova.get(f"/servers/{id}").json()["server"]["status"] == "HARD_REBOOT"
    put(nova, id, task_state="powering-off")
    assert ask(nova, id, "reboot HARD").status_code == 409


@pytest.mark.parametrize("body", [{"reboot": None}, {"reboot": {}}, {"reboot": {"type": "WARM"}}, {"reboot": {"type": 1}},
                                  {"trigger_crash_dump": {}}, {"os-stop": None, "os-start": None}])  # fmt: skip
def test_bodies_that_are_wrong(nova: Nova, body: dict[str, Any]) -> None:
    id = nova.active()
    assert nova.post(f"/servers/{id}/action", body).status_code == 400


def test_crash_dumps_come_with_a_microversion(nova: Nova) -> None:
    id = nova.active()
    assert ask(nova, id, "trigger_crash_dump", version="2.16").status_code == 404
    assert ask(nova, id, "trigger_crash_dump", version="2.17").status_code == 202


def test_diagnostics_in_both_formats(nova: Nova) -> None:
    """The client holds the new one against Nova's own description of it."""
    id = nova.active(config_drive=True)
    path = f"/servers/{id}/diagnostics"
    assert nova.get(path).status_code == 403
    old = nova.get(path, ADMIN, "2.47").json()
    assert (old["cpu0_time"], old["memory"], old["memory-actual"]) == (17, 131072, 65536)
    assert [old[f"vda_{name}"] for name in ("read_req", "read", "write_req", "write", "errors")] == [1, 2, 3, 4, 5]
    assert [old[f"tap0_{name}"] for name in ("rx", "rx_packets", "rx_errors", "rx_drop")] == [1, 2, 3, 4]
    assert [old[f"tap0_{name}"] for name in ("tx", "tx_packets", "tx_errors", "tx_drop")] == [5, 6, 7, 8]
    new = nova.get(path, ADMIN, "2.48").json()
    assert (new["state"], new["driver"], new["hypervisor"], new["config_drive"]) == ("running", "libvirt", "qemu", True)
    assert (new["num_cpus"], new["num_nics"], new["num_disks"]) == (1, 2, 1)
    assert new["memory_details"] == {"maximum": 128, "used": 64}
    assert new["cpu_details"] == [{"id": 0, "time": 17, "utilisation": None}]
    assert new["nic_details"][0]["tx_drop"] == 8
    assert new["nic_details"][1]["tx_drop"] is None
    put(nova, id, host=None)
    assert nova.get(path, ADMIN).status_code == 409
    assert nova.get(f"/servers/{nova.image}/diagnostics", ADMIN).status_code == 404


def test_rescue_gives_the_password_of_the_rescue_system(nova: Nova) -> None:
    id = nova.active()
    made = nova.post(f"/servers/{id}/action", {"rescue": {}})
    assert made.status_code == 200
    assert len(made.json()["adminPass"]) == 12
    put(nova, id, task_state=None)
    wanted = nova.post(f"/servers/{id}/action", {"rescue": {"adminPass": "mine", "rescue_image_ref": nova.image}})
    assert wanted.json() == {"adminPass": "mine"}
    assert nova.database.read(lambda tx: states.get_row(tx, id))["admin_password"] == "mine"
    for body in ({"rescue_image_ref": "no uuid"}, {"adminPass": 7}, {"other": 1}, "text"):
        assert nova.post(f"/servers/{id}/action", {"rescue": body}).status_code == 400


def test_a_rescue_image_must_be_there_and_fit(nova: Nova) -> None:
    id = nova.active()
    odd = nova.add_image(properties={"hw_rescue_device": "tape"})
    for image in (nova.network(), odd, nova.add_image(status="queued")):
        refused = nova.post(f"/servers/{id}/action", {"rescue": {"rescue_image_ref": image}})
        assert (refused.status_code, messages(refused)) == (400, f"Requested rescue image '{image}' is not supported")
    assert nova.get(f"/servers/{id}").json()["server"]["OS-EXT-STS:task_state"] is None


def test_a_server_on_a_volume_is_rescued_by_a_stable_rescue_only(nova: Nova) -> None:
    id = nova.active()
    root = Device("volume", "volume", boot_index=0)
    nova.database.write(lambda tx: block_devices.add(tx, id, root) and None)
    stable = nova.add_image(properties={"hw_rescue_device": "cdrom", "hw_rescue_bus": "ide"})
    refused = nova.post(f"/servers/{id}/action", {"rescue": None})
    assert messages(refused) == f"Instance {id} cannot be rescued: Cannot rescue a volume-backed instance"
    body = {"rescue": {"rescue_image_ref": stable}}
    assert nova.post(f"/servers/{id}/action", body, version="2.86").status_code == 400
    assert nova.post(f"/servers/{id}/action", body, version="2.87").status_code == 200


def test_a_server_whose_image_is_gone_keeps_its_disk_and_its_hardware(nova: Nova) -> None:
    image = nova.add_image(properties={"hw_disk_bus": "scsi"}, disk_format="raw")
    id = nova.active(imageRef=image)
    nova.database.write(lambda tx: tx.execute(IMAGES.delete().where(IMAGES.c.id == image)) and None)
    spec = nova.database.read(lambda tx: server_spec(tx, id))
    assert spec.image is not None
    assert (spec.image.id, spec.image.disk_format, spec.image.properties) == (image, "raw", {"hw_disk_bus": "scsi"})


def test_what_a_server_is_rescued_from_is_in_its_spec_for_as_long(nova: Nova) -> None:
    id, other = nova.active(), nova.add_image(name="other")
    nova.database.write(lambda tx: states.set_rescue_image(tx, id, other))
    for vm_state, task_state, there in (
        ("active", None, False), ("active", "rescuing", True), ("rescued", None, True), ("error", None, False),
    ):  # fmt: skip
        put(nova, id, vm_state=vm_state, task_state=task_state)
        found = nova.database.read(lambda tx: server_spec(tx, id)).rescue
        assert (found is not None and found.name == "other") == there


def test_there_is_no_other_host_to_migrate_to(nova: Nova) -> None:
    """Nova's answer is 202; that no host was found is the end of the action."""
    id = nova.active()
    assert nova.post(f"/servers/{id}/action", {"migrate": None}, ADMIN).status_code == 202
    assert nova.shared.flows.noted == [("migrate", id, "No valid host found for cold migrate")]
    shown = nova.get(f"/servers/{id}").json()["server"]
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", None)
    for host, words in (("host-1", "the host where the server exists"), ("host-9", "host-9 could not be found")):
        refused = nova.post(f"/servers/{id}/action", {"migrate": {"host": host}}, ADMIN)
        assert refused.status_code == 400
        assert words in messages(refused)
    assert nova.post(f"/servers/{id}/action", {"migrate": None}).status_code == 403
    put(nova, id, vm_state="paused")
    refused = nova.post(f"/servers/{id}/action", {"migrate": None}, ADMIN)
    assert messages(refused) == f"Cannot 'migrate' instance {id} while it is in vm_state paused"


def test_live_migration_tells_at_once_until_233(nova: Nova) -> None:
    id = nova.active()
    for version, body, status in (
        ("2.1", {"host": None, "block_migration": False, "disk_over_commit": False}, 400),
        ("2.1", {"host": None}, 400),
        ("2.25", {"host": None, "block_migration": "auto"}, 400),
        ("2.34", {"host": None, "block_migration": "auto"}, 202),
        ("2.34", {"host": None, "block_migration": "auto", "force": True}, 400),
        ("2.34", {"host": "host-1", "block_migration": "auto", "force": True}, 400),
        ("2.68", {"host": None, "block_migration": "auto", "force": False}, 400),
        (LATEST, {"host": "host-9", "block_migration": "auto"}, 400),
    ):
        answer = nova.post(f"/servers/{id}/action", {"os-migrateLive": body}, ADMIN, version)
        assert answer.status_code == status, (version, body, answer.text)
    assert [noted[:2] for noted in nova.shared.flows.noted] == [("live-migration", id)]


def test_a_server_is_evacuated_only_from_a_host_that_is_down(nova: Nova) -> None:
    id = nova.active()
    refused = nova.post(f"/servers/{id}/action", {"evacuate": {}}, ADMIN)
    assert (refused.status_code, messages(refused)) == (400, "Compute service of host-1 is still in use.")
    assert nova.post(f"/servers/{id}/action", {"evacuate": {"host": "host-1"}}, ADMIN).status_code == 400
    assert nova.post(f"/servers/{id}/action", {"evacuate": {"host": "host-9"}}, ADMIN).status_code == 404
    assert nova.post(f"/servers/{id}/action", {"evacuate": {}}, ADMIN, "2.13").status_code == 400
    assert nova.post(f"/servers/{id}/action", {"evacuate": {}}).status_code == 403
    nova.database.write(lambda tx: tx.execute(HOSTS.update().values(forced_down=True)) and None)
    made = nova.post(f"/servers/{id}/action", {"evacuate": {"onSharedStorage": False}}, ADMIN, "2.13")
    assert made.status_code == 200
    assert len(made.json()["adminPass"]) == 12
    shown = nova.get(f"/servers/{id}").json()["server"]
    assert shown["status"] == "ERROR"
    assert "No valid host was found" in shown["fault"]["message"]


def test_what_administrators_do_without_a_host(nova: Nova) -> None:
    id = nova.active()
    for name, argument in (("os-resetState", {"state": "error"}), ("injectNetworkInfo", None)):
        assert nova.post(f"/servers/{id}/action", {name: argument}).status_code == 403
        assert nova.post(f"/servers/{id}/action", {name: argument}, ADMIN).status_code == 202
    assert nova.get(f"/servers/{id}").json()["server"]["status"] == "ERROR"
    assert nova.post(f"/servers/{id}/action", {"resetNetwork": None}, ADMIN).status_code == 410
    assert nova.post(f"/servers/{id}/action", {"lock": None}).status_code == 202
    assert nova.post(f"/servers/{id}/action", {"unlock": None}).status_code == 202
    assert [noted[0] for noted in nova.shared.flows.noted] == ["resetState", "lock", "unlock"]


def test_the_password_is_changed_by_the_agent_in_the_guest(nova: Nova) -> None:
    flows = nova.shared.flows
    change = {"changePassword": {"adminPass": "s3cret"}}
    without, promised = nova.active(), {"hw_qemu_guest_agent": "yes"}
    refused = nova.post(f"/servers/{without}/action", change)
    assert (refused.status_code, messages(refused)) == (409, "QEMU guest agent is not enabled")
    for properties, user in (({}, "root"), ({"os_type": "windows"}, "Administrator"), ({"os_admin_user": "me"}, "me")):
        id = nova.active(imageRef=nova.add_image(properties=promised | properties))
        assert nova.post(f"/servers/{id}/action", change).status_code == 202
        assert flows.passwords.pop() == (id, "host-1", user, "s3cret")
    assert flows.noted == [("changePassword", noted, None) for _, noted, _ in flows.noted]
    flows.agent_refuses = "the QEMU guest agent does not answer"
    failed = nova.post(f"/servers/{id}/action", change)
    assert (failed.status_code, flows.agent_refuses in messages(failed)) == (409, True)
    assert flows.noted[-1] == ("changePassword", id, flows.agent_refuses)
    flows.passwords.clear()
    for fields in ({"vm_state": "stopped"}, {"task_state": "rebooting"}, {"host": None}):
        put(nova, id, **{"vm_state": "active", "task_state": None, "host": "host-1", **fields})
        assert nova.post(f"/servers/{id}/action", change).status_code == 409, fields
    put(nova, id, host="host-1")
    for body in ({"changePassword": {}}, {"changePassword": {"adminPass": 1}}, {"changePassword": None}):
        assert nova.post(f"/servers/{id}/action", body).status_code == 400, body
    assert nova.post(f"/servers/{id}/action", change, READER).status_code == 403
    assert nova.post(f"/servers/{id}/action", change, OTHER).status_code == 404
    assert flows.passwords == []
