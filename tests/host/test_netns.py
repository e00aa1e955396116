"""The one way into a network namespace."""

import os
import socket
import threading
import uuid
from pathlib import Path

import pytest

from kilonova.host.calls import run
from kilonova.host.netns import in_netns, in_scratch_netns, netns_path


@pytest.fixture
def netns():
    name = f"knt-{uuid.uuid4().hex[:8]}"
    run(["ip", "netns", "add", name])
    yield name
    run(["ip", "netns", "delete", name])


def here() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def links() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def test_runs_inside_and_leaves_the_caller_where_it_was(netns):
    outside = here()
    inside = in_netns(netns, here)
    assert inside == os.stat(netns_path(netns)).st_ino != outside
    assert here() == outside
    assert in_netns(netns, links) == ["lo"]


def test_takes_a_name_a_path_or_none(netns):
    assert in_netns(str(netns_path(netns)), here) == in_netns(netns, here) == in_netns(Path("/run/netns", netns), here)
    assert in_netns(None, here) == here()
    assert in_netns(None, threading.current_thread) is threading.current_thread()


def test_gives_arguments_values_and_exceptions_through(netns):
    assert in_netns(netns, divmod, 7, 2) == (3, 1)
    assert in_netns(netns, int, "ff", base=16) == 255
    with pytest.raises(ZeroDivisionError):
        in_netns(netns, divmod, 1, 0)
    with pytest.raises(FileNotFoundError):
        in_netns("no-such-namespace", here)


def test_a_socket_stays_in_the_namespace_it_was_opened_in(netns):
    run(["ip", "-n", netns, "link", "set", "lo", "up"])

    def listen() -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))

    with in_netns(netns, listen) as server:
        address = server.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=2)
        in_netns(netns, socket.create_connection, address, 2).close()


def test_leaves_neither_threads_nor_descriptors(netns):
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        in_netns(netns, here)
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_a_scratch_namespace_is_new_and_unnamed():
    outside = here(), os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    assert in_scratch_netns(links) == ["lo"]
    assert in_scratch_netns(here) != outside[0]
    assert here() == outside[0]
