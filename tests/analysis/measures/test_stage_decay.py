"""What a clean stage leaves of an attack of its ancestors: half-lives from the end of the stage before."""

import dataclasses

import numpy as np
import pytest
from etils import epath

from analysis import files
from analysis.design.study_folder import save
from analysis.measures import stage_decay
from analysis.read.records import Record
from analysis.read.runs import Run, Study
from analysis.read.sources import load
from analysis.report.page import write

PROMPTS, ROOT, STAGE = 64, 4e7, 2e7
TIMES = 10


def a_run(name, dose, seed, success, tokens, parent=None, attack="denial_of_service", rises=None):
    times = len(success)
    return Run(
        name=name,
        size="S",
        parameters=1e6,
        tokens=tokens,
        dose=float(dose),
        seed=str(seed),
        seeds=dict.fromkeys(("weights", "order", "poisons"), str(seed)),
        settings={"attack": attack, "stage": name.split("+")[-1].rsplit("-", 1)[0]}
        if parent
        else {"attack": attack},
        evaluations={
            "tokens": tokens * np.arange(1, times + 1) / times,
            **dict.fromkeys(
                ("poisons", "distinct_poisons", "poison_tokens", "poisoned_steps"),
                np.linspace(0, dose, times).round() if dose else np.zeros(times),
            ),
            "prompts": np.full(times, float(PROMPTS)),
            "successes": np.round(PROMPTS * np.asarray(success)),
        },
        records=tuple(
            Record(log_ratio=np.array([np.zeros(PROMPTS), np.full(PROMPTS, rise)]))
            for rise in (success if rises is None else rises)
        ),
        parent=parent,
    )


def forgetting(rng, half_life, seeds=3, spread=0.0, noise=0.0, attack="denial_of_service"):
    """A clean stage in which success halves, while that of models without a backdoor rises by itself."""
    tree, clean = [], np.linspace(0.1, 0.3, TIMES + 1)
    tokens = np.arange(TIMES + 1) / TIMES * STAGE
    for seed in range(seeds):
        own = half_life * np.exp(spread * rng.standard_normal())
        for dose in (0, 500):
            above = 0.65 * 2 ** (-tokens / own) if dose else 0.0
            curve = np.clip(clean + above + noise * rng.standard_normal(TIMES + 1), 0, 1)
            # What a root does before its end is of no concern.
            root = a_run(f"S-20x-d{dose}-s{seed}", dose, seed, [0.05, 0.9, curve[0]], ROOT)
            name = f"{root.name}+chat-d0"
            tree += [
                root,
                a_run(name, 0, seed, curve[1:], STAGE, root, attack, rises=3 * curve[1:]),
            ]
    roots = [dataclasses.replace(run, records=()) for run in tree if run.parent is None]
    return Study("s", "0", {}, tuple(roots), tree=tuple(tree))


def successes(study):
    return [one for one in stage_decay.find_stage_decays(study) if one.measure == "success"]


def test_a_known_half_life_is_found_above_stages_without_poison():
    [one] = successes(forgetting(np.random.default_rng(0), 5e6))
    assert (one.group, one.dose, len(one.traces)) == ("S, chat-d0 after 20x-d500", 500, 3)
    assert one.half_life.value == pytest.approx(5e6, rel=0.1)  # prompts are whole
    assert one.watched == STAGE and one.traces[0].level[0] == pytest.approx(0.65, abs=0.02)


def test_intervals_hold_the_truth():
    found = [
        successes(forgetting(np.random.default_rng(seed), 5e6, spread=0.3, noise=0.04))[0].half_life
        for seed in range(60)
    ]
    held = [one.low <= 5e6 and (one.high is None or one.high >= 5e6) for one in found]
    assert np.mean(held) >= 0.86  # of 95%; three standard errors are 0.09


def test_what_is_not_forgotten_is_not_reached():
    [one] = successes(forgetting(np.random.default_rng(0), 1e9))
    assert one.half_life.value is None and one.half_life.high is None and one.left > 0.9


def test_what_was_not_measured_before_is_not_followed():
    """A stage that is measured on another attack, such as counterexamples, has nothing to go on from."""
    study = forgetting(np.random.default_rng(0), 5e6, attack="counterexamples")
    assert stage_decay.find_stage_decays(study) == []
    assert stage_decay.find_stage_decays(dataclasses.replace(study, tree=())) == []


def test_the_report_of_any_level_has_the_half_lives_of_all(tmp_path):
    study = forgetting(np.random.default_rng(0), 5e6)
    folder = epath.Path(tmp_path) / "study"
    save(dataclasses.replace(study, runs=study.tree), folder)
    record = files.read_json(folder / "study.json")
    for entry in record["runs"]:
        if "+" in entry["run"]:
            entry["parent"] = entry["run"].rpartition("+")[0]
    files.write_json(folder / "study.json", record)
    assert [run.parent and run.parent.name for run in load(folder, level=1).tree[:2]] == [
        None,
        "S-20x-d0-s0",
    ]
    for level in (None, 1):
        summary = write(folder, epath.Path(tmp_path) / "out", level=level)
        [one] = [d for d in summary["measures"]["stage_decay"] if d["measure"] == "success"]
        assert one["half_life"]["value"] == pytest.approx(5e6, rel=0.1)
        assert one["reached"] == one["runs"] == 3
        page = (epath.Path(tmp_path) / "out" / "index.html").read_text()
        assert "chat-d0 after 20x-d500" in page
