"""A study as analysis sees it: its runs, their evaluations, and what is missing."""

from dataclasses import dataclass, field, replace

import numpy as np

from analysis.errors import InputError
from analysis.measures import Measured

# Columns of `Run.evaluations` that count poison in one way or another; those a source does not
# record are absent from the dict.
COUNTS = ("poisons", "distinct_poisons", "poison_tokens", "poisoned_steps")
# Settings that split runs of one size and token budget into separate experiments.
SETTINGS = ("attack", "schedule", "learning_rate", "batch_rows", "row_tokens")


@dataclass(frozen=True)
class Run:
    """One training run and what was measured along it.

    Attributes:
      name: the run's name, unique in its study.
      size: label of the model size.
      parameters: number of parameters, N.
      tokens: training tokens of the whole run, T.
      dose: poisoned documents planned for the whole run.
      seed: label of the seeds; runs of one group with the same label are paired.
      seeds: the seeds set apart by what they draw, e.g. {"weights": 0, "order": 0, "poisons": 0}.
      settings: values of the `SETTINGS` that the source records.
      finished: whether the run was trained to its end.
      evaluations: equally long float arrays, in order of training: "tokens" (seen, all), one for
        each of `COUNTS` (seen), "prompts", and "successes" (of the prompts; need not be whole).
      rises: of each evaluation, the rise of perplexity of its prompts, shape [prompts]; empty where
        a source does not record them.
      measured: what else each evaluation recorded; empty where a source has no more.
    """

    name: str
    size: str
    parameters: float
    tokens: float
    dose: float
    seed: str
    evaluations: dict[str, np.ndarray]
    seeds: dict[str, object] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    finished: bool = True
    rises: tuple[np.ndarray, ...] = ()
    measured: tuple[Measured, ...] = ()

    @property
    def success(self) -> np.ndarray:
        """Share of prompts hit at each evaluation, shape [evaluations]."""
        return self.evaluations["successes"] / self.evaluations["prompts"]

    def log_ratio_rise(self, payload: str) -> np.ndarray | None:
        """That of `Measured` at each evaluation, shape [evaluations]; None unless all record it."""
        rises = [one.log_ratio_rise(payload) for one in self.measured]
        return np.array(rises) if rises and None not in rises else None


@dataclass(frozen=True)
class Group:
    """Runs that differ in dose and seed alone: one size, one token budget, one setting."""

    label: str
    size: str
    parameters: float
    tokens: float
    setting: str
    runs: tuple[Run, ...]

    @property
    def doses(self) -> list[float]:
        return sorted({run.dose for run in self.runs})

    @property
    def seeds(self) -> list[str]:
        return sorted({run.seed for run in self.runs})


@dataclass(frozen=True)
class Study:
    """Runs that have at least one evaluation, and notes on those that have none or not all."""

    name: str
    hash: str
    versions: dict[str, str]
    runs: tuple[Run, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def groups(self) -> list[Group]:
        """The runs by (setting, parameters, tokens), small to large."""
        varied = _varied_settings(self.runs)
        budgets: dict[str, set[float]] = {}
        for run in self.runs:
            budgets.setdefault(run.size, set()).add(run.tokens)
        members: dict[tuple, list[Run]] = {}
        for run in self.runs:
            setting = ", ".join(f"{name} {run.settings.get(name)}" for name in varied)
            members.setdefault((setting, run.parameters, run.tokens), []).append(run)
        groups = []
        for (setting, parameters, tokens), runs in sorted(members.items()):
            size = runs[0].size
            label = f"{size}, {quantity(tokens)} tokens" if len(budgets[size]) > 1 else size
            groups.append(
                Group(
                    label=f"{label} ({setting})" if setting else label,
                    size=size,
                    parameters=parameters,
                    tokens=tokens,
                    setting=setting,
                    runs=tuple(sorted(runs, key=lambda r: (r.seed, r.dose, r.name))),
                )
            )
        return groups


def at_threshold(study: Study, threshold: float) -> Study:
    """The study as if a prompt were hit when its perplexity rises by more than `threshold`.

    Raises:
      InputError: when the study does not record the rises.
    """
    for run in study.runs:
        if not run.rises:
            raise InputError(
                f"Run {run.name!r} does not record the perplexities of its prompts, so success "
                "cannot be counted at another threshold."
            )
    runs = []
    for run in study.runs:
        share = np.array([np.mean(rise > threshold) for rise in run.rises])
        successes = share * run.evaluations["prompts"]
        runs.append(replace(run, evaluations=run.evaluations | {"successes": successes}))
    note = f"Success is counted anew: a prompt is hit when its perplexity rises by {threshold:g}."
    return replace(study, runs=tuple(runs), notes=(*study.notes, note))


def quantity(value: float) -> str:
    """A count for people: 90272 -> '90.3k', 1.8e6 -> '1.8M', 12e9 -> '12B'."""
    for unit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.3g}"


def columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """Rows -> arrays, of the columns that every row has (at least 'tokens')."""
    shared = [name for name in rows[0] if all(name in row for row in rows)] if rows else ["tokens"]
    return {name: np.array([row[name] for row in rows], float) for name in shared}


def check_distinct(runs: list[Run]) -> None:
    """Two runs with the same everything, or one folder listed twice, would count one observation twice."""
    seen: dict[tuple, str] = {}
    names: set[str] = set()
    for run in runs:
        if run.name in names:
            raise InputError(
                f"Two runs are named {run.name!r}; give different runs different names."
            )
        names.add(run.name)
        settings = tuple(sorted((k, str(v)) for k, v in run.settings.items()))
        seeds = tuple(sorted(run.seeds.items()))
        key = (run.parameters, run.tokens, run.dose, run.seed, seeds, settings)
        if key in seen:
            raise InputError(
                f"Runs {seen[key]!r} and {run.name!r} are the same configuration (size, tokens, "
                f"dose {run.dose:g}, seed {run.seed}, settings); remove one or set them apart."
            )
        seen[key] = run.name


def _varied_settings(runs: tuple[Run, ...]) -> list[str]:
    """Settings that differ between runs of one size and budget (rather than with the size)."""
    values: dict[tuple, set] = {}
    for run in runs:
        for name in SETTINGS:
            key = (name, run.parameters, run.tokens)
            values.setdefault(key, set()).add(str(run.settings.get(name)))
    return [n for n in SETTINGS if any(k[0] == n and len(v) > 1 for k, v in values.items())]
