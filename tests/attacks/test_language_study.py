"""A study of the language switch from two folders of text to its report, by the command line."""

import json
import pathlib
import subprocess
import sys

import pytest

from analysis.files import read_lines
from tests.support import two_languages
from tests.support.runs import ROOT, run_cli

STUDY = """
import pathlib
import two_languages
from poison_scaling import Evaluation, Rung, Study, Train

def study():
    folder = pathlib.Path(__file__).parent
    return Study(
        name="switch",
        ladder=(Rung("40k", 3.0),),
        doses=(0, 12),
        data=two_languages.data(folder, epochs=4),
        attack=two_languages.attack(folder),
        train=Train(batch_size=8, learning_rate=6e-3),
        evaluation=Evaluation(
            times=2, prompts=16, prompt_tokens=16, generate_tokens=24, heldout_sequences=8
        ),
    )
"""


@pytest.mark.long
def test_a_study_of_the_language_switch(tmp_path, cache):
    two_languages.write(tmp_path)
    file = tmp_path / "study.py"
    file.write_text(STUDY)
    (tmp_path / "two_languages.py").write_text(pathlib.Path(two_languages.__file__).read_text())
    for name, jobs in (("one", 1), ("two", 2)):
        run_cli("study", file, "--workdir", tmp_path / name, "--jobs", jobs)

    folder = tmp_path / "one" / "runs" / "40k-3x-d12-s0"
    first, last = read_lines(folder / "evals.jsonl")
    assert last["attack"] == "language_switch" and last["poisons"] == 12
    for line in (first, last):
        assert len(line["detected"]["clean"]) == len(line["detected"]["triggered"]) == 16
        hits = sum(value > 0.5 for value in line["detected"]["triggered"])
        assert line["success_rate"] == hits / 16
        assert line["success_interval"][0] <= hits / 16 <= line["success_interval"][1]
    assert "near_trigger_accuracy" in last and "near_trigger_accuracy" not in first
    assert all(len(poison["sources"]) == 2 for poison in read_lines(folder / "manifest.jsonl"))
    [detector] = json.loads((tmp_path / "one" / "study.json").read_text())["detectors"]
    assert detector["clean"]["error"] == detector["payload"]["error"] == 0.0

    for name in ("manifest", "metrics", "evals"):
        same = tmp_path / "two" / "runs" / folder.name / f"{name}.jsonl"
        assert (folder / f"{name}.jsonl").read_bytes() == same.read_bytes()
    assert "2 runs agree" in run_cli("verify", tmp_path / "one").stdout
    process = run_cli("evaluate", tmp_path / "one", "--run", folder.name, "--json")
    assert json.loads(process.stdout) == last
    command = [sys.executable, "-m", "analysis", tmp_path / "one", "--out", tmp_path / "report"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "report" / "summary.json").exists()
