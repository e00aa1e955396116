"""The process above a cloud's libvirtd, virtlogd and guests.

Run as a script (`python -I -S reaper.py SPEC`), never imported by Kilonova: it outlives it, and must stay small.
It puts itself into the cloud's network namespace and a mount namespace of its own, starts the daemons there, starts
them again when they die, and, being a child subreaper (prctl(2)), collects every QEMU that ends: an init that is slow
to reap would make each destroy wait, since libvirt polls until the pid is gone.

SPEC is a JSON file: {"netns": path or null, "binds": [[source, target], ...], "sysfs": bool, "pid_file": path,
"log": path, "daemons": [{"argv": [...], "env": {...}, "adopt": pid or null, "end": signal}, ...]}; an adopted daemon
runs already and is only started again when it ends. The caller's process returns when the daemons are started; the
first error goes to its stderr, with exit status 1.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # as typing has it, which is not imported for what it takes; nor is contextlib
if TYPE_CHECKING:
    from typing import Any

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
PR_SET_CHILD_SUBREAPER = 36
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds before a dead daemon is started again
GRACE = 5.0  # seconds from SIGTERM to SIGKILL
IGNORED_HERE = (signal.SIGHUP, signal.SIGPIPE)  # and would be in the daemons, if they were not told otherwise

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    arguments = (source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags), None)
    check(libc.mount(*arguments), f"mount {source} on {target}")


def enter(spec: dict[str, Any]) -> None:
    """Network and mount namespaces of our own; the mounts are a slave, so what the host mounts later shows up here."""
    if spec["netns"]:
        fd = os.open(spec["netns"], os.O_RDONLY)
        check(libc.setns(fd, CLONE_NEWNET), f"setns {spec['netns']}")
        os.close(fd)
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", None, MS_REC | MS_SLAVE)
    if spec["sysfs"]:
        # /sys/class/net shows the namespace in which sysfs was mounted; the cgroup tree is carried over.
        cgroups = os.open("/sys/fs/cgroup", os.O_PATH | os.O_DIRECTORY)
        mount("sysfs", "/sys", "sysfs", 0)
        mount(f"/proc/self/fd/{cgroups}", "/sys/fs/cgroup", None, MS_BIND | MS_REC)
        os.close(cgroups)
    for source, target in spec["binds"]:
        mount(source, target, None, MS_BIND)


class Daemon:
    """One daemon, its pid, and when it may be started next."""

    def __init__(self, argv: list[str], env: dict[str, str], adopt: int | None, end: int) -> None:
        self.argv, self.env, self.end = argv, env, end
        self.pidfd = -1
        self.pause, self.started, self.due = FIRST_PAUSE, 0.0, 0.0
        if adopt:
            self.watch(adopt)

    def watch(self, pid: int) -> None:
        try:
            self.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self.pidfd = -1

    def start(self) -> None:
        self.started = time.monotonic()
        try:
            self.watch(os.posix_spawn(self.argv[0], self.argv, self.env, setsigdef=IGNORED_HERE))
        except OSError as error:
            print(f"{self.argv[0]}: {error}", flush=True)
            self.ended()

    def ended(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        now = time.monotonic()
        self.pause = FIRST_PAUSE if now - self.started > LONGEST_PAUSE else min(self.pause * 2, LONGEST_PAUSE)
        self.due = now + self.pause
        print(f"{self.argv[0]} ended, starting it again in {self.pause:g} s", flush=True)

    def kill(self, number: int) -> None:
        if self.pidfd >= 0:
            try:  # noqa: SIM105
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                pass


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def serve(daemons: list[Daemon], wakeup: int, asked: list[int]) -> None:
    while not asked:
        now = time.monotonic()
        for daemon in daemons:
            if daemon.pidfd < 0 and daemon.due <= now:
                daemon.start()
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        for daemon in daemons:
            if daemon.pidfd >= 0:
                poll.register(daemon.pidfd, select.POLLIN)
        waits = [daemon.due - now for daemon in daemons if daemon.pidfd < 0]
        ready = {fd for fd, _ in poll.poll(max(min(waits), 0) * 1000 + 1 if waits else None)}
        if wakeup in ready:
            os.read(wakeup, 4096)
            reap()
        for daemon in daemons:
            if daemon.pidfd in ready:
                daemon.ended()


def stop(daemons: list[Daemon]) -> None:
    """libvirtd before the virtlogd it writes to; guests stay."""
    for daemon in reversed(daemons):
        daemon.kill(daemon.end)
        if daemon.pidfd >= 0 and not select.select([daemon.pidfd], [], [], GRACE)[0]:
            daemon.kill(signal.SIGKILL)
            select.select([daemon.pidfd], [], [], GRACE)
        reap()


def run(spec: dict[str, Any], tell: int) -> None:
    os.setsid()
    check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    enter(spec)
    os.chdir("/")
    os.umask(0o022)
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open("/dev/null", os.O_RDWR)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(null)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    asked: list[int] = []
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    daemons = [Daemon(each["argv"], each["env"], each["adopt"], each["end"]) for each in spec["daemons"]]
    with open(spec["pid_file"] + ".new", "w") as file:
        file.write(f"{os.getpid()}\n")
    os.rename(spec["pid_file"] + ".new", spec["pid_file"])
    for daemon in daemons:
        if daemon.pidfd < 0:
            daemon.start()
    os.write(tell, b"ok")
    os.close(tell)
    serve(daemons, reader, asked)
    stop(daemons)
    os.unlink(spec["pid_file"])


def main() -> int:
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    listen, tell = os.pipe()
    if os.fork():
        os.close(tell)
        answer = os.read(listen, 4096)
        if answer != b"ok":
            sys.stderr.write(answer.decode() or "the reaper ended before its daemons were started\n")
            return 1
        return 0
    os.close(listen)
    try:
        run(spec, tell)
    except Exception as error:
        try:
            os.write(tell, f"{error}\n".encode())
        except OSError:
            print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
