"""Volumes of a guest that runs: it keeps its data through attach, extend, copy, swap and detach. Real libvirt, real disks."""

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator

import msgspec
import pytest
from volumelab import Shell, VolumeLab

from kilonova.host.calls import observed
from kilonova.host.contract import VolumeWork, Work
from kilonova.host.libvirt.volumes import CONFIG, LIVE, name_of
from kilonova.host.storage import GIB
from kilonova.model.errors import HostError, Later
from kilonova.model.ids import new_id
from kilonova.model.specs import StoredBackup, StoredVolume

pytestmark = [
    pytest.mark.guest,
    pytest.mark.xdist_group("storage-guest"),  # one guest for all of them
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, libvirt"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VolumeLab]:
    made = VolumeLab(tmp_path_factory.mktemp("volumes"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def shell(lab: VolumeLab) -> Iterator[Shell]:
    made = lab.boot(lab.server())
    yield made
    made.close()
    lab.end(made.server)


@pytest.fixture
def volume_id(lab: VolumeLab) -> Iterator[str]:
    made = new_id()
    yield made
    for backend in lab.backends.values():
        for name in backend.volumes():
            backend.delete_snapshot("snapshot-1", name)
            backend.delete(name)


def secrets(lab: VolumeLab) -> list[str]:
    return [ET.fromstring(secret.XMLDesc()).findtext("usage/target") or "" for secret in lab.conn.listAllSecrets()]


@pytest.mark.parametrize("kind", ["file", "iscsi", "rbd"])
def test_a_volumes_life_with_a_guest(lab: VolumeLab, shell: Shell, volume_id: str, kind: str) -> None:
    backend, name, server = lab.need(kind), f"volume-{volume_id}", shell.server
    backend.create(name, 1)
    for _ in range(2):
        assert lab.attach(server, kind, volume_id) == "/dev/vdb"
    assert len(secrets(lab)) == (kind != "file")
    assert "<secret" not in shell.guest.domain.XMLDesc() or "auth_password" not in shell.guest.domain.XMLDesc()
    dev = shell.wait_for_device(volume_id)
    shell.run(f"mkfs.ext4 -q {dev} && mount {dev} /mnt && echo a word > /mnt/word && sync")

    # A snapshot while the guest writes: the file system in it is whole, and has nothing that was written later.
    shell.run(
        "(i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i > /mnt/n; sync; done; rm /tmp/stop) >/dev/null 2>&1 &"
    )
    backend.create_snapshot("snapshot-1", name)
    shell.run(
        "cat /mnt/n; touch /tmp/stop; while [ -e /tmp/stop ]; do usleep 100000; done; echo later > /mnt/later; sync"
    )

    stored = StoredVolume(id=volume_id, name=name, size_gb=1, backend=kind)
    for _ in range(2):
        lab.host.extend_volume(VolumeWork(stored, data={"size_gb": 2}))
    assert shell.run(f"cat /sys/block/{dev[5:]}/size") == str(2 * GIB // 512)
    shell.run(f"resize2fs {dev} && dd if=/dev/urandom of=/mnt/big bs=1M count=4 2>/dev/null && sync")
    digest = shell.run("md5sum /mnt/big").split()[0]
    shell.run("umount /mnt")
    for _ in range(2):
        lab.detach(server, kind, volume_id)
    assert shell.device(volume_id) == ""
    assert len(secrets(lab)) == (kind == "rbd")  # there it is a user's, not a volume's
    backend.disconnect(name)

    # Another volume of the snapshot, beside the first attached anew: all that was written is there, each in its own.
    other_id = new_id()
    backend.create_from_snapshot(f"volume-{other_id}", 1, "snapshot-1")
    lab.attach(server, kind, volume_id)
    assert lab.attach(server, kind, other_id) == "/dev/vdc"
    first, other = shell.wait_for_device(volume_id), shell.wait_for_device(other_id)
    shell.run(f"mkdir -p /other; mount {first} /mnt && mount {other} /other")
    assert shell.run("cat /mnt/word /mnt/later /other/word; md5sum /mnt/big").split("\n") == [
        "a word", "later", "a word", f"{digest}  /mnt/big",
    ]  # fmt: skip
    assert "later" not in shell.run("ls /other")
    shell.run("umount /mnt /other")
    for each in (volume_id, other_id):
        lab.detach(server, kind, each)
    for secret in lab.conn.listAllSecrets():
        secret.undefine()


@pytest.mark.parametrize("kind", ["file", "iscsi"])
def test_a_volume_is_backed_up_under_its_guest_and_comes_back(
    lab: VolumeLab, shell: Shell, volume_id: str, kind: str
) -> None:
    name, backup_id, other_id = f"volume-{volume_id}", new_id(), new_id()
    lab.backends[kind].create(name, 1)
    lab.attach(shell.server, kind, volume_id)
    dev = shell.wait_for_device(volume_id)
    shell.run(f"mkfs.ext4 -q {dev} && mount {dev} /mnt && echo a word > /mnt/word && sync")
    stored = StoredVolume(id=volume_id, name=name, size_gb=1, backend=kind)
    lab.host.extend_volume(VolumeWork(stored, data={"size_gb": 2}))
    lab.backends[kind].create_snapshot("snapshot-1", name)
    lab.host.backup_volume(VolumeWork(msgspec.structs.replace(stored, size_gb=2), backup=StoredBackup(id=backup_id)))
    shell.run("echo later > /mnt/later; sync; umount /mnt")
    lab.detach(shell.server, kind, volume_id)
    other = StoredVolume(id=other_id, name=f"volume-{other_id}", size_gb=2, backend=kind, from_backup=backup_id)
    lab.host.create_volume(VolumeWork(other))
    lab.attach(shell.server, kind, other_id)
    dev = shell.wait_for_device(other_id)
    assert shell.run(f"mount {dev} /mnt; cat /mnt/word; ls /mnt/later 2>/dev/null || true") == "a word"
    shell.run("umount /mnt")
    lab.detach(shell.server, kind, other_id)


def test_a_guest_that_does_not_listen_keeps_its_disk(lab: VolumeLab, shell: Shell, volume_id: str) -> None:
    lab.backends["file"].create(f"volume-{volume_id}", 1)
    lab.attach(shell.server, "file", volume_id)
    shell.wait_for_device(volume_id)
    shell.guest.domain.suspend()
    with pytest.raises(HostError, match="has not let go of volume"):
        lab.detach(shell.server, "file", volume_id, patience=3)
    assert shell.guest.disk(f"volume-{volume_id}", LIVE) is not None
    assert shell.guest.disk(f"volume-{volume_id}", CONFIG) is not None
    given = lab.with_volume(shell.server, "file", volume_id)
    with pytest.raises(Later):
        lab.host.detach_volume(Work(given, data={"volume_id": volume_id}))
    shell.guest.domain.resume()  # it hears of it now
    lab.detach(shell.server, "file", volume_id)
    assert shell.device(volume_id) == ""
    assert shell.guest.disk(f"volume-{volume_id}", CONFIG) is None


def test_a_disk_that_is_being_copied_is_detached_afterwards(lab: VolumeLab, shell: Shell, volume_id: str) -> None:
    lab.backends["file"].create(f"volume-{volume_id}", 1)
    lab.attach(shell.server, "file", volume_id)
    target = lab.state / "copy.img"
    with target.open("wb") as file:
        file.truncate(GIB)
    copy = f"<disk type='file'><source file='{target}'/><driver type='raw'/></disk>"
    shell.guest.domain.blockCopy("vdb", copy, {}, 2 | 4)  # REUSE_EXT, TRANSIENT_JOB
    with pytest.raises(HostError, match=r"detachDevice failed: .*active block job"):
        lab.detach(shell.server, "file", volume_id)
    shell.guest.domain.blockJobAbort("vdb", 0)
    lab.detach(shell.server, "file", volume_id)
    target.unlink()


@pytest.mark.parametrize(("old", "new"), [("file", "iscsi"), ("iscsi", "file")])
def test_a_volume_moves_to_another_backend_under_its_guest(
    lab: VolumeLab, shell: Shell, volume_id: str, old: str, new: str
) -> None:
    name = f"volume-{volume_id}"
    lab.backends[old].create(name, 1)
    lab.attach(shell.server, old, volume_id)
    dev = shell.wait_for_device(volume_id)
    shell.run(f"mkfs.ext4 -q {dev} && mount {dev} /mnt && echo a word > /mnt/word && sync")
    shell.run(
        "(i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i > /mnt/n; sync; done; rm /tmp/stop) >/dev/null 2>&1 &"
    )
    stored, target = StoredVolume(id=volume_id, name=name, size_gb=1, backend=old), {"backend": new, "old_backend": old}
    work = VolumeWork(stored, results={"select_target": target})
    lab.host.copy_volume(work)
    lab.host.delete_copy(work)  # undone: the guest is back where it was
    assert name not in lab.backends[new].volumes()
    for _ in range(2):
        found = lab.host.copy_volume(work)
    assert found["connection"]["driver_volume_type"] == new
    lab.host.delete_original(VolumeWork(msgspec.structs.replace(stored, backend=new), results=work.results))
    assert name not in lab.backends[old].volumes()
    shell.run("touch /tmp/stop; while [ -e /tmp/stop ]; do usleep 100000; done; echo later > /mnt/later; sync")
    assert shell.run("dmesg | grep -i 'i/o error' || true") == ""
    shell.run(f"umount /mnt; mount {dev} /mnt")
    assert shell.run("cat /mnt/word /mnt/later") == "a word\nlater"
    shell.run("umount /mnt")
    lab.detach(shell.server, new, volume_id)
    assert secrets(lab) == []


def test_a_guests_disk_goes_over_to_another_volume(lab: VolumeLab, shell: Shell, volume_id: str) -> None:
    name, other_id = f"volume-{volume_id}", new_id()
    lab.backends["file"].create(name, 1)
    lab.backends["iscsi"].create(f"volume-{other_id}", 2)
    lab.attach(shell.server, "file", volume_id)
    dev = shell.wait_for_device(volume_id)
    shell.run(f"mkfs.ext4 -q {dev} && mount {dev} /mnt && echo a word > /mnt/word && sync")
    data = {
        "volume_id": volume_id, "new_volume_id": other_id, "new_stored_as": f"volume-{other_id}", "new_backend": "iscsi",
        "new_size_gb": 2,
    }  # fmt: skip
    work = Work(lab.with_volume(shell.server, "file", volume_id), data=data)
    lab.host.swap_volume(work)
    lab.host.swap_volume_back(work)
    assert shell.guest.disk(name, LIVE) is not None and shell.guest.disk(f"volume-{other_id}", LIVE) is None
    for _ in range(2):
        lab.host.swap_volume(work)
    assert shell.guest.disk(name, LIVE) is None and shell.guest.disk(name, CONFIG) is None
    lab.host.extend_volume(
        VolumeWork(StoredVolume(id=other_id, name=f"volume-{other_id}", size_gb=2, backend="iscsi"), data={"size_gb": 3})
    )  # the guest sees it when it has the disk anew
    lab.backends["file"].delete(name)
    shell.run("echo later > /mnt/later; sync; umount /mnt")
    lab.detach(shell.server, "iscsi", other_id)
    assert secrets(lab) == []
    lab.attach(shell.server, "iscsi", other_id)
    dev = shell.wait_for_device(other_id)
    assert shell.run(f"mount {dev} /mnt; cat /mnt/word /mnt/later") == "a word\nlater"
    assert shell.run(f"cat /sys/block/{dev[5:]}/size") == str(3 * GIB // 512)
    shell.run("umount /mnt")
    lab.detach(shell.server, "iscsi", other_id)


def test_two_guests_share_a_volume(lab: VolumeLab, shell: Shell, volume_id: str) -> None:
    name, backend = f"volume-{volume_id}", lab.backends["iscsi"]
    backend.create(name, 1)
    servers = [lab.with_volume(each, "iscsi", volume_id, multiattach=True) for each in (shell.server, lab.server(2))]
    guests = [shell.guest, lab.start(lab.server_alone(servers[1]))]
    try:
        for server in servers:
            lab.host.attach_volume(Work(server, data={"volume_id": volume_id}))
        dev = shell.wait_for_device(volume_id)
        shell.run(f"echo a word | dd of={dev} conv=fsync 2>/dev/null")
        stored = StoredVolume(id=volume_id, name=name, size_gb=1, backend="iscsi")
        lab.host.extend_volume(VolumeWork(stored, data={"size_gb": 2}))
        assert [guest.domain.blockInfo("vdb")[0] for guest in guests] == [2 * GIB] * 2
        lab.detach(shell.server, "iscsi", volume_id)
        assert len(secrets(lab)) == 1  # the other guest's, still
        with backend.local_path(name) as path, path.open("rb") as file:
            assert file.read(7) == b"a word\n"
    finally:
        lab.end(servers[1])
        lab.host.disconnect_volumes(Work(servers[1]))
    assert secrets(lab) == []


def test_a_guest_that_is_off_has_the_volume_when_it_starts(lab: VolumeLab, volume_id: str) -> None:
    lab.backends["iscsi"].create(f"volume-{volume_id}", 1)
    server = lab.server(3)
    guest = lab.start(server)
    try:
        guest.domain.destroy()
        lab.attach(server, "iscsi", volume_id)
        guest.domain.createWithFlags(1)
        assert guest.disk(f"volume-{volume_id}", LIVE) is not None
        guest.domain.destroy()
        lab.detach(server, "iscsi", volume_id)
        assert guest.disk(f"volume-{volume_id}", CONFIG) is None
        assert secrets(lab) == []
    finally:
        lab.end(server)


def test_a_volume_that_is_not_the_servers_is_refused(lab: VolumeLab, shell: Shell) -> None:
    with pytest.raises(HostError, match="is not attached to server"):
        lab.host.attach_volume(Work(shell.server, data={"volume_id": new_id()}))


def test_a_volume_is_found_by_its_name_however_it_is_reached() -> None:
    """A server's own disks are none, whatever a volume is called; a swapped one has another's serial."""
    name, iqn = "volume-1.old-disk", "iqn.2010-10.org.openstack:volume-1.old-disk"
    for source in (
        f"<source file='/var/lib/kilonova/volumes/file/volumes/{name}'/>",
        f"<source dev='/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-{iqn}-lun-1'/>",
        f"<source dev='/dev/cinder-volumes/{name}'/>",
        f"<source protocol='iscsi' name='{iqn}/1'><host name='h' port='1'/></source>",
        f"<source protocol='rbd' name='volumes/{name}'/>",
    ):
        assert name_of(ET.fromstring(f"<disk>{source}<serial>another</serial></disk>")) == name


class Crash(BaseException):
    """No handler catches it: the rest of the verb does not happen."""


def crash_after(edge: int, act: Callable[[], object]) -> str:
    """Where it crashed; empty when there are fewer outside calls than `edge`."""
    seen = [0, ""]

    def observer(when: str, name: str) -> None:
        seen[0] += when == "after"
        if seen == [edge, ""]:
            seen[1] = f"{when} {name}"
            raise Crash(seen[1])

    try:
        with observed(observer):
            act()
    except Crash:
        pass
    return str(seen[1])


@pytest.mark.parametrize("verb", ["attach_volume", "detach_volume"])
def test_a_verb_that_dies_anywhere_is_repeated(lab: VolumeLab, volume_id: str, verb: str) -> None:
    """Attached to a guest that runs, paused; detached from one that is off, which has nothing to acknowledge."""
    name = f"volume-{volume_id}"
    lab.backends["iscsi"].create(name, 1)
    alone = lab.server(4)
    guest = lab.start(alone)
    try:
        if verb == "detach_volume":
            guest.domain.destroy()
        edge, want = 1, None
        while True:
            made = lab.with_volume(alone, "iscsi", volume_id)
            work = Work(made, data={"volume_id": volume_id})
            if verb == "detach_volume":
                lab.host.attach_volume(work)
            where = crash_after(edge, lambda work=work: getattr(lab.host, verb)(work))
            getattr(lab.host, verb)(work)
            picture = [guest.disk(name, scope) is not None for scope in guest.scopes()], len(secrets(lab))
            want = want or picture
            assert picture == want, where
            if guest.active:
                guest.domain.destroy()
            lab.host.detach_volume(work)
            assert secrets(lab) == []
            if not where:
                break
            if verb == "attach_volume":
                guest.domain.createWithFlags(1)
            edge += 1
        assert edge > 3
        assert want == (([True, True], 1) if verb == "attach_volume" else ([False], 0))
    finally:
        lab.end(alone)
