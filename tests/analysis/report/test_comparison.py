"""A comparison decides each study by the rule that it fixed, and reads tables under other names."""

import json

import pytest
from etils import epath

from analysis import files
from analysis.__main__ import main
from analysis.design.cells import crossed
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.report import comparison

SMALL = crossed((("S", 1e8, 1e9),), (0,), seeds=1, evaluations=2)


@pytest.fixture
def two(tmp_path):
    """Two studies without poison, which take no time to analyse."""
    places = [epath.Path(tmp_path) / name for name in ("one", "other")]
    for place in places:
        save(simulate(SMALL, Truth(), 0), place)
    return places


def fix(place, margin):
    rule = {"question": "data", "margin": margin, "threshold": None, "looks": 5}
    record = files.read_json(place / "study.json")
    record["analyses"] = [{"analysis": rule, "runs_begun": 0}]
    files.write_json(place / "study.json", record)


def test_each_study_is_decided_by_its_own_rule(two, tmp_path):
    fix(two[0], 0.1)
    summary = comparison.write(*two, tmp_path / "out")
    assert [one["settings"]["margin"] for one in summary["studies"]] == [0.1, 0.25]
    assert "different rules" in summary["rules"] and "margin 0.1" in summary["rules"]
    assert "different rules" in (tmp_path / "out" / "index.html").read_text()
    assert "different rules" in comparison.answer(summary)


def test_another_rule_is_exploratory(two, tmp_path):
    fix(two[0], 0.1)
    summary = comparison.write(*two, tmp_path / "out", margin=0.3)
    assert "same rule: margin 0.3" in summary["rules"]
    assert "Exploratory" in summary["studies"][0]["answer"]["words"]
    assert not summary["studies"][1]["departures"]


def test_columns_name_those_of_the_tables(two, tmp_path, capsys):
    lines = [f"r{dose},1e6,2e7,{dose},0,{dose},0.1" for dose in (0, 9)]
    (tmp_path / "table.csv").write_text(
        "\n".join(["run,params,tokens,dose,seed,poisons_seen,hits", *lines]) + "\n"
    )
    table, out = str(tmp_path / "table.csv"), str(tmp_path / "out")
    assert main(["compare", table, str(two[0]), "--out", out]) == 2
    assert "--columns" in capsys.readouterr().err
    assert main(["compare", table, str(two[0]), "--out", out, "--columns", "success=hits"]) == 0
    assert len(json.loads((tmp_path / "out" / "summary.json").read_text())["studies"]) == 2
    assert main(["compare", *map(str, two), "--out", out, "--columns", "success=hits"]) == 2
    assert "is not a table" in capsys.readouterr().err
