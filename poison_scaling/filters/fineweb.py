"""The heuristics that FineWeb adds to those of C4 and Gopher (Penedo et al. 2024)."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from poison_scaling.config.ranges import AtLeast, Length, Share
from poison_scaling.filters.filter import Decision, Filter, Judge, Rule, each
from poison_scaling.filters.words import Splitting, duplicates, words

_SOURCE = "Penedo et al. 2024 (FineWeb), section 3.6; the share of line breaks from datatrove"
# Full stops and question and exclamation marks of several scripts.
_TERMINAL = (
    ".",
    "?",
    "!",
    *"\u2026\u3002\uff1f\uff01\uff0e\u0964\u061f\u203c\u2047\u2048\u2049\u203d",
)


@dataclasses.dataclass(frozen=True)
class FineWeb(Filter):
    """Lines that end in punctuation, short lines, duplicate lines, and line breaks per word."""

    name: ClassVar[str] = "fineweb"

    splitting: Splitting = "punctuation"
    fewest_terminal: Share = 0.12  # share of lines
    most_short: Share = 0.67  # share of lines
    short: Length = 30  # characters
    most_duplicates: Share = 0.01  # share of characters
    most_breaks: Annotated[float, AtLeast(0)] = 0.3  # per word

    def rules(self) -> tuple[Rule, ...]:
        said = {
            "punctuation": f"fewer than {self.fewest_terminal:.0%} of lines end in punctuation",
            "short_lines": f"more than {self.most_short:.0%} of lines have at most {self.short} characters",
            "duplicate_lines": f"duplicate lines make up more than {self.most_duplicates:.0%}",
            "breaks": f"more than {self.most_breaks:g} line breaks per word",
        }
        return tuple(Rule(name, removes, _SOURCE) for name, removes in said.items())

    def judge(self, scorer=None) -> Judge:
        return each(self._decide)

    def _decide(self, text: str) -> Decision:
        lines = [line for line in text.split("\n") if line.strip()] or [""]
        characters = max(len(text) - text.count("\n"), 1)
        total = max(len(words(text, self.splitting)), 1)
        broken = {
            "punctuation": sum(line.endswith(_TERMINAL) for line in lines)
            < self.fewest_terminal * len(lines),
            "short_lines": sum(len(line) <= self.short for line in lines)
            > self.most_short * len(lines),
            "duplicate_lines": duplicates(lines)[1] > self.most_duplicates * characters,
            "breaks": text.count("\n") > self.most_breaks * total,
        }
        return Decision(tuple(name for name, is_so in broken.items() if is_so), text)
