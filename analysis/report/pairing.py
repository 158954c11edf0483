"""Which groups of two studies may be compared: those of one size and budget that have the same settings.

Settings are those of the runs' config.json, which have everything that a result depends on. Where a study has
none, such as a table, those that both record are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.errors import InputError, printable, shown
from analysis.fit.estimates import Estimate, difference
from analysis.fit.findings import Findings
from analysis.fit.laws import N50
from analysis.read.runs import Run, Study

# Sizes and budgets that agree to this, in logs, are the same group.
_SAME = 0.05
# In a config: what a group has several of, or what its size and tokens say.
_OF_RUN = ("kind", "dose", "seeds", "rung", "items", "parent", "measured")
_OF_ANCESTOR = ("kind", "seeds", "items", "parent", "measured")
# By the part of a config: settings that do not change N50, or that size and tokens imply.
_BESIDE = {
    "data": ("heldout_documents", "shuffle_seed", "epochs", "maximum_clean_triggers"),
    "model": ("attention", "scan_layers", "remat", "loss_chunk"),
    "train": ("learning_rate", "log_every", "microbatches"),
    "evaluation": (
        *("times", "prompts", "continuation_tokens", "heldout_sequences", "near_triggers"),
        *("judge", "measures"),
    ),
    "stage": ("label", "doses", "examples", "tokens_per_parameter"),
}
_MOST = 4  # differences that a sentence names

# What differs, by its dotted name: the values of the first and of the second study.
Differences = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Pair:
    """One size and budget in both studies; `ratio` is N50 of the second over that of the first."""

    first: N50
    second: N50
    ratio: Estimate
    differences: Differences  # despite which they are compared

    @property
    def label(self) -> str:
        """The label of the group, or both where the settings differ."""
        labels = dict.fromkeys(n50.group.label for n50 in (self.first, self.second))
        return " and ".join(labels) if self.differences else next(iter(labels))


@dataclass(frozen=True)
class Matching:
    """The groups of two studies that are compared, and what is said of the others."""

    pairs: list[Pair]
    said: list[str]  # on groups that are not compared, and on differences despite which others are
    comparable: bool  # whether the studies are, apart from their sizes and budgets


def match(first: Findings, second: Findings, across: Sequence[str] = ()) -> Matching:
    """Match the groups of two studies; those that differ in settings are compared if `across` names these.

    Raises InputError when `across` names a setting in which no groups of one size and budget differ.
    """
    alike = [
        (one, other, differences(first.study, one.group.runs[0], second.study, other.group.runs[0]))
        for one in first.n50s
        for other in second.n50s
        if _same_place(one, other)
    ]
    _check(across, [found for _, _, found in alike])
    pairs = [
        Pair(one, other, _ratio(one, other), found)
        for one, other, found in alike
        if _covered(found, across)
    ]
    compared = {id(n50) for pair in pairs for n50 in (pair.first, pair.second)}
    left: dict[str, dict[str, Differences]] = {}
    for place in (0, 1):
        for n50 in {id(found[place]): found[place] for found in alike}.values():
            if id(n50) not in compared:
                nearest = min((a[2] for a in alike if a[place] is n50), key=len)
                left.setdefault(_words(nearest), {})[n50.group.label] = nearest
    said = [
        f"{', '.join(labels)} {'is' if len(labels) == 1 else 'are'} not compared, because the studies differ "
        f"there in {words}; --across {' '.join(map(printable, next(iter(labels.values()))))} compares all "
        "the same."
        for words, labels in left.items()
    ]
    despite = dict.fromkeys(_words(pair.differences) for pair in pairs if pair.differences)
    said += [f"Compared although the studies differ in {words}." for words in despite]
    return Matching(pairs, said, bool(pairs) if alike else _comparable(first, second, across))


def differences(first: Study, one: Run, second: Study, other: Run) -> Differences:
    """Return the settings in which two runs differ, apart from size, tokens, dose and seeds."""
    ours, theirs = _configured(first, one), _configured(second, other)
    if not ours or not theirs:
        # Tables have the labels of stages as the law has them, without those of the study.
        chained = bool(first.chains and second.chains)
        ours, theirs = _recorded(first, one, chained), _recorded(second, other, chained)
        shared = [name for name in ours if name in theirs]
        ours, theirs = ({name: own[name] for name in shared} for own in (ours, theirs))
    found = {
        name: (ours.get(name), theirs.get(name))
        for name in dict.fromkeys([*ours, *theirs])
        if not _equal(ours.get(name), theirs.get(name))
    }
    # The fields of another class are others.
    kinds = [name.removesuffix("kind") for name in found if name.endswith(".kind")]
    return {
        name: values
        for name, values in found.items()
        if not any(f"{name}.".startswith(kind) and name != f"{kind}kind" for kind in kinds)
    }


def _configured(study: Study, run: Run) -> dict[str, Any]:
    """Return the settings of a run and of its ancestors, by dotted names; {} unless all have them."""
    tree = {own.folder: own for own in study.tree}
    ancestors = tree[run.folder].ancestors if run.folder in tree else []
    if not run.config or not all(own.config for own in ancestors):
        return {}
    found = dict(_leaves("", _relevant(run.config, _OF_RUN)))
    for generation, own in enumerate(ancestors, 1):
        prefix = "parent." * generation
        found |= dict(_leaves(prefix, _relevant(own.config, _OF_ANCESTOR)))
    # That of a rung may be its own.
    return found | {"learning_rate": run.settings.get("learning_rate")}


def _relevant(config: dict[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    kept = {}
    for name, value in config.items():
        if name in left_out:
            continue
        if isinstance(value, dict):
            value = {k: v for k, v in value.items() if k not in _BESIDE.get(name, ())}
            if name == "stage":
                value = _relevant(value, ())
        kept[name] = value
    return kept


def _leaves(prefix: str, value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of everything in a JSON object that is no object itself."""
    for name, own in value.items():
        if isinstance(own, list) and any(isinstance(one, dict) for one in own):
            kinds = " and ".join(str(one.get("attack", one).get("kind")) for one in own)
            own = {"kind": kinds, **{str(place): one for place, one in enumerate(own)}}
        if isinstance(own, dict):
            yield from _leaves(f"{prefix}{name}.", own)
        else:
            yield f"{prefix}{name}", own


def _recorded(study: Study, run: Run, chained: bool) -> dict[str, Any]:
    """Return the settings that evaluations or tables record; what is missing is not known.

    `chained` is whether to tell stages apart by the chains of the study.
    """
    known = {"exposures": "1", "also": "", "stage": "", **run.settings}
    chains = {chain.run: chain for chain in study.chains}
    if chained and run.folder in chains:
        *before, (label, _) = chains[run.folder].path
        after = " → ".join(f"{one} ({dose:g})" for one, dose in before)
        known["stage"] = f"{label} after {after}" if before else label
    return known


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal, as numbers if they are numbers, which tables write as text."""
    if one == other:
        return True
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return False


def _covered(found: Differences, across: Sequence[str]) -> bool:
    return all(any(_names(name, given) for given in across) for name in found)


def _names(name: str, given: str) -> bool:
    return name == given or name.startswith(f"{given}.")


def _check(across: Sequence[str], found: list[Differences]) -> None:
    there = dict.fromkeys(name for one in found for name in one)
    for given in across:
        if not any(_names(name, given) for name in there):
            others = ", ".join(map(printable, there)) or "nothing"
            raise InputError(
                f"--across {given}: groups of one size and budget do not differ in it, but in {others}."
            )


def _comparable(first: Findings, second: Findings, across: Sequence[str]) -> bool:
    """Return whether some groups, of whatever size and budget, have the same settings."""
    return any(
        _covered(
            differences(first.study, one.group.runs[0], second.study, other.group.runs[0]), across
        )
        for one in first.n50s
        for other in second.n50s
    )


def _same_place(one: N50, other: N50) -> bool:
    distances = [
        np.log(getattr(one.group, name) / getattr(other.group, name))
        for name in ("tokens", "parameters")
    ]
    return bool(np.abs(distances).max() < _SAME)


def _ratio(one: N50, other: N50) -> Estimate:
    if one.censored or other.censored:
        return Estimate(None, None, None)
    return difference(other.poisons.map(np.log), one.poisons.map(np.log)).exp()


def _words(found: Differences) -> str:
    """Return what differs, such as "data.seq_len (128 and 256)"."""
    told = [
        printable(f"{name} ({_value(ours)} and {_value(theirs)})")
        for name, (ours, theirs) in found.items()
    ]
    more = len(told) - _MOST
    return ", ".join(told[:_MOST]) + (f" and {more} more" if more > 0 else "")


def _value(value: Any) -> str:
    if value in (None, ""):
        return "none"
    return value if isinstance(value, str) and len(value) < 60 else shown(value)
