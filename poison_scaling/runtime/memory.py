"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes
import os

# Parameters of mallopt(3), by their numbers in malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed() -> None:
    """Where computing is on the CPU (JAX_PLATFORMS=cpu), have the C library keep what is freed.

    At each step XLA takes one piece of memory for all that it computes on the way, and frees it. Pieces above
    32 MB go back to the kernel, which clears every page of the next one: a quarter of the time of a step at
    width 128. It must be said before there are threads, and only where the CPU computes: the compiler for
    TPUs, which allocates in many threads, takes twice the CPU time. Only glibc knows it; others go on as
    they do.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or os.environ.get("JAX_PLATFORMS") != "cpu":
        return
    mallopt(_ARENA_MAX, 1)  # the arenas of other threads hold nothing above 64 MB
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)  # never
