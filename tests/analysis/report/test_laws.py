"""The figure of laws: an exponent for each study, insertion and setting, from folders and tables alike."""

import csv
import dataclasses

import pytest
from etils import epath

from analysis import files
from analysis.__main__ import main
from analysis.design.cells import ladder
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.read import export
from analysis.report import laws
from tests.analysis import inserted

SHORT = dataclasses.replace(ladder((1e8,), (10.0, 40.0), (0, 100, 250), 2), evaluations=4)
DESIGN = dataclasses.replace(ladder((1e8,), (10.0, 160.0), (0, 50, 150, 500), 6), evaluations=4)


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> list[epath.Path]:
    """Two studies: one that follows the count, and one that follows the fraction, beside something else."""
    folder, found = epath.Path(tmp_path_factory.mktemp("laws")), []
    for name, a, also in (("canary", 0.0, ""), ("denial_of_service", 1.0, "5% ambient")):
        study = simulate(DESIGN, Truth(a=a, n50=150, seed_sd=0.1, run_sd=0.1), seed=1)
        settings = {"attack": name, **({"also": also} if also else {})}
        runs = tuple(dataclasses.replace(r, settings=settings) for r in study.runs)
        export.write(dataclasses.replace(study, name=name, runs=runs), folder / f"{name}.csv")
        found.append(folder / f"{name}.csv")
    return found


def test_each_law_is_found_and_drawn(tables, tmp_path, capsys):
    assert main([*map(str, tables), "--out", str(tmp_path / "report")]) == 0
    said = capsys.readouterr().out
    assert "canary" in said and "0 is a count, 1 a fraction" in said
    with (tmp_path / "report" / "figures" / "laws.csv").open() as file:
        count, fraction = csv.DictReader(file)
    assert float(count["low"]) < 0 < float(count["high"]) < 0.6
    assert 0.4 < float(fraction["low"]) < 1 < float(fraction["high"])
    assert (count["insertion"], fraction["insertion"]) == ("canary", "denial_of_service")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "N50" in page and "fraction" in page


def test_the_settings_of_one_study_have_a_law_each(tables, tmp_path):
    rows = [row for table in tables for row in csv.DictReader(table.open())]
    for row in rows:
        row["study"], row["run"] = "both", f"{row['attack']} {row['run']}"
    names = list(dict.fromkeys(name for row in rows for name in row))
    both = epath.Path(tmp_path) / "both.csv"
    with both.open("w") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    result = laws.write([both, tables[0]], tmp_path / "out")
    assert [s["study"] for s in result["series"]] == ["both", "both", "canary"]
    exponents = [s["a"]["value"] for s in result["series"]]
    assert exponents[0] == pytest.approx(exponents[2], abs=0.2)
    assert abs(exponents[1] - 1) < 0.5


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[epath.Path]:
    """Two studies that fixed other rules: one of a backdoor, one that removes it with counterexamples."""
    found = []
    for name, attack in (("kept", "denial_of_service"), ("removed", "counterexamples")):
        place = epath.Path(tmp_path_factory.mktemp("rules")) / name
        study = simulate(SHORT, Truth(n50=150, seed_sd=0.1, run_sd=0.1), seed=1)
        runs = tuple(dataclasses.replace(r, settings={"attack": attack}) for r in study.runs)
        save(dataclasses.replace(study, name=name, runs=runs), place)
        found.append(place)
    return found


def fix(place, **fields):
    rule = {"question": "data", "margin": 0.25, "threshold": None, "looks": 5, **fields}
    record = files.read_json(place / "study.json")
    files.write_json(
        place / "study.json", record | {"analyses": [{"analysis": rule, "runs_begun": 0}]}
    )


def test_each_study_is_decided_by_the_rule_that_it_fixed(folders, tmp_path):
    as_recorded = laws.write(folders, tmp_path / "recorded")
    assert "same rule: margin 0.25" in as_recorded["rules"] and not as_recorded["departures"]
    fix(folders[0], margin=0.1, threshold=400.0)
    fix(folders[1], margin=0.4)
    own = laws.write(folders, tmp_path / "own")
    assert [s["margin"] for s in own["series"]] == [0.1, 0.4]
    assert "different rules. kept: margin 0.1, success an increase above 400" in own["rules"]
    n50s = [[s["n50s"][0]["value"] for s in one["series"]] for one in (as_recorded, own)]
    assert n50s[0][0] != pytest.approx(n50s[1][0], rel=1e-3) and n50s[0][1] == n50s[1][1]
    page = (tmp_path / "own" / "index.html").read_text()
    assert "different rules" in page and "within 0.1 or 0.4 of a count" in page
    other = laws.write(folders, tmp_path / "other", margin=0.3)
    assert [said.split(",")[0] for said in other["departures"]] == [
        "kept: Exploratory: the study fixed margin 0.1",
        "removed: Exploratory: the study fixed margin 0.4",
    ]
    assert "Exploratory" in laws.answer(other)


def test_r50_has_a_table_of_its_own(folders, tmp_path):
    result = laws.write(folders, tmp_path, format="md")
    assert [s["half"] for s in result["series"]] == ["N50", "R50"]
    page = (epath.Path(tmp_path) / "index.md").read_text()
    n50, r50 = page.split("## R50")
    assert "R50 (95% interval)" in r50 and "removed" in r50 and "kept" not in r50
    assert "removed" not in n50.split("## N50")[1]
    assert "(N50) and the counterexamples that remove half of a backdoor (R50)" in page
    assert "counterexamples, R50" in laws.answer(result)


def test_levels_of_one_series_have_a_law_and_a_table_each(tmp_path, capsys):
    source = inserted.write_stages(epath.Path(tmp_path) / "study")
    result = laws.write([source, source], tmp_path / "out")
    of_backdoor = [s for s in result["series"] if s["insertion"] == "denial_of_service"]
    assert [s["setting"].split(",")[0] for s in of_backdoor[:3]] == [
        *("stage 1", "stage 1"),
        "pretraining",
    ]
    table = epath.Path(tmp_path) / "table.csv"
    assert main(["table", str(source), "--out", str(table)]) == 0
    assert {path.name for path in table.parent.glob("*.csv")} == {
        *("table.csv", "table-denial_of_service-level0.csv", "table-canary.csv"),
        *("table-also_denial_of_service.csv", "table-counterexamples.csv"),
    }


def test_options_of_one_report_are_refused_for_several(tables, tmp_path, capsys):
    assert main([*map(str, tables), "--out", str(tmp_path), "--level", "1"]) == 2
    assert "are for a report on one study" in capsys.readouterr().err
