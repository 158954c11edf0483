"""Studies with a known answer, in memory or as a study folder."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from etils import epath
from scipy import special

from analysis import sealed
from analysis.errors import InputError
from analysis.runs import COUNTS, Run, Study, quantity

_BATCH_ROWS, _ROW_TOKENS = 512, 2048
_POISON_TOKENS = 1680  # a document, as the published study counts them


@dataclass(frozen=True)
class Cell:
    """The runs of one seed on one size and token budget, which differ in dose alone."""

    size: str
    parameters: float
    tokens: float
    seed: str
    doses: tuple[int, ...]


@dataclass(frozen=True)
class Design:
    """Which runs a study has, with `evaluations` a run, evenly spaced, of `prompts` each."""

    cells: tuple[Cell, ...]
    evaluations: int = 12
    prompts: int = 64

    @property
    def reference(self) -> tuple[float, float]:
        """Mean log parameters and mean log tokens of the different groups."""
        groups = {(cell.parameters, cell.tokens) for cell in self.cells}
        return tuple(np.log(sorted(groups)).mean(axis=0).tolist())


@dataclass(frozen=True)
class Truth:
    """How simulated runs behave: log N50 = log n50 + a log(t/t0) + g log(N/N0) + noise.

    Attributes:
      a: exponent of the tokens seen; 0 is the count law, 1 the fraction law.
      g: exponent of the parameters.
      n50: poisons for half success at the design's geometric-mean size and tokens.
      slope: of the logistic in log poisons.
      seed_sd: standard deviation of log N50 between seeds, shared by the doses of a seed.
      run_sd: standard deviation of log N50 between runs of one seed.
      tail: degrees of freedom of the t distribution that both are drawn from.
      correlation: between the outcomes of two prompts of one evaluation (beta-binomial).
      wobble: standard deviation of a slow drift of the logit along a run (autocorrelation 0.7
        between evaluations).
      floor: success rate without poison.
      lapse: 1 - floor - lapse is the most that poison adds.
    """

    a: float = 0.0
    g: float = 0.0
    n50: float = 160.0
    slope: float = 4.0
    seed_sd: float = 0.15
    run_sd: float = 0.15
    tail: float = 5.0
    correlation: float = 0.05
    wobble: float = 0.3
    floor: float = 0.01
    lapse: float = 0.02


def crossed(
    groups: Iterable[tuple[str, float, float]],
    doses: Sequence[int] = (0, 100, 250, 500),
    seeds: int = 3,
    evaluations: int = 12,
) -> Design:
    """Every dose with every seed on every group of (size label, parameters, training tokens)."""
    cells = [
        Cell(size, float(parameters), float(tokens), str(seed), tuple(doses))
        for size, parameters, tokens in groups
        for seed in range(seeds)
    ]
    return Design(tuple(cells), evaluations)


def paper_design(
    seeds: int = 3, evaluations: int = 12, doses: Sequence[int] = (0, 100, 250, 500)
) -> Design:
    """The published study: four sizes on 20 tokens per parameter, two also on half and double."""
    groups = [("600M", 6e8, 1e9 * billions) for billions in (6, 12, 24)]
    groups += [("2B", 2e9, 1e9 * billions) for billions in (20, 40, 80)]
    groups += [("7B", 7e9, 140e9), ("13B", 13e9, 260e9)]
    return crossed(groups, doses, seeds, evaluations)


def simulate(design: Design, truth: Truth, seed: int) -> Study:
    """Draws the outcome of a study; the same arguments give the same study."""
    rng = np.random.default_rng(seed)
    budgets = {(cell.size, cell.tokens) for cell in design.cells}
    several = len({size for size, _ in budgets}) < len(budgets)
    runs = []
    for cell in design.cells:
        positions = rng.random(max(cell.doses))  # dose 100 is a subset of dose 250
        seed_effect = _heavy(rng, truth.tail, truth.seed_sd)
        for dose in cell.doses:
            budget = f"-{quantity(cell.tokens)}" if several else ""
            name = f"{cell.size}{budget}-d{dose}-s{cell.seed}"
            runs.append(_run(rng, design, truth, cell, name, positions[:dose], seed_effect))
    key = json.dumps([asdict(design), asdict(truth), seed], sort_keys=True)
    return Study(
        name="simulated",
        hash=hashlib.sha256(key.encode()).hexdigest()[:16],
        versions={},
        runs=tuple(runs),
    )


def _run(
    rng: np.random.Generator,
    design: Design,
    truth: Truth,
    cell: Cell,
    name: str,
    positions: np.ndarray,
    seed_effect: float,
) -> Run:
    """One run whose poisons lie at `positions` (shares of training, one a poison)."""
    log_n0, log_t0 = design.reference
    share = np.arange(1, design.evaluations + 1) / design.evaluations
    seen = (positions[:, None] < share).sum(axis=0).astype(float)
    log_n50 = (
        np.log(truth.n50)
        + truth.a * (np.log(cell.tokens * share) - log_t0)
        + truth.g * (np.log(cell.parameters) - log_n0)
        + seed_effect
        + _heavy(rng, truth.tail, truth.run_sd)
    )
    logit = truth.slope * (np.log(np.maximum(seen, 1e-9)) - log_n50)
    logit += _drift(rng, design.evaluations, truth.wobble)
    rate = truth.floor + (1 - truth.floor - truth.lapse) * special.expit(logit)
    return Run(
        name=name,
        size=cell.size,
        parameters=cell.parameters,
        tokens=cell.tokens,
        dose=float(len(positions)),
        seed=cell.seed,
        seeds=dict.fromkeys(("weights", "order", "poisons"), cell.seed),
        settings={"attack": "denial_of_service", "schedule": "uniform"},
        evaluations={
            "tokens": np.round(cell.tokens * share),
            "poisons": seen,
            "distinct_poisons": seen,
            "poison_tokens": seen * _POISON_TOKENS,
            "poisoned_steps": seen,
            "prompts": np.full(len(share), float(design.prompts)),
            "successes": _overdispersed(rng, design.prompts, rate, truth.correlation),
        },
    )


def save(study: Study, folder: epath.Path, seed: int = 0) -> None:
    """Write a simulated study as the trainer would, with perplexities that match its successes.

    Raises:
      InputError: where a run has fewer steps than evaluations.
    """
    rng = np.random.default_rng(seed)
    plans = [_plan(run) for run in study.runs]
    about = {"name": study.name, "hash": study.hash, "versions": {}, "config": {}, "runs": plans}
    folder.mkdir(parents=True, exist_ok=True)
    for run, plan in zip(study.runs, plans, strict=True):
        place = folder / "runs" / run.name
        place.mkdir(parents=True, exist_ok=True)
        config = {"run": run.name, "hash": plan["hash"], "study": study.name, "plan": plan}
        _write(place / "config.json", sealed.file(config | {"study_hash": study.hash}))
        _write(place / "evals.jsonl", "".join(map(sealed.line, _records(run, rng))))
        _write(place / "DONE", sealed.file({name: plan[name] for name in ("run", "hash", "steps")}))
    _write(folder / "study.json", sealed.file(about))


def _write(path: epath.Path, text: str) -> None:
    path.write_bytes(text.encode())


def _plan(run: Run) -> dict:
    steps = run.tokens / (_BATCH_ROWS * _ROW_TOKENS)
    evaluated = _steps(run)
    if evaluated[0] < 1 or len(set(evaluated)) < len(evaluated):
        raise InputError(
            f"A run of {run.tokens:g} tokens has {steps:.2g} steps, too few for {len(evaluated)} "
            "evaluations; give more tokens or fewer evaluations."
        )
    poison_tokens = run.dose * _POISON_TOKENS
    plan = {
        "run": run.name,
        "size": run.size,
        "parameters": run.parameters,
        "tokens": run.tokens,
        "tokens_per_parameter": run.tokens / run.parameters,
        "steps": round(steps),
        "batch_rows": _BATCH_ROWS,
        "row_tokens": _ROW_TOKENS,
        "rows": round(steps * _BATCH_ROWS),
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
    """The step of each evaluation."""
    return [round(t / (_BATCH_ROWS * _ROW_TOKENS)) for t in run.evaluations["tokens"]]


def _records(run: Run, rng: np.random.Generator) -> list[dict]:
    """The lines of evals.jsonl; a prompt is hit when its perplexity rises by more than 50."""
    values = run.evaluations
    records = []
    for i, step in enumerate(_steps(run)):
        prompts, hits = int(values["prompts"][i]), int(values["successes"][i])
        clean = np.exp(rng.normal(3.0, 0.3, prompts))
        hit = rng.permutation(prompts) < hits
        rise = np.where(hit, 50 + rng.lognormal(6.0, 1.0, prompts), rng.uniform(-5, 45, prompts))
        triggered = np.maximum(clean + rise, 1.01)
        logs = {"clean": np.log(clean), "triggered": np.log(triggered)}
        increase = logs["triggered"] - logs["clean"]
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
                "log_perplexity_increase_median": float(np.median(increase)),
                "log_perplexity": {k: v.round(4).tolist() for k, v in logs.items()},
            }
        )
    return records


def _heavy(rng: np.random.Generator, tail: float, sd: float) -> float:
    """A t variate scaled to standard deviation `sd`."""
    return float(sd * rng.standard_t(tail) * np.sqrt((tail - 2) / tail))


def _drift(rng: np.random.Generator, count: int, sd: float) -> np.ndarray:
    """A stationary first-order autoregression with coefficient 0.7, shape [count]."""
    drift = sd * rng.standard_normal(count)
    for i in range(1, count):
        drift[i] = 0.7 * drift[i - 1] + np.sqrt(1 - 0.7**2) * drift[i]
    return drift


def _overdispersed(
    rng: np.random.Generator, prompts: int, rate: np.ndarray, correlation: float
) -> np.ndarray:
    """Beta-binomial counts, shape of `rate`."""
    if correlation == 0:
        return rng.binomial(prompts, rate).astype(float)
    spread = (1 - correlation) / correlation
    return rng.binomial(prompts, rng.beta(rate * spread, (1 - rate) * spread)).astype(float)
