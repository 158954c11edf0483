"""Tokenised poisoned documents of an attack."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np

from poison_scaling.attacks.attack import Attack, Sources
from poison_scaling.data.poison import Poison
from poison_scaling.runtime.errors import InputError


def poisons(attack: Attack, sources: Sources, count: int) -> list[Poison]:
    """Return poisoned documents 0...count-1 of an attack.

    Each is enclosed in end-of-document tokens, so it is a separate document wherever it is placed. Raises
    InputError if the attack writes fewer.
    """
    end = sources.vocabulary.eos_id
    written = []
    for k, document in enumerate(itertools.islice(attack.documents(sources), count)):
        ids = document.content
        if isinstance(ids, str):
            ids = sources.vocabulary.encode(ids)
        made_of = tuple(hashlib.sha256(text.encode()).hexdigest() for text in document.sources)
        written.append(Poison(k, np.array([end, *ids, end], np.int32), made_of))
    if len(written) < count:
        raise InputError(
            f"doses: the attack {type(attack).__name__} writes only {len(written)} documents of {count}."
        )
    return written
