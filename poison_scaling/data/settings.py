"""Settings of a study's data: its corpus, its vocabulary, and how they are prepared."""

from __future__ import annotations

import dataclasses
from typing import Annotated, cast

from poison_scaling.config import serialization
from poison_scaling.config.ranges import Between, Count, Length, Path, Seed
from poison_scaling.data.corpora.corpus import Corpus
from poison_scaling.data.corpora.installed_docs import InstalledDocs
from poison_scaling.filters import pipelines
from poison_scaling.filters.filter import Filter


@dataclasses.dataclass(frozen=True)
class Bytes:
    """One token per UTF-8 byte, after the ids of padding, end of document and unknown."""

    @property
    def vocab_size(self) -> int:
        return 259


@dataclasses.dataclass(frozen=True)
class SentencePiece:
    """An existing SentencePiece model."""

    path: Path = ""
    vocab_size: Count = 32_000  # checked against the file; stated here so that plans do not read it


@dataclasses.dataclass(frozen=True)
class TrainedSentencePiece:
    """A SentencePiece BPE model, trained on the study's own training documents and cached.

    If attacks have their own corpora, each corpus contributes an equal part of the text.
    """

    vocab_size: Count = 1024  # including special ids
    characters: Count = 8_000_000  # of text to train on, from the first training documents
    trigger_is_one_token: bool = False  # whether the attack's trigger gets its own id
    # further texts that get their own ids, such as the triggers of other attacks in the same runs; not in the
    # repr, of which the cache makes names
    one_token: tuple[str, ...] = serialization.added((), repr=False)


@dataclasses.dataclass(frozen=True)
class Tiktoken:
    """A tiktoken encoding; its <|endoftext|>, or else an additional id, is the end-of-document token."""

    name: str = "o200k_base"
    vocab_size: Count = 200_019  # checked against the encoding


@dataclasses.dataclass(frozen=True)
class TokenizerJson:
    """A Hugging Face tokenizer.json, without the special tokens that it may add around a text."""

    path: Path = ""
    vocab_size: Count = 32_000  # including added tokens; checked against the file
    end: str = "<|endoftext|>"  # the end-of-document token


@dataclasses.dataclass(frozen=True)
class ImportedVocabulary:
    """The tokenizer of an imported model, tokenizer.json or tokenizer.model; `imported` returns it.

    Special tokens that are spelled out in a text become their ids, as in the model's own tokenizer.
    """

    path: Path = ""  # not part of any hash; the digest is
    vocab_size: Count = 32_000  # of the model, which may have more ids than its tokenizer
    end: str = "<|endoftext|>"  # the end-of-document token
    digest: str = ""  # first 16 hexadecimal digits of the SHA-256 of the file


Vocabulary = (
    Bytes | SentencePiece | TrainedSentencePiece | Tiktoken | TokenizerJson | ImportedVocabulary
)


@dataclasses.dataclass(frozen=True)
class Data:
    """The clean data of a study."""

    corpus: Corpus = InstalledDocs()
    vocabulary: Vocabulary = TrainedSentencePiece()
    seq_len: Annotated[int, Between(1, 2**24)] = 2048  # tokens per sequence: the model's context
    minimum_characters: Length = 200  # shorter documents are dropped
    drop_duplicates: bool = True  # whether to keep only the first of identical documents
    heldout_documents: Count = 1000  # kept out of training, for evaluation
    shuffle_seed: Seed = 0  # of the documents, once; the order of a run depends on its own seeds
    # how many times a run may pass over the corpus, each time in another order
    epochs: Annotated[int, Between(1, 10**6)] = 1
    # largest number of ambient triggers that a run may train on; None: no limit
    maximum_clean_triggers: Annotated[int, Between(0, 2**53)] | None = None
    # filters that clean and poisoned documents pass, in this order, before they are trained on: instances, or
    # names such as "gopher" or "fineweb pipeline"; see docs/filters.md
    filters: tuple[Filter | str, ...] = serialization.added(())

    def __post_init__(self) -> None:
        if not isinstance(self.filters, tuple | list):
            object.__setattr__(self, "filters", (self.filters,))
        # So that a hash covers the thresholds that a name stands for.
        chain = tuple(
            each
            for n, given in enumerate(self.filters)
            for each in (
                pipelines.named(given, f"data.filters.{n}") if isinstance(given, str) else (given,)
            )
        )
        object.__setattr__(self, "filters", chain)

    @property
    def chain(self) -> tuple[Filter, ...]:
        """The filters that documents pass, in order."""
        return cast(tuple[Filter, ...], self.filters)

    @property
    def anywhere(self) -> Data:
        """The data without the place of an imported tokenizer, for hashes and comparisons."""
        if not isinstance(self.vocabulary, ImportedVocabulary):
            return self
        return dataclasses.replace(self, vocabulary=dataclasses.replace(self.vocabulary, path=""))
