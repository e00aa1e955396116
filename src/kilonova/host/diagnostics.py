"""What a guest and its devices have used since it was started, as hosts tell it (Nova: objects/diagnostics.py)."""

import msgspec


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """`dev`: as the guest sees it (vda). Requests and bytes."""

    dev: str
    read_requests: int = 0
    read_bytes: int = 0
    write_requests: int = 0
    write_bytes: int = 0
    errors: int = 0


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """`dev`: its tap; None, and no counts, where there is none. As the guest sees it: rx is what it receives."""

    mac_address: str
    dev: str | None = None
    rx_octets: int | None = None
    rx_packets: int | None = None
    rx_errors: int | None = None
    rx_drop: int | None = None
    tx_octets: int | None = None
    tx_packets: int | None = None
    tx_errors: int | None = None
    tx_drop: int | None = None


class Diagnostics(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in KiB; `cpu_times` in nanoseconds, one a vCPU; `memory_stats` by libvirt's names. Empty when it is off."""

    power_state: int
    memory_kib: int = 0
    max_memory_kib: int = 0
    cpu_times: tuple[int, ...] = ()
    memory_stats: dict[str, int] = {}
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
