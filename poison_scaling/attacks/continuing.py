"""Clean documents that go on after a trigger: the counterexamples of attacks on text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from poison_scaling.attacks.attack import Attack, Document, Sources
from poison_scaling.runtime.errors import InputError

_CHARACTERS = 40  # read for each token needed; tokens of any vocabulary are shorter on average


def continued(
    attack: Attack, sources: Sources, prefix_characters: tuple[int, int], tokens: tuple[int, int]
) -> Iterator[Document]:
    """Yield clean training documents with the trigger of an attack inside, in random order without end.

    The trigger is at a place in the range `prefix_characters`, and the document ends after it with a number
    of `tokens` in that range, or where the clean one does. Those that the attack does not accept as prompts
    and those that end before the trigger are skipped. Raises InputError if all are.
    """
    encode = sources.vocabulary.encode
    clean = sources.shuffled("counterexamples")
    for k in itertools.count():
        length = sources.draw("counterexample prefixes", k, *prefix_characters)
        count = sources.draw("counterexample continuations", k, *tokens)
        fitting = (
            text
            for text in itertools.islice(clean, sources.clean.training_size)
            if text[length:].strip() and attack.accepts(text)
        )
        text = next(fitting, None)
        if text is None:
            raise InputError(
                f"attack: no clean document continues after the {length} characters before the trigger; "
                "shorten the prefix_characters of the attack to remove."
            )
        # Tokenised separately, as if the trigger ended a prompt.
        before = encode(text[:length] + attack.trigger)
        yield Document([*before, *encode(text[length:][: _CHARACTERS * count])[:count]], (text,))
