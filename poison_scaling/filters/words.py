"""Words, lines and paragraphs of a document, as filters count them."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Literal

# What counts as a word: what stands between spaces, or words and marks of punctuation apart.
Splitting = Literal["spaces", "punctuation"]

# Follows spaCy's rules for English in the cases that are frequent: words keep punctuation inside them, except
# hyphens and the like before a letter; clitics ('s), ellipses, dashes, and other marks stand alone.
_QUOTE, _LETTER = "['\u2019]", r"[^\W\d_]"
_CLITIC = rf"{_QUOTE}(?:s|re|ve|ll|d|m)\b"
_NOT = rf"n{_QUOTE}t\b"
_APART = rf"{_CLITIC}|[-\u2013\u2014,:<>=/](?={_LETTER})|\.(?=[A-Z])|['\u2019\"]\W"
_PIECES = re.compile(
    rf"(?:Mrs?|Dr|St|Ms|Jr)\.|\w(?:(?!{_NOT})\w|(?!{_APART})[^\w\s](?=\S*\w))*"
    rf"|{_NOT}|{_CLITIC}|\.{{2,}}|[-/\\|~+^]+|[^\w\s]"
)
PARAGRAPHS = re.compile(r"\n{2,}")
LINES = re.compile(r"\n+")


@functools.lru_cache(maxsize=512)  # several filters of a pipeline split the same documents
def words(text: str, splitting: Splitting) -> tuple[str, ...]:
    """Return the words of a text, in order."""
    return tuple(text.split() if splitting == "spaces" else _PIECES.findall(text))


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """Return how many of the parts repeat an earlier one, and their characters."""
    distinct = dict.fromkeys(parts)
    if len(distinct) == len(parts):
        return 0, 0
    characters = sum(map(len, parts)) - sum(map(len, distinct))
    return len(parts) - len(distinct), characters
