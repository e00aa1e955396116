"""The process's own memory: glibc told to hold little, and to give back what a start took (mallopt(3), malloc_trim(3)).

Elsewhere than on glibc nothing is done, and nothing is lost but some MiB.
"""

import ctypes
import gc

M_ARENA_MAX = -8
libc = ctypes.CDLL(None)


def one_arena() -> None:
    """All threads allocate from one heap: they take turns under the interpreter's lock anyway."""
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """What a start needed once: schema, seeds, the statements that made them."""
    gc.collect()
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
