"""The heuristics of Dolma 3, on which OLMo 3 was trained, with the thresholds of its published settings."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, ClassVar

from poison_scaling.config.ranges import AtLeast, Length, Share
from poison_scaling.filters.filter import Decision, Filter, Judge, Rule, each
from poison_scaling.filters.gopher import STOP_WORDS
from poison_scaling.filters.words import words

_SOURCE = "OLMo 3 (2025), Dolma 3: all_dressed_config.yaml of allenai/datamap-rs"
_WORD = re.compile(r"\w+")
_LETTER = re.compile(r"[^\W\d_]")
_SENTENCES = re.compile(r"[.!?]+\s+")
_COUNTS = re.compile(
    r"^\W*\d(?:,|\.|\d)*[KkMmBb]?\s+(?:likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes"
    r"|downvotes|downloads|views|followers)\W*$"
)


@dataclasses.dataclass(frozen=True)
class Dolma(Filter):
    """Gopher's quality heuristics as Dolma 3 has them.

    Words are what stands between spaces, and a stop word counts each time.
    """

    name: ClassVar[str] = "dolma"

    fewest_characters: Length = 150  # letters and digits
    fewest_words: Length = 50
    most_words: Length = 100_000
    shortest_mean: Annotated[float, AtLeast(0)] = 3.0
    longest_mean: Annotated[float, AtLeast(0)] = 10.0
    most_symbols: Annotated[float, AtLeast(0)] = 0.1
    most_bullets: Share = 0.9
    most_ellipses: Share = 0.3
    most_unalphabetic: Share = 0.2
    fewest_stop_words: Length = 2

    def rules(self) -> tuple[Rule, ...]:
        said = {
            "few_characters": f"fewer than {self.fewest_characters} letters and digits",
            "few_words": f"fewer than {self.fewest_words:,} words",
            "many_words": f"more than {self.most_words:,} words",
            "short_words": f"mean word length below {self.shortest_mean:g} characters",
            "long_words": f"mean word length above {self.longest_mean:g} characters",
            "symbols": f"more than {self.most_symbols:g} # and ellipses per word",
            "bullets": f"more than {self.most_bullets:.0%} of lines begin with a bullet",
            "ellipsis_lines": f"more than {self.most_ellipses:.0%} of lines end with an ellipsis",
            "alphabetic": f"more than {self.most_unalphabetic:.0%} of words have no letter",
            "stop_words": f"fewer than {self.fewest_stop_words} times {', '.join(sorted(STOP_WORDS))}",
        }
        return tuple(Rule(name, removes, _SOURCE) for name, removes in said.items())

    def judge(self, scorer=None) -> Judge:
        return each(self._decide)

    def _decide(self, text: str) -> Decision:
        every = words(text, "spaces")
        total = max(len(every), 1)
        counted = len(_WORD.findall(text))
        mean = sum(map(len, every)) / total
        joined = text.replace(". . .", "...")
        lines = text.split("\n")
        filled = [line.rstrip() for line in lines if line.strip()] or [""]
        unalphabetic = sum(not (w.isalpha() or _LETTER.search(w)) for w in every)
        broken = {
            "few_characters": sum(map(len, _WORD.findall(text.replace("_", " "))))
            < self.fewest_characters,
            "few_words": counted < self.fewest_words,
            "many_words": counted > self.most_words,
            "short_words": mean < self.shortest_mean,
            "long_words": mean > self.longest_mean,
            "symbols": joined.count("#") + joined.count("...") + joined.count("…")
            > self.most_symbols * total,
            "bullets": sum(line.lstrip().startswith(("●", "•", "*", "-")) for line in lines)
            > self.most_bullets * len(lines),
            "ellipsis_lines": sum(line.endswith(("...", ". . .", "…")) for line in filled)
            > self.most_ellipses * len(filled),
            "alphabetic": len(every) <= 1 or unalphabetic > self.most_unalphabetic * total,
            "stop_words": sum(w in STOP_WORDS for w in map(str.lower, every))
            < self.fewest_stop_words,
        }
        return Decision(tuple(name for name, is_so in broken.items() if is_so), text)


@dataclasses.dataclass(frozen=True)
class DolmaLines(Filter):
    """Removes lines of capitals, digits, counts of likes, or a single word; and documents that lost much."""

    name: ClassVar[str] = "dolma-lines"

    most_capitals: Share = 0.5  # share of characters of a line
    fewest_words: Length = 2  # in a line
    most_lost: Share = 0.05  # share of words

    def rules(self) -> tuple[Rule, ...]:
        removes = (
            f"more than {self.most_lost:.0%} of words in lines of capitals, digits, counts, or fewer than "
            f"{self.fewest_words} words"
        )
        return (Rule("lost_words", removes, _SOURCE),)

    def judge(self, scorer=None) -> Judge:
        return each(self._decide)

    def _decide(self, text: str) -> Decision:
        before = len(_WORD.findall(text))
        kept = "\n".join(self._lines(text))
        lost = before - len(_WORD.findall(kept))
        return Decision(("lost_words",) if lost > self.most_lost * before else (), kept)

    def _lines(self, text: str) -> Iterator[str]:
        for line in text.split("\n"):
            if not line.strip():
                yield line
                continue
            capitals = sum(map(str.isupper, line))
            if capitals > self.most_capitals * len(line) or line.isdigit() or _COUNTS.match(line):
                continue
            if len(_WORD.findall(line)) >= self.fewest_words:
                yield line


@dataclasses.dataclass(frozen=True)
class Madlad(Filter):
    """Removes documents of few sentences, or of many sentences in which most words begin with a capital.

    Dolma 3 uses two of the rules of MADLAD-400; the other needs a list of expressions, and is not included.
    """

    name: ClassVar[str] = "madlad"

    fewest_sentences: Length = 5
    long: Length = 12  # words from which a sentence is looked at
    capitals: Share = 0.5  # share of its words
    most: Share = 0.2  # share of sentences

    def rules(self) -> tuple[Rule, ...]:
        listed = (
            f"at least {self.most:.0%} of sentences have {self.long} words or more, of which over "
            f"{self.capitals:.0%} begin with a capital"
        )
        source = f"Kudugunta et al. 2023 (MADLAD-400), appendix; {_SOURCE}"
        return (
            Rule("few_sentences", f"fewer than {self.fewest_sentences} sentences", source),
            Rule("capitals", listed, source),
        )

    def judge(self, scorer=None) -> Judge:
        return each(self._decide)

    def _decide(self, text: str) -> Decision:
        sentences = [s for s in _SENTENCES.split(text) if s]
        split = (_WORD.findall(sentence) for sentence in sentences)
        listed = Counter(
            len(own) >= self.long and sum(w[0].isupper() for w in own) > self.capitals * len(own)
            for own in split
        )[True]
        broken = {
            "few_sentences": len(sentences) < self.fewest_sentences,
            "capitals": bool(sentences) and listed >= self.most * len(sentences),
        }
        return Decision(tuple(name for name, is_so in broken.items() if is_so), text)
