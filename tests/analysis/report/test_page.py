"""A report answers for any study that can be read, says what it cannot tell, and never warns."""

import csv
import json
import subprocess
import sys

import pytest
from etils import epath

from analysis import report
from analysis.design.cells import crossed, paper_design
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save

ONE = (("S", 1e8, 2e9),)
LADDER = (("S", 1e8, 2e9), ("M", 2e8, 4e9), ("L", 4e8, 8e9))
SQUARE = tuple((name, n, n * r) for name, n in (("S", 1e8), ("L", 4e8)) for r in (10, 40))


PLAIN = Truth()
COLUMNS = "run,params,tokens,dose,seed,tokens_seen,poisons_seen,success,prompts"


def written(tmp_path, design, truth=PLAIN, format="html"):
    source = epath.Path(tmp_path) / "study"
    save(simulate(design, truth, 0), source)
    return report.write(source, tmp_path / "report", format=format), tmp_path / "report"


@pytest.mark.parametrize(
    ("design", "truth", "said"),
    [
        (crossed(ONE), Truth(), "one size on one token budget"),
        (crossed(LADDER), Truth(), "grew together"),
        pytest.param(
            crossed((("S", 1e8, 1e9), ("L", 4e8, 1e9))),
            Truth(),
            "the same token budget",
            marks=pytest.mark.long,
        ),
        (crossed(LADDER), Truth(n50=1e6), "larger doses are needed"),
        (crossed(LADDER, (0, 250), evaluations=1), Truth(n50=1), "smaller doses"),
        (crossed(LADDER, (0,)), Truth(), "No poisoned run"),
        (crossed(SQUARE, seeds=1), Truth(), "tokens^a"),
        (crossed(SQUARE, (250,), seeds=1), Truth(), "One dose"),
        (crossed(ONE, (250,), seeds=1, evaluations=1), Truth(), ""),
    ],
)
@pytest.mark.filterwarnings("error")
def test_degenerate_studies_get_an_answer(tmp_path, design, truth, said):
    summary, out = written(tmp_path, design, truth)
    assert said in summary["answer"]["words"]
    assert said in report.answer(summary)
    assert (out / "index.html").exists()
    json.loads((out / "summary.json").read_text(), parse_constant=pytest.fail)


def test_a_report_is_whole_and_self_contained(tmp_path):
    summary, out = written(tmp_path, crossed(SQUARE))
    page = (out / "index.html").read_text()
    assert summary["answer"]["words"].split(":")[0] in page
    assert summary["study"]["hash"] in page
    assert "http" not in page.replace('"http://www.w3.org', "")
    assert page.count("data:image/svg+xml;base64,") == len(list((out / "figures").glob("*.svg")))
    assert "/" + "work" not in page and str(tmp_path) not in page
    for figure in (out / "figures").glob("*.svg"):
        assert figure.with_suffix(".png").exists()
        with open(figure.with_suffix(".csv")) as lines:
            header, *rows = list(csv.reader(lines))
        assert rows and all(len(row) == len(header) for row in rows)
    assert not list(out.rglob(".*"))


def test_a_table_gives_the_answer_of_the_folder_that_it_was_made_from(tmp_path):
    study = simulate(crossed(SQUARE), PLAIN, 0)
    with open(tmp_path / "table.csv", "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(COLUMNS.split(","))
        for run in study.runs:
            about = (run.name, run.parameters, run.tokens, run.dose, run.seed)
            seen, poisons, hits, prompts = (
                run.evaluations[name] for name in ("tokens", "poisons", "successes", "prompts")
            )
            for values in zip(seen, poisons, hits / prompts, prompts, strict=True):
                lines.writerow((*about, *values))
    from_table = report.write(tmp_path / "table.csv", tmp_path / "of_table")
    from_folder, _ = written(tmp_path, crossed(SQUARE))
    for one, other in zip(from_table["n50"], from_folder["n50"], strict=True):
        assert one["n50"] == pytest.approx(other["n50"], rel=1e-3)
    assert from_table["answer"]["verdict"] == from_folder["answer"]["verdict"]


def test_two_reports_of_one_study_are_the_same_bytes(tmp_path):
    _, out = written(tmp_path, crossed(LADDER, (0, 250), seeds=2))
    report.write(tmp_path / "study", tmp_path / "again")
    files = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert len(files) > 12
    for name in files:
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_report_takes_the_place_of_an_earlier_one_and_of_nothing_else(tmp_path):
    earlier, out = written(tmp_path, crossed(SQUARE))
    own = [out / name for name in ("notes.md", "figures/mine.png", "figures/n50.pdf")]
    for path in own:
        path.write_text("mine")
    save(simulate(crossed(ONE, (0,)), PLAIN, 0), epath.Path(tmp_path) / "controls")
    later = report.write(tmp_path / "controls", out)
    assert set(later["figures"]) < set(earlier["figures"])
    assert json.loads((out / "summary.json").read_text())["figures"] == later["figures"]
    made = {f"{name}.{kind}" for name in later["figures"] for kind in ("png", "svg", "csv")}
    assert {path.name for path in (out / "figures").iterdir()} == made | {"mine.png", "n50.pdf"}
    assert all(path.read_text() == "mine" for path in own)


@pytest.mark.parametrize(
    "summary", ["", "{", "[]", "{}", '{"figures": "mine"}', '{"figures": ["../mine", 3, {}]}']
)
def test_a_summary_of_something_else_costs_nobody_a_file(tmp_path, summary):
    out = tmp_path / "report"
    own = [out / "mine.png", out / "figures" / "mine.png", out / "figures" / "m.csv"]
    (out / "figures").mkdir(parents=True)
    for path in own:
        path.write_text("mine")
    (out / "summary.json").write_text(summary)
    written(tmp_path, crossed(ONE, (0,)))
    assert all(path.read_text() == "mine" for path in own)


def test_a_markdown_report_points_at_its_figures(tmp_path):
    _, out = written(tmp_path, crossed(ONE), format="md")
    page = (out / "index.md").read_text()
    for line in page.splitlines():
        if line.startswith("!["):
            assert (out / line.split("(")[1].rstrip(")")).exists()
    assert not (out / "index.html").exists()


def test_an_unfinished_study_says_what_is_missing(tmp_path):
    source = epath.Path(tmp_path) / "study"
    save(simulate(crossed(ONE), Truth(), 0), source)
    lost = next(iter(sorted((source / "runs").iterdir())))
    (lost / "evals.jsonl").unlink()
    summary = report.write(source, tmp_path / "report")
    assert lost.name in summary["missing"][0]
    assert lost.name in (tmp_path / "report" / "index.html").read_text()
    assert "Missing or unfinished: 1" in report.answer(summary)


@pytest.mark.long
def test_a_paper_sized_study_is_decided(tmp_path):
    """96 runs; how long that takes, `python -m benchmarks.report` measures."""
    summary, out = written(tmp_path, paper_design())
    assert summary["study"]["runs"] == 96 and summary["answer"]["verdict"] == "count"
    assert len(summary["figures"]) == len(list((out / "figures").glob("*.svg"))) >= 7


def test_the_package_imports_no_training_library():
    heavy = "{'jax', 'tensorflow', 'seqio', 'flax', 'poison_scaling'}"
    code = f"import sys, analysis.__main__; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
