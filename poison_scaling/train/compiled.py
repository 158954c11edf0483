"""The compiled functions of a run, shared by runs that differ only in seed and dose."""

from __future__ import annotations

import functools
from typing import Literal

import jax
from jax.sharding import Mesh

from poison_scaling.model import sharding
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Study
from poison_scaling.train import checkpoints, optimizer, state, step


class Compiled:
    """The jitted initialisation and train step of one size, with the shardings of their arguments.

    `initial` makes the state before pretraining from a seed, `inherited` the state before a stage from that
    of its parent, and `begun` from parameters alone; `optimizer_start` is as in `Stage.optimizer`. Of
    `study`, only data.vocabulary, model and train are used. `end` is the end-of-document token.
    """

    def __init__(
        self,
        size: str,
        learning_rate: float,
        steps: int,
        study: Study,
        end: int,
        mesh: Mesh,
        optimizer_start: Literal["keep", "reset", "rewarm"] = "rewarm",
    ):
        vocab_size, train = study.data.vocabulary.vocab_size, study.train
        self.mesh = mesh
        warms_up = optimizer_start == "rewarm"
        transform = optimizer.adamw(train, learning_rate, steps, warms_up)
        self.graph = state.graph(size, vocab_size, study.model, mesh)
        shardings = state.shardings(size, vocab_size, study.model, transform, mesh)

        def initial(seed):
            return state.initial(size, vocab_size, study.model, transform, seed)

        def inherited(parent: state.TrainState) -> state.TrainState:
            kept = optimizer_start == "keep"
            moments = (
                optimizer.restarted(parent.optimizer) if kept else transform.init(parent.params)
            )
            return state.beginning(parent.params, moments)

        def begun(params: dict) -> state.TrainState:
            return state.beginning(params, transform.init(params))

        self.initial = jax.jit(initial, out_shardings=shardings)
        self.inherited = jax.jit(inherited, in_shardings=(shardings,), out_shardings=shardings)
        self.begun = jax.jit(
            begun, in_shardings=(shardings.params,), out_shardings=shardings, donate_argnums=0
        )
        self.abstract = checkpoints.abstract(jax.eval_shape(initial, 0), shardings)
        self.batch = sharding.batch_sharding(mesh, train.batch_size)
        self.step = jax.jit(
            step.train_step(self.graph, transform, end, study.model.segment_mask, train),
            in_shardings=(shardings, self.batch),
            out_shardings=(shardings, sharding.replicated(mesh)),
            donate_argnums=0,
            compiler_options=sharding.compiler_options(mesh),
        )


_compiled = functools.lru_cache(maxsize=8)(Compiled)


def compiled_for(run: Run, inputs: Inputs) -> Compiled:
    """Return the compiled functions of a run."""
    study, mesh = run.study, sharding.mesh(run.study.machine.mesh)
    # Drop what compiled code does not depend on, so that runs share it.
    own = Study(name="", ladder=(), doses=(), data=study.data, model=study.model, train=run.train)
    start = run.stage.optimizer if run.stage else "rewarm"
    return _compiled(run.rung.size, run.learning_rate, run.steps, own, inputs.end, mesh, start)
