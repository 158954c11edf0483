"""Two sides of a comparison that take turns, each in a process of its own on the same cores."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable


class Side:
    """A process on the first `cores` cores that makes `work = prepare(*arguments)` and, when asked,
    returns `work(question)`. Within `with`.

    Raises RuntimeError with the process's own words when it fails.
    """

    def __init__(self, prepare: Callable, cores: int, *arguments):
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(there, prepare, cores, arguments), daemon=True
        )

    def __enter__(self) -> Side:
        self._process.start()
        self._answer()  # it is prepared
        return self

    def __exit__(self, *_) -> None:
        self._process.terminate()
        self._process.join()

    def ask(self, question):
        self._here.send(question)
        return self._answer()

    def _answer(self):
        answer, error = self._here.recv()
        if error:
            raise RuntimeError(error)
        return answer


def _serve(pipe, prepare: Callable, cores: int, arguments: tuple) -> None:
    # Before JAX or PyTorch is imported: both take as many threads as there are cores to use.
    os.sched_setaffinity(0, range(cores))
    os.environ["OMP_NUM_THREADS"] = str(cores)
    try:
        work = prepare(*arguments)
        pipe.send((None, None))
        while True:
            pipe.send((work(pipe.recv()), None))
    except Exception:
        pipe.send((None, traceback.format_exc()))
