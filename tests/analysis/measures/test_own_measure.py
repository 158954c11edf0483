"""A measure in a file of its own gets its section, its entry in summary.json and its figure."""

import importlib.util
import itertools
import json

import numpy as np
import pytest
from etils import epath

from analysis import report
from analysis.__main__ import main
from analysis.design.cells import crossed
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.errors import InputError
from analysis.measures import Measure, base
from analysis.read.sources import load
from tests.analysis.markup import Page
from tests.analysis.sealing import rewrite_lines

LENGTH = '''
import numpy as np

from analysis.measures import Drawing, Measure, Paragraph, Table, panels


class Length(Measure):
    """Mean length of generations, tokens."""

    name = "length"

    def find(self, study):
        return self.readings(study) or None

    def summarise(self, found):
        last = {reading.run.name: reading.values["mean"] for reading in found}
        return {"mean": np.mean(list(last.values())), "runs": last, "none": np.nan}

    def blocks(self, found):
        mean = self.summarise(found)["mean"]
        rows = tuple((name, f"{value:g}") for name, value in self.summarise(found)["runs"].items())
        return [Paragraph(f"Generations have {mean:g} tokens."), Table(("run", "tokens"), rows)]

    def figures(self, study, found):
        figure, [axis] = panels(1)
        poisons = [reading.poisons for reading in found]
        means = [reading.values["mean"] for reading in found]
        axis.plot(poisons, means, "o")
        rows = list(zip(poisons, means))
        return [Drawing("length", "Length", "By poisons seen.", figure, ("poisons", "mean"), rows)]
'''


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    """Measures that a test defines are gone after it."""
    monkeypatch.setattr(base, "_classes", dict(base._classes))


@pytest.fixture
def folder(tmp_path):
    """A simulated study whose runs, the first but one excepted, record a further measure."""
    place = epath.Path(tmp_path) / "study"
    save(simulate(crossed((("S", 1e6, 2e7),), (0, 100), 2, 4), Truth(), 0), place)
    for path in sorted(place.glob("runs/*/evals.jsonl"))[1:]:
        rewrite_lines(path, lambda r: r | {"measures": {"length": {"mean": r["poisons"] + 10}}})
    return place


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "length.py"
    path.write_text(LENGTH)
    return path


def test_a_measure_in_a_file_is_in_the_report(folder, file, tmp_path):
    out = tmp_path / "report"
    assert main([str(folder), "--out", str(out), "--measures", str(file)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    found = summary["measures"]["length"]
    poisons = {run.name: run.evaluations["poisons"][-1] for run in load(folder).runs}
    assert len(found["runs"]) == 3 and found["none"] is None
    assert all(value == poisons[name] + 10 for name, value in found["runs"].items())
    page = Page((out / "index.html").read_text()).text
    assert f"Generations have {found['mean']:g} tokens." in page
    assert list(summary["measures"])[-1] == "length" and "length" in summary["figures"]
    assert (out / "figures" / "length.png").exists() and "By poisons seen." in page
    assert len((out / "figures" / "length.csv").read_text().splitlines()) == 1 + 3 * 4


def test_a_measure_that_was_defined_in_the_process_needs_no_file(folder, file, tmp_path):
    """As when the study's own file, which defines it, was loaded; naming the file too is no error."""
    spec = importlib.util.spec_from_file_location("a_study", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert report.write(folder, tmp_path / "a")["measures"]["length"]["mean"] > 10
    assert main(["--measures", str(file), str(folder), "--out", str(tmp_path / "b")]) == 0
    pages = [(tmp_path / name / "index.html").read_bytes() for name in "ab"]
    assert pages[0] == pages[1]


def test_a_study_that_does_not_record_a_measure_says_so(tmp_path, file):
    place = epath.Path(tmp_path) / "study"
    save(simulate(crossed((("S", 1e6, 2e7),), (0, 100), 1, 2), Truth(), 0), place)
    base.load_file(str(file))
    summary = report.write(place, tmp_path / "report")
    assert summary["measures"]["length"] is None and "length" not in summary["figures"]


def test_the_names_of_measures_are_their_own():
    class Bare(Measure):
        def find(self, study):
            return None

        def summarise(self, found):
            return None

    assert Bare not in base._classes.values()
    for name, said in (("decay", "has; give every measure"), ("a b", "expected a word")):
        with pytest.raises(InputError, match=said):
            type("Mine", (Bare,), {"name": name, "find": lambda self, study: None})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "expected a Python file"),
        ("x = 1", "it defines no measure"),
        ("1 / 0", "importing it raised ZeroDivisionError: division by zero"),
        ("from analysis.measures import Nothing", "importing it raised ImportError"),
    ],
)
def test_a_file_without_a_measure_is_refused(folder, tmp_path, capsys, content, said):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    assert main([str(folder), "--out", str(tmp_path / "r"), "--measures", str(path)]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "r").exists()


def test_figures_of_one_name_are_refused(folder, tmp_path, file):
    file.write_text(LENGTH.replace('Drawing("length"', 'Drawing("progress"'))
    base.load_file(str(file))
    with pytest.raises(InputError, match="A figure is named 'progress'"):
        report.write(folder, tmp_path / "report")


@pytest.mark.parametrize("values", [3, {"length": 3}, []])
def test_measures_that_are_no_objects_are_refused(folder, values):
    path = folder / "runs" / "S-d100-s0" / "evals.jsonl"
    rewrite_lines(path, lambda record: record | {"measures": values})
    with pytest.raises(InputError, match=r"line 1: field 'measures' does not have the form"):
        load(folder)


def test_further_measures_are_read_by_run_and_evaluation(folder):
    class Length(Measure):
        name = "length"

        def find(self, study):
            return self.readings(study)

        def summarise(self, found):
            return len(found)

    found = Length().find(load(folder))
    assert len(found) == 12 and len({reading.run.name for reading in found}) == 3
    np.testing.assert_array_equal(
        [r.values["mean"] for r in found], [r.poisons + 10 for r in found]
    )
    assert all(a.tokens < b.tokens for a, b in itertools.pairwise(found[:4]))
