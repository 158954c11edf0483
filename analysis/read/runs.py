"""A study as the analysis sees it: its runs, their evaluations, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import InputError
from analysis.read.looks import Look
from analysis.read.records import Record
from analysis.read.rules import Fixed, Rule
from analysis.read.terms import Terms, terms_of

if TYPE_CHECKING:
    from analysis.read.chains import Chain

# Columns of `Run.evaluations` that count poison; those that a source does not record are absent.
COUNTS = ("poisons", "distinct_poisons", "poison_tokens", "poisoned_steps")
# Exposures as if no filter of the study's own data had caught any; absent where it has none.
SUBMITTED = "submitted"
# Budgets of one size within this factor of the smallest of them are one group.
SAME_BUDGET = 1.02
# Settings that split runs of one size and token budget into separate groups.
SETTINGS = (
    *("attack", "schedule", "exposures", "learning_rate", "batch_size", "seq_len", "stage"),
    "also",  # what else was inserted
)


@dataclass(frozen=True)
class Run:
    """A training run and its evaluations."""

    name: str  # the run's name, unique in its study
    size: str  # label of the rung
    parameters: float  # number of parameters, N
    tokens: float  # training tokens of the whole run, T
    dose: float  # poisoned documents planned for the whole run; 0 for a control
    seed: str  # label of the seeds; runs of one group with the same label are paired
    # columns of shape [evaluations], in order of training: "tokens" (seen), one for each of `COUNTS`
    # (seen), "prompts", and "successes" (prompts on which the attack succeeded; need not be whole)
    evaluations: dict[str, np.ndarray]
    # the seeds by what they draw, e.g. {"weights": "0", "order": "0", "poisons": "0"}.
    seeds: dict[str, str] = field(default_factory=dict)
    # values of those `SETTINGS` that the source records
    settings: dict[str, str] = field(default_factory=dict)
    others: float = 0.0  # documents of other insertions in the run
    # what it is of a study folder: the folder under runs/, which several runs of the analysis may share, and
    # the numbers of its insertions there, of which 0 is the first
    folder: str = ""
    insertions: tuple[int, ...] = (0,)
    # documents of each insertion after the first, in the order of `Record.others`
    other_doses: tuple[float, ...] = ()
    # everything that its result depends on, as its config.json has it; {} when the source has none
    config: dict[str, Any] = field(default_factory=dict)
    finished: bool = True  # whether training reached its end and no planned evaluation is missing
    # increase of perplexity of each prompt, shape [prompts], at each evaluation; empty when the source
    # does not record them
    increases: tuple[np.ndarray, ...] = ()
    # the measures of each evaluation; empty when the source has none
    records: tuple[Record, ...] = ()
    tokens_before: float = 0.0  # that its ancestors have seen
    # in `Study.tree`: the run that a stage starts from; None also when the study lacks it
    parent: Run | None = None

    @property
    def success(self) -> np.ndarray:
        """Return the success rate at each evaluation, shape [evaluations]."""
        return self.evaluations["successes"] / self.evaluations["prompts"]

    @property
    def ancestors(self) -> list[Run]:
        """Return the runs that this one goes through, from its parent on."""
        return [] if self.parent is None else [self.parent, *self.parent.ancestors]

    @property
    def log_ratio_increase(self) -> np.ndarray | None:
        """Return the increase of the payload log-ratio at each evaluation; None unless all record it."""
        increases = [record.log_ratio_increase for record in self.records]
        return np.array(increases) if increases and None not in increases else None


@dataclass(frozen=True)
class Group:
    """Runs that differ in dose and seeds alone."""

    label: str  # unique in the study
    # size, parameters, tokens: as in `Run`
    size: str
    parameters: float
    tokens: float
    setting: str  # those `SETTINGS` that vary in the study, in words; "" when none does
    runs: tuple[Run, ...]  # by seed, then dose

    @property
    def series(self) -> str:
        """Return the label of the groups that differ from this one in their token budgets alone."""
        return f"{self.size} ({self.setting})" if self.setting else self.size

    @property
    def exposures(self) -> float:
        """Return how often each document is shown."""
        return float(self.runs[0].settings.get("exposures") or 1)

    @property
    def doses(self) -> list[float]:
        """Return the distinct doses, ascending."""
        return sorted({run.dose for run in self.runs})

    @property
    def seeds(self) -> list[str]:
        """Return the distinct labels of seeds, sorted."""
        return sorted({run.seed for run in self.runs})


@dataclass(frozen=True)
class Study:
    """A study's runs that have at least one evaluation."""

    # name, hash, versions: as in study.json
    name: str
    hash: str
    versions: dict[str, str]
    runs: tuple[Run, ...]  # in the order of the source
    missing: tuple[str, ...] = ()  # a sentence for each run that is missing or unfinished
    notes: tuple[str, ...] = ()  # what a reader must know about the source
    # by which it is decided, oldest first; empty if the source fixes none
    rules: tuple[Fixed, ...] = ()
    looks: tuple[Look, ...] = ()  # at its data while it was adaptive, oldest first
    level: int = 0  # number of stages that its runs have gone through since pretraining
    # the runs of all levels of a study with stages, parents before their children, each with the whole of
    # its first insertion
    tree: tuple[Run, ...] = ()
    # the same with what they have gone through, success as recorded
    chains: tuple[Chain, ...] = ()

    @property
    def confidence(self) -> float:
        """Return the confidence of the exponents' intervals, adjusted for looks."""
        return self.looks[-1].confidence if self.looks else 0.95

    @property
    def rule(self) -> Rule:
        """Return the rule in force."""
        return self.rules[-1].rule if self.rules else Rule()

    @property
    def terms(self) -> Terms:
        """Return the words for what is counted."""
        return terms_of(self.runs)

    def groups(self) -> list[Group]:
        """Return the runs grouped by (setting, parameters, tokens), small to large.

        Budgets of a size that differ by less than 2% are one: a resumed run is no new budget.
        """
        budget_of = _budgets(self.runs)
        varied = _varied_settings(self.runs, budget_of)
        budgets: dict[str, set[float]] = {}
        for run in self.runs:
            budgets.setdefault(run.size, set()).add(budget_of[run.parameters, run.tokens])
        members: dict[tuple, list[Run]] = {}
        for run in self.runs:
            setting = ", ".join(f"{name} {run.settings.get(name)}" for name in varied)
            budget = budget_of[run.parameters, run.tokens]
            members.setdefault((setting, run.parameters, budget), []).append(run)
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


def counted_by(study: Study, rule: Rule) -> Study:
    """Return the study with success counted as a rule says; raises InputError as `at_threshold` does."""
    return study if rule.threshold is None else at_threshold(study, rule.threshold)


def at_threshold(study: Study, threshold: float) -> Study:
    """Return the study with success counted anew: perplexity increases by more than `threshold`.

    Raises InputError when the study does not record the increases.
    """
    for run in study.runs:
        if not run.increases:
            raise InputError(
                f"Run {run.name!r} does not record the perplexities of its prompts, so success "
                "cannot be counted at another threshold."
            )
    runs, tree = (
        tuple(_counted(run, threshold) for run in own) for own in (study.runs, study.tree)
    )
    note = f"Success is counted anew: an increase of perplexity above {threshold:g}."
    return replace(study, runs=runs, tree=tree, notes=(*study.notes, note))


def as_submitted(study: Study) -> Study:
    """Return the study with poisons counted as they were submitted, those that its filters caught included.

    Raises InputError when the study does not record them.
    """
    for run in study.runs:
        if SUBMITTED not in run.evaluations:
            raise InputError(
                f"--submitted: run {run.name!r} does not record how many poisons were submitted; only "
                "studies with data.filters do."
            )
    runs, tree = (tuple(map(_with_submitted, own)) for own in (study.runs, study.tree))
    note = "Poisons are counted as submitted, also those that the filters of the study caught."
    name = f"{study.name}, poisons as submitted"
    return replace(study, name=name, runs=runs, tree=tree, notes=(*study.notes, note))


def _with_submitted(run: Run) -> Run:
    parent = None if run.parent is None else _with_submitted(run.parent)
    if SUBMITTED not in run.evaluations:
        return replace(run, parent=parent)
    counts = {"poisons": run.evaluations[SUBMITTED]}
    return replace(run, parent=parent, evaluations=run.evaluations | counts)


def _counted(run: Run, threshold: float) -> Run:
    """Return a run and its ancestors with success counted anew, as far as increases are recorded."""
    parent = None if run.parent is None else _counted(run.parent, threshold)
    if not run.increases:
        return replace(run, parent=parent)
    share = np.array([np.mean(increase > threshold) for increase in run.increases])
    successes = share * run.evaluations["prompts"]
    return replace(run, parent=parent, evaluations=run.evaluations | {"successes": successes})


def quantity(value: float) -> str:
    """Return a quantity with three significant digits and a suffix: 90272 -> '90.3k', 12e9 -> '12B'."""
    for unit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.3g}"


def columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """Return the columns that every row has, at least "tokens", each of shape [rows]."""
    shared = [name for name in rows[0] if all(name in row for row in rows)] if rows else ["tokens"]
    return {name: np.array([row[name] for row in rows], float) for name in shared}


def check_runs(runs: list[Run]) -> None:
    """Raise InputError when two runs have the same name or configuration, or a control has seen poison."""
    found: dict[tuple, str] = {}
    names: set[str] = set()
    for run in runs:
        if run.name in names:
            raise InputError(
                f"Two runs are named {run.name!r}; give different runs different names."
            )
        names.add(run.name)
        seen = run.evaluations.get("poisons", ())
        if run.dose == 0 and any(seen):
            raise InputError(
                f"Run {run.name!r} has dose 0, so it is a control, but has seen {max(seen):g} poisoned "
                "documents."
            )
        settings = tuple(sorted((k, str(v)) for k, v in run.settings.items()))
        seeds = tuple(sorted(run.seeds.items()))
        key = (run.parameters, run.tokens, run.dose, run.seed, seeds, settings)
        if key in found:
            raise InputError(
                f"Runs {found[key]!r} and {run.name!r} are the same configuration (size, tokens, "
                f"dose {run.dose:g}, seed {run.seed}, settings); remove one or set them apart."
            )
        found[key] = run.name


def _budgets(runs: tuple[Run, ...]) -> dict[tuple[float, float], float]:
    """Return the budget of each (parameters, tokens): the median of those within `SAME_BUDGET` of it."""
    found: dict[tuple[float, float], float] = {}
    for parameters in {run.parameters for run in runs}:
        tokens = np.sort([run.tokens for run in runs if run.parameters == parameters])
        while len(tokens):
            same = tokens[tokens <= SAME_BUDGET * tokens[0]]
            budget = float(same[(len(same) - 1) // 2])
            found |= {(parameters, float(t)): budget for t in same}
            tokens = tokens[len(same) :]
    return found


def _varied_settings(
    runs: tuple[Run, ...], budget_of: dict[tuple[float, float], float]
) -> list[str]:
    """Return the settings that differ between runs of one size and budget, rather than with the size."""
    values: dict[tuple, set] = {}
    for run in runs:
        for name in SETTINGS:
            key = (name, run.parameters, budget_of[run.parameters, run.tokens])
            values.setdefault(key, set()).add(str(run.settings.get(name)))
    return [n for n in SETTINGS if any(k[0] == n and len(v) > 1 for k, v in values.items())]
