"""Decay along a chain: how fast an attack is forgotten in a clean stage, such as fine-tuning.

A stage is clean if its dose is 0. Its runs are followed from the last evaluation of their parent, over the
tokens of the stage, if an ancestor has poisons of the attack that the stage measures. The level of a run is
what it has above its control: the runs with the same seed that went through the same stages without any
poison, or else those of other seeds. Half-lives are those of `measures.decay`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from analysis.measures.base import Measure
from analysis.measures.blocks import Block, Paragraph
from analysis.measures.decay import (
    LEVELS,
    Decay,
    Trace,
    decay_of,
    summary_of,
    table_of,
    traced,
    values_of,
)
from analysis.read.runs import Run, Study

# What a clean run is compared with: its size, its parameters, and the stages that it went through.
_Path = tuple[str, float, str]


def find_stage_decays(study: Study) -> list[Decay]:
    """Return the decays by level and stage, in the order of the study, for each dose of the ancestors.

    The group of a decay is the size and the path: "90k, chat-d0 after 20x-d500+clean-d0".
    """
    clean = [run for run in study.tree if run.parent is not None and run.dose == 0]
    found = []
    for measure in LEVELS:
        groups: dict[tuple[str, float], list[Trace]] = {}
        for run in clean:
            if (dose := _planted(run)) and (trace := _follow(run, clean, measure)):
                groups.setdefault((_label(run), dose), []).append(trace)
        found += [
            decay_of(label, dose, measure, tuple(traces))
            for (label, dose), traces in groups.items()
        ]
    return found


def _follow(run: Run, clean: list[Run], measure: str) -> Trace | None:
    curve = _curve(run, measure)
    if curve is None:
        return None
    tokens, values = curve
    unpoisoned = [other for other in clean if not any(one.dose for one in other.ancestors)]
    controls = [other for other in unpoisoned if _path(other) == _path(run)]
    paired = [other for other in controls if other.seed == run.seed] or controls
    curves = [own for other in paired if (own := _curve(other, measure)) is not None]
    floor = np.mean([np.interp(tokens, *own) for own in curves], axis=0) if curves else 0.0
    return traced(run, tokens, values - floor, measure)


def _curve(run: Run, measure: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return tokens of the stage and values, from the parent's last evaluation on, each [evaluations + 1].

    None if either is not recorded, or if the parent was measured on another attack.
    """
    parent, own = run.parent, values_of(run, measure)
    if parent is None or own is None or _attack(parent) != _attack(run):
        return None
    before = values_of(parent, measure)
    if before is None:
        return None
    return np.append(0.0, run.evaluations["tokens"]), np.append(before[-1], own)


def _planted(run: Run) -> float:
    """Return the dose of the ancestors, of the attack that the run is measured on."""
    return sum(one.dose for one in run.ancestors if _attack(one) == _attack(run))


def _attack(run: Run) -> str | None:
    return run.settings.get("attack")


def _label(run: Run) -> str:
    """Return the size of a run, its stage, and what came before, without the seed."""
    root, *stages = run.name.removeprefix(f"{run.size}-").split("+")
    before = "+".join([re.sub(r"-s[^-]*$", "", root), *stages[:-1]])
    return f"{run.size}, {stages[-1]} after {before}"


def _path(run: Run) -> _Path:
    """Return what runs have in common that differ in seeds and doses alone."""
    return run.size, run.parameters, re.sub(r"-d\d+", "", _label(run))


class StageDecayMeasure(Measure[list[Decay]]):
    """How fast the attack is forgotten in clean stages."""

    name = "stage_decay"
    order = 51

    def find(self, study: Study) -> list[Decay] | None:
        return find_stage_decays(study) or None

    def summarise(self, found: list[Decay]) -> list[dict[str, Any]]:
        return summary_of(found)

    def blocks(self, found: list[Decay]) -> list[Block]:
        return [
            Paragraph(
                "How fast the attack is forgotten in stages without poisons, from the end of the stage "
                "before (levels above those of the same stages without any poison):"
            ),
            table_of(found, "stage"),
        ]
