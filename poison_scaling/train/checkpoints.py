"""Checkpoints of a run: Orbax, with a description of the model that says whether it is poisoned."""

from __future__ import annotations

import dataclasses
import logging

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from analysis.files import in_bucket
from poison_scaling.runtime import processes
from poison_scaling.train.state import TrainState

log = logging.getLogger(__name__)
# Orbax logs what goes wrong in its threads, a traceback for each, and raises it again when it is waited for.
for name in ("absl", "asyncio"):
    logging.getLogger(name).setLevel(logging.CRITICAL)


class Checkpoints:
    """The checkpoints in a folder, each written in the background: the last `keep` of them, and all whose
    step is a multiple of `keep_every`. Each has `about` beside it, as JSON. With `read_only`, nothing there
    is changed: another process may be writing.
    """

    def __init__(
        self,
        folder: epath.Path,
        about: dict | None = None,
        keep: int = 2,
        keep_every: int | None = None,
        read_only: bool = False,
    ):
        self._about = about or {}
        self._passed_over: list[int] = []
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True)
        else:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep, keep_period=keep_every, cleanup_tmp_directories=True
            )
        # Orbax wants a whole path; epath would take that of a bucket for a relative one.
        path = folder if in_bucket(folder) else folder.resolve()
        self._manager = ocp.CheckpointManager(path, options=options)

    def save(self, state: TrainState, step: int) -> None:
        """Write the state after `step` steps, unless it is there; returns before it is on disk."""
        for (
            unusable
        ) in self._passed_over:  # now that there is something better; Orbax keeps the newest
            self._manager.delete(unusable)
        self._passed_over = []
        if step in self._manager.all_steps():
            return
        tree = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(tree),
                about=ocp.args.JsonSave(
                    {**self._about, "step": step, "fingerprint": fingerprint(tree)}
                ),
            ),
        )

    def restore(
        self, abstract: TrainState, only: int | None = None, at_most: int | None = None
    ) -> tuple[TrainState, int] | None:
        """The last state that can be read, or that of step `only`, laid out as `abstract` is, and its step;
        None if there is none. Those of steps above `at_most` are not asked for.

        A checkpoint that cannot be read is passed over with a warning. The next `save` deletes those that
        are newer than the one which was restored.
        """
        tree = {f.name: getattr(abstract, f.name) for f in dataclasses.fields(abstract)}
        steps = self._manager.all_steps() if only is None else [only]
        for step in sorted(steps, reverse=True):
            restored = None
            try:
                if at_most is not None and step > at_most:
                    raise ValueError(f"the logs are whole only up to step {at_most}")
                items = ocp.args.Composite(
                    state=ocp.args.StandardRestore(tree), about=ocp.args.JsonRestore()
                )
                read = self._manager.restore(step, args=items)
                if fingerprint(read["state"]) != read["about"]["fingerprint"]:
                    raise ValueError("its numbers are not those that were written")
                restored = read["state"]
            except Exception as e:  # whatever is wrong with the files, an older one may do
                reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
                log.warning(
                    "checkpoint of step %d cannot be used (%s); trying an older one", step, reason
                )
            if processes.all_true(restored is not None) and restored is not None:
                return TrainState(**restored), step
            self._passed_over.append(step)
        return None

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def fingerprint(tree: dict) -> list[int]:
    """Of each array of a state, the sum of its 32-bit words modulo 2^32.

    The same on every mesh, and changed by any flipped bit, which Orbax reads without a word.
    """
    return [int(total) for total in jax.device_get(_sums(tree))]


@jax.jit
def _sums(tree: dict) -> list[jax.Array]:
    words = (jax.lax.bitcast_convert_type(x, jnp.uint32) for x in jax.tree.leaves(tree))
    return [jnp.sum(w, dtype=jnp.uint32) for w in words]


def steps(folder: epath.Path) -> list[int]:
    """Steps of the checkpoints in a folder, ascending."""
    return sorted(ocp.utils.checkpoint_steps(folder)) if folder.exists() else []


def abstract(state_shapes: TrainState, shardings: TrainState) -> TrainState:
    """Shapes with shardings, for `restore`."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state_shapes, shardings
    )
