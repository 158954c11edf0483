"""What the C library does with memory that was freed, and in what pages it lies."""

from __future__ import annotations

import ctypes
import os

# Parameters of mallopt(3), by their numbers in malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_MADV_HUGEPAGE = 14  # of madvise(2), by its number in mman.h
_HUGE_PAGE, _RESERVED = 2 * 2**20, 2**30  # bytes


def keep_freed() -> None:
    """Where computing is on the CPU (JAX_PLATFORMS=cpu), have the C library keep what is freed.

    At each step XLA takes one piece of memory for all that it computes on the way, and frees it. Pieces above
    32 MB go back to the kernel, which clears every page of the next one: a quarter of the time of a step at
    width 128. It must be said before there are threads, and only where the CPU computes: the compiler for
    TPUs, which allocates in many threads, takes twice the CPU time. Only glibc knows it; others go on as
    they do.
    """
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if not hasattr(libc, "mallopt") or os.environ.get("JAX_PLATFORMS") != "cpu":
        return
    libc.mallopt(_ARENA_MAX, 1)  # the arenas of other threads hold nothing above 64 MB
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)  # never
    _take_huge_pages(libc)


def _take_huge_pages(libc: ctypes.CDLL) -> None:
    """Have the kernel back the next GiB of the heap with pages of 2 MiB, if it does so on request.

    A step passes over many arrays that the nearest cache does not hold; with pages of 4 KiB, the processor
    also looks up where each page is. The GiB takes no memory until it is used. Nothing changes where the
    kernel refuses.
    """
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    start = libc.malloc(_RESERVED)
    if start is None:
        return
    aligned = -(-start // _HUGE_PAGE) * _HUGE_PAGE
    libc.madvise(aligned, _RESERVED - _HUGE_PAGE, _MADV_HUGEPAGE)
    libc.free(start)  # and the C library keeps it
