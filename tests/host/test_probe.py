"""What this host can do: each check does the thing, so a host that cannot must be told apart from one that can."""

import json
import os
import shutil

import pytest

from kilonova.host import probe


def test_every_check_answers_with_a_sentence(tmp_path):
    found = probe.checks(tmp_path)
    assert len({check.name for check in found}) == len(found) > 15
    assert all(check.detail for check in found)
    assert [check for check in found if check.needed and not check.ok] == []  # `make setup` installed it all
    assert "cgroup_controllers" in next(c.detail for c in found if "shares" in c.name)


def test_a_missing_program_names_its_package():
    check = probe.check_program("no-such-program", "does nothing", "no-such-package")
    assert not check.ok
    assert check.fix == "apt-get install no-such-package"


def test_the_boot_sector_boots_where_guests_run():
    """Under TCG, which works everywhere: else a hang under KVM would say nothing of KVM."""
    assert probe.boots("tcg", 20) == ""


def test_a_guest_that_does_not_come_up_is_given_up_at_its_deadline(tmp_path, monkeypatch):
    sleeper = tmp_path / "qemu-system-x86_64"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    assert "hangs" in probe.boots("kvm", 0.3, str(sleeper))


@pytest.mark.parametrize(("under_kvm", "answer"), [("sleep 0.1", ""), ("exec sleep 30", "crawls")])
def test_kvm_is_taken_only_where_it_is_no_slower_than_emulation(tmp_path, under_kvm, answer):
    """An emulator whose guests come to their end under KVM too, but late: so it is where nothing virtualizes below."""
    emulator = tmp_path / "qemu-system-x86_64"
    emulator.write_text(f"#!/bin/sh\nif [ $2 = kvm ]; then {under_kvm}; fi\nexit {probe.BOOTED}\n")
    emulator.chmod(0o755)
    found = probe.why_not_kvm(str(emulator))
    assert answer in found
    assert bool(answer) is bool(found)


def test_an_accelerator_that_is_not_there_is_told_in_qemus_words():
    assert "no-such" in probe.boots("no-such", 10)


@pytest.mark.parametrize(("why_not", "virt"), [("", "kvm"), ("a guest hangs", "qemu")])
def test_auto_follows_what_really_booted_and_asks_once(tmp_path, monkeypatch, why_not, virt):
    asked = []
    monkeypatch.setattr(probe, "KVM_CACHE", tmp_path / "kvm.json")
    monkeypatch.setattr(probe, "why_not_kvm", lambda emulator: asked.append(emulator) or why_not)
    assert probe.choose_virt_type() == virt
    assert probe.choose_virt_type() == virt
    assert len(asked) == 1


def test_an_answer_from_before_the_last_boot_is_not_believed(tmp_path, monkeypatch):
    cache = tmp_path / "kvm.json"
    cache.write_text(json.dumps({"key": "another boot", "why_not": ""}))
    monkeypatch.setattr(probe, "why_not_kvm", lambda emulator: "a guest hangs")
    assert not probe.check_kvm(cache=cache).ok
    cache.write_text("{not json")
    assert not probe.check_kvm(cache=cache).ok


def test_direct_io_is_tried_in_the_directory_itself(tmp_path):
    assert probe.direct_io_works(tmp_path) is _dd_direct(tmp_path)
    assert os.listdir(tmp_path) == []
    assert not probe.direct_io_works(tmp_path / "missing")
    assert str(tmp_path) in probe.check_direct_io(tmp_path / "not" / "yet").detail


def _dd_direct(directory) -> bool:
    target = directory / "dd"
    assert shutil.which("dd")
    worked = os.system(f"dd if=/dev/zero of={target} bs=4096 count=1 oflag=direct 2>/dev/null") == 0
    target.unlink(missing_ok=True)
    return worked


def test_a_failed_attempt_becomes_its_check_not_an_error():
    def attempt():
        raise PermissionError(1, "Operation not permitted")

    check = probe._attempt("name", attempt, "good", "the fix")
    assert (check.ok, check.fix) == (False, "the fix")
    assert "not permitted" in check.detail
