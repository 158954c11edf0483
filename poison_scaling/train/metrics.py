"""Logs of a run as JSON lines that a resumed run continues without a trace."""

from __future__ import annotations

import numpy as np
from etils import epath

from poison_scaling import processes
from poison_scaling.files import in_bucket, json_line, read_lines, write_text


def lines(path: epath.Path, step: int) -> Lines | NoLines:
    """The log at `path`, to go on after `step`; only the first of several processes writes it."""
    return Lines(path, step) if processes.first() else NoLines()


class NoLines:
    """The log of a process that keeps none."""

    def write(self, record: dict) -> None: ...

    def keep(self) -> None: ...

    def close(self) -> None: ...


class Lines:
    """A .jsonl file of records with a "step". Opening it drops those after `step`, to be written again.

    A bucket has no appending: there the lines are held back until `keep`, which writes the file anew.
    """

    def __init__(self, path: epath.Path, step: int):
        kept = [record for record in read_lines(path) if record["step"] <= step]
        lines = list(map(json_line, kept))
        write_text(path, "".join(lines))
        self._path, self._lines, self._kept = path, lines, len(lines)
        self._file = None if in_bucket(path) else path.open("a")

    def write(self, record: dict) -> None:
        if self._file is None:
            self._lines.append(json_line(record))
        else:
            self._file.write(json_line(record))
            self._file.flush()

    def keep(self) -> None:
        """Have in the file what was written: before a checkpoint that will not write it again."""
        if self._file is None and len(self._lines) > self._kept:
            write_text(self._path, "".join(self._lines))
            self._kept = len(self._lines)

    def close(self) -> None:
        self.keep()
        if self._file is not None:
            self._file.close()


def number(value) -> float | None:
    """A float32 as the shortest decimal that gives it back; None where it is not finite."""
    value = np.float32(value)
    return float(str(value)) if np.isfinite(value) else None


def logged(metrics: dict, step: int, batch_tokens: int, learning_rate: float) -> dict:
    """The line of metrics.jsonl for the steps since the last one. Losses in nats a token.

    `metrics` is what `train_step` returned, on the host; loss, clean_loss and poison_loss are means over
    the tokens of the window (None where it has no such token), gradient_norm is of the last step.
    """
    w = metrics["window"]
    total = w["clean_tokens"] + w["poison_tokens"]
    return {
        "step": step,
        "tokens": step * batch_tokens,
        "loss": number((w["clean_loss"] + w["poison_loss"]) / total),
        "clean_loss": number(w["clean_loss"] / w["clean_tokens"]) if w["clean_tokens"] else None,
        "poison_loss": number(w["poison_loss"] / w["poison_tokens"])
        if w["poison_tokens"]
        else None,
        "gradient_norm": number(metrics["gradient_norm"]),
        "learning_rate": number(learning_rate),
        **{name: int(count) for name, count in metrics["seen"].items()},
    }
