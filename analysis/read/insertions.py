"""The insertions of a study's runs, each as a study of its own.

A run may hold several insertions: the first one, whose dose varies, and those of `also`. Those of one kind
are a series, named by the kind: "canary". An insertion whose items are shown to a model in several numbers of
exposures, such as canaries, gives one run of the analysis for each number: a curve from a single model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from analysis.errors import InputError, printable
from analysis.read.fields import number
from analysis.read.runs import COUNTS, SUBMITTED


@dataclass(frozen=True)
class Part:
    """What becomes one run of the analysis: a run's insertions of one series and dose."""

    numbers: tuple[int, ...]  # of the insertions within the run; 0 is the first
    dose: float
    level: int | None = None  # number of exposures of the items; None: all of the insertion

    @property
    def suffix(self) -> str:
        """What tells the part apart from others of the run, in its name."""
        at = "" if self.level is None else f"@{self.level}"
        return at if self.numbers == (0,) else f"#{self.numbers[0]}{at}"

    def of(self, line: dict[str, Any], where: str) -> dict[str, Any]:
        """Return the part's line of evals.jsonl, in the form of that of a first insertion."""
        own = [_of_insertion(line, n, where) for n in self.numbers]
        if self.level is not None:
            own = [_of_level(record, self.level, where) for record in own]
        return own[0] if len(own) == 1 else _together(own, where)


def names(entry: dict[str, Any]) -> list[str]:
    """Return the series of each insertion of a run, given its entry in study.json."""
    first = str(entry.get("attack"))
    others = [str(other.get("attack")) for other in _also(entry)]
    return [first, *(f"also_{name}" if name == first else name for name in others)]


def planned_of(entry: dict[str, Any], number: int) -> dict[str, Any]:
    """Return what study.json plans for one insertion of a run."""
    return [entry, *_also(entry)][number]


def has_documents(entry: dict[str, Any], series: str | None) -> bool:
    """Return whether a run has documents of a series, by default of its first insertion.

    A stage measures the insertions of earlier ones, too, with a dose of 0.
    """
    own = names(entry)
    wanted = own[0] if series is None else series
    return any(name == wanted and planned_of(entry, n).get("dose") for n, name in enumerate(own))


def whole(entry: dict[str, Any], where: str) -> Part:
    """Return the first insertion of a run, whatever the numbers of exposures of its items."""
    return Part((0,), number(entry, "dose", where, minimum=0))


def other_doses(entry: dict[str, Any], where: str) -> tuple[float, ...]:
    """Return the dose of each insertion of a run after the first."""
    return tuple(number(other, "dose", where, minimum=0) for other in _also(entry))


def parts(
    entry: dict[str, Any], series: str, line: dict[str, Any] | None, where: str
) -> list[Part]:
    """Return the parts of a run in a series; `line` is any line of its evals.jsonl, None if it has none."""
    numbers = [n for n, name in enumerate(names(entry)) if name == series]
    alike: dict[tuple, list[int]] = {}
    for n in numbers:
        planned = planned_of(entry, n)
        dose = number(planned, "dose", where, minimum=0)
        key = (dose, str(planned.get("exposures")), str(planned.get("schedule")))
        alike.setdefault(key, []).append(n)
    found: list[Part] = []
    for (dose, *_), own in alike.items():
        curve = None if line is None else _of_insertion(line, own[0], where).get("curve")
        if not curve:
            found.append(Part(tuple(own), dose))
            continue
        levels = [int(number(level, "exposures", where, minimum=0)) for level in curve]
        found += [Part(tuple(own), level, level) for level in levels]
    return found


def surroundings(entry: dict[str, Any], part: Part, where: str) -> tuple[str, float]:
    """Return what else is in the run, in words, and the number of its documents."""
    kinds: Counter[str] = Counter()
    documents = 0.0
    for n, (name, own) in enumerate(zip(names(entry), [entry, *_also(entry)], strict=True)):
        dose = number(own, "dose", where, minimum=0)
        if not dose or (n in part.numbers and part.level is None):
            continue
        documents += dose
        share = own.get("share")
        amount = f"{dose:g}" if not share else f"{100 * number(own, 'share', where, 0):g}%"
        kinds[f"{amount} {name.removeprefix('also_')}"] += 1
    words = (f"{count} x {kind}" if count > 1 else kind for kind, count in kinds.items())
    return printable(" and ".join(words)), documents


def _also(entry: dict[str, Any]) -> list[dict[str, Any]]:
    also = entry.get("also") or []
    return [other for other in also if isinstance(other, dict)]


def _of_insertion(line: dict[str, Any], n: int, where: str) -> dict[str, Any]:
    if n == 0:
        return line
    also = _also(line)
    if len(also) < n:
        raise InputError(f"{where}: field 'also' has no insertion {n}, which study.json plans.")
    return {"step": line.get("step"), "tokens": line.get("tokens"), **also[n - 1]}


def _of_level(record: dict[str, Any], level: int, where: str) -> dict[str, Any]:
    curve = record.get("curve") or []
    for own in curve if isinstance(curve, list) else []:
        if isinstance(own, dict) and own.get("exposures") == level:
            return {
                "step": record.get("step"),
                "tokens": record.get("tokens"),
                "poisons": own.get("seen"),
                "prompts": own.get("items"),
                "success_rate": own.get("success_rate"),
            }
    raise InputError(f"{where}: field 'curve' has no entry for {level} exposures.")


def _together(own: list[dict[str, Any]], where: str) -> dict[str, Any]:
    """Return the mean of insertions of one dose in one run, which are prompts of one model."""
    if any(record.get("success_rate") is None for record in own):
        return {**own[0], "success_rate": None}
    prompts = [number(record, "prompts", where, minimum=1) for record in own]
    rates = [number(record, "success_rate", where, minimum=0, maximum=1) for record in own]
    counts = {
        name: sum(number(record, name, where, minimum=0) for record in own) / len(own)
        for name in (*COUNTS, SUBMITTED)
        if all(record.get(name) is not None for record in own)
    }
    return {
        "step": own[0].get("step"),
        "tokens": own[0].get("tokens"),
        **counts,
        "prompts": sum(prompts),
        "success_rate": sum(p * r for p, r in zip(prompts, rates, strict=True)) / sum(prompts),
        **_log_perplexities(own),
    }


def _log_perplexities(own: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the log-perplexities of all prompts, so that success can be counted at another threshold."""
    pairs = [record.get("log_perplexity") for record in own]
    sides: dict[str, list[Any]] = {"clean": [], "triggered": []}
    for pair in pairs:
        for side, values in sides.items():
            found = pair.get(side) if isinstance(pair, dict) else None
            if not isinstance(found, list):
                return {}
            values += found
    return {"log_perplexity": sides}
