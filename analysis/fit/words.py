"""Numbers and estimates in words."""

from __future__ import annotations

from analysis.fit.estimates import Estimate


def shortened(text: str, most: int = 40) -> str:
    """Return the text, shortened to `most` characters for a figure."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def percent(value: float) -> str:
    """Return a share as a percentage: 0.4321 -> '43%'."""
    return f"{round(100 * value, 0) + 0.0:.0f}%"  # never -0%


def interval(estimate: Estimate, digits: int = 2, lowest: str = "-∞") -> str:
    """Return '0.12 (-0.03 to 0.27)'; an open end is `lowest` or ∞."""
    if estimate.value is None:
        return "not determined"
    low = lowest if estimate.low is None else f"{estimate.low:.{digits}f}"
    high = "∞" if estimate.high is None else f"{estimate.high:.{digits}f}"
    return f"{estimate.value:.{digits}f} ({low} to {high})"


def rounded(value: float) -> str:
    """Return three significant digits without an exponent: 1234.5 -> '1,230'."""
    return f"{float(f'{value:.3g}'):,.10g}"


def documents(estimate: Estimate) -> str:
    """Return a number of documents: '153 (118 to 201)'; an open end is 0 or ∞."""
    if estimate.value is None:
        return "not determined"
    low = "0" if estimate.low is None else rounded(estimate.low)
    high = "∞" if estimate.high is None else rounded(estimate.high)
    return f"{rounded(estimate.value)} ({low} to {high})"
