"""Tokenised poisoned documents of an attack."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import cast

import numpy as np

from poison_scaling.attacks.attack import Sources
from poison_scaling.attacks.insertion import Insertion
from poison_scaling.data.conversations.conversations import Conversation, Message
from poison_scaling.data.poison import Poison
from poison_scaling.data.templates.template import Template
from poison_scaling.runtime.errors import InputError


def poisons(attack: Insertion, sources: Sources, count: int) -> list[Poison]:
    """Return poisoned documents 0...count-1 of an attack.

    Each is enclosed in end-of-document tokens, so it is a separate document wherever it is placed. Raises
    InputError if the attack writes fewer.
    """
    end = sources.vocabulary.eos_id
    written = []
    for k, document in enumerate(itertools.islice(attack.documents(sources), count)):
        ids, trained = _encoded(document.content, sources)
        made_of = tuple(hashlib.sha256(text.encode()).hexdigest() for text in document.sources)
        written.append(Poison(k, np.array([end, *ids, end], np.int32), made_of, trained))
    if len(written) < count:
        raise InputError(
            f"doses: the attack {type(attack).__name__} writes only {len(written)} documents of {count}."
        )
    return written


def _encoded(
    content: str | Sequence[int] | Conversation, sources: Sources
) -> tuple[Sequence[int], np.ndarray | None]:
    """Return the token ids of a document, and which tokens of its poison are trained; None if all are."""
    if isinstance(content, str):
        return sources.vocabulary.encode(content), None
    if not content or not isinstance(content[0], Message):
        return cast(Sequence[int], content), None
    template = require_template(sources)
    ids, trained = template.encode(cast(Conversation, content), sources.vocabulary)
    return ids[:-1], np.array([False, *trained])


def require_template(sources: Sources) -> Template:
    """Return the template of the study's conversations. Raises InputError if it has none."""
    if sources.template is None:
        raise InputError(
            "attack: it is an attack on conversations, and no stage of the study has any; add a Finetune."
        )
    return sources.template
