"""Proof that a study trained on what it says: everything is derived again and compared.

In this order: the settings in the folder against their hashes; the prepared rows on disk against their
checksums and against those that the study recorded; each run's manifest against the positions derived
anew, and its documents against the rows as they are read; the counts in metrics and evaluations against
the manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from etils import epath

from poison_scaling import runs, serialization, study
from poison_scaling.errors import Difference
from poison_scaling.files import read_json, read_lines
from poison_scaling.runs import Run

if TYPE_CHECKING:
    from poison_scaling.data.prepared import Prepared


def verify(workdir: epath.Path, progress: Callable[[str], None] = lambda name: None) -> int:
    """Verify every run that has begun; returns how many. `progress` is called with each run's name.

    Raises Difference for the first thing that does not agree, InputError when there is no study.
    """
    recorded = study.read(workdir)
    record = read_json(workdir / "study.json")
    if recorded.hash != record["hash"]:
        raise Difference(
            f"{workdir / 'study.json'}: its config hashes to {recorded.hash}, and it says {record['hash']}."
        )
    prepared = study.prepared(recorded)
    prepared.training.check()
    prepared.heldout.check()
    for name, digest in prepared.digests().items():
        if record["data"][name] != digest:
            raise Difference(
                f"{name}: the prepared data has digest {digest[:16]}, and the study was trained on "
                f"{record['data'][name][:16]}; other versions of its packages or files?"
            )
    for run, planned in zip(runs.of(recorded), record["runs"], strict=True):
        for found, derived in zip(_attacks(planned), _attacks(prepared.plan(run)), strict=True):
            if found != derived:
                raise Difference(
                    f"{workdir / 'study.json'}: by it {run.name} meets the trigger in clean text {found} "
                    f"times, derived are {derived}."
                )
    begun = [run for run in runs.of(recorded) if study.folder(workdir, run).exists()]
    for run in begun:
        progress(run.name)
        for difference in _differences(run, prepared, study.folder(workdir, run)):
            raise Difference(difference)
    return len(begun)


def _attacks(plan: dict) -> list[int]:
    """How often a run meets the trigger of each attack in clean text."""
    return [entry.get("clean_triggers") for entry in (plan, *plan["also"])]


def _differences(run: Run, prepared: Prepared, folder: epath.Path) -> Iterator[str]:
    """What is wrong with a run, the most basic first."""
    from poison_scaling.data.prepared import manifest

    about = read_json(folder / "config.json")
    settings = serialization.to_json(run.settings())
    if about["config"] != settings or about["hash"] != run.hash:
        yield f"{folder / 'config.json'}: it is not the config of {run.name} in study.json."

    B = run.study.train.batch_rows
    stream = prepared.stream(run)
    planned, written = manifest(stream, B), read_lines(folder / "manifest.jsonl")
    for number, (expected, found) in enumerate(zip(planned, written, strict=False), 1):
        if expected != found:
            yield f"{folder / 'manifest.jsonl'}, line {number}: it says {found}, derived is {expected}."
    if len(planned) != len(written):
        yield f"{folder / 'manifest.jsonl'}: it has {len(written)} lines, derived are {len(planned)}."

    for entry in planned:
        tokens, _ = stream.read(np.array([entry["row"]]))
        span = tokens[0, entry["offset"] : entry["offset"] + entry["tokens"]]
        digest = hashlib.sha256(span.astype("<i4").tobytes()).hexdigest()
        if digest != entry["document"]:
            yield f"{run.name}: row {entry['row']} does not hold document {entry['document'][:16]}."

    for name in ("metrics.jsonl", "evals.jsonl"):
        for number, line in enumerate(read_lines(folder / name), 1):
            shown = stream.placement.before(line["step"] * B)
            if name == "evals.jsonl":
                shown = shown.of_attack(0)
            expected = {
                "tokens": line["step"] * B * run.study.data.row_tokens,
                "poisons": shown.showings,
                "poison_tokens": shown.tokens,
                "poisoned_steps": shown.steps(B),
            }
            for field, value in expected.items():
                if line[field] != value:
                    yield (
                        f"{folder / name}, line {number}: {field} is {line[field]}, "
                        f"and by the plan {value}."
                    )

    if (folder / "DONE").exists():
        last = [line["step"] for line in read_lines(folder / "evals.jsonl")]
        if last != run.evaluation_steps:
            yield f"{folder / 'evals.jsonl'}: it has steps {last}, planned are {run.evaluation_steps}."
