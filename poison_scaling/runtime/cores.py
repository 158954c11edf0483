"""The CPU cores that XLA computes on."""

from __future__ import annotations

import os

import jax
import jax.extend

from poison_scaling.runtime import processes


def limit(cores: int) -> None:
    """Restrict XLA to this many cores, if it computes on a CPU.

    XLA splits sums by its number of threads, so the last bits of a result depend on that number. It is
    therefore the same for every run, whether runs train one at a time or many at once. (Small models
    gain next to nothing from a second core; a second run makes full use of it.) XLA starts one thread
    for each core that the process may use when its client is created. On systems without CPU affinity it
    keeps all cores.
    """
    # Several processes create their client together and only once. It does not exist yet, so the platform has
    # to be taken from the settings.
    joined = processes.joined()
    on_cpu = (
        jax.config.values["jax_platforms"] == "cpu" if joined else jax.default_backend() == "cpu"
    )
    if not on_cpu or not hasattr(os, "sched_setaffinity"):
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(allowed)[:cores]))
    try:
        if not joined:
            jax.extend.backend.clear_backends()
        jax.devices()
    finally:
        for thread in os.listdir("/proc/self/task"):  # XLA's threads may again run on any core
            os.sched_setaffinity(int(thread), allowed)
