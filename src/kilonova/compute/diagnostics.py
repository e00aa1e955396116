"""GET /servers/{id}/diagnostics: libvirt's own names until 2.47, the same of every hypervisor since 2.48."""

from typing import Any

from kilonova.compute import hosts, servers, states
from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict
from kilonova.model.ids import now
from kilonova.web.call import Call

STATES = {
    states.NO_STATE: "pending", states.RUNNING: "running", states.PAUSED: "paused", states.SHUTDOWN: "shutdown",
    states.CRASHED: "crashed", states.SUSPENDED: "suspended",
}  # Nova: power_state.STATE_MAP  # fmt: skip
NIC = ("rx_octets", "rx_errors", "rx_drop", "rx_packets", "tx_octets", "tx_errors", "tx_drop", "tx_packets")
OLD_NIC = {  # until 2.47: <tap>_rx …
    "rx": "rx_octets", "rx_packets": "rx_packets", "rx_errors": "rx_errors", "rx_drop": "rx_drop",
    "tx": "tx_octets", "tx_packets": "tx_packets", "tx_errors": "tx_errors", "tx_drop": "tx_drop",
}  # fmt: skip
OLD_DISK = {  # and <disk>_read_req …
    "read_req": "read_requests", "read": "read_bytes", "write_req": "write_requests", "write": "write_bytes",
    "errors": "errors",
}  # fmt: skip


def show(call: Call) -> dict[str, Any]:
    """Asks the server's host: opens its own transaction."""

    def look(tx: Tx) -> tuple[Any, str | None]:
        server = servers.get(tx, call.context, call.params["server_id"])
        host = hosts.find(tx, server["host"]) if server["host"] else None
        return server, host["virt_type"] if host else None

    server, virt_type = call.database.read(look)
    if not server["host"]:
        raise Conflict(f"Instance {server['id']} is not ready")
    found = call.services.flows.diagnostics(server["id"], server["host"])
    return _new(server, virt_type, found) if call.since(48) else _old(found)


def _new(server: Any, virt_type: str | None, found: dict[str, Any]) -> dict[str, Any]:
    started = server["launched_at"]
    return {
        "state": STATES.get(found["power_state"], "pending"),
        "driver": "libvirt",
        "hypervisor": virt_type,
        "hypervisor_os": "linux",
        "uptime": int((now() - started).total_seconds()) if started else None,
        "config_drive": bool(server["config_drive"]),
        "num_cpus": len(found["cpu_times"]),
        "num_nics": len(found["nics"]),
        "num_disks": len(found["disks"]),
        "memory_details": {"maximum": found["max_memory_kib"] // 1024, "used": found["memory_kib"] // 1024},
        "cpu_details": [{"id": id, "time": time, "utilisation": None} for id, time in enumerate(found["cpu_times"])],
        "disk_details": [
            {
                "read_bytes": disk["read_bytes"],
                "read_requests": disk["read_requests"],
                "write_bytes": disk["write_bytes"],
                "write_requests": disk["write_requests"],
                "errors_count": disk["errors"],
            }
            for disk in found["disks"]
        ],
        "nic_details": [
            {"mac_address": nic["mac_address"], **{name: nic[name] for name in NIC}, "rx_rate": None, "tx_rate": None}
            for nic in found["nics"]
        ],
    }


def _old(found: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {f"cpu{id}_time": time for id, time in enumerate(found["cpu_times"])}
    for disk in found["disks"]:
        body |= {f"{disk['dev']}_{name}": disk[field] for name, field in OLD_DISK.items()}
    for nic in found["nics"]:
        if nic["dev"]:
            body |= {f"{nic['dev']}_{name}": nic[field] for name, field in OLD_NIC.items()}
    return (
        body
        | {"memory": found["max_memory_kib"]}
        | {f"memory-{name}": value for name, value in found["memory_stats"].items()}
    )
