"""The guest as a libvirt domain: defined and started paused, resumed, destroyed, looked at.

Nova: `nova/virt/libvirt/guest.py` (Guest), `driver._create_guest`, `driver._destroy`, `driver._undefine_domain`.
"""

from pathlib import Path

import libvirt

from kilonova.host.calls import outside
from kilonova.host.libvirt.connection import calling as _calling
from kilonova.host.libvirt.connection import unless as _unless
from kilonova.host.libvirt.guest import KILONOVA_NS, cloud_of
from kilonova.model.errors import HostError, Later

NOSTATE, RUNNING, PAUSED, SHUTDOWN, CRASHED, SUSPENDED = 0, 1, 3, 4, 6, 7  # nova/objects/fields.py InstancePowerState

POWER_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: NOSTATE,
    libvirt.VIR_DOMAIN_RUNNING: RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: SUSPENDED,
}
UNDEFINE_ALL = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
ASK_AGAIN = 10.0  # seconds, for a guest that has not listened (Nova: SHUTDOWN_RETRY_INTERVAL)
MAX_CONSOLE_BYTES = 102400  # Nova's own limit


def create_guest(conn: libvirt.virConnect, server_id: str, xml: str, cloud_id: str) -> None:
    """Defined from `xml` and started paused; a guest that is there already, paused or running, is left as it is."""
    domain = find(conn, server_id, cloud_id)
    if domain is None or not _active(domain):
        # Defining again is how a shut off domain gets today's XML.
        with _calling("libvirt defineXML"):
            domain = conn.defineXML(xml)
        with _calling("libvirt createWithFlags"), _unless(libvirt.VIR_ERR_OPERATION_INVALID):
            # Memory that was saved goes: it is of the devices that there were then.
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_FORCE_BOOT)


def define_guest(conn: libvirt.virConnect, server_id: str, xml: str, cloud_id: str) -> None:
    """Defined from `xml`, and off; a guest that runs is left as it is."""
    domain = find(conn, server_id, cloud_id)
    if domain is None or not _active(domain):
        with _calling("libvirt defineXML"):
            conn.defineXML(xml)


def destroy_guest(conn: libvirt.virConnect, server_id: str, cloud_id: str) -> None:
    """Power off hard, as Nova's delete does, and undefined with its NVRAM, saved state and snapshots' metadata."""
    domain = find(conn, server_id, cloud_id)
    if domain is None:
        return
    if _active(domain):
        power_off(domain)
    with _calling("libvirt undefine"), _unless(libvirt.VIR_ERR_NO_DOMAIN):
        domain.undefineFlags(UNDEFINE_ALL)


def resume_guest(conn: libvirt.virConnect, server_id: str, cloud_id: str) -> None:
    """Runs afterwards. Raises HostError when the guest is gone or stopped meanwhile."""
    domain = _need(conn, server_id, cloud_id)
    state = _state(domain)
    if state == RUNNING:
        return
    if state != PAUSED:
        raise HostError(f"the guest of server {server_id} stopped before it was resumed")
    with _calling("libvirt resume"):
        domain.resume()


def pause_guest(conn: libvirt.virConnect, server_id: str, cloud_id: str) -> None:
    """Its CPUs stand still afterwards. Raises HostError when it does not run."""
    domain = _need(conn, server_id, cloud_id)
    state = _state(domain)
    if state == PAUSED:
        return
    if state != RUNNING:
        raise HostError(f"the guest of server {server_id} does not run")
    with _calling("libvirt suspend"):
        domain.suspend()


def suspend_guest(conn: libvirt.virConnect, server_id: str, cloud_id: str) -> None:
    """Off afterwards, its memory saved by libvirt. Raises HostError when it does not run, or there is no room for it."""
    domain = _need(conn, server_id, cloud_id)
    if _saving(domain):  # who asked for it died meanwhile
        raise Later(1.0, waits_for=f"guest:{server_id}")
    if _active(domain):
        with _calling("libvirt managedSave"):
            domain.managedSave(0)
    elif not _has_saved_memory(domain):
        raise HostError(f"the guest of server {server_id} does not run")


def restore_guest(conn: libvirt.virConnect, server_id: str, cloud_id: str) -> None:
    """Paused afterwards, with the memory that was saved. A guest whose memory is gone is started anew, as by Nova."""
    domain = _need(conn, server_id, cloud_id)
    if not _active(domain):
        with _calling("libvirt createWithFlags"), _unless(libvirt.VIR_ERR_OPERATION_INVALID):
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)


def inject_nmi(conn: libvirt.virConnect, server_id: str, cloud_id: str) -> None:
    domain = _need(conn, server_id, cloud_id)
    with _calling("libvirt injectNMI"):
        domain.injectNMI()


def shut_down_guest(conn: libvirt.virConnect, server_id: str, cloud_id: str, patience: float) -> None:
    """Off afterwards. Raises Later while the guest is still at it; without patience, or paused, it loses its power."""
    domain = find(conn, server_id, cloud_id)
    if domain is None or not _active(domain):
        return
    if patience <= 0 or _state(domain) != RUNNING:  # who is paused cannot hear it
        power_off(domain)
        return
    with _calling("libvirt shutdown"), _unless(libvirt.VIR_ERR_OPERATION_INVALID):
        domain.shutdown()
    raise Later(min(ASK_AGAIN, patience), waits_for=f"guest:{server_id}")


def power_off(domain: libvirt.virDomain) -> None:
    with _calling("libvirt destroy"), _unless(libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
        domain.destroy()


def find(conn: libvirt.virConnect, server_id: str, cloud_id: str) -> libvirt.virDomain | None:
    """The server's domain; None when there is none. Raises HostError for one that is not this cloud's."""
    try:
        with outside("libvirt lookup"):
            domain = conn.lookupByUUIDString(server_id)
            xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise HostError(f"libvirt: {error}") from error
    if cloud_of(xml) != cloud_id:
        raise HostError(f"the domain {domain.name()} ({server_id}) was not made by this cloud: left alone")
    return domain


def _need(conn: libvirt.virConnect, server_id: str, cloud_id: str) -> libvirt.virDomain:
    domain = find(conn, server_id, cloud_id)
    if domain is None:
        raise HostError(f"the domain of server {server_id} is gone")
    return domain


def power_states(conn: libvirt.virConnect, cloud_id: str) -> dict[str, int]:
    """server id → Nova's power_state, of this cloud's guests only."""
    states = {}
    with _calling("libvirt listAllDomains"):
        for domain in conn.listAllDomains():
            # Between the list and here, a guest may be deleted; others' domains have no such metadata.
            with _unless(libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_DOMAIN_METADATA):
                element = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, KILONOVA_NS)
                if f'id="{cloud_id}"' in element or f"id='{cloud_id}'" in element:
                    states[domain.UUIDString()] = POWER_STATES.get(domain.state()[0], NOSTATE)
    return states


def tail(path: Path, length: int | None = None, most: int = MAX_CONSOLE_BYTES) -> str:
    """The last `length` lines (None: all) of the last `most` bytes; empty when there is no file."""
    if length is not None and length <= 0:
        return ""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(end - most, 0))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return text if length is None else "".join(text.splitlines(keepends=True)[-length:])


def _active(domain: libvirt.virDomain) -> bool:
    with _calling("libvirt isActive"), _unless(libvirt.VIR_ERR_NO_DOMAIN):
        return bool(domain.isActive())
    return False


def _state(domain: libvirt.virDomain) -> int:
    """Nova's power_state."""
    with _calling("libvirt state"):
        return POWER_STATES.get(domain.state()[0], NOSTATE)


def _saving(domain: libvirt.virDomain) -> bool:
    with _calling("libvirt jobInfo"), _unless(libvirt.VIR_ERR_OPERATION_INVALID):
        return _active(domain) and domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE
    return False


def _has_saved_memory(domain: libvirt.virDomain) -> bool:
    with _calling("libvirt hasManagedSaveImage"):
        return bool(domain.hasManagedSaveImage())
