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


def configured(place, config, **settings):
    """Give the runs of a study another config, and other settings in its study.json."""
    for run in (place / "runs").iterdir():
        record = files.read_json(run / "config.json")
        files.write_json(run / "config.json", record | {"config": config})
    record = files.read_json(place / "study.json")
    record["runs"] = [run | settings for run in record["runs"]]
    files.write_json(place / "study.json", record | {"name": place.name})
    return place


@pytest.fixture
def unlike(tmp_path):
    """Two studies that no poison succeeds in, so that nothing is fitted, on corpora that differ."""
    places = []
    for corpus in ("Novels", "Docs"):
        study = simulate(crossed((("S", 1e8, 1e9),), (0, 9), 2, 2), Truth(n50=1e9, floor=0), 0)
        save(study, epath.Path(tmp_path) / corpus)
        config = {"data": {"corpus": {"kind": corpus}, "seq_len": 128}, "dose": 9}
        places.append(configured(epath.Path(tmp_path) / corpus, config))
    return places


def test_groups_that_differ_are_left_out_unless_that_is_asked_for(unlike, tmp_path, capsys):
    out = tmp_path / "out"
    result = comparison.write(*unlike, out)
    said = (
        "S is not compared, because the studies differ there in data.corpus.kind (Novels and Docs); --across "
        "data.corpus.kind compares all the same."
    )
    assert result["settings"] == [said] and not result["ratios"]
    assert said in comparison.answer(result) and "share no size" not in comparison.answer(result)
    page = (out / "index.html").read_text()
    assert "S is not compared" in page and "share no size" not in page
    arguments = ["compare", *map(str, unlike), "--out", str(out), "--across"]
    assert main([*arguments, "data"]) == 0
    result = json.loads((out / "summary.json").read_text())
    assert [ratio["group"] for ratio in result["ratios"]] == ["S"]
    assert "Compared although the studies differ in data.corpus.kind" in result["settings"][0]
    assert main([*arguments, "data", "schedule"]) == 2
    assert (
        "--across schedule: groups of one size and budget do not differ" in capsys.readouterr().err
    )


def test_a_table_is_compared_by_what_it_records(unlike, tmp_path):
    table, out = tmp_path / "table.csv", tmp_path / "out"
    assert main(["table", str(unlike[0]), "--out", str(table)]) == 0
    assert len(comparison.write(unlike[1], table, out)["ratios"]) == 1
    configured(unlike[1], {}, exposures=4)
    [said] = comparison.write(unlike[1], table, out)["settings"]
    assert "differ there in exposures (4 and 1)" in said


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
