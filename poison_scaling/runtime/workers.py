"""Work spread over processes, one a core."""

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
from poison_scaling.runtime.quiet import quiet


def each(function: Callable, jobs: Sequence[tuple]) -> Iterator[Any]:
    """function(*job) for each job, in order, computed in as many processes as there are cores.

    A single job runs in this process. `function` is a module's own, and jobs and results can be pickled.
    Raises what the first job raises that fails, and Interrupted where a process was killed.
    """
    if len(jobs) == 1:
        yield function(*jobs[0])
        return
    with concurrent.futures.ProcessPoolExecutor(
        min(_cores(), len(jobs)),
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


def _cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start(module: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it, without a traceback of its own
    die_with_parent()
    with quiet():
        importlib.import_module(module)


def die_with_parent() -> None:
    """End this process when the one that started it is gone, so that what is started again is alone."""

    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
