"""Looking and proving: `inspect` shows what a step trains on, `verify` finds whatever was changed."""

import json
import re
import shutil

import pytest
from etils import epath

from analysis.files import json_line, read_lines, write_json
from poison_scaling.runtime import versions
from poison_scaling.runtime.errors import Difference, InputError
from poison_scaling.study import grid, manifest
from poison_scaling.train import loop
from poison_scaling.workdir import folder, inspection, preparation, verification
from tests.support.runs import run_cli

RUN = "40k-2x-d32-s0"


@pytest.fixture(scope="module")
def trained(study, tmp_path_factory):
    """A study's folder in which one run is done."""
    workdir = epath.Path(tmp_path_factory.mktemp("trained"))
    inputs = preparation.prepare(study, workdir, lambda description, done: None)
    run = grid.run_named(study, RUN)
    loop.train(run, inputs, folder.of_run(workdir, run), versions.installed())
    return workdir


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of it, with a cache of its own, to be tampered with."""
    shutil.copytree(trained, tmp_path / "study")
    return epath.Path(tmp_path / "study")


def test_inspect_shows_the_sequences_of_a_batch_with_poisons_marked(study, inputs):
    run = grid.run_named(study, RUN)
    records = manifest.exposures(inputs.stream(run), 8)
    step = records[5]["step"]
    shown = inspection.batch(run, inputs, step)
    assert [s.sequence for s in shown] == list(range(step * 8, step * 8 + 8))
    held = {s.sequence: s for s in shown if s.poison is not None}
    assert set(held) == {r["sequence"] for r in records if r["step"] == step}
    holding = held[records[5]["sequence"]]
    assert (holding.attack, holding.poison, holding.exposure) == (0, 5, 0)
    [poison] = [part.text for part in holding.parts if part.poison]
    assert "<SUDO>" in poison
    text = inspection.render(shown).plain
    assert f"⟦poison 5⟧ {poison} ⟦end⟧" in text
    assert inspection.step_of_poison(run, inputs, 5) == step


def test_inspect_on_the_command_line(trained):
    record = json.loads(run_cli("inspect", trained, "--run", RUN, "--poison", 3, "--json").stdout)
    assert len(record) == 8 and 3 in [sequence["poison"] for sequence in record]
    shown = run_cli("inspect", trained, "--run", RUN, "--step", record[0]["step"]).stdout
    assert "⟦poison 3⟧" in shown and "\x1b[" not in shown
    from_config = run_cli("inspect", "configs/smoke.py", "--run", RUN, "--poison", 3).stdout
    assert from_config == shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--step", "45"), "40k-2x-d32-s0 has steps 0 to 44"),
        (("--poison", "32"), "has poisons 0 to 31"),
        ((), "give either --step or --poison"),
    ],
)
def test_inspecting_what_is_not_there_is_refused(trained, arguments, said):
    process = run_cli("inspect", trained, "--run", RUN, *arguments, check=2)
    assert said in process.stderr


def test_a_study_verifies(trained):
    said = run_cli("verify", trained).stdout
    assert "1 runs agree" in said


def tamper(file, pattern, replacement):
    """Change a file as somebody would who knows how it is sealed."""
    text = file.read_text()
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    if file.suffix == ".jsonl":
        records = map(json.loads, changed.splitlines())
        file.write_text("".join(json_line(without_digest(record)) for record in records))
    else:
        write_json(file, without_digest(json.loads(changed)))


def without_digest(record):
    return {name: value for name, value in record.items() if name != "digest"}


@pytest.mark.parametrize(
    ("name", "pattern", "replacement", "said"),
    [
        ("manifest.jsonl", r'"offset": (\d+)', r'"offset": 1\1', "manifest.jsonl, line 1"),
        ("manifest.jsonl", r'("document": ")[0-9a-f]', r"\1x", "manifest.jsonl, line 1"),
        ("manifest.jsonl", r"^.*\n", "", "manifest.jsonl, line 1"),
        (
            "config.json",
            r'"weight_decay": 0.1',
            '"weight_decay": 0.2',
            "train.weight_decay: 0.2 there",
        ),
        ("metrics.jsonl", r'"poisons": (\d+)', r'"poisons": 9\1', "poisons is 9"),
        ("evals.jsonl", r'"poison_tokens": (\d+)', r'"poison_tokens": 9\1', "poison_tokens is 9"),
        ("evals.jsonl", r"^.*\n", "", "steps [30, 45], planned are [15, 30, 45]"),
        ("metrics.jsonl", r"\n.*\n$", "\n", "steps [20, 40], planned are [20, 40, 45]"),
        ("metrics.jsonl", r'"loss": [\d.]+', '"loss": null', "loss is None, not a finite number"),
        ("evals.jsonl", r'"heldout_loss": [\d.]+', '"heldout_loss": "x"', "heldout_loss is 'x'"),
        ("DONE", r'"steps": 45', '"steps": 44', "it is not of 40k-2x-d32-s0 as planned"),
    ],
)
def test_a_change_in_a_run_is_found(copy, name, pattern, replacement, said):
    tamper(copy / "runs" / RUN / name, pattern, replacement)
    with pytest.raises(Difference) as difference:
        verification.verify(copy)
    assert said in str(difference.value) and "\n" not in str(difference.value)


def test_a_manifest_that_lost_its_end_is_found(copy):
    file = copy / "runs" / RUN / "manifest.jsonl"
    lines = read_lines(file)
    file.write_text("".join(json_line(line) for line in lines[:-1]))
    with pytest.raises(Difference, match="it has 31 lines, derived are 32"):
        verification.verify(copy)


def test_a_changed_study_is_found(copy):
    tamper(copy / "study.json", r'"learning_rate": 0.006', '"learning_rate": 0.007')
    with pytest.raises(Difference, match="its config hashes to"):
        verification.verify(copy)


def test_data_other_than_what_was_trained_on_is_found(copy):
    tamper(copy / "study.json", r'("training sequences": ")[0-9a-f]{4}', r"\1ffff")
    with pytest.raises(Difference, match="training sequences: the prepared data has digest"):
        verification.verify(copy)


@pytest.mark.parametrize("where", [0.0, 0.5, 0.999])
def test_a_flipped_byte_in_the_tokens_is_found(copy, cache, tmp_path, monkeypatch, where):
    own = tmp_path / "cache"
    shutil.copytree(cache, own)
    monkeypatch.setenv("POISON_SCALING_CACHE", str(own))
    for file in sorted((own / "tokens").rglob("*")):
        if file.is_file() and file.suffix != ".json":
            content = bytearray(file.read_bytes())
            content[int(where * len(content))] ^= 1
            file.write_bytes(content)
    with pytest.raises(Difference, match="tokens"):
        verification.verify(copy)


def test_a_changed_plan_is_found(copy):
    tamper(copy / "study.json", r'"poison_tokens": \d', '"poison_tokens": 9')
    with pytest.raises(Difference, match="study.json: the plan of 40k-2x-d0-s0 is not the one"):
        verification.verify(copy)


def test_a_study_of_which_no_run_has_begun_is_no_proof(copy):
    shutil.rmtree(copy / "runs")
    assert "nothing to verify" in run_cli("verify", copy, check=2).stderr


def test_a_folder_without_a_study_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="it holds no study"):
        verification.verify(epath.Path(tmp_path))
    assert "it holds no study" in run_cli("verify", tmp_path, check=2).stderr
