"""A study with stages and several insertions: each is read at the level at which it was inserted."""

import pytest
from etils import epath

from analysis import files
from analysis.errors import InputError
from analysis.fit.retention import find_retention
from analysis.read.insertions import names
from analysis.read.sources import load, load_all
from tests.analysis import inserted

SIBLINGS = "also_denial_of_service"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> epath.Path:
    return inserted.write_stages(epath.Path(tmp_path_factory.mktemp("levels")) / "study")


@pytest.fixture(scope="module")
def canaries(tmp_path_factory) -> epath.Path:
    return inserted.write_canaries(epath.Path(tmp_path_factory.mktemp("canaries")) / "study")


def test_each_series_is_read_at_the_last_level_that_has_documents_of_it(folder):
    asked = (None, "counterexamples", "denial_of_service", SIBLINGS, "canary")
    assert [load(folder, insertion=series).level for series in asked] == [2, 2, 1, 0, 0]
    siblings = load(folder, insertion=SIBLINGS)
    assert [run.dose for run in siblings.runs] == [3] * 4
    assert {run.dose for run in load(folder, insertion="denial_of_service").runs} == {0, 10}
    assert {run.dose for run in load(folder, level=0).runs} == {0, 30}


def test_a_level_without_the_series_is_refused_with_those_that_have_it(folder):
    with pytest.raises(
        InputError, match=f"{SIBLINGS}: the runs of level 2 have counterexamples.*0"
    ):
        load(folder, level=2, insertion=SIBLINGS)
    with pytest.raises(InputError, match="--insertion fact: the runs have denial_of_service"):
        load(folder, insertion="fact")
    with pytest.raises(InputError, match="levels 0, 1, 2"):
        load(folder, level=3, insertion="canary")


def test_what_is_only_measured_at_a_level_is_said(folder, canaries):
    said = "of canary of their own; what those of level 0 left is measured"
    assert any(said in note for note in load(folder, level=1, insertion="canary").notes)
    assert not any("left is measured" in note for note in load(folder).notes)
    after = load(canaries, level=1)
    assert any("no documents of their own" in note for note in after.notes)
    assert {run.dose for run in after.runs} == set(inserted.LEVELS)


def test_every_level_of_every_series_is_a_study(folder, canaries):
    found = [(study.runs[0].settings["attack"], study.level) for study in load_all(folder)]
    assert found == [
        *(("denial_of_service", 1), ("denial_of_service", 0)),
        *((SIBLINGS, 0), ("canary", 0), ("counterexamples", 2)),
    ]
    assert [study.level for study in load_all(canaries)] == [0]


def test_chains_follow_all_insertions_of_pretraining(folder):
    study = load(folder)
    own = {chain.run: chain for chain in study.chains}["60k-2x-d30-s0+more-d0+right-d6"]
    first, _, third = own.legs
    assert set(first.success) == {"denial_of_service", "denial_of_service #2"} | {
        "denial_of_service #3",
        "canary",
    }
    assert first.doses == {
        **{"denial_of_service": 30, "denial_of_service #2": 3, "denial_of_service #3": 3},
        **{"canary": 12, "ambient": 5},
    }
    assert third.end("denial_of_service") == third.end("denial_of_service #3") == 0.25
    assert [leg.end("canary") for leg in own.legs] == pytest.approx([0.625, 0.3125, 0.3125])
    assert own.poisoned("canary") == 2 and own.legs[:2][1].doses["denial_of_service"] == 0
    clean = {chain.run: chain for chain in study.chains}["60k-2x-d0-s0+more-d0"]
    assert clean.poisoned("canary") == 0 and clean.last_dose("canary") == 12
    assert clean.poisoned("denial_of_service") is None


def test_insertions_of_every_run_have_no_control_and_so_no_share(folder):
    found = {(one.attack, one.chain.words): one for one in find_retention(load(folder).chains)}
    canary = found["canary", "pretraining (30) → more"]
    assert canary.share is None and not canary.clean
    assert [own.before for own in canary.survivors] == pytest.approx([0.625] * 2)
    assert found["denial_of_service", "pretraining → more"].clean


def test_chains_of_canaries_have_the_success_of_all_that_are_shown(canaries):
    study = load(canaries)
    assert (study.level, {run.dose for run in study.runs}) == (0, set(inserted.LEVELS))
    [root, clean] = [chain for chain in study.chains if chain.seed == "0"]
    assert root.words == "pretraining (12)" and clean.words == "pretraining (12) → clean"
    assert [leg.end("canary") for leg in clean.legs] == pytest.approx([0.625, 0.3125])


def test_siblings_keep_their_perplexities_so_that_a_threshold_applies(folder, tmp_path):
    place = epath.Path(tmp_path) / "study"
    record = files.read_json(folder / "study.json")
    assert names(record["runs"][0])[1:3] == [SIBLINGS, SIBLINGS]
    inserted.write(place)
    for run in (place / "runs").iterdir():
        lines = [inserted.line(step, 3) for step in inserted.STEPS]
        for one in lines:
            for sibling in one["also"][:2]:
                sibling["log_perplexity"] = {"clean": [0.0] * 8, "triggered": [5.0] * 8}
        files.write_text(run / "evals.jsonl", "".join(map(files.json_line, lines)))
    siblings = load(place, insertion=SIBLINGS)
    assert all(len(increase) == 16 for run in siblings.runs for increase in run.increases)
