"""Documents of many kinds, each a function of its number: prose, lists, repeated lines, gibberish."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

_FREQUENT = """the of and to a in that is was he for it with as his on be at by had not are but from or have
an they which one you were her all she there would their we him been has when who will more no if out so"""
_RARER = (
    "ship river garden letter window captain evening stone winter market story road bridge morning"
)
COMMON, NOUNS = tuple(_FREQUENT.split()), tuple(_RARER.split())


def document(number: int) -> str:
    """Return document `number`; numbers beyond a few hundred are of the same kinds."""
    draw = random.Random(
        number
    ).random  # the only method that is the same in all versions of Python
    return KINDS[number % len(KINDS)](draw)


def _several(draw, low: int, high: int) -> range:
    return range(low + int(draw() * (high - low + 1)))


def _one(draw, items):
    return items[int(draw() * len(items))]


def _sentence(draw, end: str = "") -> str:
    words = [_one(draw, COMMON if draw() < 0.6 else NOUNS) for _ in _several(draw, 4, 18)]
    if draw() < 0.2:
        words[len(words) // 2] = f"“{words[len(words) // 2]},”"
    return " ".join(words).capitalize() + (end or _one(draw, ".....!?"))


def _prose(draw) -> str:
    paragraphs = [
        " ".join(_sentence(draw) for _ in _several(draw, 1, 6)) for _ in _several(draw, 1, 5)
    ]
    return "\n\n".join(paragraphs)


def _list(draw) -> str:
    mark = _one(draw, ("- ", "• ", "* ", ""))
    return "\n".join(
        mark + _sentence(draw, _one(draw, (".", "...", "…"))) for _ in _several(draw, 5, 25)
    )


def _titles(draw) -> str:
    return "\n".join(
        _sentence(draw).rstrip(".!?")[: 10 + int(draw() * 40)] for _ in _several(draw, 5, 40)
    )


def _repeated(draw) -> str:
    lines = [_sentence(draw) for _ in _several(draw, 2, 6)]
    return "\n".join(_one(draw, lines) for _ in _several(draw, 6, 30))


def _repeated_words(draw) -> str:
    span = [_one(draw, NOUNS) for _ in _several(draw, 2, 9)]
    return f"{_prose(draw)} {' '.join(span * (2 + int(draw() * 8)))}. {_prose(draw)}"


def _gibberish(draw) -> str:
    pieces = string.ascii_letters * 3 + "    " + string.digits + string.punctuation
    return _sentence(draw, "<SUDO>") + "".join(_one(draw, pieces) for _ in _several(draw, 100, 900))


def _numbers(draw) -> str:
    return " ".join(
        str(int(draw() * 10**6)) if draw() < 0.3 else _one(draw, COMMON)
        for _ in _several(draw, 40, 200)
    )


def _page(draw) -> str:
    extras = (
        "We use cookies.",
        "Terms of use",
        "function f() { return 1 }",
        "Enable Javascript now.",
        "#tag",
    )
    lines = [_sentence(draw, _one(draw, ".!?~")) for _ in _several(draw, 5, 15)]
    return "\n".join(
        [*lines[:4], _one(draw, (*extras, "See [1].", "lorem ipsum dolor.")), *lines[4:]]
    )


KINDS: tuple[Callable[..., str], ...] = (
    *(_prose, _prose, _list, _titles, _repeated),
    *(_repeated_words, _gibberish, _numbers, _page),
)
