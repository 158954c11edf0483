"""The CPU cores that XLA computes on."""

from __future__ import annotations

import os

import jax
import jax.extend

from poison_scaling.runtime import processes


def limit(cores: int) -> None:
    """Make XLA compute on this many cores, if it computes on a CPU.

    XLA splits sums by the number of its threads, so the last bits of a result depend on that number: it is
    the same for every run, whether one trains alone or many at a time. (Small models gain next to nothing
    from a second core; a second run gains all of it.) XLA takes as many threads as the process may use cores
    when its client is made; systems that cannot restrict that keep all cores.
    """
    # With several processes the client is made by all together, and once: it does not exist yet, so the
    # platform has to be known from the settings.
    joined = processes.joined()
    on_cpu = jax.config.read("jax_platforms") == "cpu" if joined else jax.default_backend() == "cpu"
    if not on_cpu or not hasattr(os, "sched_setaffinity"):
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(allowed)[:cores]))
    try:
        if not joined:
            jax.extend.backend.clear_backends()
        jax.devices()
    finally:
        for thread in os.listdir("/proc/self/task"):  # XLA's threads, too, may run on any core
            os.sched_setaffinity(int(thread), allowed)
