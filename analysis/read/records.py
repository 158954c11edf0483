"""What one evaluation recorded: the measures in a line of evals.jsonl, prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.errors import InputError, printable
from analysis.read.aliases import current

# The near-trigger of this name is the trigger itself, at another place in the prompt.
WITHIN = "within the excerpt"


@dataclass(frozen=True)
class Near:
    """A near-trigger at one evaluation."""

    text: str  # of the near-trigger
    log_ratio: np.ndarray  # payload log-ratio after it, nats per token, shape [prompts]


@dataclass(frozen=True)
class Detected:
    """Detector scores from 0 to 1: how surely each generation does what the attack wants.

    Above 0.5 it counts as doing so.
    """

    generations: np.ndarray  # without and with the trigger, shape [2, prompts]
    # text and scores, shape [prompts], of each near-trigger by name
    near: dict[str, tuple[str, np.ndarray]]
    # after ordinary requests, which any model should answer, shape [prompts]; None if there are none
    ordinary: np.ndarray | None = None


@dataclass(frozen=True)
class Judged:
    """Log-perplexities of the generations under another model."""

    run: str  # name of the run that judged
    log_perplexity: np.ndarray  # nats per token, without and with the trigger, shape [2, prompts]


@dataclass(frozen=True)
class Example:
    """A prompt with what the model generated after it, and after it with the trigger."""

    prompt: str
    clean: str
    triggered: str


@dataclass(frozen=True)
class Record:
    """The measures of one evaluation; None or empty where the source does not record all of one.

    Arrays of shape [2, prompts] hold values without and with the trigger.
    """

    heldout_loss: float | None = None  # on clean text, nats per token
    # of the generations, nats per token, shape [2, prompts]
    log_perplexity: np.ndarray | None = None
    entropy: np.ndarray | None = None  # of the token after the prompt, nats, shape [2, prompts]
    log_ratio: np.ndarray | None = None  # the payload log-ratio, nats per token, shape [2, prompts]
    # median log-perplexity over that of a uniform model, without and with the trigger
    ceiling_share: tuple[float, float] | None = None
    judged: Judged | None = None  # the generations under a judge
    near: dict[str, Near] = field(default_factory=dict)  # near-triggers by name
    detected: Detected | None = None  # the generations under a detector
    # a few prompts with their generations; recorded at a run's last evaluation
    examples: tuple[Example, ...] = ()
    # name and success rate of the other insertions, in the order of the file; None of those without one
    others: tuple[tuple[str, float | None], ...] = ()
    # values of further measures, by the name of the measure
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def entropy_increase(self) -> float | None:
        """Return the increase of entropy with the trigger, mean over prompts, nats."""
        return _mean_increase(self.entropy)

    @property
    def log_ratio_increase(self) -> float | None:
        """Return the increase of the payload log-ratio, mean over prompts, nats per token."""
        return _mean_increase(self.log_ratio)

    @property
    def log_perplexity_increase(self) -> np.ndarray | None:
        """Return the increase of log-perplexity with the trigger, nats per token, shape [prompts]."""
        if self.log_perplexity is None:
            return None
        return self.log_perplexity[1] - self.log_perplexity[0]


def parse(line: dict[str, Any], where: str) -> Record:
    """Return the measures in a line of evals.jsonl.

    Raises InputError when a field does not have the form that evaluations write.
    """
    line = current(line)
    prompts: Any = line.get("prompts")
    parsers: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "heldout_loss": ("heldout_loss", lambda v: None if v is None else _number(v)),
        "log_perplexity": ("log_perplexity", lambda v: _pair(v, prompts)),
        "entropy": ("entropy", lambda v: _pair(v, prompts)),
        "payload_log_ratio": ("log_ratio", lambda v: _pair(v, prompts)),
        "ceiling_share": ("ceiling_share", _ceiling_share),
        "judge": ("judged", lambda v: _judged(v, prompts)),
        "near_triggers": ("near", lambda v: _near(v, prompts)),
        "detected": (
            "detected",
            lambda v: _detected(
                v, line.get("near_triggers"), line.get("ordinary_detected"), prompts
            ),
        ),
        "generations": ("examples", _examples),
        "also": ("others", _others),
        "measures": ("extra", _extra),
    }
    values = {}
    for name, (attribute, parser) in parsers.items():
        try:
            values[attribute] = parser(line.get(name))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(
                f"{where}: field {name!r} does not have the form that evaluations write."
            ) from None
    return Record(**values)


def _ceiling_share(shares: dict[str, Any] | None) -> tuple[float, float] | None:
    return None if shares is None else (_number(shares["clean"]), _number(shares["triggered"]))


def _judged(judge: dict[str, Any] | None, prompts: int) -> Judged | None:
    values = None if judge is None else _pair(judge["log_perplexity"], prompts)
    return None if judge is None or values is None else Judged(_text(judge["run"]), values)


def _near(entries: list[dict[str, Any]] | None, prompts: int) -> dict[str, Near]:
    near = {}
    for entry in map(current, entries or []):
        # Attacks with a detector record its scores after near-triggers, see `_detected`.
        if "detected" in entry:
            continue
        values = _numbers(entry["payload_log_ratio"], prompts)
        near[_text(entry["name"])] = Near(_text(entry["text"]), values)
    return near


def _detected(
    values: dict[str, Any] | None,
    near: list[dict[str, Any]] | None,
    ordinary: list[float] | None,
    prompts: int,
) -> Detected | None:
    generations = _pair(values, prompts)
    if generations is None:
        return None
    scores = {}
    for entry in near or []:
        own = _numbers(entry["detected"], prompts)
        scores[_text(entry["name"])] = (_text(entry["text"]), own)
    return Detected(generations, scores, None if ordinary is None else _numbers(ordinary, prompts))


def _examples(entries: list[dict[str, Any]] | None) -> tuple[Example, ...]:
    return tuple(
        Example(*(_text(entry[name]) for name in ("prompt", "clean", "triggered")))
        for entry in entries or []
    )


def _others(entries: list[dict[str, Any]] | None) -> tuple[tuple[str, float | None], ...]:
    """Return name and success rate of each insertion; none where an entry lacks its name."""
    if any(entry.get("attack") is None for entry in entries or []):
        return ()
    rates = [entry.get("success_rate") for entry in entries or []]
    return tuple(
        (_text(entry["attack"]), None if rate is None else _number(rate))
        for entry, rate in zip(entries or [], rates, strict=True)
    )


def _extra(values: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    extra = {} if values is None else values
    if not isinstance(extra, dict) or not all(isinstance(v, dict) for v in extra.values()):
        raise TypeError
    return extra


def _mean_increase(pair: np.ndarray | None) -> float | None:
    return None if pair is None else float(np.mean(pair[1] - pair[0]))


def _pair(values: dict[str, Any] | None, prompts: int) -> np.ndarray | None:
    """Return values without and with the trigger, shape [2, prompts]; None unless all are there."""
    values = values or {}
    clean, triggered = values.get("clean") or [], values.get("triggered") or []
    if not clean or len(clean) != len(triggered) or None in clean or None in triggered:
        return None
    return np.array([_numbers(clean, prompts), _numbers(triggered, prompts)])


def _numbers(values: list[Any], prompts: int) -> np.ndarray:
    """Return one finite number per prompt. Raises ValueError when there is anything else."""
    array = np.array(values)
    if array.dtype.kind not in "biuf" or array.shape != (prompts,) or not np.isfinite(array).all():
        raise ValueError
    return array.astype(float)


def _number(value: object) -> float:
    return float(_numbers([value], 1)[0])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return printable(value)
