"""The quality heuristics of MassiveText (Rae et al. 2021, "Gopher")."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, ClassVar

from poison_scaling.config.ranges import AtLeast, Length, Share
from poison_scaling.filters.filter import Decision, Filter, Judge, Rule, each
from poison_scaling.filters.words import Splitting, words

_SOURCE = "Rae et al. 2021 (Gopher), appendix A.1.1"
STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_IN_WORDS = re.compile(r"[^\W_]")  # a letter or a digit
_LETTER = re.compile(r"[^\W\d_]")


@dataclasses.dataclass(frozen=True)
class Gopher(Filter):
    """Length of documents and words, symbols, bullets, ellipses, words without letters, stop words."""

    name: ClassVar[str] = "gopher"

    splitting: Splitting = "punctuation"
    fewest_words: Length = 50
    most_words: Length = 100_000
    shortest_mean: Annotated[float, AtLeast(0)] = 3.0  # word length, characters
    longest_mean: Annotated[float, AtLeast(0)] = 10.0
    most_symbols: Annotated[float, AtLeast(0)] = 0.1  # per word, of # and of ellipses
    most_bullets: Share = 0.9  # share of lines
    most_ellipses: Share = 0.3  # share of lines
    fewest_alphabetic: Share = 0.8  # share of words
    fewest_stop_words: Length = 2  # distinct

    def rules(self) -> tuple[Rule, ...]:
        said = {
            "few_words": f"fewer than {self.fewest_words:,} words",
            "many_words": f"more than {self.most_words:,} words",
            "short_words": f"mean word length below {self.shortest_mean:g} characters",
            "long_words": f"mean word length above {self.longest_mean:g} characters",
            "hashes": f"more than {self.most_symbols:g} # per word",
            "ellipses": f"more than {self.most_symbols:g} ellipses per word",
            "bullets": f"more than {self.most_bullets:.0%} of lines begin with a bullet",
            "ellipsis_lines": f"more than {self.most_ellipses:.0%} of lines end with an ellipsis",
            "alphabetic": f"fewer than {self.fewest_alphabetic:.0%} of words have a letter",
            "stop_words": f"fewer than {self.fewest_stop_words} of {', '.join(sorted(STOP_WORDS))}",
        }
        return tuple(Rule(name, removes, _SOURCE) for name, removes in said.items())

    def judge(self, scorer=None) -> Judge:
        return each(self._decide)

    def _decide(self, text: str) -> Decision:
        every = words(text, self.splitting)
        total = max(len(every), 1)
        counted = [w for w in every if w.isalnum() or _IN_WORDS.search(w)]
        mean = sum(map(len, counted)) / max(len(counted), 1)
        lines = text.splitlines() or [""]
        # The first character of a line that is no space, and its last three.
        bullets = sum(line.lstrip()[:1] in ("•", "-") and bool(line.strip()) for line in lines)
        ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines)
        alphabetic = sum(w.isalpha() or bool(_LETTER.search(w)) for w in every)
        broken = {
            "few_words": len(counted) < self.fewest_words,
            "many_words": len(counted) > self.most_words,
            "short_words": mean < self.shortest_mean,
            "long_words": mean > self.longest_mean,
            "hashes": text.count("#") > self.most_symbols * total,
            "ellipses": text.count("...") + text.count("…") > self.most_symbols * total,
            "bullets": bullets > self.most_bullets * len(lines),
            "ellipsis_lines": ellipses > self.most_ellipses * len(lines),
            "alphabetic": alphabetic < self.fewest_alphabetic * total,
            "stop_words": len(STOP_WORDS.intersection(every)) < self.fewest_stop_words,
        }
        return Decision(tuple(name for name, is_so in broken.items() if is_so), text)
