"""The report of a study with stages: chains, what stages leave of an attack, and R50 of counterexamples."""

import csv
import html
import json
import re

import numpy as np
import pytest
from etils import epath

from analysis import files, report
from analysis.fit import findings as findings_lib
from analysis.fit.retention import find_retention
from analysis.measures.axes import dash_styles
from analysis.measures.blocks import Paragraph
from analysis.read import chains
from analysis.read.records import Record
from analysis.read.runs import Run
from analysis.read.sources import load
from analysis.report.n50_figure import draw_n50
from analysis.report.page import fit_figures
from analysis.report.stages import stage_blocks, stage_figures
from tests.analysis import inserted, staged

ATTACK = "denial_of_service"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return staged.write(epath.Path(tmp_path_factory.mktemp("staged")) / "study")


@pytest.fixture(scope="module")
def findings(folder):
    return findings_lib.find(load(folder))


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    summary = report.write(folder, out)
    page = html.unescape(re.sub(r"<[^>]+>|data:image[^\"]+", "", (out / "index.html").read_text()))
    return summary, page, out


def test_a_chain_has_the_success_of_its_ancestors_attack_in_every_leg(folder):
    found = {chain.run: chain for chain in load(folder, level=0).chains}
    assert len(found) == 3 * 2 * (2 + 2 * len(staged.GOOD))
    own = found["S-20x-d250-s1+clean-d0+ft500-d180"]
    assert own.words == "pretraining (250) → clean → ft500 (180)"
    assert [leg.tokens for leg in own.legs] == [2e8, 1e8, 2e7]
    for leg, share in zip(own.legs, (1, 0.8, 0.08), strict=True):
        assert leg.end(ATTACK) == pytest.approx(share, abs=0.05)
    assert set(own.legs[2].success) == {ATTACK, "counterexamples"}
    assert own.poisoned(ATTACK) == 2
    assert found["S-20x-d0-s1+clean-d0+ft500-d180"].poisoned(ATTACK) is None


def test_attacks_of_one_name_are_told_apart_by_their_order():
    """A stage's own attack comes first, and those before it in the order of their first use."""
    tree = []
    for number, (own, *others) in enumerate((["a"], ["a", "a"], ["b", "a", "a"])):
        rates = [(name, (number + i) / 10) for i, name in enumerate(others, 1)]
        columns = {"tokens": [10.0], "prompts": [10.0], "successes": [float(number)]}
        tree.append(
            Run(
                name=f"r{number}",
                size="S",
                parameters=1e6,
                tokens=10.0,
                dose=1.0,
                seed="0",
                evaluations={name: np.array(values) for name, values in columns.items()},
                settings={"attack": own},
                records=(Record(others=tuple(rates)),),
                parent=tree[-1] if tree else None,
            )
        )
    last = chains.of(tuple(tree))[-1]
    assert [leg.attack for leg in last.legs] == ["a", "a #2", "b"]
    assert [leg.end("a") for leg in last.legs] == [0.0, 0.2, 0.3]
    assert [leg.end("a #2") for leg in last.legs] == [None, 0.1, 0.4]


def test_a_stage_with_another_attack_after_ancestors_elsewhere_bears_on_none_of_theirs():
    def leg(doses):
        attack, dose = next(iter(doses.items()))
        return chains.Leg("r", "stage", attack, dose, doses, 10.0, np.zeros(0), {})

    chain = chains.Chain("S", "0", 50.0, (leg({"b": 5.0, "a": 0.0}),))
    assert chain.poisoned("a") is None and chain.last_dose("a") == 0
    assert chain.poisoned("b") == 0 and chain.last_dose("b") == 5
    removed = chains.Chain("S", "0", 50.0, (*chain.legs, leg({"counterexamples #2": 7.0})))
    assert removed.poisoned("a") == 1 and removed.last_dose("a") == 7


def test_what_a_stage_leaves_is_measured_above_the_control(folder):
    found = {one.chain.words: one for one in find_retention(load(folder).chains)}
    poisoned, clean = found["pretraining (250) → clean"], found["pretraining → clean"]
    assert [own.chain.seed for own in poisoned.survivors] == list(staged.SEEDS)
    kept = (staged.LEFT - staged.CLEAN) / (1 - staged.CLEAN)
    assert poisoned.share.value == pytest.approx(kept, abs=0.03)
    assert poisoned.share.low < kept < poisoned.share.high
    assert clean.clean and clean.share is None
    # Stages with counterexamples have poisons of their own, of a kind, and are not asked.
    assert not any("ft500 (" in words for words in found)


def test_a_section_shows_every_stage_and_its_figures_have_their_data(written):
    summary, page, out = written
    assert {"chain", "retention"} <= set(summary["figures"])
    assert "Success rate at the end of every stage" in page
    ends = {one["path"]: one["success"] for one in summary["stages"]["ends"]}
    assert ends["pretraining (250)"] == [1.0] * 3
    assert len(ends["pretraining (250) → clean → ft2000 (60)"]) == 3
    with open(out / "figures" / "chain.csv") as lines:
        rows = list(csv.DictReader(lines))
    runs = len(list((out / "figures").glob("chain*.csv")))
    assert runs == 1 and len(rows) == 4 * 3 * 2 * (2 + 2 * len(staged.GOOD))
    assert max(float(row["chain_tokens"]) for row in rows) == pytest.approx(3.8e8)
    # Counterexamples without a backdoor do not make a run other than a control.
    assert {row["last_dose"] for row in rows if "d0-s0+clean" in row["run"]} == {"0.0"}


def test_good_examples_have_an_r50_and_no_n50(written):
    summary, page, _ = written
    assert summary["terms"]["half"] == "R50" and "R50" in report.answer(summary)
    for n50 in summary["n50"]:
        assert n50["low"] < staged.HALF < n50["high"]
    said = page + json.dumps({name: summary[name] for name in ("answer", "questions", "criticism")})
    assert "N50" not in said and "poisons needed" not in said
    assert "number of counterexamples needed" in said
    assert "remove half of what is left of the backdoor" in report.answer(summary)


def test_figures_of_good_examples_show_the_success_that_remains(findings):
    drawn = {drawing.name: drawing for drawing in fit_figures(findings)}
    figure = drawn["dose_response"].figure
    assert "remaining" in figure.axes[0].get_ylabel()
    curve = max((line.get_ydata() for line in figure.axes[0].lines), key=len)
    assert curve[0] > 0.6 > 0.2 > curve[-1]
    by_dose = {row[2]: row[-1] for row in drawn["dose_response"].rows}
    assert by_dose[20] > 0.6 and by_dose[180] < 0.15
    assert (
        "R50" in drawn["n50"].title
        and "counterexamples" in drawn["n50"].figure.axes[0].get_ylabel()
    )


def test_without_a_backdoor_there_is_nothing_to_remove(folder):
    study = load(folder)
    assert all("-d250-" in run.name for run in study.runs)
    assert any("24 runs with counterexamples come after clean training" in n for n in study.notes)


def test_a_run_that_is_not_finished_has_no_success_at_the_end(folder, tmp_path):
    record = files.read_json(folder / "study.json")
    [root] = (run for run in record["runs"] if run["run"] == "S-20x-d250-s0")
    lines = (folder / "runs" / root["run"] / "evals.jsonl").read_text().splitlines(keepends=True)
    clean = next(run for run in record["runs"] if run.get("parent") == root["run"])
    place = epath.Path(tmp_path)
    files.write_text(place / "runs" / root["run"] / "evals.jsonl", "".join(lines[:2]))
    files.write_json(place / "study.json", record | {"runs": [root, clean]})
    [leg] = load(place, level=0).chains[0].legs
    assert len(leg.success[ATTACK]) == 2 and leg.end(ATTACK) is None


def test_conversations_that_were_left_out_are_said(written):
    assert "Left out: 7 (stages.1.0)." in written[1]


def test_several_insertions_have_a_figure_each_and_words_for_those_of_items(tmp_path):
    study = load(inserted.write_stages(epath.Path(tmp_path) / "study"))
    chained = [one for one in stage_figures(study) if one.name.startswith("chain")]
    assert [one.title.partition(": ")[2] for one in chained] == [
        *("denial of service", "denial of service #2", "denial of service #3", "canary")
    ]
    labels = chained[-1].figure.axes[0].get_legend_handles_labels()[1]
    assert "12 documents in pretraining" in labels and "without poison so far" not in labels
    said = [block.text for block in stage_blocks(study, []) if isinstance(block, Paragraph)]
    assert "the success of canary is that of all items" in said[0]


def test_each_series_of_clean_sizes_has_one_colour_and_its_law(folder, tmp_path):
    """Labels with a final number are sizes of a series; dashes tell sizes apart, and colours series."""
    record = files.read_json(folder / "study.json")
    runs = [run for run in record["runs"] if "-d250-" in run["run"]]
    place = epath.Path(tmp_path)
    for run in runs:
        if run["attack"] == "counterexamples":
            where = "end" if run["seed"] == "2" else "spread"
            run |= {"attack": ATTACK, "stage": run["stage"].replace("ft", where)}
        lines = (folder / "runs" / run["run"] / "evals.jsonl").read_text()
        files.write_text(place / "runs" / run["run"] / "evals.jsonl", lines)
    files.write_json(place / "study.json", record | {"runs": runs})
    study = load(place)
    groups = study.groups()
    assert {group.series for group in groups} == {"S (stage end)", "S (stage spread)"}
    dashes = dash_styles(groups)
    for series in {group.series for group in groups}:
        assert len({dashes[g.label] for g in groups if g.series == series}) == 2
    found = findings_lib.find(study)
    [axis] = draw_n50(found, found.model).figure.axes
    labels = axis.get_legend_handles_labels()[1]
    assert axis.get_xlabel() == "training tokens of the stage"
    assert {"slope 0: count law", "slope 1: fraction law", *(g.series for g in groups)} == set(
        labels
    )
