"""configs/laws.py: every series can be planned, and all of them cost what the file says."""

import math
import runpy

import pytest

from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid
from tests.support.runs import ROOT

FILE = str(ROOT / "configs" / "laws.py")
RATES = {"60k": 140e3, "150k": 80e3, "530k": 30e3, "1m": 13e3}  # tokens per second of one core


def test_every_series_has_a_plan_within_the_budget(monkeypatch):
    laws = runpy.run_path(FILE)
    seconds, budgets, parameters = 0.0, set(), set()
    for name in laws["SERIES"]:
        monkeypatch.setenv("SERIES", name)
        runs = grid.runs(laws["study"]())
        plans = [run.plan() for run in runs]  # every dose fits
        seconds += sum(plan["tokens"] / RATES[plan["size"]] for plan in plans)
        budgets |= {plan["tokens"] for plan in plans if plan["size"] == "60k"}
        parameters |= {plan["parameters"] for plan in plans}
        if name.startswith("ambient") and "%" in name:
            shares = [p["also"][0]["dose"] / p["sequences"] for p in plans]
            assert max(shares) - min(shares) < 1e-3
    assert math.isclose(seconds / 3600, 3, abs_tol=0.2)
    assert max(budgets) / min(budgets) >= 30 and max(parameters) / min(parameters) >= 10


def test_a_series_must_be_named(monkeypatch):
    monkeypatch.setenv("SERIES", "nothing")
    with pytest.raises(InputError, match="SERIES='nothing': set this variable to one of canaries"):
        runpy.run_path(FILE)["study"]()
