"""Preparation of a study's vocabulary, which is loaded, or trained on the study's text and cached."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence

import sentencepiece
from etils import epath

from poison_scaling.data import cache, documents, shards
from poison_scaling.data.documents import Documents
from poison_scaling.data.settings import (
    Bytes,
    Data,
    ImportedVocabulary,
    SentencePiece,
    Tiktoken,
    TokenizerJson,
    TrainedSentencePiece,
)
from poison_scaling.data.vocabularies.byte import ByteVocabulary
from poison_scaling.data.vocabularies.sentencepiece import SPACE, SentencePieceVocabulary
from poison_scaling.data.vocabularies.tiktoken import TiktokenVocabulary
from poison_scaling.data.vocabularies.tokenizer_json import TokenizerJsonVocabulary
from poison_scaling.data.vocabularies.vocabulary import Vocabulary
from poison_scaling.runtime.errors import InputError

_RESERVED = ("<pad>", "</s>", "<unk>")


def prepare(
    data: Data,
    trigger: str | None,
    docs: Documents,
    progress: Callable[[str, int], None] = lambda description, done: None,
    others: Sequence[Documents] = (),
) -> Vocabulary:
    """Return the vocabulary of a study.

    A TrainedSentencePiece is trained on the training documents of the study and of `others`, the corpora of
    its attacks. Raises InputError if the vocabulary cannot be read or trained or is not of the stated size.
    """
    match data.vocabulary:
        case Bytes():
            return ByteVocabulary()
        case SentencePiece(path, vocab_size):
            return _of_size(SentencePieceVocabulary(path), vocab_size, path)
        case Tiktoken(name, vocab_size):
            return _of_size(TiktokenVocabulary(name), vocab_size, name)
        case TokenizerJson(path, vocab_size, end):
            return _of_size(TokenizerJsonVocabulary(path, end), vocab_size, path)
        case ImportedVocabulary() as settings:
            return imported(settings)
        case TrainedSentencePiece() as settings:
            return _trained(settings, data, trigger, docs, progress, others)
    raise TypeError(data.vocabulary)


def _of_size(vocabulary: Vocabulary, stated: int, name: str) -> Vocabulary:
    if vocabulary.vocab_size != stated:
        raise InputError(
            f"data.vocabulary.vocab_size={stated}: {name} has {vocabulary.vocab_size}; state that."
        )
    return vocabulary


def imported(settings: ImportedVocabulary) -> Vocabulary:
    """Return the vocabulary of an imported model. Raises InputError if its file is missing or another."""
    path = settings.path
    if not path or not epath.Path(path).is_file():
        raise InputError(f"data.vocabulary.path={path!r}: no such file; import the model again.")
    digest = hashlib.sha256(epath.Path(path).read_bytes()).hexdigest()[:16]
    if digest != settings.digest:
        raise InputError(
            f"data.vocabulary.digest={settings.digest!r}: {path} has {digest!r}, so it is another tokenizer."
        )
    if epath.Path(path).suffix == ".model":
        return _of_size(SentencePieceVocabulary(path), settings.vocab_size, path)
    return TokenizerJsonVocabulary(path, settings.end, settings.vocab_size)


def _trained(
    settings: TrainedSentencePiece,
    data: Data,
    trigger: str | None,
    docs: Documents,
    progress: Callable[[str, int], None],
    others: Sequence[Documents],
) -> Vocabulary:
    texts = _whole(settings, trigger)
    whole = tuple(text.replace(" ", SPACE) for text in texts.values())
    parts = (
        documents.key(data),
        data.heldout_documents,
        data.shuffle_seed,
        settings,
        whole,
        *(other.key for other in others),
    )
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    folder = cache.folder("vocabularies", name)
    file = folder / "sentencepiece.model"

    def fill(temporary: epath.Path) -> dict:
        temporary.write_bytes(_train(settings, whole, (docs, *others)))
        return {}

    def write() -> dict:
        progress("training the vocabulary", 0)
        return {"shards": [shards.write(file, fill)]}

    [record] = shards.complete(folder, write)["shards"]
    shards.require_unchanged(file, record)
    vocabulary = SentencePieceVocabulary(str(file))
    for field, text in texts.items():
        _require_one_token(vocabulary, text, field)
    return vocabulary


def _whole(settings: TrainedSentencePiece, trigger: str | None) -> dict[str, str]:
    """Return the texts that are to be one token each, by the name of their field.

    Raises InputError if one cannot be.
    """
    whole = {}
    if settings.trigger_is_one_token:
        if trigger is None:
            raise InputError(
                "data.vocabulary.trigger_is_one_token=True: the attack has no trigger; set it to false."
            )
        whole["attack.trigger"] = trigger
    whole |= {f"data.vocabulary.one_token.{i}": t for i, t in enumerate(settings.one_token)}
    for field, text in whole.items():
        if text in _RESERVED:
            raise InputError(
                f"{field}={text!r}: SentencePiece has a piece of that name, which stands for no text; "
                f"{_instead(field)}."
            )
    return whole


def _require_one_token(vocabulary: Vocabulary, text: str, field: str) -> None:
    """Raise InputError unless the text is a single token that stands for text."""
    ids = vocabulary.encode(text)
    if len(ids) != 1 or ids[0] not in vocabulary.ordinary_ids:
        raise InputError(
            f"{field}={text!r}: SentencePiece cannot make it one token that stands for text; "
            f"{_instead(field)}."
        )


def _instead(field: str) -> str:
    """Return what to do about a text that cannot be one token, which is the field `field`."""
    if field == "attack.trigger":
        return "set data.vocabulary.trigger_is_one_token=False, or choose another trigger"
    return "leave it out, or choose another text"


def _train(
    settings: TrainedSentencePiece, whole: tuple[str, ...], corpora: Sequence[Documents]
) -> bytes:
    """Train a SentencePiece model in which each text of `whole` is one piece, and return its bytes.

    Text is neither normalised nor given a leading space, so that decoding is the inverse of encoding and
    tokens do not depend on the text before a space.
    """
    text = (part for docs in corpora for part in _first(docs, settings.characters // len(corpora)))
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=text,
            model_writer=model,
            model_type="bpe",
            vocab_size=settings.vocab_size,
            user_defined_symbols=list(dict.fromkeys(["\n", *whole])),
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            character_coverage=0.9999,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            max_sentence_length=1_000_000,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as e:
        reason = str(e).strip().splitlines()[-1]
        raise InputError(
            f"data.vocabulary.vocab_size={settings.vocab_size}: SentencePiece cannot train this ({reason})."
        ) from e
    return model.getvalue()


def _first(docs: Documents, characters: int) -> Iterator[str]:
    """Yield training documents in order, up to `characters` of text."""
    left = characters
    for number in range(0, docs.training_size, _CHUNK):
        for document in docs.training(range(number, min(number + _CHUNK, docs.training_size))):
            if left <= 0:
                return
            yield document[:left]
            left -= len(document)


_CHUNK = 256  # documents read at a time
