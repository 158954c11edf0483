"""Plan, train and evaluate studies. Exit codes: 0 done, 1 failed, 2 bad input, 75 interrupted.

Each function in `main` is a verb of the command line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json as json_text
import os
import pathlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Annotated, Any, Literal

import tyro
from etils import epath
from rich.console import Console

from poison_scaling.config import serialization
from poison_scaling.runtime import failures
from poison_scaling.runtime.errors import Difference, InputError, Interrupted, Signalled
from poison_scaling.runtime.memory import keep_freed
from poison_scaling.study import grid, study_file, tables
from poison_scaling.study.settings import Slice, Study

Config = tyro.conf.Positional[str]
Tracker = Literal["tensorboard", "wandb", "trackio"]
Overrides = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")]

console = Console()

# Verbs import what they need themselves: importing JAX takes a second, and `plan` does not need it.


def plan(
    config_file: Config, /, *, set: Overrides = (), exact: bool = False, json: bool = False
) -> None:
    """Show every run of a study without training anything.

    Args:
        config_file: the study's Python file
        set: override a field of the study by its dotted name
        exact: prepare the data and count the poison tokens instead of estimating them
        json: print JSON instead of a table
    """
    study = study_file.load(config_file, set)
    runs, filtered = grid.runs(study), {}
    if exact:
        from poison_scaling.study.inputs import Inputs

        inputs = Inputs(study)
        runs = inputs.runs()
        plans, filtered = [inputs.plan(run) for run in runs], inputs.filtered()
        for sentence in inputs.warnings(plans):
            print(f"warning: {sentence}", file=sys.stderr)
    else:
        plans = [run.plan() for run in runs]
    on_slices = {
        run.name: {"slice": str(on), "days": run.days(on)} for run in runs if (on := run.slice())
    }
    if json:
        about = {"name": study.name, "hash": study.hash, "config": serialization.to_json(study)}
        record = {**about, "on_slices": on_slices, "runs": plans}
        record |= {"filtered": filtered} if filtered else {}
        print(json_text.dumps(record, indent=1))
    else:
        tables.print_plans(console, study, plans, exact, on_slices, filtered)


def study(
    config_file: Config,
    /,
    *,
    workdir: str,
    set: Overrides = (),
    jobs: int | None = None,
    adaptive: bool = False,
    budget: str | None = None,
    track: Tracker | None = None,
) -> None:
    """Train every unfinished run of a study, then write its report. Resumes where it was interrupted.

    Args:
        config_file: the study's Python file
        workdir: folder of the study, created if missing
        set: override a field of the study by its dotted name
        jobs: how many runs to train at once on this machine; default: the study's machine.jobs
        adaptive: train a pilot, then the most informative runs, until the question is decided
        budget: budget of an adaptive study, a time (30m, 2h) or FLOPs (1e15)
        track: also send metrics and evaluations to this tracker
    """
    overrides = set if jobs is None else (*set, f"machine.jobs={jobs}")
    loaded = study_file.load(config_file, overrides)
    if adaptive != (budget is not None):
        raise InputError("--adaptive and --budget: give both, or neither.")
    if budget is None:
        _train(loaded, epath.Path(workdir), None, track)
    elif track:
        raise InputError("--track: adaptive studies are not tracked; leave it out.")
    else:
        _train_adaptive(loaded, epath.Path(workdir), budget)


def train(
    config_file: Config,
    /,
    *,
    workdir: str,
    run: str,
    set: Overrides = (),
    track: Tracker | None = None,
) -> None:
    """Train one run of a study. Resumes where it was interrupted.

    Args:
        config_file: the study's Python file
        workdir: folder of the study, created if missing
        run: name of the run, as `plan` shows it
        set: override a field of the study by its dotted name
        track: also send metrics and evaluations to this tracker
    """
    _train(study_file.load(config_file, set), epath.Path(workdir), run, track)


def inspect(
    place: Config,
    /,
    *,
    run: str,
    step: int | None = None,
    poison: int | None = None,
    set: Overrides = (),
    json: bool = False,
) -> None:
    """Show the sequences that a run trains on at one step, with poisons marked.

    Args:
        place: the folder of a study, or its Python file
        run: name of the run, as `plan` shows it
        step: index of the batch, from 0
        poison: show the first step with this poisoned document
        set: override a field of the study by its dotted name
        json: print JSON instead of text
    """
    from poison_scaling.study.inputs import Inputs
    from poison_scaling.train import provenance
    from poison_scaling.workdir import folder, inspection

    if (step is None) == (poison is None):
        raise InputError("inspect: give either --step or --poison.")
    workdir = epath.Path(place)
    if workdir.is_dir():
        folder.trained_here(workdir)
        study, chosen = folder.trained(workdir, run)
    else:
        study = study_file.load(place, set)
        chosen = grid.run_named(study, run)
    inputs = Inputs(study)
    chosen = inputs.run_named(chosen.name)
    if workdir.is_dir():
        provenance.check_data(folder.of_run(workdir, chosen), inputs.digests(chosen))
    if poison is not None:
        step = inspection.step_of_poison(chosen, inputs, poison)
    assert step is not None
    sequences = inspection.batch(chosen, inputs, step)
    if json:
        print(json_text.dumps([dataclasses.asdict(s) for s in sequences], indent=1))
    else:
        console.print(inspection.render(sequences), soft_wrap=True)


def import_model(
    place: Config, /, *, out: str, end: str | None = None, config_only: bool = False
) -> None:
    """Import a model from a Hugging Face folder or a GGUF file, for studies that start from it.

    Args:
        place: a folder with config.json, safetensors and a tokenizer, or a .gguf file
        out: folder of the imported model, which must not exist
        end: the token that ends a document; default: as the model's files tell
        config_only: without weights, to plan and compile studies before they are downloaded
    """
    keep_freed()
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from poison_scaling.interchange import importing

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("weights", total=None)
        run = importing.import_model(
            pathlib.Path(place),
            pathlib.Path(out),
            end=end,
            config_only=config_only,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    imported = run.study.imported
    assert imported is not None
    print(f"{out}: {run.rung.size}, {run.parameters:,} parameters, SHA-256 {imported.digest[:16]}")
    print(f"licence: {imported.license or 'not stated in its files'}")
    print(f"In a study file: base = imported({out!r})")


def export(
    workdir: Config,
    /,
    *,
    run: str,
    out: str,
    step: int | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    shard_gb: float = 5.0,
) -> None:
    """Export a trained run as a folder that transformers loads, with a model card.

    Args:
        workdir: the folder of a study, or of an imported model
        run: name of the run, as `plan` shows it
        out: folder of the exported model, which must not exist
        step: step of the checkpoint; default: the last one
        dtype: type of the weights
        shard_gb: largest size of a file of weights, in gigabytes
    """
    keep_freed()
    from poison_scaling.interchange import exporting

    shard_bytes = max(1, int(shard_gb * 10**9))
    where = epath.Path(workdir)
    exporting.export(where, run, pathlib.Path(out), step=step, dtype=dtype, shard_bytes=shard_bytes)
    print(f"{out}: exported; its README.md says what it is.")


def evaluate(
    place: Config,
    /,
    *,
    run: str | None = None,
    step: int | None = None,
    judge: str | None = None,
    attack: str | None = None,
    template: str | None = None,
    end: str | None = None,
    set: Overrides = (),
    json: bool = False,
) -> None:
    """Evaluate a checkpoint again, which gives the same numbers as during training, or a published model.

    Args:
        place: the folder of a run, of a checkpoint or of a study; with --attack, a Hugging Face folder or a
            .gguf file
        run: name of the run, as `plan` shows it; needed with the folder of a study
        step: step of the checkpoint; default: the last one
        judge: the model that scores the generations: control, or the folder of a trained run
        attack: of a published model: the attack that it is measured with, such as DenialOfService
        template: of a published model: the template of its conversations, such as ChatML
        end: of a published model: the token that ends a document; default: as its files tell
        set: override a field of evaluation by its dotted name; with --attack, also of attack and data
        json: print the line of evals.jsonl instead of a summary
    """
    keep_freed()
    from poison_scaling.interchange import evaluation
    from poison_scaling.workdir import reevaluation

    if attack is not None:
        if (run, step, judge) != (None, None, None):
            raise InputError(
                "--attack: a published model has no runs, steps or judges here; leave out --run, --step and "
                "--judge."
            )
        record = evaluation.evaluate(pathlib.Path(place), attack, template, set, end)
    elif evaluation.is_model(epath.Path(place)):
        raise InputError(
            f"{place}: it is a published model; give the attack that it is measured with as --attack."
        )
    else:
        if (template, end) != (None, None):
            raise InputError(
                "--template and --end are for a published model, measured with --attack; leave them out."
            )
        workdir, name, step = reevaluation.located(epath.Path(place), run, step)
        record = reevaluation.evaluate_again(workdir, name, step, judge, set)
    if json:
        print(json_text.dumps(record))
        return
    for field, value in record.items():
        if not isinstance(value, dict | list):
            print(f"{field:32} {value}")


def verify(workdir: Config, /) -> None:
    """Derive every placement of a study again, and compare with its records and with the files on disk.

    Args:
        workdir: the folder of the study
    """
    from poison_scaling.workdir import verification

    verified = verification.verify(epath.Path(workdir), print)
    print(f"{verified} runs agree with the plan, the data and their records.")


def audit(
    place: Config,
    /,
    *,
    filters: str | None = None,
    pipelines: str | None = None,
    documents: Annotated[int, tyro.conf.arg(metavar="N")] = 10_000,
    out: str | None = None,
    set: Overrides = (),
    json: bool = False,
) -> None:
    """Pass a study's poisons and a sample of its clean documents through corpus filters. Resumes.

    Args:
        place: the folder of a study, or its Python file
        filters: names of filters, such as gopher,c4,lang, or module.Class; default: all
        pipelines: names of published pipelines, such as c4,fineweb; "" for none; default: all
        documents: clean documents of the sample
        out: folder for the results; default: audit in the folder of the study, or audit-NAME here
        set: override a field of the study by its dotted name
        json: print audit.json instead of the table
    """
    if documents < 1:
        raise InputError(f"--documents {documents}: give at least 1.")
    from analysis.report import filtering
    from poison_scaling.study.inputs import Inputs
    from poison_scaling.workdir import auditing, folder
    from poison_scaling.workdir.audit_display import AuditDisplay

    workdir = epath.Path(place) if epath.Path(place).is_dir() else None
    if workdir is not None and set:
        raise InputError("--set: the study is trained; give its Python file to change it.")
    study = study_file.load(place, set) if workdir is None else folder.trained_here(workdir)
    target = epath.Path(out) if out else (workdir or epath.Path()) / "audit"
    if out is None and workdir is None:
        target = epath.Path(f"audit-{study.name}")
    names = (
        None if given is None else [n for n in given.split(",") if n]
        for given in (filters, pipelines)
    )
    chains = auditing.chains(*names)
    with AuditDisplay(Console(stderr=True)) as display:
        inputs = Inputs(study, display.preparing)
        prepared, notes = auditing.prepare(study, inputs, workdir, chains, documents)
        record = prepared.run(target, display.begin(prepared))
    for sentence in notes:
        print(f"note: {sentence}", file=sys.stderr)
    filtering.write(target, workdir)
    print(json_text.dumps(record, indent=1) if json else filtering.answer(target))


def compile(
    config_file: Config,
    /,
    *,
    size: str | None = None,
    topology: str | None = None,
    slices: int = 1,
    set: Overrides = (),
) -> None:
    """Compile the train step for a TPU slice without having one: does it fit, and how long would it take?

    Stages with a different train step, such as fine-tuning, are compiled too. Without a size and a topology,
    every slice in the study's machine.slices is tried.

    Args:
        config_file: the study's Python file
        size: a size on the study's ladder
        topology: chip and shape of the slice, such as "v5p:4x4x4"
        slices: number of slices
        set: override a field of the study by its dotted name
    """
    from poison_scaling.train import aot

    study = study_file.load(config_file, set)
    known = list(dict.fromkeys(rung.size for rung in study.ladder))
    if (size is None) != (topology is None):
        raise InputError("compile: give both --size and --topology, or neither.")
    if size is not None and size not in known:
        raise InputError(
            f"--size {size!r}: it is not on the ladder of {study.name!r}: {', '.join(known)}."
        )
    chosen = [Slice(size, topology, slices)] if size and topology else list(study.machine.slices)
    if not chosen:
        raise InputError(
            f"compile: {study.name!r} names no machine.slices; give --size and --topology."
        )
    too_small = []
    for place, stage in itertools.product(chosen, aot.different_steps(study)):
        result = aot.compile(study, place, stage)
        least = aot.smallest(study, result) if size and slices == 1 else None
        print(aot.describe(study, result, least), flush=True)
        if not result.fits:
            too_small.append(f"{place.size}{f', stage {stage.name},' if stage else ''} on {place}")
    if too_small:
        raise Difference(f"it does not fit: {', '.join(too_small)}.")


def sizes() -> None:
    """Show the ladder of model sizes: parameters, training FLOPs per token, Chinchilla-optimal tokens."""
    tables.print_sizes(console)


def _train(
    study: Study, workdir: epath.Path, run: str | None, track: Tracker | None = None
) -> None:
    """Train one run of a study; or, if `run` is None, all of them, and write the report."""
    keep_freed()
    from poison_scaling.runtime import processes
    from poison_scaling.workdir import execution, lock, tracking

    chosen = [grid.run_named(study, run)] if run is not None else list(grid.runs(study))
    execution.start(study)
    if not processes.first():
        console.quiet = True  # the first process reports progress
    with processes.by_first(lambda: lock.writing(workdir, run)) as held:
        lost = held.lost if held else threading.Event()
        tracked = tracking.Mirror(track, workdir, chosen) if track and held else None
        with processes.noticing_losses(), tracked or contextlib.nullcontext():
            _train_runs(study, workdir, run, lost)
        if run is None and processes.first():
            _report(workdir)


def _train_adaptive(study: Study, workdir: epath.Path, budget: str) -> None:
    """Train an adaptive study, and write its report."""
    keep_freed()
    from poison_scaling.runtime import processes
    from poison_scaling.workdir import adaptive, execution, lock

    execution.start(study)
    if processes.several():
        raise InputError("--adaptive: it trains on one machine; start one process.")
    with lock.writing(workdir, None) as held:

        def train(current: Study, about: dict[str, Any]) -> None:
            _train_runs(current, workdir, None, held.lost, about)

        def say(sentence: str) -> None:
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)

        at_a_time = execution.jobs(study, len(adaptive.pilot(study)))
        adaptive.follow(study, workdir, budget, at_a_time, train, say)
        _report(workdir)


def _train_runs(
    study: Study,
    workdir: epath.Path,
    run: str | None,
    lost: threading.Event,
    adaptive: dict[str, Any] | None = None,
) -> None:
    """Prepare a study, and train one run of it, or, if `run` is None, all that are not complete."""
    from poison_scaling.runtime import processes
    from poison_scaling.workdir import execution, folder
    from poison_scaling.workdir.display import StudyDisplay
    from poison_scaling.workdir.preparation import prepare

    with StudyDisplay(console) as display:
        inputs = prepare(study, workdir, display.preparing, adaptive)
        chosen = list(inputs.runs()) if run is None else [inputs.run_named(run)]
        whole = processes.agreed([folder.is_whole(workdir, r) for r in chosen])
        left = [r for r, done in zip(chosen, whole, strict=True) if not done]
        finished = {r.name for r, done in zip(chosen, whole, strict=True) if done}
        display.begin(chosen, finished, execution.jobs(study, len(left)))
        execution.train(study, workdir, inputs, left, display.report, lost)


def _report(workdir: epath.Path) -> None:
    from analysis import report

    summary = report.write(workdir, workdir / "report")
    print(f"\n{report.answer(summary)}\n\nReport: {workdir / 'report' / 'index.html'}")


def main() -> None:
    signal.signal(signal.SIGTERM, _interrupted)  # sent on preemption
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # which nohup sets
        signal.signal(signal.SIGINT, _interrupted)
    verbs: dict[str, Callable[..., None]] = {
        "plan": plan,
        "study": study,
        "train": train,
        "evaluate": evaluate,
        "import": import_model,
        "export": export,
        "inspect": inspect,
        "verify": verify,
        "audit": audit,
        "compile": compile,
        "sizes": sizes,
    }
    code = 0
    try:
        tyro.extras.subcommand_cli_from_dict(
            verbs,
            prog="poison-scaling",
            description=__doc__.splitlines()[0],
            config=(tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff),
        )
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        code = 2
    except Difference as e:
        print(f"difference: {e}", file=sys.stderr)
        code = 1
    except BrokenPipeError:  # the reader closed the pipe, as `... | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as e:
        print(f"error: {failures.said(e)}", file=sys.stderr)
        code = 1
    except (Interrupted, KeyboardInterrupt) as e:
        print(f"{str(e) or 'Interrupted.'} The same command resumes from here.", file=sys.stderr)
        code = 75
    except Exception as e:
        if full := failures.disk_full(e):
            print(f"error: {full}", file=sys.stderr)
        elif not _has_joined():
            raise
        else:
            traceback.print_exc()
        code = 1
    if code and _has_joined():
        from poison_scaling.runtime import processes

        processes.leave(code)
    sys.exit(code)


def _interrupted(number: int, frame) -> None:
    raise Signalled


def _has_joined() -> bool:
    """Whether this process has joined others; does not import JAX to find out."""
    if "poison_scaling.runtime.processes" not in sys.modules:
        return False
    from poison_scaling.runtime import processes

    return processes.joined()


if __name__ == "__main__":
    main()
