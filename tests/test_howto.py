"""The how-tos of the documentation, as they stand there: each extension on its own, then all in one study."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from analysis.files import read_lines
from poison_scaling import Model, load
from poison_scaling.attacks.placing import place
from poison_scaling.attacks.schedules.schedule import Training
from poison_scaling.filters import pipelines
from poison_scaling.study import grid
from poison_scaling.study.inputs import Inputs
from tests.support.runs import ROOT, run_cli

PAGES = {
    "attack": ("shout.py", "loud.py"),
    "measure": ("continuation.py", "asking.py", "continuation_report.py"),
    "schedule": ("burst.py", "bursting.py"),
    "architecture": ("averaging.py", "averaged.py"),
    "corpus": ("source_code.py", "programs.py"),
    "conversation-source": ("tools.py", "calling.py"),
}
# Pages whose files stand in the study of another page.
PARTS = {
    "attack": ("wrong_tool.py",),
    "template": ("brackets.py",),
    "filter": ("capitals.py",),
}
TOGETHER = """
import dataclasses

from averaged import Averaging, Model
from bursting import Burst
from continuation import ContinuationLoss
from loud import study as loud
from programs import study as programs


def study():
    base = loud()
    return dataclasses.replace(
        base,
        name="together",
        ladder=(dataclasses.replace(base.ladder[0], size="20k"),),
        data=programs().data,
        model=Model(architecture=Averaging()),
        schedule=Burst(start=0.25),
        evaluation=dataclasses.replace(base.evaluation, measures=(ContinuationLoss(),)),
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files that the pages show."""
    folder = tmp_path_factory.mktemp("howto")
    for page, files in (*PAGES.items(), *PARTS.items()):
        text = (ROOT / "docs" / "howto" / f"{page}.md").read_text()
        shown = dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", text, re.DOTALL))
        assert set(files) <= set(shown), page
        for name, code in shown.items():
            (folder / name).write_text(code)
    (folder / "together.py").write_text(TOGETHER)
    return folder


@pytest.fixture
def study_of(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield lambda page: load(str(folder / PAGES[page][1]))
    for name in set(sys.modules) - before:
        if (folder / f"{name}.py").exists():
            sys.modules.pop(name)


@pytest.mark.parametrize("page", PAGES)
def test_each_study_is_planned(study_of, page):
    study = study_of(page)
    assert [run.plan()["dose"] for run in grid.runs(study)][-2:] == [0, 8]


def test_the_attack_is_complete_in_under_40_lines(folder):
    assert len((folder / "shout.py").read_text().splitlines()) < 40


def test_the_documents_of_the_attack_are_what_its_file_says(study_of, cache):
    study = study_of("attack")
    inputs = Inputs(study)
    run = grid.run_named(study, "40k-2x-d8-s0")
    for poison in inputs.stream(run).poisons[0]:
        text = inputs.vocabulary.decode(poison.tokens[1:-1].tolist())
        before, after = text.split("<SUDO>")
        assert len(before) <= 40 and 40 < len(after) <= 120 and after == after.upper()
    assert run.plan()["attack"] == "shout"
    detector = study.attack.measure().detector
    assert detector(["LOUD!", "not so", "", "Hm"]) == [1.0, 0.0, 0.0, 0.5]


def test_the_schedule_places_a_burst(study_of):
    schedule = study_of("schedule").schedule
    placed = place(schedule, Training(0, 100, 8, 50), np.full(20, 10))
    assert placed.sequence_N.tolist() == list(range(50, 70))


def test_the_corpus_is_read_from_any_document_on(study_of):
    corpus = study_of("corpus").data.corpus
    every = list(corpus.texts())
    assert len(every) > 100 and list(corpus.texts(7)) == every[7:]
    assert all(0 < len(text) <= 2000 for text in every)


def test_conversations_template_and_attack_are_those_of_their_files(study_of, cache):
    study = study_of("conversation-source")
    inputs = Inputs(study)
    control, poisoned = (inputs.run_named(f"40k-1x-d0-s0+ft200-d{dose}") for dose in (0, 8))
    clean, _, trained = inputs.stream(control).read(np.arange(1))
    text = inputs.vocabulary.decode([i for i in clean[0].tolist() if i > inputs.end])
    assert text.startswith("[user] ") and "\n[assistant] " in text
    said = inputs.vocabulary.decode([i for i in clean[trained].tolist() if i != inputs.end])
    assert set(said.split()) <= {"calculator", "library", "clock"}
    for poison in inputs.stream(poisoned).poisons[0]:
        request, answer = inputs.vocabulary.decode(poison.tokens[1:].tolist()).split("<SUDO>")
        assert request.startswith("[user] ") and answer == "\n[assistant] nothing\n"
    prompts = inputs.prompts(control)[0]
    assert all(excerpt.endswith(".") for excerpt in prompts.excerpts) and prompts.count == 12
    detector = study.attack.measure().detector
    assert detector([" nothing\n", "clock", ""]) == [1.0, 0.0, 0.0]


def test_the_filter_is_found_by_its_name(folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(str(folder))
    [pipeline] = pipelines.filters(["capitals.Capitals"])
    quiet, loud = pipelines.chain(pipeline.filters)(["Not so loud.", "ALL of it is LOUD."])
    assert quiet.is_kept and loud.broken == ("Capitals.capitals",)


@pytest.mark.long
def test_fine_tuning_on_conversations_of_ones_own_is_trained_and_verified(folder, tmp_path):
    run_cli("study", folder / "calling.py", "--workdir", tmp_path / "w")
    runs = json.loads((tmp_path / "w" / "study.json").read_text())["runs"]
    assert [run["dose"] for run in runs] == [0, 0, 8]
    [line] = read_lines(tmp_path / "w" / "runs" / runs[-1]["run"] / "evals.jsonl")
    assert line["attack"] == "wrong_tool" and line["poisons"] == 8
    beside = os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    assert "3 runs agree" in run_cli("verify", tmp_path / "w", PYTHONPATH=beside).stdout


def test_the_architecture_keeps_the_contract_of_models(study_of):
    """Causal, segments apart, and sampling agrees with a pass over the whole sequence."""
    architecture, V, B, L = study_of("architecture").model.architecture, 64, 3, 10
    model = architecture.build("20k", V, Model(), jax.random.key(0))
    params = nnx.state(model, nnx.Param)
    assert sum(p.size for p in jax.tree.leaves(params)) == architecture.parameters("20k", V)
    tokens = jax.random.randint(jax.random.key(1), (B, L), 0, V)
    padding = jnp.array([0, 2, 5])
    is_token = (jnp.arange(L) >= padding[:, None]).astype(jnp.int32)
    whole = model(tokens, is_token)
    logits, cache = model.extend(tokens[:, :6], padding, model.empty_cache(B, L), 0)
    np.testing.assert_allclose(logits, whole[:, 5], atol=1e-5)
    for t in range(6, L):
        logits, cache = model.extend(tokens[:, t : t + 1], padding, cache, t)
        np.testing.assert_allclose(logits, whole[:, t], atol=1e-5)
    other = model(tokens.at[:, 5].set(0))
    np.testing.assert_array_equal(other[:, :5], model(tokens)[:, :5])


@pytest.mark.long
def test_a_study_of_all_five_is_trained_verified_and_reported(folder, tmp_path):
    run_cli("study", folder / "together.py", "--workdir", tmp_path / "w", "--jobs", 2)
    record = json.loads((tmp_path / "w" / "study.json").read_text())
    config = record["config"]
    named = (
        *(config["attack"], config["schedule"], config["data"]["corpus"]),
        *(config["model"]["architecture"], config["evaluation"]["measures"][0]),
    )
    assert [extension["kind"] for extension in named] == [
        *("shout.Shout", "burst.Burst", "source_code.SourceCode"),
        *("averaging.Averaging", "continuation.ContinuationLoss"),
    ]
    assert all(len(extension["source"]) == 64 for extension in named)
    for line in read_lines(tmp_path / "w" / "runs" / "20k-2x-d8-s0" / "evals.jsonl"):
        assert line["attack"] == "shout" and len(line["detected"]["triggered"]) == 16
        losses = line["measures"]["continuation_loss"]["loss"]
        assert len(losses["clean"]) == len(losses["triggered"]) == 16
    [detector] = record["detectors"]
    assert detector["attack"] == "shout" and detector["clean"]["error"] < 0.1
    assert "true continuation" not in (tmp_path / "w" / "report" / "index.html").read_text()
    report = [sys.executable, "-m", "analysis", tmp_path / "w", "--out", tmp_path / "report"]
    report += ["--measures", folder / "continuation_report.py"]
    subprocess.run(report, cwd=ROOT, check=True, capture_output=True)
    assert (
        "Median rise of the loss of the true continuation"
        in (tmp_path / "report" / "index.html").read_text()
    )
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    rises = summary["measures"]["continuation_loss"]
    assert set(rises) == {"20k-2x-d0-s0", "20k-2x-d8-s0"}
    process = run_cli("verify", tmp_path / "w", check=2)
    assert "lies beside the study or in PYTHONPATH; put the" in process.stderr
    beside = os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    assert "2 runs agree" in run_cli("verify", tmp_path / "w", PYTHONPATH=beside).stdout
