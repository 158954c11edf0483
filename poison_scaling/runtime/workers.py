"""Work spread over processes, one per core."""

from __future__ import annotations

import concurrent.futures
import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from poison_scaling.runtime.errors import Interrupted
from poison_scaling.runtime.quiet import silenced


def each(function: Callable, jobs: Sequence[tuple]) -> Iterator[Any]:
    """Yield function(*job) for each job, in order, computed in as many processes as there are cores.

    A single job runs in this process. `function` must be defined at the top level of a module; jobs and
    results must be picklable. Raises the exception of the first job that fails, and Interrupted if a
    process is killed.
    """
    if len(jobs) <= 1:
        yield from (function(*job) for job in jobs)
        return
    with concurrent.futures.ProcessPoolExecutor(
        min(cores(), len(jobs)),
        multiprocessing.get_context("spawn"),  # TensorFlow does not survive a fork
        _start,
        (function.__module__,),
    ) as pool:
        futures = [pool.submit(function, *job) for job in jobs]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool as e:
            raise Interrupted("A process that prepared data was killed (out of memory?).") from e
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start(module: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # so that Ctrl-C ends it without a traceback
    die_with_parent()
    with silenced():
        importlib.import_module(module)


def die_with_parent() -> None:
    """Exit when the parent process is gone, so that a study started again has no stray workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
