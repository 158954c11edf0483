"""Several laws in one figure: the exponent of the data for each insertion and what else is in its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import matplotlib
import numpy as np
from etils import epath

from analysis.errors import InputError, printable
from analysis.fit.conclusion import conclude
from analysis.fit.estimates import Estimate
from analysis.fit.interference import compare
from analysis.fit.laws import N50
from analysis.fit.observations import observe, reach_of
from analysis.fit.words import documents, interval, shortened
from analysis.measures.axes import COLOURS, GREY, panels
from analysis.measures.blocks import Block, Bullets, Heading, Paragraph, Table
from analysis.measures.drawing import STYLE, Drawing
from analysis.read import rules
from analysis.read.chains import PRETRAINING
from analysis.read.runs import Study, counted_by
from analysis.read.sources import load_all
from analysis.read.terms import Terms
from analysis.report import folder
from analysis.report.law_figures import ends

_OPEN = 3.0  # how far open ends of intervals are drawn


@dataclass(frozen=True)
class Series:
    """The law of one insertion in one setting."""

    study: str
    insertion: str
    setting: str  # what else sets its runs apart, in words
    half: str  # what half of the reach takes: "N50", or "R50" of counterexamples
    margin: float  # of the rule that decides the study
    runs: int
    exponent: Estimate  # of the data at fixed size; without a value if it is not determined
    verdict: str
    n50s: tuple[N50, ...]
    withdrawn: str  # why the exponent does not count, in words; "" if it does

    @property
    def label(self) -> str:
        """The name in figures and tables."""
        half = "" if self.half == Terms().half else self.half
        return ", ".join(part for part in (self.insertion, half, self.setting) if part)


def write(
    sources: Sequence[epath.PathLike],
    out: epath.PathLike,
    *,
    margin: float | None = None,
    columns: Sequence[str] = (),
    format: Literal["html", "md"] = "html",
) -> dict[str, Any]:
    """Write the figure of the laws of several studies into the folder `out`, and return its summary.

    Each series of insertions in each setting of each study has one exponent. Each study is decided by its own
    rule, except for a `margin` given here. Raises InputError when a source cannot be used.
    """
    studies = _named([load_all(source, columns) for source in sources])
    used = [rules.using(study.rule, margin, None) for study in studies]
    decided = list(zip(studies, used, strict=True))
    # The series of one study have one rule.
    said_rules = rules.in_words(list(dict.fromkeys((study.name, rule) for study, rule in decided)))
    departed = list(
        dict.fromkeys(
            f"{study.name}: {said}"
            for study, rule in decided
            for said in rules.departures(study.rules, rule)
        )
    )
    studies = [counted_by(study, rule) for study, rule in decided]
    found = [
        one
        for study, rule in zip(studies, used, strict=True)
        for one in _series(study, rule.margin)
    ]
    interferences = [(study, one) for study in studies for one in compare(study)]
    with matplotlib.rc_context(STYLE):
        drawing = _drawing(found)
    out = epath.Path(out)
    picture = folder.save(drawing, out)
    rows = tuple(
        (s.study, s.label, str(s.runs), interval(s.exponent), s.verdict, s.withdrawn or "-")
        for s in found
    )
    halves = list(dict.fromkeys(s.half for s in found))
    blocks: list[Block] = [
        Paragraph(
            f"The exponent a of the data says how {' and '.join(map(_counted_words, halves))} grow with the "
            "training tokens at fixed size: 0 is a constant count, 1 a constant fraction.",
            lead=True,
        ),
        picture,
        Table(("study", "insertion", "runs", "a (95% interval)", "verdict", "withdrawn"), rows),
        Paragraph(said_rules),
        *([Bullets(tuple(departed))] if departed else []),
        *(block for half in halves for block in _half_blocks(half, found)),
    ]
    if interferences:
        said = tuple(
            f"{study.name}, {_insertion(study)}: beside {one.beside}, instead of "
            f"{one.instead_of or 'nothing else'}, success changes by {interval(one.difference)} "
            f"({one.pairs} pairs): {'not independent' if one.found else 'no interference seen'}."
            for study, one in interferences
        )
        blocks += [Heading("Interference between insertions"), Bullets(said)]
    result = {
        "rules": said_rules,
        "departures": departed,
        "series": [
            {
                **{name: getattr(s, name) for name in ("study", "insertion", "setting", "half")},
                **{"margin": s.margin, "runs": s.runs},
                "a": asdict(s.exponent),
                "verdict": s.verdict,
                "withdrawn": s.withdrawn,
                "n50s": [{"group": n.group.label, **asdict(n.poisons)} for n in s.n50s],
            }
            for s in found
        ],
        "interference": [
            {"study": study.name, "insertion": _insertion(study), **asdict(one), "found": one.found}
            for study, one in interferences
        ],
    }
    title = f"The laws of {len(found)} insertions"
    return folder.write(out, title, f"{len(sources)} studies", blocks, result, format)


def answer(result: dict[str, Any]) -> str:
    """Return the exponent of each series in a line."""
    lines = ["Exponent of the data (95% interval); 0 is a count, 1 a fraction:"]
    for s in result["series"]:
        half = "" if s["half"] == Terms().half else s["half"]
        label = ", ".join(part for part in (s["study"], s["insertion"], half, s["setting"]) if part)
        lines.append(printable(f"  {label}  {interval(Estimate(**s['a']))}  {s['verdict']}"))
    return "\n".join([*lines, *map(printable, [result["rules"], *result["departures"]])])


def _named(sources: list[list[Study]]) -> list[Study]:
    """Return all studies of all sources; those of sources of one name are told apart by their hashes."""
    names = [own[0].name for own in sources]
    return [
        replace(study, name=f"{study.name} {study.hash[:6]}")
        if names.count(study.name) > 1 and study.hash
        else study
        for own in sources
        for study in own
    ]


def _counted_words(half: str) -> str:
    """Return what is counted, in words."""
    if half == Terms().half:
        return f"the exposures for half of the reach ({half})"
    return f"the counterexamples that remove half of a backdoor ({half})"


def _half_blocks(half: str, found: list[Series]) -> list[Block]:
    """Return the table of N50, or of R50."""
    rows = tuple(
        (s.study, s.label, n50.group.label, _n50_words(n50))
        for s in found
        for n50 in s.n50s
        if s.half == half
    )
    header = ("study", "insertion", "size and tokens", f"{half} (95% interval)")
    return [Heading(half), Table(header, rows)]


def _insertion(study: Study) -> str:
    return study.runs[0].settings.get("attack", "insertion")


def _series(study: Study, margin: float) -> list[Series]:
    """Return the law of each setting of a study."""
    settings = list(dict.fromkeys(group.setting for group in study.groups()))
    found = []
    for setting in settings:
        groups = [group for group in study.groups() if group.setting == setting]
        own = replace(study, runs=tuple(run for group in groups for run in group.runs))
        beside = setting.removeprefix("also ") or _shared(own)
        words = ", ".join(part for part in (_level(study), beside) if part)
        about = (study.name, _insertion(study), words, study.terms.half, margin, len(own.runs))
        found.append(Series(*about, *_law(own, margin)))
    return found


def _level(study: Study) -> str:
    """Return where in its chains the runs of a study with stages are, in words."""
    if not study.tree:
        return ""
    return f"stage {study.level}" if study.level else PRETRAINING


def _shared(study: Study) -> str:
    """Return what else is in all runs, in words, which is no setting because it does not vary."""
    also = {run.settings.get("also", "") for run in study.runs}
    words = also.pop() if len(also) == 1 else ""
    return "" if _insertion(study) in words else words


def _law(study: Study, margin: float) -> tuple[Estimate, str, tuple[N50, ...], str]:
    nothing = Estimate(None, None, None)
    if not any((run.evaluations["poisons"] > 0).any() for run in study.runs):
        return nothing, "undecided", (), "nothing was inserted"
    observations = observe(study)
    reach = reach_of(observations)
    if reach != "some":
        return nothing, "undecided", (), {"none": "no dose reaches half"}.get(reach, "all doses do")
    try:
        conclusion = conclude(observations, margin, study.confidence)
    except InputError as error:
        return nothing, "undecided", (), str(error)
    exponent = conclusion.law.a or nothing
    withdrawn = "; ".join(one.name for one in conclusion.withdrawn)
    if conclusion.law.a is None:
        withdrawn = withdrawn or "one budget alone"
    return exponent, conclusion.verdict, tuple(conclusion.n50s), withdrawn


def _n50_words(n50: N50) -> str:
    if n50.censored is not None and n50.bound is not None:
        return f"{n50.censored} {n50.bound:.3g}"
    return documents(n50.poisons)


def _drawing(found: list[Series]) -> Drawing:
    figure, [axis] = panels(1, height=1.2 + 0.32 * len(found))
    figure.set_figwidth(7.6)
    insertions = list(dict.fromkeys(s.insertion for s in found))
    for place, s in enumerate(found):
        colour = COLOURS[insertions.index(s.insertion) % len(COLOURS)]
        if s.exponent.value is None:
            axis.annotate("not determined", (0.5, place), ha="center", va="center", color=GREY)
            continue
        low, high = (
            np.clip(end if end is not None else open_end, -_OPEN, _OPEN)
            for end, open_end in ((s.exponent.low, -_OPEN), (s.exponent.high, _OPEN))
        )
        axis.plot([low, high], [place] * 2, color=colour, alpha=0.4 if s.withdrawn else 1.0)
        axis.plot(
            s.exponent.value,
            place,
            "o",
            color="white" if s.withdrawn else colour,
            markeredgecolor=colour,
        )
    for at, law in ((0.0, "count"), (1.0, "fraction")):
        for place, s in enumerate(found):
            row = [place - 0.5, place + 0.5]
            axis.fill_betweenx(
                row, at - s.margin, at + s.margin, color="#f0f0f0", linewidth=0, zorder=0
            )
        axis.axvline(at, color=GREY, linewidth=0.9, zorder=1)
        above = ("data", "axes fraction")
        axis.annotate(law, (at, 1.0), (0, 3), above, "offset points", ha="center", color=GREY)
    known = [s.label for s in found]
    labels = [f"{s.study}: {s.label}" if known.count(s.label) > 1 else s.label for s in found]
    axis.set_yticks(range(len(found)), [shortened(label.replace("_", " ")) for label in labels])
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.set_xlabel("exponent of the data, a")
    rows = [
        (s.study, s.insertion, s.setting, *ends(s.exponent), s.verdict, s.withdrawn, s.half)
        for s in found
    ]
    margins = " or ".join(dict.fromkeys(f"{s.margin:g}" for s in found))
    caption = (
        f"Grey zones are within {margins} of a count and of a fraction. Lines are 95% intervals, cut at "
        f"{_OPEN:g}; a hollow dot is withdrawn, because something speaks against its fit."
    )
    header = ("study", "insertion", "setting", "a", "low", "high", "verdict", "withdrawn", "half")
    return Drawing("laws", "Count or fraction", caption, figure, header, rows)
