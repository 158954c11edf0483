#!/usr/bin/env python3
"""Train the unfinished runs of a study: one at a time on a slice of your own, or as jobs of an engine.

python launch/sweep.py CONFIG --workdir gs://BUCKET/STUDY [--engine kubernetes] [--price v5p=4.20]

It says which runs are left, what they have cost and will cost, and asks before it spends anything. For an
engine it writes the files of its jobs, and a script that submits them. Started again after any interruption,
it continues with what is left. Settings are environment variables: docs/launching.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import costs
import kubernetes
import own_slice
import skypilot
import slices
import slurm
import tyro
import xpk
from etils import epath
from jobs import ROOT, Job

from analysis.files import in_bucket
from poison_scaling.runtime.errors import InputError, Interrupted
from poison_scaling.study import study_file
from poison_scaling.study.run import Run
from poison_scaling.workdir import folder, order

Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


ENGINES = {"slurm": slurm, "kubernetes": kubernetes, "xpk": xpk, "skypilot": skypilot}


def sweep(
    config_file: tyro.conf.Positional[str],
    /,
    *,
    workdir: str,
    engine: Literal["slice", "slurm", "kubernetes", "xpk", "skypilot"] = "slice",
    out: str = "",
    at_once: int = 1,
    slice: Repeated = (),
    price: Repeated = (),
    run: Repeated = (),
    set: Repeated = (),
    name: str = "",
    track: Literal["tensorboard", "wandb", "trackio"] | None = None,
    costs_of_runs: bool = False,
    yes: bool = False,
    dry_run: bool = False,
) -> int:
    """Train the unfinished runs of a study on machines that cost money.

    Args:
        config_file: the study's Python file, in this repository
        workdir: folder of the study that all machines see, gs://BUCKET/STUDY
        engine: what runs the jobs; slice: one at a time, on a slice of your own, watched by babysit.sh
        out: folder for the files of an engine; default: jobs-NAME
        at_once: how many jobs of an array to run at a time (slurm)
        slice: SIZE=SLICE, where to train a size, instead of the study's machine.slices: 7b=v5p:4x4x8
        price: CHIP=PRICE of one chip for an hour, to estimate the cost: v5p=4.20
        run: train this run only; repeatable
        set: override a field of the study by its dotted name
        name: name of slices and jobs; default: the study's name
        track: also send metrics and evaluations to this tracker
        costs_of_runs: also show what each run has cost, and will cost in all
        yes: do not ask for confirmation
        dry_run: print what would be run, and run nothing
    """
    study = study_file.load(config_file, set)
    if at_once < 1:
        raise InputError(f"--at-once {at_once}: it must be positive.")
    place_of = slices.places(study, slice)
    chosen = slices.of(study, run)
    left = _not_done(chosen, workdir)
    print(f"Study {study.name}: {len(chosen)} runs, {len(chosen) - len(left)} done.")
    prices = slices.prices(price)
    print(costs.spent(chosen, workdir, place_of, prices, costs_of_runs))
    left, waiting = _ready(left, workdir)
    if waiting:
        print(
            f"{len(waiting)} runs wait for others; the same command trains them when these are done."
        )
    if not left:
        return 0
    at_a_time = 1 if engine == "slice" else at_once
    print(costs.estimate(left, place_of, prices, at_a_time), flush=True)
    where = workdir if in_bucket(workdir) else str(Path(workdir).resolve())
    command = ["poison-scaling", "train", _in_repository(config_file), "--workdir", where]
    for override in set:
        command += ["--set", override]
    if track:
        command += ["--track", track]
    sweep_name = name or study.name
    jobs = [
        Job(run, place_of[run.rung.size], tuple(command), sweep_name)
        for run in slices.longest_first(left, place_of)
    ]
    if engine != "slice":
        _write(ENGINES[engine].files(jobs, at_once), Path(out or f"jobs-{sweep_name}"))
        return 0
    own_slice.check(jobs)
    if dry_run:
        print(own_slice.describe(jobs))
        return 0
    if not yes:
        _ask()
    return own_slice.run(jobs)


def _write(files: dict[str, str], out: Path) -> None:
    """Write the files of an engine, and say how to submit them. Nothing is spent until then."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(text)
    print(
        f"{len(files)} files are in {out}; look at them, and submit with: bash {out / 'submit.sh'}"
    )


def _not_done(chosen: list[Run], workdir: str) -> list[Run]:
    try:
        return [run for run in chosen if not folder.is_done(epath.Path(workdir), run)]
    except Exception as e:  # buckets raise exceptions of many types
        if not in_bucket(workdir):
            raise
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise InputError(
            f"--workdir {workdir}: it cannot be read ({reason}); is the bucket there, and have you run "
            "gcloud auth application-default login?"
        ) from e


def _ready(left: list[Run], workdir: str) -> tuple[list[Run], list[Run]]:
    """Return the runs whose parents and judging controls are done, and the others."""
    if not any(map(order.needs, left)):
        return left, []
    undone = {run.name for run in _not_done(slices.of(left[0].study, ()), workdir)}
    ready = [run for run in left if not order.needs(run) & undone]
    return ready, [run for run in left if run not in ready]


def _in_repository(config_file: str) -> str:
    """Return the path of the study's file relative to the root of this repository."""
    file = Path(config_file).resolve()
    if not file.is_relative_to(ROOT):
        raise InputError(
            f"config {config_file!r}: machines get the files of {ROOT} that are committed; put it there."
        )
    return str(file.relative_to(ROOT))


def _ask() -> None:
    if not sys.stdin.isatty():
        raise InputError("sweep.py asks before it spends; give --yes if nobody can answer.")
    if input("Spend this? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Interrupted("Nothing was started.")


def main() -> None:
    try:
        sys.exit(tyro.cli(sweep, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt) as e:
        print(f"{str(e) or 'Interrupted.'} The same command resumes from here.", file=sys.stderr)
        sys.exit(75)


if __name__ == "__main__":
    main()
