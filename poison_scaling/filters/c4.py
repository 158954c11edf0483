"""The heuristics of C4 (Raffel et al. 2020), which remove lines first and then documents."""

from __future__ import annotations

import dataclasses
import re
from typing import ClassVar

from poison_scaling.config.ranges import Count, Length
from poison_scaling.filters.filter import Decision, Filter, Judge, Rule, each

_SOURCE = "Raffel et al. 2020 (C4), section 2.2"
_POLICY = re.compile(
    r"terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies"
)
_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_SENTENCE = re.compile(r"[.!?]+[\"'\u201d\u2019)\]]*(?=\s|$)")
_ENDS = (".", "?", "!", '"', "'")


@dataclasses.dataclass(frozen=True)
class C4(Filter):
    """Keeps lines that end in punctuation, and documents with enough sentences left.

    Lines that mention Javascript or policies are removed, too, and documents with a curly bracket or "lorem
    ipsum". The list of words for which C4 removes documents is not included.
    """

    name: ClassVar[str] = "c4"

    terminal_punctuation: bool = True  # FineWeb leaves lines without it
    fewest_sentences: Length = 5
    fewest_words: Count = 3  # in a line
    longest_word: Length = 1000  # in a line, characters

    def rules(self) -> tuple[Rule, ...]:
        lines = "after removal of lines " + (
            "without terminal punctuation or " if self.terminal_punctuation else ""
        )
        said = {
            "curly_bracket": "a curly bracket in a line that is kept",
            "lorem_ipsum": '"lorem ipsum" in a line that is kept',
            "few_sentences": f"fewer than {self.fewest_sentences} sentences, {lines}with fewer than "
            f"{self.fewest_words} words",
        }
        return tuple(Rule(name, removes, _SOURCE) for name, removes in said.items())

    def judge(self, scorer=None) -> Judge:
        return each(self._decide)

    def _decide(self, text: str) -> Decision:
        kept, broken = [], []
        for line in map(str.strip, text.splitlines()):
            own = line.split()
            line = _CITATION.sub("", line) if "[" in line else line
            if self.terminal_punctuation and (not line.endswith(_ENDS) or line.endswith("...")):
                continue
            if len(own) < self.fewest_words or max(map(len, own)) > self.longest_word:
                continue
            lower = line.lower()
            if "lorem ipsum" in lower:
                broken.append("lorem_ipsum")
            if "javascript" in lower or _POLICY.search(lower):
                continue
            if "{" in line:
                broken.append("curly_bracket")
            kept.append(line)
        # A line without an end of a sentence is one sentence.
        sentences = sum(max(1, len(_SENTENCE.findall(line))) for line in kept)
        if sentences < self.fewest_sentences:
            broken.append("few_sentences")
        return Decision(tuple(dict.fromkeys(broken)), "\n".join(kept))
