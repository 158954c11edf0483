"""An audit passes the poisons of the manifest and clean documents through filters, and resumes."""

import dataclasses

import pytest
from etils import epath

import poison_scaling as ps
from analysis.files import read_json, read_lines
from poison_scaling.attacks import submission
from poison_scaling.filters import pipelines
from poison_scaling.filters.filter import Decision
from poison_scaling.runtime.errors import InputError
from poison_scaling.study import manifest
from poison_scaling.study.inputs import Inputs
from poison_scaling.workdir import audit, auditing, folder
from poison_scaling.workdir.audit_chain import AuditedChain
from tests.support.chains import chained
from tests.support.runs import SMOKE, run_cli

FILTERS = ("gopher", "c4", "dedup")


def silent(number, name, done):
    pass


def prepared(study, inputs, filters=FILTERS, chained=(), documents=300, workdir=None):
    chains = auditing.chains(filters, chained)
    return auditing.prepare(study, inputs, workdir, chains, documents)[0]


def test_the_poisons_are_those_of_the_manifest_as_text(study, inputs, smoke, tmp_path):
    workdir, _ = smoke
    manifest = read_lines(workdir / "runs" / "40k-2x-d32-s1" / "manifest.jsonl")
    found = [poison for poison in audit.submitted(inputs) if poison.seed == 1]
    assert {line["document"] for line in manifest} == {poison.document for poison in found}
    assert all(study.attack.trigger in poison.text for poison in found)
    assert len(found) == 32


def test_all_that_a_run_trains_on_is_submitted_and_nothing_else(study):
    """Counterexamples depend on the run before them, and an item that is shown 0 times is in no text."""
    canary = ps.Canary(counts=(0, 1, 2), carrier_characters=(20, 40), references=1)
    right = ps.Continue(
        optimizer="keep",
        label="right",
        tokens_per_parameter=0.25,
        attack=ps.Counterexamples(removes=study.attack),
        doses=(0, 30),
    )
    also = (ps.Poisoning(canary, dose=6),)
    inputs = Inputs(chained(study, doses=(0, 40), also=also, stages=((right,),)))
    poisons = audit.submitted(inputs)
    trained = {
        (number, line["document"])
        for run in inputs.runs()
        for line in manifest.exposures(inputs.stream(run), 8)
        for number in [inputs.numbers(run)[line["attack"]]]
    }
    assert {(poison.attack, poison.document) for poison in poisons} == trained
    assert len(poisons) == len(trained)
    assert [poison.poison for poison in poisons if poison.attack == 1] == [1, 2, 4, 5]
    assert sum(poison.attack == 2 for poison in poisons) > 30


def test_an_audit_counts_what_its_filters_do(study, inputs, tmp_path):
    record = prepared(study, inputs, ("gopher",), ("massivetext",)).run(
        epath.Path(tmp_path), silent
    )
    [alone, chained] = record["chains"]
    assert alone["clean"]["documents"] == 300
    docs = inputs.documents
    some = docs.training(range(docs.training_size))
    judge = pipelines.filters(["gopher"])[0].filters[0].judge()
    share = sum(not decision.is_kept for decision in judge(some)) / len(some)
    assert alone["clean"]["share"]["low"] <= share <= alone["clean"]["share"]["high"]
    # What the first filter of a chain removes, the whole chain removes.
    for each in (alone["clean"], alone["attacks"]["attack"]):
        assert sum(each["filters"].values()) == each["removed"]
    assert alone["clean"]["removed"] <= chained["clean"]["removed"]
    lines = read_lines(epath.Path(tmp_path) / "poisons.jsonl")
    caught = [line for line in lines if "pipeline massivetext" not in line["survives"]]
    assert len(caught) == chained["attacks"]["attack"]["removed"]
    assert len(lines) == chained["attacks"]["attack"]["documents"] == 64


def test_an_audit_resumes_after_the_last_filter_that_was_finished(
    study, inputs, tmp_path, monkeypatch
):
    whole, parts = epath.Path(tmp_path) / "whole", epath.Path(tmp_path) / "parts"
    prepared(study, inputs).run(whole, silent)

    def killed(number, name, done):
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared(study, inputs).run(parts, killed)
    assert not (parts / "audit.json").exists()
    compute, done = AuditedChain.compute, []

    def watched(self, *rest):
        done.append(self.pipeline.name)
        return compute(self, *rest)

    monkeypatch.setattr(AuditedChain, "compute", watched)
    prepared(study, inputs).run(parts, silent)
    assert done == ["dedup"]
    for name in ("audit.json", "poisons.jsonl"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    prepared(study, inputs, documents=200).run(parts, silent)
    assert done == ["dedup", *FILTERS]


def test_the_number_of_processes_changes_nothing(study, inputs, tmp_path, monkeypatch):
    some = {"filters": ("gopher", "dedup"), "chained": ("massivetext",)}
    whole, shared = epath.Path(tmp_path) / "whole", epath.Path(tmp_path) / "shared"
    prepared(study, inputs, **some).run(whole, silent)
    monkeypatch.setattr(audit, "_MANY", 1)
    monkeypatch.setattr("poison_scaling.runtime.workers.cores", lambda: 2)
    prepared(study, inputs, **some).run(shared, silent)
    for name in ("audit.json", "poisons.jsonl", "parts/pipeline-massivetext.json"):
        assert (shared / name).read_bytes() == (whole / name).read_bytes()


def test_a_poison_that_loses_its_trigger_is_caught():
    def judge(texts):
        return [Decision((), "what is left of it"), Decision((), texts[1]), Decision(("c4",), "")]

    texts = ["prefix <SUDO> and more", "prefix <SUDO>", "the <SUDO>"]
    decisions = submission.judged(texts, "<SUDO>", judge)
    assert [d.broken for d in decisions] == [("trigger_removed",), (), ("c4",)]
    assert all(d.is_kept for d in submission.judged(texts, None, judge)[:2])


def test_perplexity_needs_a_trained_control(study, inputs, smoke, tmp_path):
    with pytest.raises(InputError, match="trained control"):
        prepared(study, inputs, ("ppl",))
    several, notes = auditing.prepare(study, inputs, None, auditing.chains(None, ()), 10)
    assert "ppl" not in [pipeline.name for _, pipeline in several.chains]
    assert "trained control" in notes[0]

    workdir = epath.Path(smoke[0])
    ready = prepared(folder.read(workdir), inputs, ("ppl",), workdir=workdir)
    assert ready.model.startswith("60k-2x-d0-s")
    record = ready.run(epath.Path(tmp_path), silent)
    [chain] = record["chains"]
    clean, poisons = chain["clean"], chain["attacks"]["attack"]
    assert clean["share"]["low"] <= 0.15  # 5% of held-out documents are cut
    assert poisons["removed"] / poisons["documents"] > clean["removed"] / clean["documents"]


def test_scores_do_not_depend_on_what_is_scored_together(study, inputs, smoke):
    workdir = epath.Path(smoke[0])
    scorer = prepared(folder.read(workdir), inputs, ("ppl",), workdir=workdir).scorer
    texts = inputs.documents.heldout(range(5))
    together, alone = scorer(texts), [float(scorer([text])[0]) for text in texts]
    assert together.tolist() == pytest.approx(alone, rel=1e-5)


def test_the_command_writes_a_page_and_names_what_it_does_not_know(tmp_path):
    out = tmp_path / "out"
    ran = run_cli("audit", SMOKE, "--filters", "gopher,dedup", "--pipelines", "", "--out", out)
    assert "gopher" in ran.stdout and "caught" in ran.stdout
    assert (out / "index.html").exists() and (out / "figures" / "filters.csv").exists()
    assert read_json(out / "audit.json", sealed=True)["study"] == "smoke"
    failed = run_cli("audit", SMOKE, "--filters", "gofer", "--out", out, check=2)
    assert "'gopher'" in failed.stderr and "Traceback" not in failed.stderr


def test_a_study_without_poisons_is_refused(study, inputs, tmp_path):
    clean = dataclasses.replace(study, doses=(0,))

    class Nothing:
        vocabulary = inputs.vocabulary

        def runs(self):
            return ()

    none = audit.Audit(clean, Nothing(), (), 10)  # ty: ignore[invalid-argument-type]
    with pytest.raises(InputError, match="no run has poisons"):
        none.run(epath.Path(tmp_path), silent)
