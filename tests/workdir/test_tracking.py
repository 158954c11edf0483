"""Trackers get what is in the logs, once, and cannot stop a run."""

import json
import sys
import types

import pytest
from etils import epath

from analysis.files import json_line
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import grid
from poison_scaling.workdir import tracking

RUN = "40k-2x-d8-s0"


@pytest.fixture
def run(study):
    return grid.run_named(study, RUN)


@pytest.fixture
def sent(monkeypatch):
    """A tracker in place of Weights & Biases, which notes what it gets."""
    calls = []
    module = types.ModuleType("wandb")
    module.__spec__ = types.SimpleNamespace()
    module.init = lambda **how: calls.append(("init", how["project"], how["name"]))
    module.log = lambda values: calls.append(values)
    module.finish = lambda: calls.append(("finish",))
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(tracking, "_SECONDS", 0.05)
    return calls


def write(workdir, log: str, *lines: dict) -> None:
    file = workdir / "runs" / RUN / f"{log}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as f:
        f.writelines(map(json_line, lines))


def test_every_line_is_sent_once_also_when_the_run_resumes(run, sent, tmp_path):
    workdir = epath.Path(tmp_path)
    with tracking.Mirror("wandb", workdir, [run]):
        write(workdir, "metrics", {"step": 5, "loss": 3.5}, {"step": 10, "loss": 3.0})
    with tracking.Mirror("wandb", workdir, [run]):
        write(workdir, "metrics", {"step": 15, "loss": 2.5})
        write(workdir, "evals", {"step": 15, "success_rate": 0.5, "generations": [{}]})
    assert sent[0] == ("init", "smoke", RUN) and sent[-1] == ("finish",)
    assert [values for values in sent if isinstance(values, dict)] == [
        {"metrics/loss": 3.5, "training_step": 5},
        {"metrics/loss": 3.0, "training_step": 10},
        {"metrics/loss": 2.5, "training_step": 15},
        {"evals/success_rate": 0.5, "training_step": 15},
    ]
    noted = json.loads((workdir / "tracking" / "wandb.json").read_text())
    assert noted == {f"{RUN}/metrics": 3, f"{RUN}/evals": 1}


@pytest.mark.parametrize("error", [ConnectionError("no network"), SystemExit(1)])
def test_a_tracker_that_fails_is_a_warning(run, sent, tmp_path, monkeypatch, capfd, error):
    def fail(values):
        raise error

    monkeypatch.setattr(sys.modules["wandb"], "log", fail)
    with tracking.Mirror("wandb", epath.Path(tmp_path), [run]):
        write(epath.Path(tmp_path), "metrics", {"step": 5, "loss": 3.5})
    assert "warning: --track wandb has failed" in capfd.readouterr().err


def test_a_tracker_that_is_not_installed_is_bad_input(run, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="--track trackio: it needs trackio; pip install trackio"):
        tracking.Mirror("trackio", epath.Path(tmp_path), [run])
