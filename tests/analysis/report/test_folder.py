"""A report is written into its folder and nowhere else, whatever lies there."""

import csv
import os

import pytest
from etils import epath
from matplotlib.figure import Figure

from analysis.__main__ import main
from analysis.design.cells import crossed
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.measures.drawing import Drawing
from analysis.report import folder


@pytest.fixture
def report(tmp_path):
    """Writes the report of a small study into a folder; its exit code."""
    save(simulate(crossed((("S", 1e8, 2e9),), (0,), 1, 2), Truth(), 0), epath.Path(tmp_path / "s"))
    return lambda out: main([str(tmp_path / "s"), "--out", str(out)])


@pytest.fixture
def mine(tmp_path):
    """A file that is nobody else's."""
    file = tmp_path / "mine"
    file.write_text("mine")
    yield file
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", ["index.html", "summary.json", "figures/progress.png"])
def test_a_link_is_replaced_and_what_it_points_at_stays(report, tmp_path, mine, name):
    file = tmp_path / "report" / name
    file.parent.mkdir(parents=True)
    file.symlink_to(mine)
    assert report(tmp_path / "report") == 0
    assert not file.is_symlink() and file.read_bytes() != mine.read_bytes()


def test_links_under_the_names_of_unfinished_files_are_not_followed(report, tmp_path, mine):
    out = tmp_path / "report"
    (out / "figures").mkdir(parents=True)
    planted = [out / f".{name}.partial" for name in ("index.html", "summary.json")]
    planted.append(out / "figures" / ".progress.png.partial")
    for link in planted:
        link.symlink_to(mine)
    assert report(out) == 0
    assert all(link.is_symlink() for link in planted)


@pytest.mark.parametrize("name", ["index.html", "summary.json", "figures/progress.svg"])
def test_a_pipe_is_replaced_and_nobody_waits_for_it(report, tmp_path, name):
    file = tmp_path / "report" / name
    file.parent.mkdir(parents=True)
    os.mkfifo(file)
    assert report(tmp_path / "report") == 0
    assert file.is_file()


def test_figures_that_lead_elsewhere_are_refused(report, tmp_path, capsys):
    out, elsewhere = tmp_path / "report", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "variance.png").write_text("mine")
    out.mkdir()
    (out / "figures").symlink_to(elsewhere)
    (out / "summary.json").write_text('{"figures": ["variance"]}')
    assert report(out) == 2
    assert "figures: it is a symbolic link" in capsys.readouterr().err
    assert [path.name for path in elsewhere.iterdir()] == ["variance.png"]


@pytest.mark.parametrize("name", ["index.html", "summary.json", "figures"])
def test_a_place_that_is_taken_is_said_in_a_sentence(report, tmp_path, capsys, name):
    out = tmp_path / "report"
    (out / name / "full").mkdir(parents=True)
    if name == "figures":
        (out / name / "progress.png").mkdir()
    assert report(out) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not [path for path in out.rglob(".*")]


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t=", "\uff1d", "=-1+"])
def test_texts_in_csv_are_no_formulas_and_numbers_stay(tmp_path, begins):
    text = f'{begins}HYPERLINK("http://a";"b")'
    rows = [(text, "a=b", "-1.5", -1.5, "")]
    drawing = Drawing("name", "", "", Figure(), ("a", "b", "c", "d", "e"), rows)
    folder.save(drawing, epath.Path(tmp_path))
    with open(tmp_path / "figures" / "name.csv", newline="") as file:
        _, [cell, *others] = csv.reader(file)
    assert cell == f"'{text}" and others == ["a=b", "-1.5", "-1.5", ""]
