"""Evaluations that a study planned and that are not there are named, and never passed over."""

import pytest
from etils import epath

from analysis.design.cells import crossed
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.errors import InputError
from analysis.read.sources import load
from tests.analysis.sealing import rewrite_file, rewrite_lines

RUN = "S-d100-s0"


@pytest.fixture
def folder(tmp_path):
    """Two runs of 1907 steps with evaluations at 636, 1272 and 1907."""
    place = tmp_path / "study"
    save(simulate(crossed((("S", 1e8, 2e9),), (0, 100), 1, 3), Truth(), 0), epath.Path(place))
    return place


def keep_lines(folder, which) -> None:
    file = folder / "runs" / RUN / "evals.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[i] for i in which))


def test_a_finished_run_without_its_last_evaluation_is_not_finished(folder):
    keep_lines(folder, (0, 1))
    read = load(folder)
    assert read.missing[0].startswith(
        f"{RUN} (finished, but evaluations at steps 1907 are missing): "
    )
    assert [run.finished for run in read.runs] == [True, False]


def test_a_finished_run_without_any_evaluation_is_named(folder):
    keep_lines(folder, ())
    read = load(folder)
    assert f"{RUN} (finished, but evaluations at steps 636, 1272, 1907 are" in read.missing[0]
    assert len(read.runs) == 1


def test_a_gap_in_an_unfinished_run_is_named_and_what_is_still_to_come_is_not(folder):
    (folder / "runs" / RUN / "DONE").unlink()
    keep_lines(folder, (1,))
    [said] = load(folder).missing
    assert "(unfinished, evaluated up to 67%, but evaluations at steps 636 are missing)" in said
    keep_lines(folder, ())
    [said] = load(folder).missing
    assert f"{RUN} (not evaluated yet)" in said


def test_a_line_that_has_no_rate_is_no_missing_evaluation(folder):
    rewrite_lines(
        folder / "runs" / RUN / "evals.jsonl",
        lambda record: record | ({"success_rate": None} if record["step"] == 1907 else {}),
    )
    read = load(folder)
    assert not read.missing and "no success rate at step 1907" in read.notes[0]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (637, "field 'step' is 637, where the study plans no evaluation; planned are 636, 1272"),
        (636, "field 'step' is 636, not above the line before (636)"),
        (None, "field 'step' is None; expected a number"),
    ],
)
def test_steps_that_were_not_planned_or_are_out_of_order_are_refused(folder, step, said):
    file = folder / "runs" / RUN / "evals.jsonl"
    rewrite_lines(file, lambda record: record | ({"step": step} if record["step"] == 1272 else {}))
    with pytest.raises(InputError) as error:
        load(folder)
    assert str(error.value).startswith(f"{file}, line 2: ") and said in str(error.value)


def test_a_plan_without_steps_is_read_as_it_is(folder):
    def without(plan):
        for run in plan["runs"]:
            del run["evaluation_steps"]
        return plan

    rewrite_file(folder / "study.json", without)
    keep_lines(folder, (0, 1))
    assert load(folder).missing == ()


def test_no_evaluation_at_all_stays_an_error(folder):
    for file in folder.glob("runs/*/evals.jsonl"):
        file.write_text("")
    with pytest.raises(InputError, match="contains no evaluation yet"):
        load(folder)
