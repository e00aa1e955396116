"""The data plane of one cloud on this machine: its namespace, its wire to the host, its libvirt; made, adopted, removed."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

from kilonova.host.dataplane import nat, physnet, uplink
from kilonova.host.dataplane.bridge_nf import ensure_bridge_nf
from kilonova.host.dataplane.config import DataPlaneConfig, public_network
from kilonova.host.dataplane.daemons import Daemons
from kilonova.host.dataplane.guests import end_guests, guest_pids
from kilonova.host.dataplane.machine import Machine, locked, read_json, write_json
from kilonova.host.dataplane.namespaces import delete_namespace, ensure_namespace, is_namespace, listed_namespaces
from kilonova.host.dataplane.neighbours import ensure_room
from kilonova.host.netns import netns_path
from kilonova.model.errors import HostError


@dataclass(frozen=True)
class Status:
    """What is there now. Pids are None for what does not run; guests counts the QEMU processes."""

    namespace: bool
    public_cidr: str | None
    reaper: int | None
    libvirtd: int | None
    virtlogd: int | None
    guests: int


@dataclass(frozen=True)
class DataPlane:
    """Values in, values out: nothing is held, so any process may look at, adopt or remove a cloud's data plane.

    Every method is safe from any half-done state and does nothing from the right one.
    """

    config: DataPlaneConfig

    @classmethod
    def ensure(cls, config: DataPlaneConfig) -> DataPlane:
        """All of it, answering: network, then daemons. Raises HostError with a sentence that says what to do."""
        plane = cls.ensure_network(config)
        plane.ensure_daemons()
        return plane

    @classmethod
    def ensure_network(cls, config: DataPlaneConfig) -> DataPlane:
        """The namespace, the public subnet, the wire, the switches of br_netfilter and, if asked for, NAT.

        Takes some 0.1 s; needs no libvirt.
        """
        plane = cls(replace(config.validated(), state=config.state.resolve()))
        config = plane.config
        for _, target in Daemons(config).mounts():
            if config.state.is_relative_to(target):
                raise HostError(f"the state directory cannot lie below {target}: choose another --state")
        with locked() as machine:
            plane._adopt_or_refuse()
            config.state.mkdir(parents=True, exist_ok=True)
            config.run.mkdir(parents=True, exist_ok=True)
            (config.run / "cloud").write_text(f"{config.cloud_id}\n")
            plane._remember(plane.public_cidr)
            network = plane._claim(machine)
            plane._remember(str(network))
            if config.netns:
                ensure_namespace(config.state, config.netns)
            uplink.ensure_wire(config, network)
            physnet.ensure_physnets(config, machine)
            ensure_bridge_nf(config, machine)
            ensure_room(config, machine)
            plane._ensure_way_out(machine, str(network))
        return plane

    @staticmethod
    def stands(config: DataPlaneConfig) -> bool:
        """Whether that is there which guests live in. Without it none has outlived what took it: a reboot, or the restart
        of a container, which has the boot_id of the machine below it."""
        return config.netns is None or is_namespace(netns_path(config.netns))

    def ensure_daemons(self, *, wait: bool = True) -> None:
        """libvirtd, virtlogd, tgtd and their reaper: adopted, or started in some 0.1 s; then waits until they answer.

        wait=False comes back at once; `wait_for_daemons` is the other half. With a libvirt of the host's, only tgtd.
        """
        daemons = Daemons(self.config)
        if not daemons.names:
            return daemons.stop()
        with locked() as machine:
            daemons.ensure(machine)
        if wait:
            self.wait_for_daemons()

    def wait_for_daemons(self, timeout: float = 20.0) -> None:
        """A reaper whose daemons do not come up is replaced once: its mount namespace may be what is wrong."""
        daemons = Daemons(self.config)
        if not daemons.names:
            return
        try:
            daemons.wait(timeout / 2)
        except HostError:
            daemons.stop()
            with locked() as machine:
                daemons.ensure(machine)
            daemons.wait(timeout / 2)

    # What others need to know

    @property
    def netns(self) -> str | None:
        """The name of the namespace that bridges, taps and QEMU live in; None is the root namespace."""
        return self.config.netns

    @property
    def netns_path(self) -> Path | None:
        return self.config.netns_file

    @property
    def libvirt_uri(self) -> str:
        return self.config.libvirt_uri or Daemons(self.config).uri

    @property
    def external_bridge(self) -> str:
        """Where routers and floating IPs plug in: the cloud's end of the wire is its port."""
        return self.config.external_bridge

    @property
    def bridge_mappings(self) -> dict[str, str]:
        """Physical network → the bridge that carries it, as Neutron's agents report."""
        return physnet.bridge_mappings(self.config)

    @property
    def public_cidr(self) -> str | None:
        """The claimed subnet, such as 172.24.4.0/24; None before ensure_network."""
        written = read_json(self._file)
        cidr = written.get("public_cidr") if written.get("cloud_id") == self.config.cloud_id else None
        return cidr if isinstance(cidr, str) else None

    @property
    def gateway(self) -> str:
        """The host's end of the wire, .1; .2 is the cloud's own leg: a public subnet allocates from .3 on."""
        return str(uplink.gateway(self._network()))

    @property
    def address(self) -> str:
        """The cloud's own leg on the public subnet (with --host-net the gateway's address is its own)."""
        return self.gateway if self.config.host_net else str(uplink.own_address(self._network()))

    def status(self) -> Status:
        daemons = Daemons(self.config)
        path = self.config.netns_file
        return Status(
            namespace=path is None or is_namespace(path),
            public_cidr=self.public_cidr,
            reaper=daemons.pid("reaper"),
            libvirtd=daemons.pid("libvirtd"),
            virtlogd=daemons.pid("virtlogd"),
            guests=len(guest_pids(self.config)),
        )

    # The end

    def stop_daemons(self) -> None:
        """libvirtd, virtlogd, tgtd and the reaper end; guests that still run live on, and the next ensure takes them back."""
        Daemons(self.config).stop()

    def end_guests(self, grace: float = 5.0) -> None:
        """They write out their disks and end; those that have not after `grace` seconds are killed."""
        end_guests(self.config, grace)

    def purge(self) -> None:
        """Guests, daemons, namespaces, links, NAT, claim and run directory go, and what libvirt kept in the state.

        Works after kill -9 and on what is partly gone; touches nothing that is not this cloud's.
        """
        with locked() as machine:
            config = self.config
            self._refuse_foreign_run()
            self.end_guests(grace=0)  # while the reaper is there to collect them
            Daemons(config).stop(at_once=True)
            if not config.libvirt_uri:
                self.end_guests(grace=0)  # one that libvirtd was just starting
            physnet.release_physnets(config, machine)
            for name in listed_namespaces(config.state) or ([config.netns] if config.netns else []):
                delete_namespace(config.state, name)
            uplink.delete_links(config)
            if read_json(self._file).get("nat"):
                nat.delete_table(config)
            machine.release_sysctls(config.cloud_id)
            for directory in (config.libvirt_dir, config.run):
                shutil.rmtree(directory, ignore_errors=True)
            for name in ("dataplane.json", "namespaces", "namespaces.lock"):
                (config.state / name).unlink(missing_ok=True)
            machine.unclaim(config)
            machine.tidy()

    # Under the lock

    @property
    def _file(self) -> Path:
        return self.config.state / "dataplane.json"

    def _network(self) -> IPv4Network:
        cidr = self.public_cidr
        if cidr is None:
            raise HostError("this cloud has no public subnet yet: bring its network up first")
        return IPv4Network(cidr)

    def _remember(self, public_cidr: str | None) -> None:
        config = {**asdict(self.config), "state": str(self.config.state)}
        nat_made = bool(read_json(self._file).get("nat")) or self.config.uplink == "nat"
        value = {"cloud_id": self.config.cloud_id, "public_cidr": public_cidr, "nat": nat_made, "config": config}
        value = json.loads(json.dumps(value))  # as it will be read
        if read_json(self._file) != value:
            write_json(self._file, value)

    def _claim(self, machine: Machine) -> IPv4Network:
        """The subnet this cloud had, or was told to take, or the first that nobody on this machine uses."""
        claims = machine.claims()
        others = [IPv4Network(cidr) for cidr, claim in claims.items() if claim["cloud_id"] != self.config.cloud_id]
        own_link = self.config.external_bridge if self.config.host_net else self.config.name
        used = uplink.networks_in_use(own_link)
        wanted = self.config.public_cidr or self.public_cidr
        if wanted is None:
            network = uplink.first_free(others + used)
        else:
            network = public_network(wanted)
            self._refuse_taken(network, others, "is claimed by another cloud of this machine")
            self._refuse_taken(network, used, "is in use by this machine's own addresses or routes")
        machine.claim(str(network), self.config)
        return network

    @staticmethod
    def _refuse_taken(network: IPv4Network, taken: list[IPv4Network], why: str) -> None:
        clash = next((each for each in taken if each.overlaps(network)), None)
        if clash is not None:
            raise HostError(f"the public subnet {network} {why} ({clash}): name another with --public-cidr")

    def _ensure_way_out(self, machine: Machine, public_cidr: str) -> None:
        if self.config.uplink == "nat":
            nat.ensure_nat(self.config, public_cidr, machine)
            return
        if read_json(self._file).get("nat"):
            nat.remove_nat(self.config, machine)
            write_json(self._file, {**read_json(self._file), "nat": False})
        nat.close_wire(self.config)

    def _adopt_or_refuse(self) -> None:
        """What was built another way (--host-net changed) must be purged first, not mixed."""
        self._refuse_foreign_run()
        before = read_json(self._file).get("config", {})
        if before.get("host_net", self.config.host_net) != self.config.host_net:
            raise HostError("this cloud was made with another choice of --host-net: keep it, or purge the cloud first")

    def _refuse_foreign_run(self) -> None:
        try:
            owner = (self.config.run / "cloud").read_text().strip()
        except FileNotFoundError:
            return
        if owner != self.config.cloud_id:
            raise HostError(f"{self.config.run} belongs to cloud {owner}, whose id begins alike: use another --state")


def load(state: Path) -> DataPlane | None:
    """The data plane of a state directory, as its last ensure had it; None when there never was one."""
    config = read_json(state / "dataplane.json").get("config")
    if not config:
        return None
    known = {key: value for key, value in config.items() if key in DataPlaneConfig.__dataclass_fields__}
    physnets = tuple((name, link) for name, link in known.get("physnets", ()))
    return DataPlane(DataPlaneConfig(**{**known, "state": state.resolve(), "physnets": physnets}))
