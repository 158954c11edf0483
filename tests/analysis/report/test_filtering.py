"""The report joins an audit with the study's N50: how many documents an attacker must submit."""

import json
import shutil

import numpy as np
import pytest
from etils import epath

from analysis import report
from analysis.design.cells import crossed
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.errors import InputError
from analysis.files import read_json, write_json
from analysis.fit import findings as findings_lib
from analysis.fit.estimates import Estimate, as_json, wilson
from analysis.read import audits
from analysis.read.runs import as_submitted, at_threshold
from analysis.read.sources import load
from analysis.report import filtering
from analysis.report.filter_figures import Joined
from tests.analysis.sealing import rewrite_lines

SQUARE = tuple((name, n, n * r) for name, n in (("S", 1e8), ("L", 4e8)) for r in (10, 40))


def tally(removed, documents, rule="gopher.long_words"):
    return {
        "documents": documents,
        "removed": removed,
        "share": as_json(wilson(removed, documents)),
        "filters": {rule.partition(".")[0]: removed},
        "rules": {rule: removed},
        "examples": {rule: ["<b>=cmd</b>"]},
        "examples_kept": [],
    }


def audited(folder, attacks=("attack",), stages=None):
    """Write an audit; a filter catches 90% of the poisons of each attack."""
    rule = {"name": "gopher.long_words", "removes": "long words", "source": "a table"}

    def chain(name, kind, clean, caught):
        own = {"name": name, "kind": kind, "about": "", "filters": ["gopher"], "rules": [rule]}
        found = {field: tally(caught, 250) for field in attacks}
        return {**own, "clean": tally(clean, 1000), "attacks": found}

    record = {
        "study": "s",
        "hash": "h",
        "model": "",
        "clean": {"documents": 1000, "of": 5000},
        "attacks": [
            {"field": field, "kind": "denial_of_service", "poisons": 250}
            | {"stages": (stages or {}).get(field, [])}
            for field in attacks
        ],
        "chains": [chain("gopher", "filter", 30, 225), chain("fineweb", "pipeline", 90, 250)],
    }
    write_json(folder / "audit.json", record)


def test_a_report_says_what_an_attacker_must_submit(tmp_path):
    source = epath.Path(tmp_path) / "study"
    save(simulate(crossed(SQUARE), Truth(), 0), source)
    audited(source / "audit")
    summary = report.write(source, tmp_path / "report")
    gopher, fineweb = summary["filters"]["chains"]
    assert gopher["caught"]["attack"]["value"] == pytest.approx(0.9)
    for n50 in summary["n50"]:
        found = gopher["submitted"][n50["group"]]
        assert found["value"] == pytest.approx(10 * n50["n50"])
        assert found["low"] < 10 * n50["low"] and found["high"] > 10 * n50["high"]
        beyond = fineweb["submitted"][n50["group"]]
        assert beyond["value"] is None and beyond["low"] > found["low"]
    page = (epath.Path(tmp_path) / "report" / "index.html").read_text()
    assert "Corpus filters" in page and "<b>=cmd" not in page
    assert {"filters", "submitted"} <= set(summary["figures"])


def test_a_study_with_filters_may_count_poisons_as_submitted(tmp_path):
    source = epath.Path(tmp_path) / "study"
    save(simulate(crossed(SQUARE), Truth(), 0), source)
    with pytest.raises(InputError, match="data.filters"):
        report.write(source, tmp_path / "report", submitted=True)
    for path in source.glob("runs/*/evals.jsonl"):
        rewrite_lines(path, lambda line: {**line, "submitted": 4 * line["poisons"]})
    trained = load(source)
    submitted = as_submitted(trained)
    assert submitted.name.endswith("poisons as submitted") and "submitted" in submitted.notes[-1]
    for before, after in zip(trained.runs, submitted.runs, strict=True):
        assert np.array_equal(after.evaluations["poisons"], 4 * before.evaluations["poisons"])
        assert np.array_equal(after.success, before.success)


def test_an_audit_has_a_page_of_its_own_with_and_without_a_trained_study(tmp_path):
    alone, source = epath.Path(tmp_path) / "alone", epath.Path(tmp_path) / "study"
    audited(alone)
    assert filtering.write(alone)["chains"][0]["submitted"] == {}
    assert "90.0% (85.7 to 93.1)" in filtering.answer(alone)
    save(simulate(crossed(SQUARE), Truth(), 0), source)
    audited(source / "audit")
    found = filtering.write(source / "audit", source)
    assert len(found["chains"][0]["submitted"]) == 4
    json.loads((source / "audit" / "summary.json").read_text(), parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study of two budgets, with its audit."""
    source = epath.Path(tmp_path_factory.mktemp("trained")) / "study"
    groups = tuple(("S", 1e8, 1e8 * ratio) for ratio in (10, 40))
    save(simulate(crossed(groups, (0, 100, 250, 500), 2, 5), Truth(), 0), source)
    audited(source / "audit")
    return source


def changed(source, place, change):
    """Copy a study with other entries in its study.json, and return the copy."""
    shutil.copytree(source, place)
    record = read_json(place / "study.json")
    record["runs"] = [change(entry) for entry in record["runs"]]
    write_json(place / "study.json", record)
    return epath.Path(place)


def test_exposures_of_one_document_are_submitted_once(trained, tmp_path):
    place = changed(trained, tmp_path / "study", lambda run: run | {"exposures": 4})
    once = filtering.write(trained / "audit", trained)
    often = filtering.write(place / "audit", place)
    for label, found in once["chains"][0]["submitted"].items():
        assert often["chains"][0]["submitted"][label]["value"] == pytest.approx(found["value"] / 4)
    page = (place / "audit" / "index.html").read_text()
    assert "divided by the exposures of each document: 4 in S, 1B tokens, 4 in S, 4B tokens" in page
    study = load(place)
    assert {group.exposures for group in study.groups()} == {4}
    assert study.terms.lead.startswith("Exposures of poisoned documents")
    assert load(trained).terms.lead.startswith("Poisoned documents")
    assert "exposures of each" not in (trained / "audit" / "index.html").read_text()


def staged(run, seed_of_root):
    """Return the entry of a run as that of a stage, labelled by its budget, after one of two roots."""
    label = f"spread{run['tokens'] / 1e6:.0f}"
    return run | {"stage": label, "parent": f"S-20x-d{seed_of_root[run['seed']]}-s{run['seed']}"}


def test_stages_are_joined_by_the_labels_that_the_study_gives_them(trained, tmp_path):
    """Labels of one series and those of several ancestors are rewritten for the law, not for the audit."""
    roots = {"0": 0, "1": 250}
    place = changed(trained, tmp_path / "study", lambda run: staged(run, roots))
    shutil.rmtree(place / "audit")
    labels = {"stages.0.0.attack": ["spread1000"], "stages.0.1.attack": ["spread4000"]}
    audited(place / "audit", tuple(labels), labels)
    found = filtering.write(place / "audit", place)["chains"][0]["submitted"]
    assert len(found) == 4 and all("after 20x-d" in label for label in found)
    audited(place / "audit", ("stages.0.0.attack",), labels)
    found = filtering.write(place / "audit", place)["chains"][0]["submitted"]
    assert len(found) == 2
    page = (place / "audit" / "index.html").read_text()
    assert "is not known, because the audit does not have the attack of these runs" in page


def test_n50_is_counted_by_the_rule_of_the_study(trained, tmp_path):
    place = changed(trained, tmp_path / "study", dict)
    rule = {"question": "data", "margin": 0.25, "threshold": 400.0, "looks": 5}
    record = read_json(place / "study.json")
    record["analyses"] = [{"analysis": rule, "runs_begun": 0}]
    write_json(place / "study.json", record)
    own = filtering.write(place / "audit", place)["chains"][0]["submitted"]
    for n50 in findings_lib.find(at_threshold(load(place), 400.0)).n50s:
        assert own[n50.group.label]["value"] == pytest.approx(10 * n50.poisons.value)
    for n50 in findings_lib.find(load(place)).n50s:
        assert own[n50.group.label]["value"] != pytest.approx(10 * n50.poisons.value, rel=1e-3)


def test_a_study_that_cannot_be_read_is_said_and_one_not_evaluated_yet_is_no_error(
    trained, tmp_path
):
    place = changed(trained, tmp_path / "study", dict)
    for run in (place / "runs").iterdir():
        (run / "evals.jsonl").unlink()
        (run / "DONE").unlink()
    assert filtering.write(place / "audit", place)["chains"][0]["submitted"] == {}
    page = (place / "audit" / "index.html").read_text()
    assert "N50 submitted is not known yet" in page
    broken = changed(trained, tmp_path / "broken", lambda run: run | {"dose": "many"})
    with pytest.raises(InputError, match="field 'dose' is 'many'"):
        filtering.write(broken / "audit", broken)


def test_siblings_that_are_read_as_one_survive_as_one(tmp_path):
    fields = ("also.0.attack", "also.1.attack")
    audited(epath.Path(tmp_path), fields)
    audit = audits.read(tmp_path)
    assert [audit.field(n, None, "") for n in (0, 1, 2)] == [None, *fields]
    n50 = Estimate(100.0, 50.0, 200.0)
    one, both = (
        Joined("S", 1.0, n50, own).survival(audit.chains[0]) for own in (fields[:1], fields)
    )
    assert one.value == both.value == pytest.approx(0.1)
    assert one.low < both.low < both.high < one.high


def test_a_damaged_audit_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no audit"):
        filtering.write(tmp_path)
    audited(epath.Path(tmp_path))
    record = read_json(tmp_path / "audit.json")
    record["chains"][0]["clean"]["removed"] = 10**6
    write_json(tmp_path / "audit.json", record)
    with pytest.raises(InputError, match=r"chains.0, clean: field 'removed'"):
        filtering.write(tmp_path)
