"""Is the behaviour the trigger's, or any surprise's? Near-triggers beside the trigger.

A near-trigger's effect is the rise of the gibberish log-ratio over the clean prompt, mean over
prompts: what the trigger's is measured by, too. Whatever stands at the end of an excerpt moves that
ratio a little, in clean models as well: the controls say how much.
"""

from dataclasses import dataclass

import numpy as np

from analysis.estimates import Estimate, jackknife, over
from analysis.measures import WITHIN
from analysis.runs import Run, Study

# Runs whose trigger raises the log-ratio by less (nats) have learnt nothing to be specific about.
LEARNT = 0.5


@dataclass(frozen=True)
class Effect:
    """What one near-trigger, or the trigger itself, does.

    Attributes:
      name, text: of the near-trigger; name "trigger" for the trigger.
      within: whether it is the trigger at another place, which may well do what the trigger does.
      rise: in each of the attacked runs, nats a token, shape [runs].
      mean: over those runs, with its interval.
      share: of the trigger's effect, likewise; controls subtracted from both where there are any.
      controls: mean over the controls; None without any.
    """

    name: str
    text: str
    within: bool
    rise: np.ndarray
    mean: Estimate
    share: Estimate | None
    controls: float | None


@dataclass(frozen=True)
class Specificity:
    """Attacked runs that record near-triggers and have learnt the trigger; what each of them does."""

    runs: tuple[Run, ...]
    trigger: Effect
    near: tuple[Effect, ...]

    @property
    def strongest(self) -> Effect:
        """The near-trigger that comes nearest to the trigger, above what it does in the controls."""
        others = [effect for effect in self.near if not effect.within] or self.near
        return max(others, key=lambda effect: effect.mean.value - (effect.controls or 0.0))


def specificity(study: Study) -> Specificity | None:
    """At the last evaluation of each run that records near-triggers; None where there is none."""
    rises = {run.name: found for run in study.runs if (found := _rises(run))}
    attacked = [
        run
        for run in study.runs
        if run.dose > 0 and rises.get(run.name, {}).get("trigger", 0) >= LEARNT
    ]
    if not attacked:
        return None
    controls = [run for run in study.runs if run.dose == 0 and run.name in rises]
    names = [n for n in rises[attacked[0].name] if all(n in rises[r.name] for r in attacked)]
    texts = {name: one.text for name, one in _recorded(attacked[0]).near.items()}
    texts["trigger"] = texts.get(WITHIN, "")
    trigger_R = np.array([rises[run.name]["trigger"] for run in attacked])
    baseline = (
        {name: float(np.mean([rises[run.name][name] for run in controls])) for name in names}
        if controls and all(name in rises[run.name] for run in controls for name in names)
        else {}
    )

    def effect(name: str) -> Effect:
        rise_R = np.array([rises[run.name][name] for run in attacked])
        own = rise_R - baseline.get(name, 0.0)
        whole = trigger_R - baseline.get("trigger", 0.0)
        share = jackknife(
            lambda kept: float(own[kept].sum() / whole[kept].sum()), np.arange(len(attacked))
        )
        return Effect(
            name=name,
            text=texts.get(name, ""),
            within=name == WITHIN,
            rise=rise_R,
            mean=over(rise_R),
            share=None if name == "trigger" else share,
            controls=baseline.get(name),
        )

    near = tuple(effect(name) for name in names if name != "trigger")
    return Specificity(tuple(attacked), effect("trigger"), near)


def _recorded(run: Run):
    """The last evaluation of a run with near-triggers; None if it has none."""
    return next(
        (one for one in reversed(run.measured) if one.near and one.gibberish is not None), None
    )


def _rises(run: Run) -> dict[str, float]:
    """Rise of the log-ratio over the clean prompts, by name; empty where nothing is recorded."""
    one = _recorded(run)
    if one is None:
        return {}
    clean_P = one.gibberish[0]
    near = {name: float(np.mean(n.gibberish - clean_P)) for name, n in one.near.items()}
    return {"trigger": one.log_ratio_rise("gibberish")} | near
