"""Tell which of two languages a text is in.

By py3langid (https://github.com/adbar/py3langid), a naive Bayes classifier over byte n-grams with a model of
139 languages. Between two of them it judges short and garbled text well; a study records how well on its own
text.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from py3langid import langid

from poison_scaling.runtime.errors import InputError


def chance(texts: Sequence[str], language: str, other: str) -> list[float]:
    """Return how likely each text is in `language`, given that it is in that or in `other` (ISO 639-1): 0 to
    1.

    A text with nothing to judge by has 0.5. Raises InputError for an unknown language.
    """
    rank = _identifier(language, other).rank
    return [dict(rank(text))[language] for text in texts]


@functools.cache
def _identifier(*languages: str) -> langid.LanguageIdentifier:
    identifier = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    for language in languages:
        if language not in identifier.labels:
            raise InputError(
                f"attack: the language {language!r} is not known; there are "
                f"{', '.join(sorted(identifier.labels))}."
            )
    identifier.set_languages(list(languages))
    return identifier
