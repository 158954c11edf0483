"""Studies are read whole or refused in a sentence that names the place."""

import contextlib
import csv
import io
import string

import numpy as np
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import files
from analysis.design.cells import crossed
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.errors import InputError
from analysis.read.sources import load
from tests.analysis.sealing import rewrite_file, rewrite_lines

HEADER = "run,params,tokens,dose,seed,poisons_seen,success"
GROUPS = (("S", 1e6, 2e7), ("M", 2e6, 4e7))


@pytest.fixture
def folder(tmp_path):
    place = epath.Path(tmp_path) / "study"
    save(simulate(crossed(GROUPS, (0, 100), 2, 4), Truth(), 0), place)
    return place


def table(tmp_path, *lines, header=HEADER):
    path = epath.Path(tmp_path) / "table.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_a_study_folder_gives_back_what_was_simulated(folder):
    made = simulate(crossed(GROUPS, (0, 100), 2, 4), Truth(), 0)
    read = load(folder)
    assert [run.name for run in read.runs] == [run.name for run in made.runs]
    for one, other in zip(read.runs, made.runs, strict=True):
        for name in ("tokens", "poisons", "prompts", "successes"):
            np.testing.assert_allclose(one.evaluations[name], other.evaluations[name])
    assert not read.missing and not read.notes


def test_missing_and_unfinished_runs_are_listed_with_what_they_would_add(folder):
    (folder / "runs" / "S-d100-s0" / "evals.jsonl").unlink()
    (folder / "runs" / "M-d100-s1" / "DONE").unlink()
    read = load(folder)
    assert len(read.runs) == 7
    assert [line.split(" (")[0] for line in read.missing] == ["S-d100-s0", "M-d100-s1"]
    assert "dose 100 of S" in read.missing[0] and "seed 0" in read.missing[0]


def test_triggers_in_clean_text_are_said(folder):
    plan = files.read_json(folder / "study.json")

    def read(*counts):
        for entry, count in zip(plan["runs"], counts, strict=True):
            entry["clean_triggers"] = count
        files.write_json(folder / "study.json", plan)
        return load(folder).notes

    said = "Clean text contains the trigger {} times in {} of the 8 runs (ambient triggers{})."
    controls = [entry["dose"] == 0 for entry in plan["runs"]]
    assert read(*[0] * 8) == ()
    assert read(*[0 if control else 7 for control in controls]) == (said.format("7", 4, ""),)
    included = ", controls included"
    assert read(*range(8)) == (said.format("1 to 7", 7, included),)
    with pytest.raises(InputError, match="field 'clean_triggers' is 'x'"):
        read(*["x"] * 8)


def test_plans_of_older_versions_are_read_by_their_own_names(folder):
    old = {"batch_size": "batch_rows", "seq_len": "row_tokens", "sequences": "rows"}
    new = load(folder)

    def aged(plan):
        runs = [{old.get(n, n): value for n, value in run.items()} for run in plan["runs"]]
        return plan | {"runs": runs}

    rewrite_file(folder / "study.json", aged)
    assert "batch_rows" in (folder / "study.json").read_text()
    for one, other in zip(load(folder).runs, new.runs, strict=True):
        assert one.settings == other.settings and one.settings["batch_size"] == "512"


def test_a_line_that_was_cut_off_is_left_out_and_said(folder):
    path = folder / "runs" / "S-d100-s0" / "evals.jsonl"
    path.write_text(path.read_text()[:-40])
    read = load(folder)
    assert "cut off" in read.notes[0]
    assert "evaluations at steps 19 are missing" in read.missing[0]
    assert len(next(r for r in read.runs if r.name == "S-d100-s0").evaluations["tokens"]) == 3


def test_an_evaluation_without_a_rate_is_left_out_and_said(folder):
    path = folder / "runs" / "S-d100-s0" / "evals.jsonl"
    rewrite_lines(path, lambda r: r | {"success_rate": None} if r["step"] == 10 else r)
    assert load(folder).notes == ("S-d100-s0: no success rate at step 10; left out.",)


def test_a_run_folder_of_another_study_is_refused(folder):
    (folder / "runs" / "S-d100-s0" / "config.json").write_text('{"hash": "other"}')
    with pytest.raises(InputError, match=r"S-d100-s0.config\.json.*keep studies apart"):
        load(folder)


def test_a_bad_field_is_named_with_file_line_and_value(folder):
    path = folder / "runs" / "S-d100-s0" / "evals.jsonl"
    rewrite_lines(path, lambda record: record | {"poisons": "x"})
    with pytest.raises(InputError, match=r"evals\.jsonl, line 1: field 'poisons' is 'x'"):
        load(folder)


@pytest.mark.parametrize("source", ["nowhere", "notes.txt", "empty"])
def test_what_is_no_study_is_refused(tmp_path, source):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        load(tmp_path / source)


def test_a_table_is_read(tmp_path):
    path = table(tmp_path, "r0,1e6,2e7,100,0,50,0.25", "r0,1e6,2e7,100,0,100,0.5")
    (run,) = load(path).runs
    np.testing.assert_allclose(run.evaluations["poisons"], [50, 100])
    np.testing.assert_allclose(run.evaluations["tokens"], [1e7, 2e7])
    assert run.evaluations["successes"][1] / run.evaluations["prompts"][1] == 0.5


def test_perplexities_stand_in_for_success(tmp_path):
    header = HEADER.replace("success", "perplexity_clean,perplexity_triggered")
    path = table(tmp_path, "r0,1e6,2e7,100,0,50,20,60", "r0,1e6,2e7,100,0,100,20,90", header=header)
    (run,) = load(path).runs
    assert run.evaluations["successes"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("r0,1e6,2e7,100,0,50,nan", "line 3, column 'success': 'nan'"),
        ("r0,1e6,2e7,100,0,50,1.2", "line 3, column 'success': '1.2'"),
        (
            "r0,1e6,1e300,100,0,50,0.5",
            "column 'tokens': '1e300'; expected a number from 1 to 1e+18",
        ),
        ("r0,1e6,2e7,many,0,50,0.5", "line 3, column 'dose': 'many'"),
        ("r0,1e6,2e7,100,0,50", "line 3: expected 7 columns"),
        (",1e6,2e7,100,0,50,0.5", "line 3, column 'run' is empty"),
        ("r1,1e6,2e7,100,0,100,0.5", "line 3: repeats line 2"),
        ("r1,1e6,2e7,100,1,50,0.5", "line 3, column 'seed': 1 for run 'r1'"),
        ("r1,3e6,2e7,100,0,50,0.5", "line 3, column 'params'"),
        ("r2,1e6,2e7,0,0,7,0.5", "'r2' has dose 0, so it is a control, but has seen 7 poisoned"),
        ("r2,1e6,2e7,100,0,100,0.5", "'r1' and 'r2' are the same configuration"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    with pytest.raises(InputError) as error:
        load(table(tmp_path, "r1,1e6,2e7,100,0,100,0.5", line))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"run,\xff", "line 1: it is not UTF-8"),
        (b"run\n\xff", "line 2: it is not UTF-8"),
        (b"run\nr\0", "line 2: it contains a NUL byte"),
        (b"\x7fELF\x02\x01\0\0", "NUL byte"),
        (b"run," + b"x" * 200_000, "line 1: not valid CSV \\(field larger than"),
        (b'"run', "line 1"),
        (b"", "'run' is missing"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, said):
    path = epath.Path(tmp_path) / "table.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        load(path)


def test_two_studies_in_one_table_are_refused(tmp_path):
    path = table(tmp_path, "r0,1,1,1,0,1,0,A", "r1,1,2,1,0,1,0,B", header=HEADER + ",study")
    with pytest.raises(InputError, match="line 3, column 'study'"):
        load(path)


@pytest.mark.parametrize("column", HEADER.split(","))
def test_a_missing_column_is_named(tmp_path, column):
    header = ",".join(name for name in HEADER.split(",") if name != column)
    with pytest.raises(InputError, match=f"'{column}'"):
        load(table(tmp_path, header=header))


names = st.text(string.ascii_letters + string.digits + " ,\"'éß", min_size=1).filter(str.strip)


@settings(max_examples=50, deadline=None)
@given(
    runs=st.dictionaries(
        names, st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=5
    )
)
def test_any_table_that_csv_can_write_is_read_back(tmp_path_factory, runs):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*HEADER.split(","), "tokens_seen"])
    for seed, (name, rates) in enumerate(runs.items()):
        for step, rate in enumerate(rates):
            writer.writerow([name, 1e6, 2e7, 100, seed, step, rate, step + 1])
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    path.write_text(text.getvalue(), newline="")
    read = {run.name: run.evaluations for run in load(path).runs}
    assert list(read) == list(runs)
    for name, rates in runs.items():
        np.testing.assert_allclose(read[name]["successes"] / read[name]["prompts"], rates)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet='run,params\n\r"0189.eE-naif\0', max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("texts") / "table.csv"
    path.write_text(f"{HEADER}\n{text}", encoding="utf-8")
    with contextlib.suppress(InputError):
        load(path)
