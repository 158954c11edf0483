"""What an audit needs of a study: its filters, and a trained control for those that ask a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from etils import epath

from poison_scaling.evaluate.scoring import DocumentScorer
from poison_scaling.filters import pipelines
from poison_scaling.filters.pipelines import Pipeline
from poison_scaling.runtime import cores
from poison_scaling.runtime.errors import InputError
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.run import Run
from poison_scaling.study.settings import Study
from poison_scaling.train import provenance, trained
from poison_scaling.workdir import folder
from poison_scaling.workdir.audit import Audit

_REFERENCE = 500  # held-out documents from which thresholds on perplexity follow


@dataclasses.dataclass(frozen=True)
class Chains:
    """The filters of an audit: "filter" or "pipeline", and which."""

    chosen: tuple[tuple[str, Pipeline], ...]
    named: bool  # whether filters were named, so that none may be left out


def chains(filters: Sequence[str] | None, chained: Sequence[str] | None) -> Chains:
    """Return the filters and pipelines of these names, by default all.

    Raises InputError if a name is unknown or a library is not installed, before any data is prepared.
    """
    own = [("filter", each) for each in pipelines.filters(filters or pipelines.DEFAULT)]
    every = [pipeline.name for pipeline in pipelines.PIPELINES]
    own += [
        ("pipeline", each) for each in pipelines.pipelines(every if chained is None else chained)
    ]
    for _, pipeline in own:
        pipelines.chain([each for each in pipeline.filters if not each.needs_model])
    return Chains(tuple(own), bool(filters))


def prepare(
    study: Study, inputs: Inputs, workdir: epath.Path | None, wanted: Chains, documents: int
) -> tuple[Audit, list[str]]:
    """Return an audit, and a sentence about each filter that is left out.

    Without a trained control, filters that need a model are left out; raises InputError if they were named.
    """
    own = wanted.chosen
    if not any(_needs_model(each) for _, each in own):
        return Audit(study, inputs, own, documents), []
    control = None if workdir is None else _control(inputs, workdir)
    if control is None or workdir is None:
        said = "no perplexity filter: it asks a trained control, and the study has none yet."
        if wanted.named:
            raise InputError(f"--filters ppl: {said.removeprefix('no perplexity filter: ')}")
        kept = tuple((kind, each) for kind, each in own if not _needs_model(each))
        return Audit(study, inputs, kept, documents), [said]
    cores.limit(study.machine.cores)
    own_folder = folder.of_run(workdir, control)
    provenance.check(own_folder, control)
    graph, params, _ = trained.model(control, inputs, own_folder, control.steps)
    docs = inputs.documents
    held = docs.heldout(range(min(_REFERENCE, docs.heldout_size)))
    scorer = DocumentScorer(graph, params, inputs.vocabulary, control.data.seq_len, held)
    name = f"{control.name} {control.hash}"
    return Audit(study, inputs, own, documents, scorer, name), []


def _needs_model(pipeline: Pipeline) -> bool:
    return any(each.needs_model for each in pipeline.filters)


def _control(inputs: Inputs, workdir: epath.Path) -> Run | None:
    """Return the trained control of pretraining that has seen most tokens, of the largest size.

    Nothing else may be inserted into it either.
    """
    clean = [run for run in inputs.runs() if not any(each.dose for each in run.poisonings)]
    controls = [run for run in clean if run.stage is None]
    done = [run for run in controls if folder.is_done(workdir, run)]
    return max(done, key=lambda run: (run.parameters, run.tokens), default=None)
