"""What an evaluation recorded, prompt by prompt where it did."""

from dataclasses import dataclass, field

import numpy as np

from analysis.errors import InputError
from analysis.words import printable

# What an attack has behind its trigger, by the field of `Measured` that has its log-ratio: fresh
# gibberish, or what another attack than denial of service calls its payload.
PAYLOADS = ("gibberish", "payload")
# A near-trigger of this name is the trigger itself, at another place.
WITHIN = "within the excerpt"


@dataclass(frozen=True)
class Near:
    """A near-trigger at one evaluation: its text, and values of shape [prompts] behind it."""

    text: str
    entropy: np.ndarray
    gibberish: np.ndarray


@dataclass(frozen=True)
class Detected:
    """How surely each response does what the attack wants, 0 to 1; above 0.5 it does.

    Attributes:
      responses: without and with the trigger, [2, prompts].
      near: of near-triggers by name, their text and values of shape [prompts].
    """

    responses: np.ndarray
    near: dict[str, tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Measured:
    """One evaluation; None and empty where a source does not record something whole.

    Attributes:
      heldout_loss: on clean text, nats a token.
      log_perplexity: of the responses, nats a token: without and with the trigger, [2, prompts].
      entropy: of the token after the prompt, nats, [2, prompts].
      gibberish: by how much likelier fresh gibberish is than the true continuation, nats a token,
        [2, prompts].
      payload: likewise, of what another attack has behind its trigger.
      ceiling: median log-perplexity over that of a uniform model, without and with the trigger.
      judge: the run that judged, and log-perplexities under it, [2, prompts].
      near: near-triggers by name.
      detected: what a detector makes of the responses.
    """

    heldout_loss: float | None = None
    log_perplexity: np.ndarray | None = None
    entropy: np.ndarray | None = None
    gibberish: np.ndarray | None = None
    payload: np.ndarray | None = None
    ceiling: tuple[float, float] | None = None
    judge: tuple[str, np.ndarray] | None = None
    near: dict[str, Near] = field(default_factory=dict)
    detected: Detected | None = None

    @property
    def entropy_rise(self) -> float | None:
        """By how much the trigger raises entropy, mean over prompts, nats."""
        return _mean_rise(self.entropy)

    def log_ratio_rise(self, payload: str) -> float | None:
        """By how much the trigger raises the log-ratio of one of `PAYLOADS`, mean over prompts, nats."""
        return _mean_rise(getattr(self, payload))

    @property
    def log_perplexity_rise(self) -> np.ndarray | None:
        """By how much the trigger raises log-perplexity, nats a token, shape [prompts]."""
        if self.log_perplexity is None:
            return None
        return self.log_perplexity[1] - self.log_perplexity[0]


def read(record: dict, where: str) -> Measured:
    """The measures in a line of evals.jsonl.

    Raises:
      InputError: where a field is not what an evaluation records.
    """
    prompts = record.get("prompts")
    readers = {
        "heldout_loss": (lambda value: None if value is None else _number(value), "heldout_loss"),
        "log_perplexity": (lambda values: _pair(values, prompts), "log_perplexity"),
        "entropy": (lambda values: _pair(values, prompts), "entropy"),
        "gibberish_log_ratio": (lambda values: _pair(values, prompts), "gibberish"),
        "payload_log_ratio": (lambda values: _pair(values, prompts), "payload"),
        "ceiling_share": (_ceiling, "ceiling"),
        "judge": (lambda judge: _judge(judge, prompts), "judge"),
        "near_triggers": (lambda entries: _near(entries, prompts), "near"),
        "detected": (lambda values: _detected(values, record), "detected"),
    }
    values = {}
    for name, (reader, attribute) in readers.items():
        try:
            values[attribute] = reader(record.get(name))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(f"{where}: field {name!r} is not as an evaluation has it.") from None
    return Measured(**values)


def _ceiling(shares: dict | None) -> tuple[float, float] | None:
    return None if shares is None else (_number(shares["clean"]), _number(shares["triggered"]))


def _judge(judge: dict | None, prompts: int) -> tuple[str, np.ndarray] | None:
    judged = None if judge is None else _pair(judge["log_perplexity"], prompts)
    return None if judged is None else (_text(judge["run"]), judged)


def _near(entries: list[dict] | None, prompts: int) -> dict[str, Near]:
    near = {}
    for entry in entries or []:
        if "detected" in entry:
            continue
        values = [_numbers(entry[name], prompts) for name in ("entropy", "gibberish_log_ratio")]
        near[_text(entry["name"])] = Near(_text(entry["text"]), *values)
    return near


def _detected(values: dict | None, record: dict) -> Detected | None:
    prompts = record.get("prompts")
    responses = _pair(values, prompts)
    if responses is None:
        return None
    near = {}
    for entry in record.get("near_triggers") or []:
        values = _numbers(entry["detected"], prompts)
        near[_text(entry["name"])] = (_text(entry["text"]), values)
    return Detected(responses, near)


def _mean_rise(pair: np.ndarray | None) -> float | None:
    return None if pair is None else float(np.mean(pair[1] - pair[0]))


def _pair(values: dict | None, prompts: int) -> np.ndarray | None:
    """Values without and with the trigger, [2, prompts]; None unless all are there."""
    values = values or {}
    clean, triggered = values.get("clean") or [], values.get("triggered") or []
    if not clean or len(clean) != len(triggered) or None in clean or None in triggered:
        return None
    return np.array([_numbers(clean, prompts), _numbers(triggered, prompts)])


def _numbers(values: list, prompts: int) -> np.ndarray:
    """A finite number a prompt; raises ValueError where there is something else."""
    array = np.array(values)
    if array.dtype.kind not in "biuf" or array.shape != (prompts,) or not np.isfinite(array).all():
        raise ValueError
    return array.astype(float)


def _number(value) -> float:
    return float(_numbers([value], 1)[0])


def _text(value) -> str:
    if not isinstance(value, str):
        raise TypeError
    return printable(value)
