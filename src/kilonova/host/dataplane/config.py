"""What a cloud's data plane is made from, and where its parts live on this machine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kilonova.host.netns import netns_path
from kilonova.model.errors import HostError

# Kilonova's places on a machine, shared by all its clouds.
RUN = Path("/run/kilonova")  # one short directory a cloud: a unix socket's path ends at 107 bytes
SHARED = Path("/var/lib/kilonova")  # claims on public subnets
CACHE = Path("/var/cache/kilonova")  # libvirt's capability cache: a cold probe takes seconds an emulator

UPLINK = "uplink"  # the cloud's end of the veth, a port of the external bridge


@dataclass(frozen=True)
class DataPlaneConfig:
    """Values from the command line; `state` is the cloud's directory, `cloud_id` its UUID.

    public_cidr: None takes the first free 172.24.N.0/24. host_net: no namespaces of the cloud's own for its network.
    libvirt_uri: an existing libvirt, such as qemu:///system, in place of a libvirtd of the cloud's own; needs host_net.
    physnets: (physical network, link of the root namespace that carries it). iscsi: a tgtd of the cloud's own.
    """

    state: Path
    cloud_id: str
    public_cidr: str | None = None
    uplink: Literal["none", "nat"] = "none"
    host_net: bool = False
    libvirt_uri: str | None = None
    physnets: tuple[tuple[str, str], ...] = ()
    iscsi: bool = False

    @property
    def id8(self) -> str:
        return self.cloud_id[:8]

    @property
    def alias(self) -> str:
        """The ifalias of every link of this cloud."""
        return f"kilonova:{self.cloud_id}"

    @property
    def name(self) -> str:
        """Of the cloud's network namespace, and of the host's end of its veth."""
        return f"kn-{self.id8}"

    @property
    def netns(self) -> str | None:
        return None if self.host_net else self.name

    @property
    def netns_file(self) -> Path | None:
        return None if self.host_net else netns_path(self.name)

    @property
    def external_bridge(self) -> str:
        return f"brx-{self.id8}" if self.host_net else "br-ex"

    @property
    def nft_table(self) -> str:
        return f"kilonova_{self.id8}"

    @property
    def run(self) -> Path:
        return RUN / self.id8

    @property
    def libvirt_dir(self) -> Path:
        return self.state / "libvirt"

    @property
    def volumes_dir(self) -> Path:
        """Where volume backends keep what is theirs."""
        return self.state / "volumes"

    @property
    def iscsi_portal(self) -> str:
        """Where its tgtd listens. Clouds in the root namespace share its ports."""
        return f"127.0.0.1:{13260 + int(self.id8, 16) % 10000 if self.host_net else 3260}"

    def validated(self) -> DataPlaneConfig:
        """Itself, or HostError with a sentence that says what to change."""
        if self.libvirt_uri and not self.host_net:
            raise HostError(
                f"libvirt at {self.libvirt_uri} runs in the host's network namespace: it needs --host-net too"
            )
        if self.public_cidr is not None:
            public_network(self.public_cidr)
        return self


def public_network(cidr: str) -> ipaddress.IPv4Network:
    """The network of a --public-cidr. Raises HostError when it is none, or too small for a gateway, us and a guest."""
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        raise HostError(f"--public-cidr {cidr}: {error}; write it as 172.24.4.0/24") from error
    if network.prefixlen > 29:
        raise HostError(f"--public-cidr {cidr} is too small: take a /29 or larger")
    return network
