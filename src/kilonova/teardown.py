"""The end of a cloud: its process, its guests, its daemons, and, when asked, all it ever wrote."""

import os
import signal
import time
from dataclasses import replace

from kilonova import statedir
from kilonova.config import Config
from kilonova.model.errors import KilonovaError


def teardown(config: Config, *, purge: bool) -> bool:
    """Works after kill -9, and on a cloud that is partly gone. Without `purge`, data and disks stay.

    False, and nothing done, where there is no cloud. A directory that is not a cloud's is never purged.
    """
    if not config.lock_file.exists():
        if purge and config.state.exists() and any(config.state.iterdir()):
            raise KilonovaError(f"{config.state} is not a cloud's state directory: nothing was removed")
        return False
    _end_process(config)
    known = statedir.read_cloud(config)
    if known and not known.get("fake"):
        from kilonova.host.dataplane import DataPlane, load
        from kilonova.realhost import host_net, plane_config

        plane = load(config.state) or DataPlane(plane_config(config, known))
        config = replace(config, host_net=plane.config.host_net)  # as `up` was told, which `down` is not told again
        if purge:
            host_net(config, known, lambda device_id: None).purge()
            plane.purge()
        else:
            plane.end_guests()
            host_net(config, known, lambda device_id: None).purge()
            plane.stop_daemons()
            statedir.forget_boot(config, known)
    if purge:
        statedir.remove(config, known)
    return True


def _end_process(config: Config, patience: float = 60) -> None:
    """SIGTERM to the process that holds the state directory, and wait until it has let go."""
    deadline = time.monotonic() + patience
    signalled = None
    while (pid := statedir.holder(config)) is not None:
        if pid != signalled:
            os.kill(pid, signal.SIGTERM)
            signalled = pid
        if time.monotonic() > deadline:
            raise KilonovaError(f"process {pid} still runs this cloud after {patience:g} s; end it, then try again")
        time.sleep(0.05)
