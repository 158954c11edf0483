"""Speed of `python -m analysis`: the report of a study of the published design, 96 runs of 12 evaluations.

    python -m benchmarks.report

Everything is done by one process on one core, best of three. Prints a table in Markdown; takes about two
minutes. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import matplotlib
from etils import epath

from analysis import report
from analysis.design.cells import paper_design
from analysis.design.simulation import Truth, simulate
from analysis.design.study_folder import save
from analysis.fit import findings
from analysis.fit.conclusion import conclude
from analysis.fit.observations import observe
from analysis.measures.drawing import STYLE
from analysis.read import sources
from analysis.report.page import fit_figures


def main() -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        made = simulate(paper_design(), Truth(), 0)
        save(made, epath.Path(folder / "study"))
        found = findings.find(made)

        def draw() -> None:
            with matplotlib.rc_context(STYLE):
                fit_figures(found)

        long = simulate(paper_design(evaluations=50), Truth(), 0)
        parts = {
            "read the folder": lambda: sources.load(folder / "study"),
            "fit": lambda: findings.find(made),
            "fit 72 runs of 50 evaluations": lambda: conclude(observe(long), findings.MARGIN),
            "draw the figures": draw,
            "the whole report": lambda: report.write(folder / "study", folder / "report"),
        }
        print("| part | s |\n|---|---:|")
        for name, part in parts.items():
            print(f"| {name} | {best(part):.2f} |", flush=True)


def best(part: Callable[[], object]) -> float:
    """Seconds of the quickest of three."""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        part()
        found.append(time.perf_counter() - start)
    return min(found)


if __name__ == "__main__":
    main()
