"""How numbers are said."""

from analysis.estimates import Estimate


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
