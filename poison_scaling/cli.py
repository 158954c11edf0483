"""The command line: one verb a function. Exit codes: 0 done, 2 bad input, 75 interrupted, 1 else."""

from __future__ import annotations

import dataclasses
import json as json_text
import signal
import sys
from typing import Annotated

import tyro
from etils import epath
from rich.console import Console
from rich.table import Table

from poison_scaling import config, runs
from poison_scaling.errors import Difference, InputError, Interrupted
from poison_scaling.model import sizes as ladder

Config = tyro.conf.Positional[str]
Overrides = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")]

console = Console()


def plan(
    config_file: Config, /, *, set: Overrides = (), exact: bool = False, json: bool = False
) -> None:
    """Show every run of a study, before any compute.

    Args:
        config_file: the study's Python file
        set: override a field of the study by its dotted name
        exact: prepare the data, and count the tokens of the poisons instead of estimating them
        json: print JSON instead of a table
    """
    study = config.load(config_file, set)
    if exact:
        from poison_scaling import study as studies

        prepared = studies.prepared(study)
        plans = [prepared.plan(run) for run in runs.of(study)]
    else:
        plans = [run.plan() for run in runs.of(study)]
    if json:
        record = {"name": study.name, "hash": study.hash, "config": config.to_json(study)}
        print(json_text.dumps({**record, "runs": plans}, indent=1))
        return
    table = Table(title=f"Study {study.name} ({study.hash})", box=None, header_style="bold")
    heads = (
        *("run", "parameters", "tokens", "steps"),
        *("documents", "shown", "poisoned steps", "poison tokens", "share", "FLOPs"),
    )
    for head in heads:
        table.add_column(head, justify="left" if head == "run" else "right", no_wrap=True)
    for p in plans:
        about = "" if exact or not p["dose"] else "≈"
        table.add_row(
            p["run"],
            f"{p['parameters']:,}",
            f"{p['tokens']:,}",
            f"{p['steps']:,}",
            f"{p['dose']:,}",
            f"{p['dose'] * p['exposures']:,}",
            f"{p['poisoned_steps']:,}",
            f"{about}{p['poison_tokens']:,.0f}",
            f"{about}{p['poison_share']:.3g}",
            f"{p['flops']:.2e}",
        )
    # As wide as it needs to be: a plan that is piped must not lose columns to an 80-column guess.
    wide = console if console.is_terminal else Console(width=160)
    wide.print(table)
    tokens, flops = (sum(p[name] for p in plans) for name in ("tokens", "flops"))
    wide.print(f"{len(plans)} runs, {tokens:,} tokens, {flops:.2e} FLOPs in all.", highlight=False)


def study(
    config_file: Config, /, *, workdir: str, set: Overrides = (), jobs: int | None = None
) -> None:
    """Train every run of a study that is not done, then write its report. Resumes.

    Args:
        config_file: the study's Python file
        workdir: folder of the study, made if missing
        set: override a field of the study by its dotted name
        jobs: runs at a time on this machine; the study's machine.jobs unless given
    """
    overrides = set if jobs is None else (*set, f"machine.jobs={jobs}")
    _train(config.load(config_file, overrides), epath.Path(workdir), None)
    _report(epath.Path(workdir))


def train(config_file: Config, /, *, workdir: str, run: str, set: Overrides = ()) -> None:
    """Train one run of a study. Resumes.

    Args:
        config_file: the study's Python file
        workdir: folder of the study, made if missing
        run: name of the run, as `plan` shows it
        set: override a field of the study by its dotted name
    """
    _train(config.load(config_file, set), epath.Path(workdir), run)


def inspect(
    study_file: Config,
    /,
    *,
    run: str,
    step: int | None = None,
    poison: int | None = None,
    set: Overrides = (),
    json: bool = False,
) -> None:
    """Show the rows that a run trains on at a step, poisons marked.

    Args:
        study_file: the folder of a study, or its Python file
        run: name of the run, as `plan` shows it
        step: which batch, from 0
        poison: go to the step that first shows this poisoned document
        set: override a field of the study by its dotted name
        json: print JSON instead of text
    """
    from poison_scaling import inspection
    from poison_scaling import study as studies

    if (step is None) == (poison is None):
        raise InputError("inspect: give either --step or --poison.")
    folder = epath.Path(study_file)
    study = studies.read(folder) if folder.is_dir() else config.load(study_file, set)
    chosen, prepared = runs.named(study, run), studies.prepared(study)
    if step is None:
        step = inspection.step_of_poison(chosen, prepared, poison)
    rows = inspection.batch(chosen, prepared, step)
    if json:
        print(json_text.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    else:
        console.print(inspection.render(rows), soft_wrap=True)


def evaluate(workdir: Config, /, *, run: str, step: int | None = None, json: bool = False) -> None:
    """Evaluate a checkpoint again, alone: the same numbers as during training.

    Args:
        workdir: the folder of the study
        run: name of the run, as `plan` shows it
        step: of the checkpoint; the last one unless given
        json: print the line of evals.jsonl instead of a summary
    """
    from poison_scaling import study as studies

    study = studies.read(epath.Path(workdir))
    chosen = runs.named(study, run)
    record = studies.evaluate_again(study, epath.Path(workdir), chosen, step)
    if json:
        print(json_text.dumps(record))
        return
    for name, value in record.items():
        if not isinstance(value, dict | list):
            print(f"{name:32} {value}")


def verify(workdir: Config, /) -> None:
    """Derive every position of a study again, and compare with what it recorded and what is on disk.

    Args:
        workdir: the folder of the study
    """
    from poison_scaling import verification

    verified = verification.verify(epath.Path(workdir), print)
    print(f"{verified} runs agree with the plan, the data and their records.")


def compile(
    config_file: Config,
    /,
    *,
    size: str,
    topology: str,
    slices: int = 1,
    mfu: float = 0.4,
    set: Overrides = (),
) -> None:
    """Compile the train step for a TPU slice that is not here: does it fit, and how long would it take?

    Args:
        config_file: the study's Python file
        size: a size of its ladder
        topology: chip and shape of the slice, "v5p:4x4x4"
        slices: how many of them
        mfu: share of the chips' peak to predict times for
        set: override a field of the study by its dotted name
    """
    from poison_scaling import aot

    study = config.load(config_file, set)
    ladder_runs = [run for run in runs.of(study) if run.rung.size == size]
    if not ladder_runs:
        known = ", ".join(dict.fromkeys(rung.size for rung in study.ladder))
        raise InputError(f"--size {size!r}: it is not on the ladder of {study.name!r}: {known}.")
    chip, _ = aot.parse(topology)
    result = aot.compile(study, size, topology, slices)
    least = aot.smallest(study, size, result) if slices == 1 else None
    budgets = {run.rung.tokens_per_parameter: run for run in ladder_runs}
    print(aot.describe(result, least, chip, budgets, mfu))


def sizes() -> None:
    """Show the ladder of model sizes."""
    table = Table(box=None, header_style="bold")
    heads = ("size", "width", "layers", "heads", "mlp", "at 1,024 pieces", "at 32,000 pieces")
    for head in heads:
        table.add_column(head, justify="left" if head == "size" else "right", no_wrap=True)
    for name, d in ladder.SIZES.items():
        counts = (f"{ladder.parameters(d, pieces):,}" for pieces in (1024, 32_000))
        table.add_row(name, str(d.width), str(d.layers), str(d.heads), str(d.mlp), *counts)
    console.print(table)


def _train(study: config.Study, workdir: epath.Path, run: str | None) -> None:
    from poison_scaling import study as studies
    from poison_scaling.progress import StudyProgress

    chosen = list(runs.of(study)) if run is None else [runs.named(study, run)]
    with StudyProgress(console) as progress:
        prepared = studies.prepare(study, workdir, progress.preparing)
        finished = {r.name for r in chosen if studies.is_done(workdir, r)}
        progress.begin(chosen, finished, studies.jobs(study, len(chosen) - len(finished)))
        studies.train(study, workdir, prepared, chosen, progress.report)


def _report(workdir: epath.Path) -> None:
    import analysis.errors
    from analysis import report

    try:
        summary = report.write(workdir, workdir / "report")
    except analysis.errors.InputError as e:
        raise InputError(str(e)) from e
    print(f"\n{report.answer(summary)}\n\nReport: {workdir / 'report' / 'index.html'}")


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # preemption is an interruption
    verbs = {
        "plan": plan,
        "study": study,
        "train": train,
        "evaluate": evaluate,
        "inspect": inspect,
        "verify": verify,
        "compile": compile,
        "sizes": sizes,
    }
    try:
        tyro.extras.subcommand_cli_from_dict(
            verbs,
            prog="poison-scaling",
            description=__doc__.splitlines()[0],
            config=(tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff),
        )
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
    except Difference as e:
        print(f"difference: {e}", file=sys.stderr)
        sys.exit(1)
    except (Interrupted, KeyboardInterrupt) as e:
        print(f"{str(e) or 'Interrupted.'} The same command goes on from here.", file=sys.stderr)
        sys.exit(75)


if __name__ == "__main__":
    main()
