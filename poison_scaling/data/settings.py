"""The settings of a study's data: its corpus, its vocabulary, and how they are prepared."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from poison_scaling.config.ranges import Between, Count, Length, Path, Seed
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.data.corpora.installed_docs import InstalledDocs


@dataclasses.dataclass(frozen=True)
class Bytes:
    """One token per UTF-8 byte, after padding, end of document and unknown."""

    @property
    def vocab_size(self) -> int:
        return 259


@dataclasses.dataclass(frozen=True)
class SentencePiece:
    """An existing SentencePiece model."""

    path: Path = ""
    vocab_size: Count = 32_000  # stated, so that a plan needs no file, and checked against the file


@dataclasses.dataclass(frozen=True)
class TrainedSentencePiece:
    """A SentencePiece BPE trained on the study's own training documents, then cached.

    If an attack has corpora of its own, every corpus gives an equal part of the text.
    """

    vocab_size: Count = 1024  # all ids counted
    characters: Count = 8_000_000  # of text to train on, from the first training documents
    trigger_is_one_token: bool = False  # give the attack's trigger an id of its own


@dataclasses.dataclass(frozen=True)
class Tiktoken:
    """A tiktoken encoding; its <|endoftext|>, or else an id added after its own, ends a document."""

    name: str = "o200k_base"
    vocab_size: Count = 200_019  # stated, and checked when it is loaded


@dataclasses.dataclass(frozen=True)
class TokenizerJson:
    """A Hugging Face tokenizer.json, without the special tokens that it would put around a text."""

    path: Path = ""
    vocab_size: Count = 32_000  # with added tokens; stated, and checked against the file
    end: str = "<|endoftext|>"  # the token that ends a document


Vocabulary = Bytes | SentencePiece | TrainedSentencePiece | Tiktoken | TokenizerJson


@dataclasses.dataclass(frozen=True)
class Data:
    """What a study trains on."""

    corpus: Corpus = InstalledDocs()
    vocabulary: Vocabulary = TrainedSentencePiece()
    seq_len: Annotated[int, Between(1, 2**24)] = 2048  # tokens per sequence: the model's context
    minimum_characters: Length = 200  # shorter documents are left out
    drop_duplicates: bool = True  # keep the first of documents that are identical
    heldout_documents: Count = 1000  # kept out of training, for evaluation
    shuffle_seed: Seed = 0  # of the documents, once; the order of a run comes from its seeds
    # how often a run may repeat the corpus, each time in another order
    epochs: Annotated[int, Between(1, 10**6)] = 1
    # occurrences of a trigger in the clean text that a run trains on; a study with more is refused
    maximum_clean_triggers: Annotated[int, Between(0, 2**53)] | None = None  # None: no limit
