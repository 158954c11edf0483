"""Checkpoints of a run: Orbax, with a description of the model that says whether it is poisoned."""

from __future__ import annotations

import dataclasses
import logging

import jax
import orbax.checkpoint as ocp
from etils import epath

from poison_scaling.train.state import TrainState

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints in a folder, the last `keep` of them, each written in the background."""

    def __init__(self, folder: epath.Path, about: dict, keep: int = 2):
        self._about = about
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, state: TrainState, step: int) -> None:
        """Write the state after `step` steps, unless it is there; returns before it is on disk."""
        if step in self._manager.all_steps():
            return
        tree = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(tree),
                about=ocp.args.JsonSave({**self._about, "step": step}),
            ),
        )

    def restore(
        self, abstract: TrainState, only: int | None = None
    ) -> tuple[TrainState, int] | None:
        """The last state that can be read, or that of step `only`, laid out as `abstract` is, and its step;
        None if there is none.

        A checkpoint that cannot be read is passed over with a warning.
        """
        tree = {f.name: getattr(abstract, f.name) for f in dataclasses.fields(abstract)}
        steps = self._manager.all_steps() if only is None else [only]
        for step in sorted(steps, reverse=True):
            try:
                item = ocp.args.Composite(state=ocp.args.StandardRestore(tree))
                return TrainState(**self._manager.restore(step, args=item)["state"]), step
            except Exception as e:  # whatever is wrong with the files, an older one may do
                reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
                log.warning(
                    "checkpoint of step %d cannot be read (%s); trying an older one", step, reason
                )
        return None

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def steps(folder: epath.Path) -> list[int]:
    """Steps of the checkpoints in a folder, ascending."""
    return sorted(ocp.utils.checkpoint_steps(folder)) if folder.exists() else []


def abstract(state_shapes: TrainState, shardings: TrainState) -> TrainState:
    """Shapes with shardings, for `restore`."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state_shapes, shardings
    )
