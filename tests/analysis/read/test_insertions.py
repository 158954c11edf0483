"""Several insertions in one run, read as a study each, and tables of them."""

import json

import pytest
from etils import epath

from analysis import files
from analysis.errors import InputError
from analysis.read import export
from analysis.read.sources import load, load_all
from tests.analysis import inserted
from tests.analysis.inserted import LEVELS, STEPS, line


@pytest.fixture
def folder(tmp_path) -> epath.Path:
    return inserted.write(epath.Path(tmp_path) / "study")


def test_the_first_insertion_is_the_study_unless_another_is_named(folder):
    first = load(folder)
    assert [run.dose for run in first.runs] == [0, 30]
    assert first.runs[1].success.tolist() == [0.5, 0.5]
    assert first.runs[1].settings["also"] == "2 x 3 denial_of_service and 12 canary and 5% ambient"
    assert first.runs[1].others == 23 and len(first.groups()) == 1
    with pytest.raises(
        InputError, match="the runs have denial_of_service, also_denial_of_service, c"
    ):
        load(folder, insertion="nothing")


def test_canaries_give_a_curve_for_each_run(folder):
    canaries = load(folder, insertion="canary")
    assert [run.dose for run in canaries.runs] == [*LEVELS, *LEVELS]
    most = canaries.runs[5]
    assert most.evaluations["poisons"].tolist() == [4, 8]
    assert most.success.tolist() == [0.5, 1] and most.evaluations["prompts"].tolist() == [4, 4]
    assert most.settings["attack"] == "canary" and "30 denial_of_service" in most.settings["also"]
    # What surrounds them differs, so each has its own group.
    assert len(canaries.groups()) == 2


def test_siblings_of_one_dose_are_prompts_of_one_model(folder):
    siblings = load(folder, insertion="also_denial_of_service")
    assert [run.dose for run in siblings.runs] == [3, 3]
    assert siblings.runs[0].success.tolist() == [0.5, 0.5]
    assert siblings.runs[0].evaluations["prompts"].tolist() == [16, 16]


def test_only_what_is_measured_has_a_law_and_its_table_says_the_same(folder, tmp_path):
    found = load_all(folder)
    names = [study.runs[0].settings["attack"] for study in found]
    assert names == ["denial_of_service", "also_denial_of_service", "canary"]
    for study, name in zip(found, names, strict=True):
        table = epath.Path(tmp_path) / f"{name}.csv"
        export.write(study, table)
        back = load(table)
        assert [r.name for r in back.runs] == [r.name for r in study.runs]
        for own, read in zip(study.runs, back.runs, strict=True):
            assert read.settings == own.settings and read.others == own.others
            assert (read.dose, read.tokens, read.seed) == (own.dose, own.tokens, own.seed)
            for column, values in own.evaluations.items():
                assert read.evaluations[column] == pytest.approx(values), column


def test_a_line_without_an_insertion_that_was_planned_is_refused(folder):
    place = folder / "runs" / "60k-2x-d30-s0" / "evals.jsonl"
    lines = [line(step, 30) for step in STEPS]
    lines[1]["also"] = []
    files.write_text(place, "".join(json.dumps(one) + "\n" for one in lines))
    with pytest.raises(InputError, match="line 2: field 'also' has no insertion 3"):
        load(folder, insertion="canary")
    lines[1] = line(STEPS[1], 30)
    lines[1]["also"][2]["curve"].pop()
    files.write_text(place, "".join(json.dumps(one) + "\n" for one in lines))
    with pytest.raises(InputError, match="'curve' has no entry for 8 exposures"):
        load(folder, insertion="canary")
