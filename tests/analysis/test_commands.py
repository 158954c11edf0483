"""python -m analysis: exit codes and what is printed."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from analysis.__main__ import main

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path):
    small = ["--design", "ladder", "--sizes", "1e8", "4e8", "--tokens", "10", "40", "--seeds", "2"]
    assert main(["simulate", "--out", str(tmp_path / "study"), *small]) == 0
    return tmp_path / "study"


def test_a_report_prints_the_answer(study, tmp_path, capsys):
    assert main([str(study), "--out", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr().out
    assert "Verdict: " in printed and "100M, 1B tokens" in printed
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["answer"]["verdict"] in ("count", "fraction", "undecided")


def test_studies_are_laid_side_by_side(study, tmp_path, capsys):
    options = ["--design", "ladder", "--sizes", "1e8", "--tokens", "10", "40", "--n50", "320"]
    assert main(["simulate", "--out", str(tmp_path / "other"), *options]) == 0
    assert main(["compare", str(study), str(tmp_path / "other"), "--out", str(tmp_path / "c")]) == 0
    summary = json.loads((tmp_path / "c" / "summary.json").read_text())
    assert len(summary["ratios"]) == 2
    for ratio in summary["ratios"]:
        assert ratio["low"] < 2 < ratio["high"]


def test_power_reads_a_plan(study, capsys):
    assert main(["power", "--plan", str(study / "study.json"), "--studies", "2"]) == 0
    assert "32 runs; 2 simulated studies" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere", "--out", "unused"],
        ["compare", "nowhere", "nowhere", "--out", "unused"],
        ["power", "--plan", "nowhere"],
        ["power", "--studies", "0"],
        ["power", "--doses", "0"],
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert not (tmp_path / "unused").exists()


def test_a_terminal_that_lacks_a_character_gets_its_escape(tmp_path):
    lines = [f"r{dose},1e6,2e7,{dose},0,{dose},0.1" for dose in (0, 9)]
    header = "run,params,tokens,dose,seed,poisons_seen,success"
    (tmp_path / "étude.csv").write_text("\n".join([header, *lines]) + "\n")
    for code, arguments in ((0, ["étude.csv"]), (2, ["là.csv"])):
        process = subprocess.run(
            [sys.executable, "-m", "analysis", *arguments, "--out", "report"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            encoding="ascii",
        )
        assert process.returncode == code, process.stderr
        assert "\\xe9tude: 2 runs" in process.stdout or "error: l\\xe0.csv" in process.stderr


def test_a_place_that_cannot_be_written_is_said(study, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([str(study), "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_simulate_never_overwrites_a_study(study, capsys):
    assert main(["simulate", "--out", str(study)]) == 2
    assert "already contains a study" in capsys.readouterr().err
