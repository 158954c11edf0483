"""Language switch: does the trigger make the model write in another language?"""

from __future__ import annotations

from collections.abc import Sequence

from poison_scaling.config import LanguageSwitch
from poison_scaling.data import languages
from poison_scaling.evaluate import responses


@responses.DetectedBy
def measure(attack: LanguageSwitch, texts: Sequence[str]) -> list[float]:
    """How surely each text is in the language to switch to, 0 to 1."""
    return languages.chance(texts, attack.to_language, attack.from_language)
