"""The frozen values that a host is given. A host sees these and nothing else: no database, no service.

All are msgspec Structs, so that an agent on another host gets the same values as JSON.
Sizes: memory in MiB, disks in GiB, unless the name says otherwise. Times: UTC, ISO 8601.
"""

from typing import Any

import msgspec

DNS_DOMAIN = "novalocal"  # of the cloud (Nova: dhcp_domain; Neutron: dns_domain)


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A value: compares by content, cannot be changed."""


class FlavorSpec(Spec, frozen=True):
    """Nova's flavor as embedded in the server (microversion 2.47)."""

    id: str
    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    ephemeral_gb: int = 0
    swap_mb: int = 0
    extra_specs: dict[str, str] = {}


class ImageSpec(Spec, frozen=True):
    """What a host must know of a Glance image. `properties` are the image's `hw_*`, `os_*` … properties."""

    id: str
    name: str
    disk_format: str
    size: int
    checksum: str | None = None
    min_disk_gb: int = 0
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    properties: dict[str, str] = {}


class FixedIP(Spec, frozen=True):
    subnet_id: str
    ip_address: str


class SubnetSpec(Spec, frozen=True):
    id: str
    cidr: str
    ip_version: int
    gateway_ip: str | None
    enable_dhcp: bool
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[tuple[str, str], ...] = ()  # (destination, nexthop)
    ipv6_address_mode: str | None = None
    ipv6_ra_mode: str | None = None
    dhcp_ip: str | None = None  # the address of the network's DHCP port in this subnet


class PeerSpec(Spec, frozen=True):
    """Another host that carries a network: its overlay address, and the MAC addresses of the network's ports there."""

    address: str
    macs: tuple[str, ...] = ()


class OverlaySpec(Spec, frozen=True):
    """A network's VXLAN on this host: `local` is the host's overlay address (Neutron: the agent's `tunneling_ip`)."""

    vni: int
    local: str
    peers: tuple[PeerSpec, ...] = ()

    @property
    def device(self) -> str:
        """Neutron's name of it (`get_vxlan_device_name`)."""
        return f"vxlan-{self.vni}"


class NetworkSpec(Spec, frozen=True):
    id: str
    name: str
    project_id: str
    mtu: int
    subnets: tuple[SubnetSpec, ...] = ()
    dns_domain: str = DNS_DOMAIN
    dhcp_port_id: str | None = None
    dhcp_mac: str | None = None
    physical_bridge: str = ""  # of its physical network on this host (Neutron: the agent's `bridge_mappings`)
    overlay: OverlaySpec | None = None  # None: the network stays within this host

    @property
    def bridge(self) -> str:
        """Neutron's name of the network's Linux bridge (`get_bridge_name`), or the physical network's own bridge."""
        return self.physical_bridge or f"brq{self.id[:11]}"


class RuleSpec(Spec, frozen=True):
    """One security group rule. At most one of the remotes is given; neither: anyone."""

    direction: str  # ingress | egress
    ethertype: str  # IPv4 | IPv6
    protocol: str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None
    remote_ips: tuple[str, ...] | None = None
    remote_group_id: str | None = None  # its members: HostNetwork.groups; an address group has its addresses
    stateful: bool = True  # whether replies are let through unasked


class LimitSpec(Spec, frozen=True):
    """A bandwidth limit: kilobits a second, and the kilobits that may pass at once (0: the host chooses)."""

    kbps: int
    burst_kb: int = 0


class PacketLimitSpec(Spec, frozen=True):
    """Thousands of packets a second, and the thousands that may pass at once (0: the host chooses)."""

    kpps: int
    burst_kpps: int = 0


class QosSpec(Spec, frozen=True):
    """What QoS does with a port's traffic. ingress: towards the guest; egress: from it; dscp: what it is marked with."""

    ingress: LimitSpec | None = None
    egress: LimitSpec | None = None
    dscp: int | None = None
    ingress_packets: PacketLimitSpec | None = None
    egress_packets: PacketLimitSpec | None = None


class PortSpec(Spec, frozen=True):
    """A port bound to this host: what the port loop makes true."""

    id: str
    network_id: str
    mac_address: str
    fixed_ips: tuple[FixedIP, ...] = ()
    allowed_address_pairs: tuple[tuple[str, str], ...] = ()  # (mac, cidr)
    admin_state_up: bool = True
    port_security_enabled: bool = True
    rules: tuple[RuleSpec, ...] = ()
    device_id: str = ""
    device_owner: str = ""
    project_id: str = ""
    vif_type: str = "bridge"
    vif_model: str = "virtio"
    hostname: str = ""  # its DNS name, below its domain
    dns_domain: str = ""  # its own; else its network's
    dhcp_options: tuple[tuple[str, str], ...] = ()
    dhcp6_options: tuple[tuple[str, str], ...] = ()
    physical_bridge: str = ""  # as its network's
    qos: QosSpec = QosSpec()

    @property
    def tap(self) -> str:
        """Neutron's name of the port's tap (`get_tap_device_name`)."""
        return f"tap{self.id[:11]}"

    @property
    def bridge(self) -> str:
        return self.physical_bridge or f"brq{self.network_id[:11]}"


class VolumeSpec(Spec, frozen=True):
    """A volume attached to the server, with Cinder's connection_info; `driver_volume_type` "" while it has none."""

    id: str
    driver_volume_type: str = ""  # iscsi | rbd | file
    connection: dict[str, Any] = {}
    backend: str = ""  # where it lies, one of the host's, as `name`
    device: str | None = None  # /dev/vdb
    boot_index: int | None = None
    delete_on_termination: bool = False
    shared: bool = False  # another server has it now
    stored_as: str = ""  # its name there, unless it is Cinder's volume_name_template
    moving: bool = False  # to another backend: who opens it now, opens what it is about to leave
    tag: str = ""  # the user's, for the metadata
    bus: str = ""  # asked for; else the image's hw_disk_bus
    device_type: str = "disk"  # disk | cdrom | lun

    @property
    def name(self) -> str:
        return self.stored_as or f"volume-{self.id}"


class StoredVolume(Spec, frozen=True):
    """A volume where its bytes lie: `name` in `backend`, one of the host's. At most one of the last four is what a new
    volume is made from, none: empty. They are names in the same backend; a backup's is its id."""

    id: str
    name: str
    size_gb: int
    backend: str
    image: ImageSpec | None = None
    from_snapshot: str | None = None
    from_volume: str | None = None
    from_backup: str | None = None


class StoredSnapshot(Spec, frozen=True):
    id: str
    name: str


class StoredBackup(Spec, frozen=True):
    """A backup of a volume, or of one of its snapshots. `parent_id`: the backup that an incremental one adds to."""

    id: str
    from_snapshot: str | None = None  # its name
    parent_id: str | None = None


class StorageSpec(Spec, frozen=True):
    """What a host must know of a volume, or of a volume's snapshot or backup."""

    volume: StoredVolume
    snapshot: StoredSnapshot | None = None
    backup: StoredBackup | None = None


class KeypairSpec(Spec, frozen=True):
    name: str
    public_key: str
    type: str = "ssh"


class InjectedFileSpec(Spec, frozen=True):
    """A file that the server is to find in its guest (Nova: personality)."""

    path: str
    contents: str  # base64


class ServerSpec(Spec, frozen=True):
    """One server, as its host sees it. `instance_name` is libvirt's domain name (`instance-0000002a`)."""

    id: str
    instance_name: str
    name: str
    hostname: str
    project_id: str
    project_name: str
    user_id: str
    user_name: str
    created_at: str
    flavor: FlavorSpec
    image: ImageSpec | None = None  # what its root disk is made from; None when that is a volume
    image_properties: dict[str, str] = {}  # of the image, or of the volume that it boots from
    rescue: ImageSpec | None = None  # what it boots from while it is rescued
    kernel: ImageSpec | None = None
    ramdisk: ImageSpec | None = None
    networks: tuple[NetworkSpec, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    port_tags: dict[str, str] = {}  # by port id: the user's, for the metadata
    floating_ips: tuple[str, ...] = ()  # in the order of the ports they lead to
    volumes: tuple[VolumeSpec, ...] = ()
    keypair: KeypairSpec | None = None
    metadata: dict[str, str] = {}
    user_data: str | None = None  # base64, as Nova takes it
    files: tuple[InjectedFileSpec, ...] = ()  # for the config drive
    admin_password: str | None = None
    guest_password: str = ""  # what the guest posted to the metadata service, encrypted for the user's key
    config_drive: bool = False
    availability_zone: str = "nova"
    reservation_id: str = ""
    launch_index: int = 0
    security_groups: tuple[str, ...] = ()

    def network(self, network_id: str) -> NetworkSpec:
        """The network of one of the server's ports; KeyError when it is not the server's."""
        for network in self.networks:
            if network.id == network_id:
                return network
        raise KeyError(network_id)

    def port(self, port_id: str) -> PortSpec | None:
        """None when it is not the server's any more."""
        return next((port for port in self.ports if port.id == port_id), None)


class FloatingIPSpec(Spec, frozen=True):
    """One address of an external network that stands for one fixed address behind the router."""

    id: str
    floating_ip_address: str
    fixed_ip_address: str
    port_id: str


class PortForwardingSpec(Spec, frozen=True):
    """Ports of a floating IP that lead to ports of a fixed address; a single port is a range of one."""

    floating_ip_address: str
    protocol: str  # tcp | udp | icmp …, as in nft's `meta l4proto`
    external_ports: tuple[int, int]
    internal_ip_address: str
    internal_ports: tuple[int, int]


class RouterPortSpec(Spec, frozen=True):
    """A leg of a router: the veth pair `qr-…` or `qg-…` ↔ `tap…` (Neutron: `get_internal_device_name` and its like)."""

    id: str
    network_id: str
    mac_address: str
    fixed_ips: tuple[FixedIP, ...] = ()
    external: bool = False
    admin_state_up: bool = True

    @property
    def tap(self) -> str:
        """The bridge's end."""
        return f"tap{self.id[:11]}"

    @property
    def device(self) -> str:
        """The namespace's end."""
        return f"{'qg' if self.external else 'qr'}-{self.id[:11]}"


class MeterRuleSpec(Spec, frozen=True):
    """Traffic through a router's gateway in one direction that is counted, or excluded. Prefixes of one IP version."""

    direction: str  # ingress | egress, as seen from the inside
    source: str | None = None
    destination: str | None = None
    excluded: bool = False


class MeterSpec(Spec, frozen=True):
    """A metering label at a router: one counter."""

    id: str
    rules: tuple[MeterRuleSpec, ...] = ()


class RouterSpec(Spec, frozen=True):
    """A router that this host carries. Its legs' networks and subnets are among the host's networks."""

    id: str
    name: str
    project_id: str
    admin_state_up: bool = True
    enable_snat: bool = True
    ports: tuple[RouterPortSpec, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()  # (destination, nexthop)
    floating_ips: tuple[FloatingIPSpec, ...] = ()
    port_forwardings: tuple[PortForwardingSpec, ...] = ()
    meters: tuple[MeterSpec, ...] = ()

    @property
    def namespace(self) -> str:
        """Neutron's name of it."""
        return f"qrouter-{self.id}"

    @property
    def gateway(self) -> RouterPortSpec | None:
        return next((port for port in self.ports if port.external), None)


class GroupSpec(Spec, frozen=True):
    """A security or address group that rules name as their remote: the addresses and CIDRs of its members, in order."""

    id: str
    addresses: tuple[str, ...] = ()


class HostNetwork(Spec, frozen=True):
    """All that one host should carry: the input of the port, DHCP and router loops.

    A router's legs are among `ports` too, without port security: they are wired and reported as any other.
    """

    networks: tuple[NetworkSpec, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    routers: tuple[RouterSpec, ...] = ()
    groups: tuple[GroupSpec, ...] = ()  # those that rules of the ports name


class PoolSpec(Spec, frozen=True):
    """A volume backend's place for bytes (Cinder: one pool of `get_volume_stats`). Sizes in GiB."""

    name: str  # the backend's
    protocol: str  # file | iscsi | lvm | rbd
    total_gb: float
    free_gb: float


class HostInventory(Spec, frozen=True):
    """What a host offers (Nova: `get_available_resource`)."""

    hostname: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    hypervisor_type: str = "QEMU"
    hypervisor_version: int = 0
    virt_type: str = "qemu"
    cpu_info: dict[str, Any] = {}
    host_ip: str = "127.0.0.1"
    uptime: str = ""  # in the words of uptime(1)
    bridge_mappings: dict[str, str] = {}  # physical network → the bridge that carries it (as Neutron's agents report)
    overlay_ip: str = ""  # where other hosts reach its end of VXLANs; "": networks stay within it
    pools: tuple[PoolSpec, ...] = ()  # of its volume backends
