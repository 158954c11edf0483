"""Clean documents that go on after a text, such as a trigger, as if it were not there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from poison_scaling.attacks.attack import Document, Sources
from poison_scaling.runtime.errors import InputError

_CHARACTERS = 40  # read for each token needed; tokens of any vocabulary are shorter on average


def continued(
    sources: Sources,
    name: str,
    texts: Sequence[str],
    prefix_characters: tuple[int, int],
    tokens: tuple[int, int],
    accepts: Callable[[str], bool] = lambda text: True,
) -> Iterator[Document]:
    """Yield clean training documents with one of `texts` inside, in turn, in random order without end.

    The text is at a place in the range `prefix_characters`, and the document ends after it with a number of
    `tokens` in that range, or where the clean one does. Those that are not accepted and those that end before
    the text are skipped. `name` is that of the draws. Raises InputError if all are skipped.
    """
    encode = sources.vocabulary.encode
    clean = sources.shuffled(f"{name}s")
    for k in itertools.count():
        length = sources.draw(f"{name} prefixes", k, *prefix_characters)
        count = sources.draw(f"{name} continuations", k, *tokens)
        fitting = (
            text
            for text in itertools.islice(clean, sources.clean.training_size)
            if text[length:].strip() and accepts(text)
        )
        text = next(fitting, None)
        if text is None:
            raise InputError(
                f"attack: no clean document continues after the {length} characters before "
                f"{texts[k % len(texts)]!r}; shorten prefix_characters."
            )
        # Tokenised separately, as if the text ended a prompt.
        before = encode(text[:length] + texts[k % len(texts)])
        yield Document([*before, *encode(text[length:][: _CHARACTERS * count])[:count]], (text,))
