"""How numbers and texts are said."""

import reprlib
import unicodedata

from analysis.estimates import Estimate

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def printable(text: str) -> str:
    """Return the text with every character that steers a terminal, or has no shape, as its escape.

    "\\x1b[2J" stays four characters and a backslash instead of clearing somebody's screen.
    """
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else ascii(c)[1:-1] for c in text
    )


def brief(text: str) -> str:
    """Return the text as a figure has room for it."""
    return text if len(text) <= 40 else f"{text[:39]}…"


def shown(value) -> str:
    """Return a value as an error says it: as Python writes it, and not longer than a line."""
    return _SHORT.repr(value)


def share(value: float) -> str:
    """0.4321 -> '43%'."""
    return f"{round(100 * value, 0) + 0.0:.0f}%"  # never -0%


def interval(estimate: Estimate, digits: int = 2, lowest: str = "-∞") -> str:
    """'0.12 (-0.03 to 0.27)', with `lowest` or ∞ where the data set no limit."""
    if estimate.value is None:
        return "not determined"
    low = lowest if estimate.low is None else f"{estimate.low:.{digits}f}"
    high = "∞" if estimate.high is None else f"{estimate.high:.{digits}f}"
    return f"{estimate.value:.{digits}f} ({low} to {high})"


def count(value: float) -> str:
    """Three significant digits, without an exponent: 1234.5 -> '1,230'."""
    return f"{float(f'{value:.3g}'):,.10g}"


def documents(estimate: Estimate) -> str:
    """'153 (118 to 201)', with an open end where the data set no limit."""
    if estimate.value is None:
        return "not determined"
    low = "0" if estimate.low is None else count(estimate.low)
    high = "∞" if estimate.high is None else count(estimate.high)
    return f"{count(estimate.value)} ({low} to {high})"
