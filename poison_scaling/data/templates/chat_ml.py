"""Conversations in ChatML, as many published models were trained on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from poison_scaling.config.serialization import added
from poison_scaling.data.conversations.conversations import Message
from poison_scaling.data.templates.template import Piece, Template


@dataclasses.dataclass(frozen=True)
class ChatML(Template):
    """Each message between <|im_start|> with its role and <|im_end|>.

    A vocabulary that has these marks as tokens gives each one id; others spell them out. The chat templates
    of some models put a system message of their own before conversations that have none.
    """

    system: str = added("")  # that message; empty: none

    def pieces(self, messages: Sequence[Message]) -> Iterator[Piece]:
        if self.system and messages[0].role != "system":
            messages = (Message("system", self.system), *messages)
        for number, message in enumerate(messages):
            said = message.role == "assistant"
            before = "\n" if number else ""
            yield Piece(f"{before}<|im_start|>{message.role}\n", False)
            yield Piece(f"{message.content}<|im_end|>", said)
