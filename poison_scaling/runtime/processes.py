"""Several processes, on one or many machines, that train one run together: starting up, and agreeing.

Every process runs the same command. Process 0, the first, writes the logs and the books of the study; all
write their part of the checkpoints, into one folder that all of them see.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import re
import sys
import uuid
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from poison_scaling.runtime.errors import InputError, Interrupted

_EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_HEARTBEAT_SECONDS = 60  # of silence until a process counts as lost
# How errors begin when a connection breaks or a collective never ends.
_LOST = re.compile("(UNKNOWN|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL): ")
_FOREVER = (
    30 * 86_400
)  # seconds: data may take days to prepare, and lost processes are noticed anyhow


def start() -> None:
    """Join the other processes, if the environment says that there are any. Before anything else of JAX.

    It says so on a TPU pod; within `srun` with several tasks; and by JAX_COORDINATOR_ADDRESS
    (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID. Raises InputError when these do not fit
    together, or the others do not come.
    """
    arguments = _found()
    if arguments is None or joined():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # A signal is an agreement of ours (`Agreement`), which knows when a step can be saved.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**arguments, heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    except ValueError as e:
        if "coordinator_address" in str(e) and not arguments:
            return  # a TPU machine that is alone
        raise InputError(f"processes: {e}") from e
    except jax.errors.JaxRuntimeError as e:
        raise InputError(
            f"processes: {_first_line(e)}; start the same command on all of them, within 5 minutes."
        ) from e


def _found() -> dict | None:
    """Arguments for jax.distributed.initialize, those that JAX does not find itself; None: one process."""
    given = {name: os.environ.get(name, "") for name in _EXPLICIT}
    if any(given.values()):
        address, count, number = given.values()
        host, _, port = address.rpartition(":")
        if not (host and port.isdigit() and count.isdigit() and number.isdigit()):
            said = ", ".join(f"{name}={value!r}" for name, value in given.items())
            raise InputError(
                f"{said}: give all three, the host:port of process 0, how many processes there are, and "
                "which this one is, from 0."
            )
        if int(number) >= int(count):
            raise InputError(
                f"JAX_PROCESS_ID={number}: it must be below JAX_NUM_PROCESSES={count}."
            )
        return {
            "coordinator_address": address,
            "num_processes": int(count),
            "process_id": int(number),
            "cluster_detection_method": "deactivate",
        }
    if all(name in os.environ for name in _SLURM) and int(os.environ["SLURM_NTASKS"]) > 1:
        return {"cluster_detection_method": "slurm"}
    wanted = os.environ.get("JAX_PLATFORMS", "")
    chips = glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
    if (not wanted or "tpu" in wanted) and chips and importlib.util.find_spec("libtpu"):
        return {}
    return None


def joined() -> bool:
    """Whether `start` has found others. Makes no device of JAX's."""
    return jax.distributed.is_initialized()


def several() -> bool:
    """Whether there are other processes beside this one."""
    return joined() and jax.process_count() > 1


def first() -> bool:
    """Whether this process keeps the books: the first of several, or the only one."""
    return not several() or jax.process_index() == 0


def wait(name: str) -> None:
    """Until all processes are here. `name` says where, in errors."""
    if several():
        from orbax.checkpoint import multihost

        multihost.sync_global_processes(name, timeout=_FOREVER)


def agreed(values: list[bool]) -> list[bool]:
    """The values of the first process, in all of them."""
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
    """The block, first in one process of those that see the same `folder`, then in the others.

    So what the block leaves in a shared folder is made once, and in folders that are not shared at the same
    time.
    """
    if not several():
        yield
        return
    name = multihost_utils.broadcast_one_to_all(np.frombuffer(uuid.uuid4().bytes[:4], np.uint8))
    marks = folder / f".processes-{bytes(name).hex()}"
    own = marks / str(jax.process_index())
    marks.mkdir(parents=True, exist_ok=True)
    own.write_text("")
    wait("marks are set")
    leads = jax.process_index() == min(int(mark.name) for mark in marks.iterdir())
    if leads:
        yield
    wait("one of each folder is done")
    if leads:
        marks.rmtree()
    else:
        yield
    wait("all are done")


@contextlib.contextmanager
def by_first(context: Callable[[], contextlib.AbstractContextManager]) -> Generator[Any]:
    """The block, within a context that the first process alone enters; what it yields, None in the others.

    Where the context refuses the first process with InputError, all are refused.
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
    """What one process wishes, all do, after the same step.

    A signal reaches processes at different steps, and their clocks differ; but all must stop, and write a
    checkpoint, together.
    """

    def __init__(self):
        self._asked: jax.Array | None = None  # of the step before, still on its way
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
        """Whether to stop, and whether to save, after this step. Every process calls it at every step.

        With several processes that is what any of them wished a step ago: so nobody waits.
        """
        if not several():
            return stop, save
        before, wishes = self._asked, np.array([[stop, save]])
        self._asked = self._any(jax.make_array_from_process_local_data(self._own, wishes))
        if before is None:
            return False, False
        stop, save = (bool(wish) for wish in np.asarray(before))
        if stop or save:  # granted: what was asked meanwhile is the same wish once more
            self._asked = None
        return stop, save


@contextlib.contextmanager
def noticing_losses() -> Generator[None]:
    """Within the block, an operation that fails because another process is gone raises Interrupted."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as e:  # JAX raises either
        if not several() or not _LOST.match(str(e)):
            raise
        raise Interrupted(
            f"Process {jax.process_index()} of {jax.process_count()} has lost another one "
            f"({_first_line(e)}). What that one said last tells why; all go on from the last checkpoint."
        ) from e


def leave(code: int) -> None:
    """End this process at once. JAX would wait at its exit for the others, and they may not come."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _first_line(e: Exception) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0][:300]
