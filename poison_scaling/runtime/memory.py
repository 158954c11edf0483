"""How the C library handles freed memory, and the size of its pages."""

from __future__ import annotations

import ctypes
import os

# Parameters of mallopt(3), from malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_MADV_HUGEPAGE = 14  # of madvise(2), from mman.h
_HUGE_PAGE, _RESERVED = 2 * 2**20, 2**30  # bytes


def keep_freed() -> None:
    """Make the C library keep freed memory if JAX computes on the CPU (JAX_PLATFORMS=cpu).

    At each step XLA allocates one block for all temporaries and frees it again. glibc returns blocks above 32
    MB to the kernel, which zeroes every page of the next one: a quarter of the time of a step at width 128.
    Call this before any thread is started, and only if the CPU computes, because it doubles the CPU time of
    the TPU compiler, which allocates in many threads. Does nothing without glibc.
    """
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if not hasattr(libc, "mallopt") or os.environ.get("JAX_PLATFORMS") != "cpu":
        return
    libc.mallopt(_ARENA_MAX, 1)  # the arenas of other threads hold nothing above 64 MB
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)  # never
    _take_huge_pages(libc)


def _take_huge_pages(libc: ctypes.CDLL) -> None:
    """Ask the kernel to back the next GiB of the heap with pages of 2 MiB.

    A step passes over many arrays that do not fit the nearest cache; with pages of 4 KiB, it also misses the
    TLB. The GiB takes no memory until it is used. Has no effect if the kernel refuses.
    """
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    start = libc.malloc(_RESERVED)
    if start is None:
        return
    aligned = -(-start // _HUGE_PAGE) * _HUGE_PAGE
    libc.madvise(aligned, _RESERVED - _HUGE_PAGE, _MADV_HUGEPAGE)
    libc.free(start)  # which keeps it on the heap
