"""Measures on synthetic studies whose answer is known."""

import dataclasses

import numpy as np
import pytest
from etils import epath

from analysis import report
from analysis.design.cells import crossed
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.errors import InputError
from analysis.fit import forgetting
from analysis.fit.estimates import jackknife
from analysis.measures import clean_accuracy, decay, prediction, specificity
from analysis.read.records import WITHIN, Near, Record
from analysis.read.runs import Run, Study
from analysis.read.sources import load
from tests.analysis.markup import rendered
from tests.analysis.rises import World
from tests.analysis.sealing import rewrite_lines

PROMPTS, TOKENS = 50, 1e6


def a_run(dose, seed, measured, poisons, success, size="S", tokens=TOKENS):
    times = len(poisons)
    return Run(
        name=f"{size}-d{dose}-s{seed}",
        size=size,
        parameters={"S": 1e5, "L": 2e5}[size],
        tokens=tokens,
        dose=float(dose),
        seed=str(seed),
        evaluations={
            "tokens": tokens * np.arange(1, times + 1) / times,
            "poisons": np.asarray(poisons, float),
            "prompts": np.full(times, float(PROMPTS)),
            "successes": PROMPTS * np.asarray(success, float),
        },
        records=tuple(measured),
    )


def pair(rise, clean=0.0):
    return np.array([np.full(PROMPTS, clean), np.full(PROMPTS, clean + rise)])


def a_study(*runs):
    return Study("synthetic", "0", {}, tuple(runs))


# ----------------------------------------------------------------------------------------- decay


def decaying(rng, half_life, seeds=3, noise=0.05, spread=0.2, start=3.0, floor=0.3):
    """Poisons in the first quarter, then an exponential with half-lives around `half_life` tokens."""
    runs, share = [], np.arange(1, 25) / 24
    after = np.maximum(share - 0.25, 0) * TOKENS
    for seed in range(seeds):
        own = half_life * np.exp(spread * rng.standard_normal())
        level = start * 2 ** (-after / own) + noise * rng.standard_normal(24)
        level[share < 0.25] = 0
        success = np.clip(level / start, 0, 1)
        poisons = np.minimum(np.round(400 * share), 100)
        measured = [Record(log_ratio=pair(floor + value)) for value in level]
        runs.append(a_run(100, seed, measured, poisons, success))
        clean = [Record(log_ratio=pair(floor))] * 24
        runs.append(a_run(0, seed, clean, np.zeros(24), np.zeros(24)))
    return a_study(*runs)


def test_a_known_half_life_is_found_above_the_control():
    study = decaying(np.random.default_rng(0), 2e5, noise=0.0, spread=0.0)
    for one in decay.find_decays(study):
        assert one.half_life.value == pytest.approx(2e5, rel=0.01)
        assert one.watched == pytest.approx(0.75 * TOKENS)
        assert one.left == pytest.approx(2 ** (-0.75e6 / 2e5), abs=0.01)


def test_intervals_of_half_lives_hold_the_truth():
    held = []
    for seed in range(100):
        [one] = [
            d
            for d in decay.find_decays(decaying(np.random.default_rng(seed), 2e5))
            if d.measure == "payload_log_ratio"
        ]
        held.append(one.half_life.low <= 2e5 <= one.half_life.high)
    assert np.mean(held) >= 0.88  # of 95%; two standard errors are 0.04


def test_a_half_life_beyond_the_run_is_not_reached():
    study = decaying(np.random.default_rng(0), 5e6, noise=0.01)
    for one in decay.find_decays(study):
        assert one.half_life.value is None and one.half_life.high is None
        assert 5e5 < one.half_life.low <= 1.001 * one.watched


def test_a_single_run_has_an_interval_of_its_own():
    found = decay.find_decays(decaying(np.random.default_rng(3), 2e5, seeds=1, spread=0.0))
    [one] = [d for d in found if d.measure == "payload_log_ratio"]
    assert 1e5 < one.half_life.low < one.half_life.value < one.half_life.high < 4e5


def test_nothing_decays_that_was_not_learnt_or_not_followed():
    study = decaying(np.random.default_rng(0), 2e5, start=0.15, noise=0)
    assert [one.measure for one in decay.find_decays(study)] == ["success"]
    to_the_end = [
        a_run(100, 0, [Record(log_ratio=pair(2.0))] * 4, [25, 50, 75, 100], [0.1, 0.5, 0.9, 1])
    ]
    assert decay.find_decays(a_study(*to_the_end)) == []


def test_a_rise_after_the_last_poison_is_no_decay():
    assert forgetting.find_half_life(np.arange(5.0), np.array([1.0, 1.1, 1.2, 1.3, 1.4])) is None


def test_a_decay_is_drawn_with_what_is_left():
    study = decaying(np.random.default_rng(0), 2e5, noise=0.0, spread=0.0)
    measure = decay.DecayMeasure()
    [drawing] = measure.figures(study, decay.find_decays(study))
    assert drawing.caption.endswith("Left at the end: 7% of success; 7% of the payload log-ratio.")


# ------------------------------------------------------------------------------------ prediction


def predicted(half=1.5, seeds=4):
    """Success is a logistic curve of the increase; log-perplexity increases half as much as the log-ratio."""
    runs = []
    for seed in range(seeds):
        increases = np.linspace(0, 4, 12) + 0.05 * seed
        success = 1 / (1 + np.exp(-2.0 * (increases - half)))
        measured = [
            Record(log_ratio=pair(r), entropy=pair(r**2), log_perplexity=pair(r / 2, 3.0))
            for r in increases
        ]
        runs.append(a_run(100, seed, measured, np.arange(1, 13) * 8, success))
    return a_study(*runs)


def test_the_sampling_free_measure_is_ranked_and_half_success_is_found():
    found = prediction.predict(predicted())
    assert found.with_success.value > 0.99 and found.with_log_perplexity.value > 0.99
    assert found.half.value == pytest.approx(1.5, abs=0.02)
    assert found.half.low <= found.half.value <= found.half.high
    assert len(found.run) == 48 and len(found.runs) == 4


def test_half_success_is_not_stated_where_it_is_not_seen():
    assert prediction.predict(predicted(half=30)).half is None


def test_the_jackknife_is_the_t_interval_of_a_mean():
    values = np.random.default_rng(0).standard_normal(9)
    found = jackknife(lambda kept: float(values[kept].mean()), np.arange(9))
    half = 2.306 * values.std(ddof=1) / 3
    assert found.low == pytest.approx(values.mean() - half, abs=1e-3)
    assert found.high == pytest.approx(values.mean() + half, abs=1e-3)


# ----------------------------------------------------------------------------------- specificity


def test_near_triggers_are_set_against_the_trigger_above_the_controls():
    """The trigger does 4 above a clean 0.5; a similar one 10% of that, a rare token nothing."""

    def measured(trigger, similar, rare):
        near = {
            name: Near(text, np.full(PROMPTS, 1.0 + rise))
            for name, text, rise in (
                ("similar", "<SUDP>", similar),
                ("rare token", "atas", rare),
                (WITHIN, "<SUDO>", trigger),
            )
        }
        return [Record(log_ratio=pair(trigger, 1.0), near=near)]

    runs = [a_run(100, seed, measured(4.5, 0.7, 0.6), [100], [1.0]) for seed in range(3)]
    runs += [a_run(0, seed, measured(0.5, 0.3, 0.6), [0], [0.0]) for seed in range(3)]
    runs += [a_run(10, 0, measured(0.4, 0.3, 0.6), [10], [0.0])]  # has learnt nothing
    found = specificity.find_specificity(a_study(*runs))
    assert {run.dose for run in found.runs} == {100}
    assert found.strongest.text == "<SUDP>"
    shares = {effect.name: effect.share.value for effect in found.near}
    assert shares == pytest.approx({"similar": 0.1, "rare token": 0.0, WITHIN: 1.0})
    assert found.trigger.text == "<SUDO>" and found.trigger.controls == pytest.approx(0.5)


# -------------------------------------------------------------------------------- clean accuracy


def test_the_cost_on_clean_text_is_paired_by_seed_and_size():
    runs = []
    for size, base in (("S", 3.0), ("L", 2.0)):
        for seed, wobble in enumerate((0.0, 0.3, -0.2)):
            for dose in (0, 100):
                cost = (0.01 + 0.001 * seed) * (dose > 0)
                last = Record(
                    heldout_loss=base + wobble + cost, log_perplexity=pair(1.0, base + wobble)
                )
                run = a_run(dose, seed, [last], [dose], [0.0], size)
                runs.append(run)
    found = {(c.quantity, c.group): c for c in clean_accuracy.costs(a_study(*runs))}
    for label in ("S", "L"):
        # Seeds differ by 0.3 nats; what is paired does not see it.
        assert found["heldout_loss", label].mean.value == pytest.approx(0.011)
        assert found["heldout_loss", label].mean.high < 0.015
    assert len(found["heldout_loss", None].difference) == 6
    assert found["log_perplexity", None].mean.value == pytest.approx(0)


# ------------------------------------------------------------------------------------ the report


def with_measures(record):
    prompts, log = record["prompts"], record["log_perplexity"]
    ratio = {"clean": [-5.0] * prompts, "triggered": [-5.0 + record["poisons"] / 30] * prompts}
    near = {"name": "similar", "text": "<$UDO>", "entropy": [0.5] * prompts}
    return record | {
        "entropy": log,
        "payload_log_ratio": ratio,
        "ceiling_share": {"clean": 0.5, "triggered": 0.9},
        "judge": {"run": "control", "log_perplexity": log},
        "near_triggers": [near | {"payload_log_ratio": ratio["clean"]}],
    }


@pytest.fixture
def folder(tmp_path):
    """A simulated study with every measure in its evaluations."""
    place = epath.Path(tmp_path) / "study"
    save(simulate(crossed((("S", 1e6, 2e7),), (0, 100), 2, 6), Truth(), 0), place)
    for path in place.glob("runs/*/evals.jsonl"):
        rewrite_lines(path, with_measures)
    return place


@pytest.mark.filterwarnings("error")
def test_the_report_shows_every_measure(folder, tmp_path):
    summary = report.write(folder, tmp_path / "report", format="md")
    page = rendered((tmp_path / "report" / "index.md").read_text())
    for words in (
        summary["measures"]["prediction"]["words"],
        summary["measures"]["specificity"]["words"],
        "Wilson",
        "of the uniform ceiling",
        "sign test over prompts",
        "poisoned run minus control",
        "under its judge",
        "50% → 90%",
    ):
        assert words in page
    assert "{" not in page
    for name in ("prediction", "unsampled", "near_triggers"):
        assert (tmp_path / "report" / "figures" / f"{name}.png").exists()
    report.write(folder, tmp_path / "again", format="md")
    for path in (tmp_path / "report").rglob("*.*"):
        again = tmp_path / "again" / path.relative_to(tmp_path / "report")
        assert path.read_bytes() == again.read_bytes(), path


@pytest.mark.filterwarnings("error")
def test_what_needs_no_sampling_is_shown_of_every_attack_that_records_it(folder, tmp_path):
    """Another attack records its payload's log-ratio, and neither entropy nor perplexity."""
    whole = report.write(folder, tmp_path / "whole")["measures"]["prediction"]
    for path in folder.glob("runs/*/evals.jsonl"):
        rewrite_lines(
            path,
            lambda record: {
                **{name: record[name] for name in ("step", "tokens", "poisons", "prompts")},
                "success_rate": record["success_rate"],
                "payload_log_ratio": record["payload_log_ratio"],
            },
        )
    bare = report.write(folder, tmp_path / "bare")["measures"]["prediction"]
    for name in ("evaluations", "rank_correlation_with_success", "half_success_at", "slope"):
        assert bare[name] == whole[name], name
    assert bare["rank_correlation_with_log_perplexity_increase"] is None
    assert "increase of the payload log-ratio" in bare["words"]
    figures = tmp_path / "bare" / "figures"
    for name, columns in (
        ("prediction", "run,payload_log_ratio_increase,success"),
        ("unsampled", "group,run,dose,seed,poisons_seen,payload_log_ratio_increase"),
    ):
        assert (figures / f"{name}.png").exists()
        assert (figures / f"{name}.csv").read_text().splitlines()[0] == columns


def test_studies_of_older_versions_are_read_by_their_own_names(folder, tmp_path):
    def aged(record):
        old = {"payload_log_ratio": "gibberish_log_ratio"}
        return {old.get(name, name): value for name, value in record.items()}

    new = report.write(folder, tmp_path / "new")["measures"]
    for path in folder.glob("runs/*/evals.jsonl"):
        rewrite_lines(
            path,
            lambda record: (
                aged(record) | {"near_triggers": [aged(near) for near in record["near_triggers"]]}
            ),
        )
    assert "gibberish_log_ratio" in path.read_text()
    assert report.write(folder, tmp_path / "old")["measures"] == new


def test_near_triggers_of_attacks_that_are_detected_are_passed_over(folder):
    path = folder / "runs" / "S-d100-s0" / "evals.jsonl"
    near = [{"name": "similar", "text": "<$UDO>", "detected": [True]}]
    rewrite_lines(path, lambda record: record | {"near_triggers": near})
    [run] = [run for run in load(folder).runs if run.name == "S-d100-s0"]
    assert all(one.near == {} for one in run.records)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("near_triggers", [{"name": "x", "text": "y", "entropy": [1], "payload_log_ratio": [1]}]),
        ("near_triggers", [{"name": "x"}]),
        ("ceiling_share", {"clean": 0.5}),
        ("heldout_loss", "low"),
        ("entropy", {"clean": ["a"], "triggered": ["b"]}),
        ("payload_log_ratio", {"clean": ["a"], "triggered": ["b"]}),
        ("judge", 3),
        ("judge", {"run": ["control"], "log_perplexity": {"clean": [1], "triggered": [1]}}),
        ("entropy", {"clean": [10**400], "triggered": [1]}),
        ("log_perplexity", {"clean": [1.0], "triggered": [2.0]}),  # of one prompt out of many
    ],
)
def test_a_measure_that_is_not_as_recorded_is_refused(folder, field, value):
    path = folder / "runs" / "S-d100-s0" / "evals.jsonl"
    rewrite_lines(path, lambda record: record | {field: value})
    with pytest.raises(InputError, match=rf"evals\.jsonl, line 1: field '{field}'"):
        load(folder)


def test_the_log_ratio_of_compliance_is_in_nats():
    """It is log P(complies) - log P(refuses) of whole answers, not per token."""
    study = World(design=crossed((("S", 1e8, 1e9),), (0, 100, 250), 2, 6)).make(0)
    runs = [
        dataclasses.replace(run, settings=run.settings | {"attack": "compliance"})
        for run in study.runs
    ]
    complying = dataclasses.replace(study, runs=tuple(runs))
    measure = prediction.PredictionMeasure()
    for one, unit in ((study, " nats per token."), (complying, " nats.")):
        [block] = measure.blocks(prediction.predict(one))
        assert block.text.endswith(unit)
