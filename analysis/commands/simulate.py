"""The command that simulates a study."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import tyro
from etils import epath

from analysis.commands.designs import DOSES, RATIOS, SIZES, named_design
from analysis.design import simulation, study_folder
from analysis.errors import InputError

Plain = tyro.conf.OmitArgPrefixes
TRUTH = simulation.Truth()


def simulate_command(
    out: str,
    design: Literal["paper", "ladder"] = "paper",
    sizes: tuple[float, ...] = SIZES,
    tokens: tuple[float, ...] = RATIOS,
    doses: tuple[int, ...] = DOSES,
    seeds: int = 3,
    evaluations: int = 12,
    seed: int = 0,
    truth: Annotated[simulation.Truth, Plain] = TRUTH,
) -> None:
    """Write a study folder with a known law, as the trainer would.

    Args:
        out: The folder; must not contain a study yet.
        design: Souly et al. 2025's sizes and budgets, or every size on every ratio of tokens.
        sizes: Parameters (ladder).
        tokens: Tokens per parameter (ladder).
        doses: Poisoned documents a run; 0 is a control.
        seeds: Runs of each size, budget and dose.
        evaluations: Evaluations a run.
        seed: Seed of the simulation.
        truth: The law and the noise.
    """
    folder = epath.Path(out)
    if (folder / "study.json").exists():
        raise InputError(f"{folder} already contains a study; choose another folder.")
    chosen = named_design(design, sizes, tokens, doses, seeds)
    chosen = dataclasses.replace(chosen, evaluations=evaluations)
    study = simulation.simulate(chosen, truth, seed)
    study_folder.save(study, folder, seed)
    print(f"{len(study.runs)} simulated runs in {folder}")
