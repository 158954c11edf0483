"""Simulated studies as study folders, as the trainer writes them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from etils import epath

from analysis import files
from analysis.design.simulation import POISON_TOKENS
from analysis.errors import InputError
from analysis.read.runs import COUNTS, Run, Study

_BATCH_SIZE, _SEQ_LEN = 512, 2048


def save(study: Study, folder: epath.Path, seed: int = 0) -> None:
    """Write a simulated study, with perplexities that match its successes.

    Raises InputError when a run has fewer steps than evaluations.
    """
    rng = np.random.default_rng(seed)
    plans = [_plan(run) for run in study.runs]
    about = {"name": study.name, "hash": study.hash, "versions": {}, "config": {}, "runs": plans}
    for run, plan in zip(study.runs, plans, strict=True):
        place = folder / "runs" / run.name
        config = {"run": run.name, "hash": plan["hash"], "study": study.name, "plan": plan}
        files.write_json(place / "config.json", config | {"study_hash": study.hash})
        lines = "".join(map(files.json_line, _records(run, rng)))
        files.write_text(place / "evals.jsonl", lines)
        files.write_json(place / "DONE", {name: plan[name] for name in ("run", "hash", "steps")})
    files.write_json(folder / "study.json", about)


def _plan(run: Run) -> dict[str, Any]:
    """Return the run's entry in study.json."""
    steps = run.tokens / (_BATCH_SIZE * _SEQ_LEN)
    evaluated = _steps(run)
    if evaluated[0] < 1 or len(set(evaluated)) < len(evaluated):
        raise InputError(
            f"A run of {run.tokens:g} tokens has {steps:.2g} steps, too few for {len(evaluated)} "
            "evaluations; give more tokens or fewer evaluations."
        )
    poison_tokens = run.dose * POISON_TOKENS
    plan = {
        "run": run.name,
        "size": run.size,
        "parameters": run.parameters,
        "tokens": run.tokens,
        "tokens_per_parameter": run.tokens / run.parameters,
        "steps": round(steps),
        "batch_size": _BATCH_SIZE,
        "seq_len": _SEQ_LEN,
        "sequences": round(steps * _BATCH_SIZE),
        "dose": run.dose,
        "seed": run.seed,
        "seeds": run.seeds,
        **run.settings,
        "poison_tokens": poison_tokens,
        "poison_tokens_exact": False,
        "poison_share": poison_tokens / run.tokens,
        "poisoned_steps": run.dose,
        "flops": 6 * run.parameters * run.tokens,
        "evaluation_steps": evaluated,
    }
    key = json.dumps(plan, sort_keys=True)
    return plan | {"hash": hashlib.sha256(key.encode()).hexdigest()[:16]}


def _steps(run: Run) -> list[int]:
    """Return the step of each evaluation."""
    return [round(t / (_BATCH_SIZE * _SEQ_LEN)) for t in run.evaluations["tokens"]]


def _records(run: Run, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return the lines of evals.jsonl; success is an increase of perplexity by more than 50."""
    values = run.evaluations
    records = []
    for i, step in enumerate(_steps(run)):
        prompts, hits = int(values["prompts"][i]), int(values["successes"][i])
        clean = np.exp(rng.normal(3.0, 0.3, prompts))
        hit = rng.permutation(prompts) < hits
        increase = np.where(
            hit, 50 + rng.lognormal(6.0, 1.0, prompts), rng.uniform(-5, 45, prompts)
        )
        triggered = np.maximum(clean + increase, 1.01)
        logs = {"clean": np.log(clean), "triggered": np.log(triggered)}
        log_increase = logs["triggered"] - logs["clean"]
        records.append(
            {
                "step": step,
                "tokens": values["tokens"][i],
                **{name: values[name][i] for name in COUNTS},
                "heldout_loss": 3.0,
                "attack": run.settings["attack"],
                "prompts": prompts,
                "success_rate": hits / prompts,
                "perplexity_increase_mean": float((triggered - clean).mean()),
                "log_perplexity_increase_median": float(np.median(log_increase)),
                "log_perplexity": {k: v.round(4).tolist() for k, v in logs.items()},
            }
        )
    return records
