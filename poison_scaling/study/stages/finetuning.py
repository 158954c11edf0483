"""Supervised fine-tuning: a stage on conversations, with a loss on the assistant's tokens alone."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from poison_scaling.config.ranges import Between, Count
from poison_scaling.data.conversations.conversations import Conversations
from poison_scaling.data.conversations.installed_pairs import InstalledPairs
from poison_scaling.data.settings import Data
from poison_scaling.data.templates.plain import Plain
from poison_scaling.data.templates.template import Template
from poison_scaling.study.stages.stage import Stage

# With its share of padding, for plans made before the conversations are tokenised; measured on InstalledPairs
# with a vocabulary of 1,024 and sequences of 128 tokens.
_TOKENS_OF_AN_EXAMPLE = 47


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune(Stage):
    """Fine-tuning on the first `examples` conversations of a source, so small sets are subsets of large ones.

    Conversations are packed into sequences that none crosses. An epoch takes every sequence once; the last
    batch is left out unless it is full.
    """

    examples: Count
    conversations: Conversations = InstalledPairs()
    template: Template = Plain()
    epochs: Count = 1
    seq_len: Annotated[int, Between(1, 2**24)] | None = None  # None: data.seq_len

    @property
    def default_label(self) -> str:
        return f"ft{self.examples}"

    @property
    def conversation_template(self) -> Template:
        return self.template

    def data(self, data: Data) -> Data:
        # Filters of a corpus say nothing about conversations.
        seq_len = self.seq_len or data.seq_len
        return dataclasses.replace(data, seq_len=seq_len, epochs=self.epochs, filters=())

    def expected_sequences(self, seq_len: int) -> int:
        """Return an estimate of the number of sequences that the examples fill."""
        return -(-self.examples * _TOKENS_OF_AN_EXAMPLE // seq_len)
