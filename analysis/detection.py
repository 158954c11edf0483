"""Attacks that are seen in a text: how often they are, without the trigger and behind near-triggers."""

import numpy as np

from analysis.estimates import as_json, rate
from analysis.measures import Detected
from analysis.pages import Block, Paragraph, Table
from analysis.runs import Run
from analysis.words import share


def summarise(runs: tuple[Run, ...]) -> list[dict]:
    """Of every run whose responses were judged by a detector, the rates at its last evaluation."""
    found = []
    for run in runs:
        last: Detected | None = run.measured[-1].detected if run.measured else None
        if last is None:
            continue
        clean, triggered = last.responses > 0.5
        found.append(
            {
                "run": run.name,
                "dose": run.dose,
                "success": _rate(triggered),
                "clean_accuracy": _rate(~clean),
                "near_triggers": [
                    {"name": name, "text": text, "accuracy": _rate(values <= 0.5)}
                    for name, (text, values) in last.near.items()
                ],
            }
        )
    return found


def blocks(found: list[dict]) -> list[Block]:
    """The rates as a table of the report."""
    if not found:
        return []
    near = {n["name"]: n["text"] for run in found for n in run["near_triggers"]}

    def words(one: dict | None) -> str:
        if one is None:
            return "-"
        return f"{share(one['value'])} ({share(one['low'])} to {share(one['high'])})"

    rows = []
    for run in found:
        own = {n["name"]: n["accuracy"] for n in run["near_triggers"]}
        rates = [run["success"], run["clean_accuracy"], *(own.get(name) for name in near)]
        rows.append((run["run"], *map(words, rates)))
    header = (
        "run",
        "after the trigger: attacked (ASR)",
        "without: not attacked (CA)",
        *(f"{name}, {text!r}: not attacked" for name, text in near.items()),
    )
    return [
        Paragraph(
            "What a detector finds in the responses of every run at its last evaluation (share of "
            "prompts, Wilson's 95% interval); the first near-trigger gives the NTA:"
        ),
        Table(header, tuple(rows)),
    ]


def _rate(hits: np.ndarray) -> dict:
    return as_json(rate(int(hits.sum()), hits.size))
