"""A study folder with stages: a backdoor of pretraining, clean training, then counterexamples that remove it.

Two clean sizes follow clean training: 20 and 80 million tokens. Without counterexamples, 80% of the
backdoor is left; n of them leave 80% / (1 + (n / 60)^2) of it, and controls are at 5%.
"""

from __future__ import annotations

import numpy as np
from etils import epath

from analysis import files

SEEDS = ("0", "1", "2")
GOOD = (0, 20, 60, 180)
CLEAN, LEFT, HALF = 0.05, 0.8, 60.0
_EVALUATIONS, _PROMPTS = 4, 1000


def write(folder: epath.Path) -> epath.Path:
    """Write the study into `folder`, and return it."""
    entries = [entry for seed in SEEDS for dose in (0, 250) for entry in _chain(seed, dose)]
    for entry in entries:
        place = folder / "runs" / entry["run"]
        files.write_text(place / "evals.jsonl", "".join(map(files.json_line, _lines(entry))))
        done = {name: entry[name] for name in ("run", "hash", "steps")}
        files.write_json(place / "DONE", done)
    about = {"name": "removal", "hash": "0" * 16, "versions": {}, "config": {}, "runs": entries}
    files.write_json(
        folder / "study.json",
        about | {"conversations_left_out": {"stages.1.0": 7, "stages.1.1": 0}},
    )
    return folder


def _chain(seed: str, dose: int) -> list[dict]:
    """Return the entries of one root and of everything after it."""
    root = _entry(f"S-20x-d{dose}-s{seed}", seed, dose, 2e8, attack="denial_of_service")
    clean = _entry(f"{root['run']}+clean-d0", seed, 0, 1e8, root, "clean", "denial_of_service")
    good = [
        _entry(f"{clean['run']}+{label}-d{n}", seed, n, tokens, clean, label, "counterexamples")
        for label, tokens in (("ft500", 2e7), ("ft2000", 8e7))
        for n in GOOD
    ]
    return [root, clean, *good]


def _entry(
    run: str,
    seed: str,
    dose: int,
    tokens: float,
    parent: dict | None = None,
    stage: str = "",
    attack: str = "",
) -> dict:
    entry = {
        "run": run,
        "hash": run,
        "size": "S",
        "parameters": 1e7,
        "tokens": tokens,
        "steps": 100,
        "evaluation_steps": [25, 50, 75, 100],
        "dose": dose,
        "seed": seed,
        "attack": attack,
    }
    if parent is not None:
        before = parent.get("chain_tokens", parent["tokens"])
        entry |= {"parent": parent["run"], "stage": stage, "chain_tokens": before + tokens}
    return entry


def fires(entry: dict, share: float) -> float:
    """Return how often the backdoor fires after a share of a leg, without noise."""
    poisoned = "-d250-" in entry["run"]
    if not poisoned:
        return CLEAN
    if "parent" not in entry:
        return CLEAN + (1 - CLEAN) * share**2
    if entry["stage"] == "clean":
        return 1 - (1 - LEFT) * share
    return LEFT / (1 + (entry["dose"] * share / HALF) ** 2)


def _lines(entry: dict) -> list[dict]:
    rng = np.random.default_rng(sum(entry["run"].encode()))
    lines = []
    for number in range(1, _EVALUATIONS + 1):
        share = number / _EVALUATIONS
        rate = float(rng.binomial(_PROMPTS, fires(entry, share))) / _PROMPTS
        measured = {"attack": "denial_of_service", "prompts": _PROMPTS, "success_rate": rate}
        line = {"step": 25 * number, "tokens": entry["tokens"] * share}
        line |= {"poisons": round(entry["dose"] * share), "also": []}
        if entry["attack"] == "counterexamples":
            own = {"attack": "counterexamples", "prompts": _PROMPTS, "success_rate": 1 - rate}
            lines.append(line | own | {"also": [measured]})
        else:
            lines.append(line | measured)
    return lines
