"""A study from its file to its report, by the command line, in processes of their own."""

import json
import shutil
import subprocess
import sys

import pytest

from analysis.files import read_lines
from tests.support.runs import LOGS, ROOT, contents, run_cli

SMALL = (
    "--set",
    "doses=[0, 8]",
    "--set",
    "seeds=[0]",
    "--set",
    "ladder=[{'size': '40k', 'tokens_per_parameter': 2.0}]",
)


def test_a_study_ends_with_an_answer_and_a_report(smoke):
    workdir, said = smoke
    record = json.loads((workdir / "study.json").read_text())
    assert len(record["runs"]) == 12
    assert all(run["poison_tokens_exact"] for run in record["runs"])
    for run in record["runs"]:
        folder = workdir / "runs" / run["run"]
        assert (folder / "DONE").exists()
        manifest = read_lines(folder / "manifest.jsonl")
        assert sum(poison["tokens"] for poison in manifest) == run["poison_tokens"]
        assert len({poison["step"] for poison in manifest}) == run["poisoned_steps"]
    summary = json.loads((workdir / "report" / "summary.json").read_text())
    assert summary
    page = (workdir / "report" / "index.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "")
    assert "Verdict" in said["stdout"] and "time" not in said["stderr"]
    assert "12/12 runs" in said["stdout"] and "left" in said["stdout"]


@pytest.mark.long
def test_two_studies_give_the_same_bytes_whether_runs_train_alone_or_together(smoke, tmp_path):
    alone = ("--set", "seeds=[0]", "--set", "doses=[0, 32]", "--workdir", tmp_path, "--jobs", 1)
    # Compiled anew, too.
    run_cli("study", "configs/smoke.py", *alone, JAX_ENABLE_COMPILATION_CACHE="false")
    found, whole = contents(tmp_path), contents(smoke[0])
    assert len({name.partition("/")[0] for name in found}) == 4
    assert found == {name: whole[name] for name in found}


def test_an_exact_plan_is_what_the_study_then_did(smoke):
    planned = json.loads(run_cli("plan", "configs/smoke.py", "--exact", "--json").stdout)
    assert planned["runs"] == json.loads((smoke[0] / "study.json").read_text())["runs"]


def test_a_finished_study_is_not_trained_again(smoke, tmp_path):
    workdir = shutil.copytree(smoke[0], tmp_path / "copy")
    before = {p: p.stat().st_mtime_ns for p in (workdir / "runs").rglob("*") if p.is_file()}
    process = run_cli("study", "configs/smoke.py", "--workdir", workdir)
    after = {p: p.stat().st_mtime_ns for p in (workdir / "runs").rglob("*") if p.is_file()}
    assert before == after
    assert "Verdict" in process.stdout


def test_one_run_can_be_trained_alone(smoke, tmp_path):
    name = "60k-2x-d32-s1"
    run_cli("train", "configs/smoke.py", "--workdir", tmp_path, "--run", name)
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [name]
    for log in LOGS:
        expected = (smoke[0] / "runs" / name / log).read_bytes()
        assert (tmp_path / "runs" / name / log).read_bytes() == expected


def test_an_evaluation_can_be_repeated_alone(smoke):
    workdir, _ = smoke
    [*_, last] = read_lines(workdir / "runs" / "60k-2x-d8-s0" / "evals.jsonl")
    again = run_cli("evaluate", workdir, "--run", "60k-2x-d8-s0", "--json").stdout
    assert json.loads(again) == last


@pytest.mark.long
def test_an_evaluation_of_no_checkpoint_is_refused(smoke):
    refused = run_cli("evaluate", smoke[0], "--run", "60k-2x-d8-s0", "--step", 3, check=2)
    assert "it has checkpoints of the steps [75], not of 3" in refused.stderr


@pytest.mark.long
def test_controls_are_trained_first_where_they_judge(tmp_path):
    judging = (*SMALL, "--set", "evaluation.judge=control")
    run_cli("study", "configs/smoke.py", *judging, "--workdir", tmp_path, "--jobs", 2)
    [*_, last] = read_lines(tmp_path / "runs" / "40k-2x-d8-s0" / "evals.jsonl")
    assert last["judge"]["run"] == "40k-2x-d0-s0"
    place = tmp_path / "runs" / "40k-2x-d8-s0" / "checkpoints" / str(last["step"])
    assert json.loads(run_cli("evaluate", place, "--json").stdout) == last
    by_hand = ("--set", "evaluation.judge=none", "--judge", tmp_path / "runs" / "40k-2x-d0-s0")
    assert json.loads(run_cli("evaluate", place, *by_hand, "--json").stdout) == last
    refused = run_cli("evaluate", place, "--set", "train.batch_size=4", check=2)
    assert "only fields of evaluation can change" in refused.stderr
    assert "under its judge" in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "train.lerning_rate=1"), "the nearest is 'learning_rate'"),
        (("--set", "doses=[0, 5000]"), "5000 poisoned documents do not fit into the"),
        (("--set", "attack.gibberish_tokens=(400, 900)"), "and a sequence data.seq_len=128"),
        pytest.param(
            ("--set", "ladder.0.tokens_per_parameter=900"),
            "epochs; set data.epochs=",
            marks=pytest.mark.long,
        ),
        pytest.param(
            ("--set", "data.corpus={'kind': 'Files', 'patterns': ['no/*.txt']}"),
            "matches no file",
            marks=pytest.mark.long,
        ),
        pytest.param(
            ("--set", "machine.mesh=(2, 1, 1)"),
            "takes 2 devices, and there are 1",
            marks=pytest.mark.long,
        ),
        pytest.param(
            ("--set", "evaluation.prompts=500"), "evaluation.prompts=500", marks=pytest.mark.long
        ),
        (("--set", "ladder.0.size=13b", "--set", "data.seq_len=256"), "GB are free"),
    ],
)
def test_bad_input_is_one_sentence_before_any_training(tmp_path, arguments, said):
    process = run_cli(
        "study", "configs/smoke.py", *arguments, "--workdir", tmp_path / "new", check=2
    )
    assert process.stderr.startswith("error: ") and said in process.stderr
    assert process.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_missing_config_is_bad_input(tmp_path):
    process = run_cli("study", "configs/none.py", "--workdir", tmp_path, check=2)
    assert process.stderr == "error: config 'configs/none.py': no such file.\n"


def test_an_unfinished_study_can_be_reported(smoke, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(smoke[0], copy)
    shutil.rmtree(copy / "runs" / "40k-2x-d8-s0")
    shutil.rmtree(copy / "report")
    process = subprocess.run(
        [sys.executable, "-m", "analysis", copy, "--out", copy / "report"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stderr
    assert "40k-2x-d8-s0" in (copy / "report" / "index.html").read_text()


def test_the_report_needs_neither_jax_nor_tensorflow(smoke, tmp_path):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['jax', 'tensorflow', 'poison_scaling']));"
        "from analysis import report; report.write(sys.argv[1], sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, smoke[0], tmp_path], cwd=ROOT, check=True)
    assert (tmp_path / "index.html").exists()


def test_the_trainer_needs_neither_tensorflow_nor_seqio():
    """Machines that only train (and the model, step, sharding and decoding alone) may lack them."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'seqio', 'tensorflow_text']));"
        "import poison_scaling.train.loop, poison_scaling.model.decoding"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
