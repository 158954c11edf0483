"""The report joins an audit with the study's N50: how many documents an attacker must submit."""

import json

import numpy as np
import pytest
from etils import epath

from analysis import report
from analysis.design.cells import crossed
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.errors import InputError
from analysis.files import read_json, write_json
from analysis.fit.estimates import as_json, wilson
from analysis.read.runs import as_submitted
from analysis.read.sources import load
from analysis.report import filtering
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


def audited(folder):
    rule = {"name": "gopher.long_words", "removes": "long words", "source": "a table"}

    def chain(name, kind, clean, caught):
        own = {"name": name, "kind": kind, "about": "", "filters": ["gopher"], "rules": [rule]}
        return {**own, "clean": tally(clean, 1000), "attacks": {"attack": tally(caught, 250)}}

    record = {
        "study": "s",
        "hash": "h",
        "model": "",
        "clean": {"documents": 1000, "of": 5000},
        "attacks": [{"field": "attack", "kind": "denial_of_service", "poisons": 250, "stages": []}],
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
    assert filtering.write(alone, alone)["chains"][0]["submitted"] == {}
    assert "90.0% (85.7 to 93.1)" in filtering.answer(alone)
    save(simulate(crossed(SQUARE), Truth(), 0), source)
    audited(source / "audit")
    found = filtering.write(source / "audit", source)
    assert len(found["chains"][0]["submitted"]) == 4
    json.loads((source / "audit" / "summary.json").read_text(), parse_constant=pytest.fail)


def test_a_damaged_audit_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no audit"):
        filtering.write(tmp_path)
    audited(epath.Path(tmp_path))
    record = read_json(tmp_path / "audit.json")
    record["chains"][0]["clean"]["removed"] = 10**6
    write_json(tmp_path / "audit.json", record)
    with pytest.raises(InputError, match=r"chains.0, clean: field 'removed'"):
        filtering.write(tmp_path)
