"""The figure of laws: an exponent for each study, insertion and setting, from folders and tables alike."""

import csv
import dataclasses

import pytest
from etils import epath

from analysis.__main__ import main
from analysis.design.cells import ladder
from analysis.design.simulation import Truth, simulate
from analysis.read import export
from analysis.report import laws

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


def test_options_of_one_report_are_refused_for_several(tables, tmp_path, capsys):
    assert main([*map(str, tables), "--out", str(tmp_path), "--level", "1"]) == 2
    assert "are for a report on one study" in capsys.readouterr().err
