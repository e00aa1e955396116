"""The one place that puts things together: database, services, flows, hosts, loops, and the door they are reached by."""

import logging
import os
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn

from kilonova import door, seed, statedir
from kilonova.compute.routes import SERVICE as COMPUTE
from kilonova.config import Config
from kilonova.console.door import ConsoleDoor
from kilonova.flow.log import Journal
from kilonova.flow.wake import Doorbell
from kilonova.flow.worker import ControlWorkers, LocalSeam
from kilonova.flows import stories
from kilonova.flows.actions import FlowActions
from kilonova.flows.asks import Asks
from kilonova.flows.chaos import mortals
from kilonova.flows.controlside import LocalControlSide
from kilonova.flows.hostside import HostRunner
from kilonova.flows.storage_actions import StorageActions
from kilonova.flows.subject import SUBJECTS
from kilonova.host.contract import Host
from kilonova.host.fake import FakeHost
from kilonova.identity import limits, security
from kilonova.identity.keys import KeyRing
from kilonova.identity.routes import SERVICE as IDENTITY
from kilonova.identity.tokens import Authenticator
from kilonova.image import fetch, images, quotas
from kilonova.image.imports import Imports
from kilonova.image.routes import SERVICE as IMAGE
from kilonova.image.store import Stores
from kilonova.image.stores import StoreConfig, make_store
from kilonova.model.errors import KilonovaError
from kilonova.network.routes import SERVICE as NETWORK
from kilonova.placement.routes import SERVICE as PLACEMENT
from kilonova.policy_file import PolicyFile
from kilonova.volume.routes import SERVICE as VOLUME
from kilonova.web.router import Application

log = logging.getLogger(__name__)
SERVICES = (IDENTITY, COMPUTE, NETWORK, IMAGE, VOLUME, PLACEMENT)


@dataclass(frozen=True)
class Shared:
    """What handlers may reach beside the database."""

    fernet: KeyRing
    identity: security.Settings
    images: Stores
    imports: Imports
    limits: quotas.Limits
    flows: FlowActions
    storage: StorageActions


class Cloud:
    """A running cloud. `start()` returns once it is ready; `stop()` leaves the guests running."""

    def __init__(self, config: Config) -> None:
        self.config = config
        door.check_tls(config)
        self.policies = PolicyFile(config.policy_file, SERVICES)
        self._ending = ExitStack()
        self._ending.enter_context(statedir.lock(config))
        self.socket = self._ending.enter_context(door.open_socket(config))
        self.known = statedir.load_cloud(config)
        self.after_boot = self.known.get("boot_id") != statedir.boot_id()
        port = self.socket.getsockname()[1]
        self.url, self.own_url = door.public_url(config, port), door.own_url(config, port)

    def start(self) -> None:
        config = self.config
        self.database = statedir.open_database(config, self.known)
        self._ending.callback(self.database.close)
        stores = self._make_stores()
        doorbell = Doorbell()
        node = self.known["id"]
        self.journal = Journal(
            self.database, mortals(stories.flows(keep_shelved=config.keep_shelved)), SUBJECTS, doorbell, node
        )
        self.journal.void_leases()
        images.sweep(self.database, stores)
        cidr = self._ensure_plane()
        self.asks = Asks()
        flows, storage = FlowActions(self.journal, self.asks, config.vif_type), StorageActions(self.journal, self.asks)
        sealer = statedir.load_sealer(config)  # first: an older cloud's token keys have sealed what it opens
        settings = security.Settings(sealer, security.parse(config.security))
        imports = Imports(self.database, stores, fetch.WebSource(tuple(map(fetch.parse, config.web_download))))
        self._ending.callback(imports.stop)
        shared = Shared(statedir.load_fernet(config), settings, stores, imports, limits.in_force, flows, storage)
        self.known |= seed.seed(self.database, stores, config, self.known | cidr)
        self.runner = self._make_runner(stores)  # waits for libvirtd, which came up meanwhile
        consoles = ConsoleDoor(self.database, flows, self.url)
        self.application = Application(
            SERVICES,
            self.database,
            Authenticator(shared.fernet),
            shared,
            self.url,
            self._written,
            {"console": consoles},
            self.policies,
        )
        self.control = ControlWorkers(self.journal, self.asks.look)
        self._ending.callback(self.runner.stop)
        self._ending.callback(self.control.stop)
        self.control.start()
        self.runner.start(after_boot=self.after_boot)
        self._serve()
        self._ending.callback(self.runner.end_soon)  # all at once: each may be waiting for a second
        self._ending.callback(self.control.end_soon)
        self._ending.callback(self.asks.end)  # streams of captures end, so that the door can close
        if not self.runner.inventory.reported.wait(60):
            raise KilonovaError("the host has not reported its inventory within 60 s; the log says why")
        self.known |= {
            "url": self.url,
            "pid": os.getpid(),
            "host": self.runner.host.name,
            "boot_id": statedir.boot_id(),
        }
        self.known |= {"policy_file": str(config.policy) if config.policy else None}
        self.known |= {"own_url": self.own_url, "tls_cert": str(config.tls_cert) if config.tls_cert else None}
        statedir.write_cloud(config, self.known, cacert=door.trusted_ca(config))
        self.database.forget_statements()

    def _written(self, prefix: str) -> None:
        if prefix == "network":
            self.asks.look()

    def _ensure_plane(self) -> dict[str, str]:
        """The real host's data plane; its daemons come up while the database is made ready."""
        self.known |= {"fake": self.config.fake, "netns": None}
        if self.config.fake:
            return {}
        from kilonova.host.dataplane.plane import DataPlane
        from kilonova.realhost import plane_config

        config = plane_config(self.config, self.known)
        self.after_boot |= not DataPlane.stands(config)
        self.plane = DataPlane.ensure_network(config)
        self.plane.ensure_daemons(wait=False)
        self.known |= {"netns": self.plane.netns}
        return {"public_cidr": str(self.plane.public_cidr)}

    def _make_stores(self) -> Stores:
        made = []
        for store in self.config.image_stores:
            place = StoreConfig(store.name, self.config.images_dir(store.name), self.known["id"], dict(store.options))
            made.append(make_store(store.kind, place))
        return Stores(made, self.config.staged_images_dir)

    def _make_runner(self, stores: Stores) -> HostRunner:
        """This machine as a host: all it gets of the control side is the seam."""
        name = socket.gethostname()
        control = LocalControlSide(self.database, self.journal, self.asks, stores, name)
        host: Host
        if self.config.fake:
            host = FakeHost(name, self.config.state / "fake")
            host.backends = tuple(backend.name for backend in self.config.volume_backends)
        else:
            from kilonova.realhost import make_libvirt_host

            self.plane.wait_for_daemons()
            host = make_libvirt_host(self.config, self.known, self.plane, control)
        return HostRunner(host, LocalSeam(self.journal, self.asks.look), control, self.config.state / "locks")

    def _serve(self) -> None:
        config = self.config
        tls: dict[str, Any] = {}
        if config.tls_cert:
            tls = {"ssl_certfile": str(config.tls_cert), "ssl_keyfile": str(config.tls_key)}
        settings = uvicorn.Config(
            self.application, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5,
            http="httptools", ws=door.WEBSOCKET, ws_max_size=door.MAX_MESSAGE, ws_per_message_deflate=False,
            proxy_headers=False, server_header=False, **tls,
        )  # fmt: skip
        self._server = uvicorn.Server(settings)
        run = partial(self._server.run, sockets=[self.socket])
        self._thread = threading.Thread(target=run, name="http", daemon=True)
        self._thread.start()
        self._ending.callback(self._close_door)
        while not self._server.started:
            if not self._thread.is_alive():
                raise KilonovaError("the HTTP server ended at once; the log says why")
            time.sleep(0.005)

    def _close_door(self) -> None:
        self._server.should_exit = True
        self._thread.join(15)

    def stop(self) -> None:
        """End the door, the workers and the loops, as far as `start` came; the guests, their taps and rules live on."""
        self._ending.close()
