"""Fernet keys in a folder, by number, as `keystone-manage fernet_rotate` keeps them.

`0` is staged: it will be the next primary, and is there before, so that every process can read what it will seal. The
highest number is the primary, which seals; all of them open. A `KeyRing` sees at its next use what was changed in the folder.
"""

import os
import threading
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, MultiFernet

MAX_ACTIVE = 3  # staged, primary and one secondary: Keystone's [fernet_tokens] max_active_keys
STAGED = 0


def numbers(folder: Path) -> list[int]:
    """Of the keys there, lowest first."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def _write(folder: Path, number: int, text: str) -> None:
    """At once, so that no process ever sees half a key."""
    fresh = folder / f".{number}.{os.getpid()}"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / str(number))


def ensure(folder: Path, staged: bool = True) -> None:
    """A new folder gets a primary key; one of an older version the staged key that it lacks."""
    folder.mkdir(mode=0o700, exist_ok=True)
    there = numbers(folder)
    if not [number for number in there if number != STAGED]:
        _write(folder, 1, Fernet.generate_key().decode())
    if staged and STAGED not in there:
        _write(folder, STAGED, Fernet.generate_key().decode())


def rotate(folder: Path, keep: int = MAX_ACTIVE) -> list[int]:
    """The staged key becomes primary, a new one is staged, and of the oldest all beyond `keep` go. Which keys are left.

    What was sealed by a key that is gone can be read no more: rotate no more often than tokens last.
    """
    ensure(folder)
    next_one = numbers(folder)[-1] + 1
    (folder / str(STAGED)).replace(folder / str(next_one))
    _write(folder, STAGED, Fernet.generate_key().decode())
    old = [number for number in numbers(folder) if number != STAGED]
    for number in old[: max(0, len(old) - max(1, keep - 1))]:
        (folder / str(number)).unlink()
    return numbers(folder)


class KeyRing:
    """`encrypt` and `decrypt` as a `MultiFernet` has them, with the keys that the folder holds now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._seen: tuple[Any, ...] = ()
        self._keys = self._read()

    def _read(self) -> MultiFernet:
        """The primary first: it seals."""
        while True:
            self._seen = self._look()
            try:
                found = numbers(self.folder)
                texts = [(self.folder / str(number)).read_text() for number in reversed(found)]
                return MultiFernet([Fernet(text) for text in texts])
            except FileNotFoundError:  # rotated in this moment
                continue

    def _look(self) -> tuple[Any, ...]:
        return self.folder.stat().st_mtime_ns, *numbers(self.folder)

    def _current(self) -> MultiFernet:
        if self._look() != self._seen:
            with self._lock:
                self._keys = self._read()
        return self._keys

    def encrypt(self, data: bytes) -> bytes:
        return self._current().encrypt(data)

    def decrypt(self, token: bytes | str) -> bytes:
        return self._current().decrypt(token)
