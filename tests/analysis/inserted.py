"""Study folders of runs with several insertions: a backdoor, two siblings, canaries, and benign uses.

Benign uses are counted and not measured. Stages measure all insertions of their ancestors.
"""

from __future__ import annotations

import json
from typing import Any

from etils import epath

from analysis import files

LEVELS = (0, 2, 8)  # exposures of canaries
STEPS = (5, 10)
SEEDS = ("0", "1")
_ALSO = ("denial_of_service", "denial_of_service", "canary", "ambient")
_DOSES = (3, 3, 12, 5)
_KEPT = 0.5  # the share of canaries that a stage leaves


def line(step: int, dose: int) -> dict[str, Any]:
    """Return an evaluation of pretraining."""
    counts = {"distinct_poisons": 0, "poison_tokens": 0, "poisoned_steps": 0}
    siblings = [
        {"attack": "denial_of_service", "poisons": 3, **counts, "prompts": 8, "success_rate": rate}
        for rate in (0.25, 0.75)
    ]
    return {
        **{"step": step, "tokens": 100 * step, "attack": "denial_of_service"},
        **{"poisons": dose * step / 10, **counts, "prompts": 8, "success_rate": 0.5 * (dose > 0)},
        "also": [*siblings, _canaries(step / STEPS[-1], 1.0), {"attack": "ambient", "poisons": 5}],
    }


def _canaries(seen: float, kept: float) -> dict[str, Any]:
    """Return the measures of canaries once a share of their exposures was seen; most have 8."""
    curve = [
        {
            "exposures": e,
            "items": 4,
            "seen": e * seen,
            "success_rate": kept * min(1.0, e * seen / 8),
        }
        for e in LEVELS
    ]
    shown = sum(one["success_rate"] for one in curve[1:]) / 2
    return {
        **{"attack": "canary", "poisons": 40 * seen, "prompts": 8, "success_rate": shown},
        **{"distinct_poisons": 0, "poison_tokens": 0, "poisoned_steps": 0, "curve": curve},
    }


def entry(name: str, dose: int, attack: str = "denial_of_service", **fields: Any) -> dict[str, Any]:
    """Return what study.json plans for a run of pretraining."""
    also = [
        {"dose": n, "exposures": 1, "attack": other} for n, other in zip(_DOSES, _ALSO, strict=True)
    ]
    also[-1]["share"] = 0.05
    return {
        **{"run": name, "hash": "0", "size": "60k", "parameters": 500, "tokens": 1000},
        **{"dose": dose, "exposures": 1, "seed": "0", "seeds": {"weights": "0"}},
        **{"attack": attack, "evaluation_steps": list(STEPS), "also": also, **fields},
    }


def write(folder: epath.Path) -> epath.Path:
    """Write a study of two runs, without and with the backdoor."""
    runs = [entry(f"60k-2x-d{dose}-s0", dose) for dose in (0, 30)]
    return _write(folder, runs, [[line(step, run["dose"]) for step in STEPS] for run in runs])


def write_stages(folder: epath.Path) -> epath.Path:
    """Write a study with a level of the same backdoor, and one that removes it after pretraining."""
    runs, lines = [], []
    for seed in SEEDS:
        for dose in (0, 30):
            root = entry(f"60k-2x-d{dose}-s{seed}", dose, seed=seed)
            runs.append(root)
            lines.append([line(step, dose) for step in STEPS])
            for more in (0, 10):
                stage = _stage(root, "more", more, "denial_of_service", _ALSO)
                runs.append(stage)
                lines.append([_after(step, stage) for step in STEPS])
            last = ("denial_of_service", *_ALSO)
            right = _stage(runs[-2], "right", 6 * (dose > 0), "counterexamples", last)
            runs.append(right)
            lines.append([_after(step, right) for step in STEPS])
    return _write(folder, runs, lines)


def write_canaries(folder: epath.Path) -> epath.Path:
    """Write a study of canaries alone, and of clean stages after them."""
    runs, lines = [], []
    for seed in SEEDS:
        root = entry(f"60k-2x-d12-s{seed}", 12, "canary", seed=seed, also=[])
        clean = _stage(root, "clean", 0, "canary", ())
        runs += [root, clean]
        lines += [
            [
                {"step": s, "tokens": 100 * s, **_canaries(s / STEPS[-1], 1.0), "also": []}
                for s in STEPS
            ],
            [_after(step, clean) for step in STEPS],
        ]
    return _write(folder, runs, lines)


def _stage(
    parent: dict[str, Any], label: str, dose: int, attack: str, others: tuple[str, ...]
) -> dict[str, Any]:
    before = parent.get("chain_tokens", parent["tokens"])
    return entry(
        f"{parent['run']}+{label}-d{dose}",
        dose,
        attack,
        also=[{"dose": 0, "exposures": 1, "attack": other} for other in others],
        **{"seed": parent["seed"], "parent": parent["run"], "stage": label},
        chain_tokens=before + 1000,
    )


def _after(step: int, stage: dict[str, Any]) -> dict[str, Any]:
    """Return an evaluation of a stage."""
    nothing = {"distinct_poisons": 0, "poison_tokens": 0, "poisoned_steps": 0}

    def measured(attack: str, rate: float) -> dict[str, Any]:
        if attack == "ambient":
            return {"attack": attack, "poisons": 0}
        if attack == "canary":
            return {**_canaries(1.0, _KEPT), "poisons": 0}
        return {"attack": attack, "poisons": 0, **nothing, "prompts": 8, "success_rate": rate}

    own = measured(stage["attack"], 0.5 + 0.25 * (stage["dose"] > 0))
    return {
        **{"step": step, "tokens": 100 * step, **own},
        "poisons": stage["dose"] * step / STEPS[-1],
        "also": [measured(other["attack"], 0.25) for other in stage["also"]],
    }


def _write(
    folder: epath.Path, runs: list[dict[str, Any]], lines: list[list[dict[str, Any]]]
) -> epath.Path:
    for run, own in zip(runs, lines, strict=True):
        place = folder / "runs" / run["run"]
        files.write_text(place / "evals.jsonl", "".join(json.dumps(one) + "\n" for one in own))
        files.write_json(place / "DONE", {"run": run["run"], "hash": "0"})
    files.write_json(folder / "study.json", {"name": "many", "hash": "1", "runs": runs})
    return folder
