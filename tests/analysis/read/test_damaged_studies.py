"""A study folder that is damaged anywhere is refused, said to be so, or gives the same numbers."""

import json
import os
import pathlib
import random
import shutil

import pytest
from etils import epath

from analysis import files
from analysis.__main__ import main
from analysis.design.cells import crossed
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.errors import InputError
from analysis.read.sources import load
from tests.analysis.sealing import opened, rewrite_file

# Nothing reaches half of the prompts: few figures, so that a report takes little.
ONE = (("S", 1e8, 2e9),)
RUN = "S-d100-s0"


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "study"
    save(simulate(crossed(ONE, (0, 100), 1, 3), Truth(n50=1e6), 0), epath.Path(place))
    return place


def damages(content: bytes, flips: int, seed: str) -> list[bytes]:
    """Emptied, cut in half, and with a byte changed here and there."""
    rng = random.Random(seed)
    damaged = [b"", content[: len(content) // 2]]
    for _ in range(flips if content else 0):
        place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        changed = bytearray(content)
        changed[place] ^= bit
        damaged.append(bytes(changed))
    return damaged


def assert_damage_never_passes(study: pathlib.Path, out: pathlib.Path, flips: int, capsys) -> None:
    def said_and_found() -> tuple[str, dict | None]:
        shutil.rmtree(out, ignore_errors=True)
        code = main([str(study), "--out", str(out)])
        error = capsys.readouterr().err
        if code:
            assert code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
            assert not out.exists()
            return error, None
        return error, json.loads((out / "summary.json").read_text())

    _, whole = said_and_found()
    assert whole["missing"] == []
    files = sorted(p for p in study.rglob("*") if p.is_file() and "checkpoints" not in p.parts)
    for file in files:
        content = file.read_bytes()
        for damaged in damages(content, flips, file.name):
            file.write_bytes(damaged)
            _, found = said_and_found()
            if found is None:
                continue
            new = set(found["missing"] + found["notes"]) - set(whole["notes"])
            numbers = {k: v for k, v in found.items() if k not in ("missing", "notes")}
            same = numbers == {k: whole[k] for k in numbers}
            assert same or any(file.parent.name in words for words in new), (file, damaged)
        file.write_bytes(content)


def test_damage_never_passes_for_a_result(tmp_path, capsys):
    study = tmp_path / "study"
    save(simulate(crossed(ONE, (100,), 1, 2), Truth(n50=1e6), 0), epath.Path(study))
    assert_damage_never_passes(study, tmp_path / "report", 3, capsys)


@pytest.mark.long
def test_damage_in_many_places_never_passes_for_a_result(folder, tmp_path, capsys):
    assert_damage_never_passes(folder, tmp_path / "report", 60, capsys)


@pytest.mark.long
def test_damage_in_a_trained_study_never_passes_for_a_result(smoke, tmp_path, capsys):
    study = tmp_path / "study"
    shutil.copytree(smoke[0], study, ignore=shutil.ignore_patterns("checkpoints", "report"))
    assert_damage_never_passes(study, tmp_path / "report", 2, capsys)


# ---------------------------------------------------------------------------- what is no JSON object

DEEP = "[" * 200_000
BAD = {
    "empty": (b"", "it is empty"),
    "spaces": (b" \n", "it is empty"),
    "deep": (DEEP.encode(), "nested too deeply"),
    "deep and whole": (f'{{"a": {DEEP}{"]" * 200_000}}}'.encode(), "nested too deeply"),
    "not text": (b'{"a": "\xff"}', "not UTF-8"),
    "NaN": (b'{"a": NaN}', "NaN is not JSON"),
    "Infinity": (b'{"a": -Infinity}', "-Infinity is not JSON"),
    "a list": (b"[1]", "expected a JSON object, found list"),
    "long number": (b'{"a": ' + b"1" * 5000 + b"}", "not valid JSON"),
    "digest": (b'{"a": 1, "digest": "0123456789abcdef"}', "its digest does not match"),
    "digest of no text": (b'{"a": 1, "digest": 5}', "its digest does not match"),
    "digest before": (b'{"digest": "0123456789abcdef", "a": 1}', "its digest does not match"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("file", ["study.json", f"runs/{RUN}/config.json"])
def test_what_is_no_json_object_is_refused_by_name(folder, file, name):
    content, said = BAD[name]
    (folder / file).write_bytes(content)
    with pytest.raises(InputError) as error:
        load(folder)
    assert str(error.value).startswith(str(folder / file)) and said in str(error.value)


@pytest.mark.parametrize("name", [n for n in BAD if n not in ("empty", "spaces")])
def test_a_bad_line_is_refused_by_its_number(folder, name):
    content, said = BAD[name]
    file = folder / "runs" / RUN / "evals.jsonl"
    file.write_bytes(file.read_bytes() + content + b"\n")
    with pytest.raises(InputError) as error:
        load(folder)
    assert str(error.value).startswith(f"{file}, line 4: ") and said in str(error.value)


@pytest.mark.parametrize("name", BAD)
def test_power_refuses_a_plan_that_is_none(folder, name, capsys):
    (folder / "study.json").write_bytes(BAD[name][0])
    assert main(["power", "--plan", str(folder / "study.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("kind", ["pipe", "folder"])
@pytest.mark.parametrize("name", ["study.json", "config.json", "evals.jsonl", "table.csv"])
def test_what_is_no_file_is_refused(folder, kind, name):
    source = folder
    if name == "table.csv":
        source = file = folder / name
    else:
        [file, *_] = sorted(folder.rglob(name))
        file.unlink()
    os.mkfifo(file) if kind == "pipe" else file.mkdir()
    with pytest.raises(
        InputError,
        match="no study.json" if source.suffix and kind == "folder" else "not a regular file",
    ):
        load(source)


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_done_counts_for_nothing_and_is_named(folder, name):
    (folder / "runs" / RUN / "DONE").write_bytes(BAD[name][0])
    read = load(folder)
    assert [run.finished for run in read.runs] == [True, False]
    assert f"{RUN} (unfinished, evaluated up to 100%)" in read.missing[0]
    assert f"{RUN}: the run counts as unfinished, because its DONE" in read.notes[0]
    assert str(folder) not in read.notes[0]


@pytest.mark.parametrize("field", ["run", "hash", "steps"])
def test_a_done_of_another_run_counts_for_nothing(folder, field):
    rewrite_file(folder / "runs" / RUN / "DONE", lambda done: done | {field: "other"})
    read = load(folder)
    assert not read.runs[1].finished and f"has {field} 'other'" in read.notes[0]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("runs", [3], "runs.0 is 3; expected an object"),
        ("runs", {}, "field 'runs' is {}"),
        ("name", ["a"], "field 'name' is ['a']"),
        ("versions", [1], "field 'versions' is [1]"),
    ],
)
def test_a_study_of_other_fields_is_refused(folder, field, value, said):
    rewrite_file(folder / "study.json", lambda plan: plan | {field: value})
    with pytest.raises(InputError) as error:
        load(folder)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", "../elsewhere"),
        ("run", ".."),
        ("run", "a\x1b[2J"),
        ("run", None),
        ("size", {}),
        ("seed", None),
        ("seeds", "abc"),
        ("schedule", ["uniform"]),
        ("parameters", 10**400),
        ("tokens", True),
        ("evaluation_steps", [3, 2]),
        ("evaluation_steps", []),
        ("evaluation_steps", "all"),
    ],
)
def test_a_plan_of_other_fields_is_refused(folder, field, value):
    def changed(plan):
        first, *others = plan["runs"]
        return plan | {"runs": [first | {field: value}, *others]}

    rewrite_file(folder / "study.json", changed)
    with pytest.raises(InputError, match=rf"study\.json, runs\.0: field '{field}' is "):
        load(folder)


def test_a_run_that_is_listed_twice_is_refused(folder):
    def twice(plan):
        first, *others = plan["runs"]
        return plan | {"runs": [first, first | {"dose": 7}, *others]}

    rewrite_file(folder / "study.json", twice)
    with pytest.raises(InputError, match="Two runs are named 'S-d0-s0'"):
        load(folder)


def test_what_other_tools_wrote_without_digests_is_read(folder):
    whole = load(folder)
    for file in [*folder.rglob("*.json*"), *folder.rglob("DONE")]:
        objects = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
        file.write_text("".join(json.dumps(opened(text)) + "\n" for text in objects))
    read = load(folder)
    assert not read.missing and not read.notes
    for one, other in zip(whole.runs, read.runs, strict=True):
        assert one.success.tolist() == other.success.tolist()


def test_a_simulated_study_is_sealed_as_the_trainer_seals_its_own(folder):
    assert files.read_json(folder / "study.json")["name"] == "simulated"
    done = files.read_json(folder / "runs" / RUN / "DONE")
    assert done["run"] == RUN and done["steps"] == 1907
    records = files.read_lines(folder / "runs" / RUN / "evals.jsonl")
    assert [record["step"] for record in records] == [636, 1272, 1907]


def test_simulated_runs_need_a_step_an_evaluation(tmp_path, capsys):
    options = ["--design", "ladder", "--sizes", "1e5", "--tokens", "10"]
    assert main(["simulate", "--out", str(tmp_path / "s"), *options]) == 2
    assert "too few for 12 evaluations" in capsys.readouterr().err
