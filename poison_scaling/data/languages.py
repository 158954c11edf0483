"""Which of two languages a text is in.

By py3langid (https://github.com/adbar/py3langid), a naive Bayes classifier over byte n-grams that comes with
its model and knows 139 languages. Between two of them it judges short and garbled text well; how well on the
text of a study, that study records.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from py3langid import langid

from poison_scaling.errors import InputError


def chance(texts: Sequence[str], language: str, other: str) -> list[float]:
    """How likely each text is in `language`, if it is in that or in `other` (ISO 639-1): 0 to 1.

    A text without anything to judge by has 0.5. Raises InputError for a language that is not known.
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
