"""Several processes, on one or many machines, that train one run together: start-up and agreement.

Every process runs the same command. Process 0, the first, writes the logs and records of the study; each
process writes its part of the checkpoints. The working directory must be visible to all of them.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import itertools
import os
import re
import sys
import threading
import uuid
from collections.abc import Callable, Generator
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax._src import distributed  # the one way to the service that JAX's processes meet at
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from poison_scaling.runtime import heartbeats, launchers, watchdog
from poison_scaling.runtime.errors import InputError, Interrupted, first_line

# How errors begin if a connection breaks or a collective never ends.
_LOST = re.compile("(UNKNOWN|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL): ")
# Heartbeats and the watchdog end a wait for a process that is gone or hangs; data that takes longer to
# prepare should be prepared on one machine, by `plan --exact`.
_LONGEST_WAIT = datetime.timedelta(days=1)

_heartbeats: heartbeats.Heartbeats | None = None
_waits = itertools.count()


def start(stall_minutes: float = 60.0) -> None:
    """Join the other processes, if there are any. Call this before any other function of JAX.

    There are others on a TPU pod, within `srun` with several tasks, under Open MPI, or if the environment has
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID. Raises InputError
    if these are inconsistent. Exits with 75 if the others do not join in time; and later, if one of them
    falls silent, or if this one makes no progress for `stall_minutes`.
    """
    global _heartbeats
    arguments = launchers.arguments()
    if arguments is None or joined():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # `Agreement` handles signals instead, because it knows when a step can be saved.
    jax.config.update("jax_enable_preemption_service", False)
    has_joined = threading.Event()
    heartbeats.on_abort(has_joined)
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=heartbeats.JOIN_SECONDS,
            heartbeat_timeout_seconds=heartbeats.JAX_SECONDS,
        )
    except ValueError as e:
        if "coordinator_address" in str(e) and not arguments:
            return  # a single TPU machine
        raise InputError(f"processes: {e}") from e
    except jax.errors.JaxRuntimeError as e:
        raise Interrupted(f"processes: they have not joined ({first_line(e)}).") from e
    has_joined.set()
    _heartbeats = heartbeats.Heartbeats()
    watchdog.start(stall_minutes)


def joined() -> bool:
    """Whether `start` has found other processes. Does not initialise JAX's backend."""
    return jax.distributed.is_initialized()


def several() -> bool:
    """Whether there are other processes beside this one."""
    return joined() and jax.process_count() > 1


def first() -> bool:
    """Whether this process writes logs and records: the first of several, or the only one."""
    return not several() or jax.process_index() == 0


def wait(name: str) -> None:
    """Wait until all processes have reached this point, which errors call `name`."""
    if several():
        client = cast(Any, distributed.global_state.client)
        limit = int(_LONGEST_WAIT.total_seconds() * 1000)
        with watchdog.waiting():
            client.wait_at_barrier(f"{name} ({next(_waits)})", limit)


def agreed(values: list[bool]) -> list[bool]:
    """Return the values of the first process in all processes."""
    if not several():
        return values
    return [bool(v) for v in multihost_utils.broadcast_one_to_all(np.array(values, np.bool_))]


def all_true(value: bool) -> bool:
    """Whether `value` is true in every process."""
    if not several():
        return value
    return bool(np.all(multihost_utils.process_allgather(np.array(value, np.bool_))))


@contextlib.contextmanager
def one_a_folder(folder: epath.Path) -> Generator[None]:
    """Run the block first in one of the processes that share `folder`, then in the others.

    What the block leaves in a shared folder is thus made once; unshared folders are filled at the same time.
    In a folder that is read-only there is nothing to make, and nothing to wait for.
    """
    if not several():
        yield
        return
    name = multihost_utils.broadcast_one_to_all(np.frombuffer(uuid.uuid4().bytes[:4], np.uint8))
    marks = folder / f".processes-{bytes(name).hex()}"
    own = marks / str(jax.process_index())
    marked = True
    try:
        marks.mkdir(parents=True, exist_ok=True)
        own.write_text("")
    except OSError as e:
        if e.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        marked = False
    wait("marks are set")
    leads = marked and jax.process_index() == min(int(mark.name) for mark in marks.iterdir())
    if leads or not marked:
        yield
    wait("one of each folder is done")
    if leads:
        marks.rmtree()
    elif marked:
        yield
    wait("all are done")


@contextlib.contextmanager
def by_first(context: Callable[[], contextlib.AbstractContextManager]) -> Generator[Any]:
    """Enter a context in the first process only; yield what it yields there, and None in the others.

    If the context raises InputError in the first process, all processes raise InputError.
    """
    with contextlib.ExitStack() as stack:
        held, refused = None, None
        if first():
            try:
                held = stack.enter_context(context())
            except InputError as e:
                refused = e
        if not all_true(refused is None):
            raise refused or InputError("processes: the first one was refused, and says why.")
        yield held


class Agreement:
    """Agreement between processes on the step after which to stop or save, at the request of any of them.

    A signal reaches processes at different steps, and their clocks differ, but all must stop, and write a
    checkpoint, after the same step.
    """

    def __init__(self):
        self._asked: jax.Array | None = None  # requests of the previous step, still in flight
        if several():
            firsts = {d.process_index: d for d in reversed(jax.devices())}
            devices = np.array([firsts[i] for i in sorted(firsts)])
            mesh = Mesh(devices, ("process",), axis_types=(AxisType.Auto,))
            self._own = NamedSharding(mesh, PartitionSpec("process"))
            self._any = jax.jit(
                lambda asked_Px2: jnp.any(asked_Px2, axis=0),
                out_shardings=NamedSharding(mesh, PartitionSpec()),
            )

    def settle(self, stop: bool, save: bool) -> tuple[bool, bool]:
        """Return whether to stop, and whether to save, after this step. Every process calls it at every step.

        With several processes, the answer is what any of them requested one step ago, so that none waits.
        """
        if not several():
            return stop, save
        before, wishes = self._asked, np.array([[stop, save]])
        self._asked = self._any(jax.make_array_from_process_local_data(self._own, wishes))
        if before is None:
            return False, False
        stop, save = (bool(wish) for wish in np.asarray(before))
        if stop or save:  # a request made meanwhile is the same one again
            self._asked = None
        return stop, save


@contextlib.contextmanager
def noticing_losses() -> Generator[None]:
    """Raise Interrupted if an operation in the block fails because another process is lost."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as e:  # JAX raises either
        if not several() or not _LOST.match(str(e)):
            raise
        raise Interrupted(
            f"Process {jax.process_index()} of {jax.process_count()} has lost another one "
            f"({first_line(e)}). Its last output says why; all processes resume from the last checkpoint."
        ) from e


def leave(code: int) -> None:
    """Exit at once. On a normal exit JAX would wait for the other processes, which may never get there.

    An interruption for which another process gives a reason, by its own exit code, ends with that code.
    """
    if _heartbeats:
        if code == 75:
            number, code = _heartbeats.failure() or (None, code)
            if number is not None:
                print(
                    f"Process {number} failed with exit code {code}, and says why.", file=sys.stderr
                )
                _heartbeats.linger()
        else:
            _heartbeats.failed(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
