"""The report of a study, and the comparison of two: `write` it, and `answer` in a few lines."""

from analysis.report.page import write
from analysis.report.summary import answer

__all__ = ["answer", "write"]
