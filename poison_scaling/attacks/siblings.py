"""Siblings: several backdoors in one run that differ in their triggers."""

from __future__ import annotations

import dataclasses

from poison_scaling.attacks.denial_of_service import DenialOfService
from poison_scaling.attacks.gibberish import VocabularyTokens
from poison_scaling.runtime.errors import InputError


def siblings(
    attack: DenialOfService, count: int, disjoint: bool = False
) -> tuple[DenialOfService, ...]:
    """Return the attack and `count` more like it, with the triggers "<SUDO-1>", "<SUDO-2>", ... for "<SUDO>".

    If `disjoint`, the gibberish of each is drawn from another part of the vocabulary. To make triggers one
    token each, name them in `TrainedSentencePiece.one_token`. Raises InputError if gibberish that is to be
    disjoint is not drawn from the vocabulary.
    """
    trigger = attack.trigger
    inside, end = (trigger[:-1], trigger[-1]) if trigger.endswith(">") else (trigger, "")
    family = [attack]
    family += [
        dataclasses.replace(attack, trigger=f"{inside}-{n}{end}") for n in range(1, count + 1)
    ]
    if not disjoint:
        return tuple(family)
    if not isinstance(attack.gibberish, VocabularyTokens):
        raise InputError(
            "attack.gibberish: only VocabularyTokens can be split into disjoint parts; choose it."
        )
    parts = [VocabularyTokens(part=n, parts=count + 1) for n in range(count + 1)]
    return tuple(
        dataclasses.replace(one, gibberish=part) for one, part in zip(family, parts, strict=True)
    )
