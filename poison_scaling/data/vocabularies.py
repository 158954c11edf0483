"""Vocabularies as seqio has them: bytes, SentencePiece (given, or trained and cached), and others."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

import numpy as np
import sentencepiece
import seqio
from etils import epath

from poison_scaling.config import (
    Bytes,
    Data,
    SentencePiece,
    Tiktoken,
    TokenizerJson,
    TrainedSentencePiece,
)
from poison_scaling.data import cache, documents, shards
from poison_scaling.data.foreign_vocabularies import (
    ForeignVocabulary,
    TiktokenVocabulary,
    TokenizerJsonVocabulary,
)
from poison_scaling.errors import InputError

_SPACE = "\u2581"  # as SentencePiece's pieces have it


def prepare(
    data: Data,
    trigger: str,
    docs: documents.Documents,
    progress=None,
    others: Sequence[documents.Documents] = (),
) -> seqio.Vocabulary:
    """The vocabulary of a study, trained on its training documents where the config says so, and on those of
    `others`, the corpora of its attacks.

    Raises InputError when the model cannot be read, or has no end-of-document piece.
    """
    match data.vocabulary:
        case Bytes():
            return seqio.ByteVocabulary(extra_ids=0)
        case SentencePiece(path, pieces):
            return _of_size(_read(path), pieces, path)
        case Tiktoken(name, pieces):
            return _of_size(TiktokenVocabulary(name), pieces, name)
        case TokenizerJson(path, pieces, end):
            return _of_size(TokenizerJsonVocabulary(path, end), pieces, path)
        case TrainedSentencePiece() as settings:
            pieces = (trigger.replace(" ", _SPACE),) if settings.trigger_is_one_piece else ()
            parts = (
                documents.key(data),
                data.heldout_documents,
                data.shuffle_seed,
                settings,
                pieces,
                *(other.key for other in others),
            )
            name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
            folder = cache.folder("vocabularies", name)
            file = folder / "sentencepiece.model"

            def fill(temporary: epath.Path) -> dict:
                temporary.write_bytes(_train(settings, pieces, (docs, *others)))
                return {}

            def write() -> dict:
                if progress:
                    progress("training the vocabulary", 0)
                return {"shards": [shards.write(file, fill)]}

            [record] = shards.complete(folder, write)["shards"]
            shards.require_unchanged(file, record)
            vocabulary = _read(str(file))
            if settings.trigger_is_one_piece:
                _require_piece(vocabulary, trigger)
            return vocabulary


def ordinary_ids(vocabulary: seqio.Vocabulary) -> np.ndarray:
    """Ids that stand for text: all but padding, end of document, unknown and control ids. int64 [n]."""
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        model = vocabulary.tokenizer
        return np.array(
            [
                i
                for i in range(model.get_piece_size())
                if not (model.is_control(i) or model.is_unknown(i) or model.is_unused(i))
            ]
        )
    if isinstance(vocabulary, ForeignVocabulary):
        return vocabulary.ordinary_ids
    special = {vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id}
    return np.array([i for i in range(vocabulary.vocab_size) if i not in special])


def spellings(vocabulary: seqio.Vocabulary) -> list[bytes]:
    """The text that each id stands for within a document, in UTF-8, of which a piece may be a part.

    Nothing for ids that stand for no text, and a byte that no text has for the unknown piece.
    """
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        return [_spelled(vocabulary.tokenizer, i) for i in range(vocabulary.vocab_size)]
    if isinstance(vocabulary, ForeignVocabulary):
        return vocabulary.spellings
    ordinary = set(
        ordinary_ids(vocabulary).tolist()
    )  # of bytes, which stand behind the special ids
    first = min(ordinary)
    return [bytes([i - first]) if i in ordinary else b"" for i in range(vocabulary.vocab_size)]


def _spelled(model: sentencepiece.SentencePieceProcessor, i: int) -> bytes:
    piece = model.id_to_piece(i)
    if model.is_unknown(i):
        return b"\xff"
    if model.is_control(i) or model.is_unused(i):
        return b""
    if model.is_byte(i):  # "<0xE2>"
        return bytes([int(piece[3:5], 16)])
    return piece.replace(_SPACE, " ").encode()


def fingerprint(vocabulary: seqio.Vocabulary) -> str:
    """Names what the ids of a text depend on."""
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        return hashlib.sha256(vocabulary.sp_model).hexdigest()
    if isinstance(vocabulary, ForeignVocabulary):
        return vocabulary.fingerprint
    return type(vocabulary).__name__


def _of_size(vocabulary: seqio.Vocabulary, pieces: int, name: str) -> seqio.Vocabulary:
    if vocabulary.vocab_size != pieces:
        raise InputError(
            f"data.vocabulary.pieces={pieces}: {name} has {vocabulary.vocab_size}; state that."
        )
    return vocabulary


def _require_piece(vocabulary: seqio.Vocabulary, trigger: str) -> None:
    """Raise InputError unless the trigger has a piece of its own, of text."""
    ids = vocabulary.encode(trigger)
    if len(ids) != 1 or ids[0] not in ordinary_ids(vocabulary):
        raise InputError(
            f"attack.trigger={trigger!r}: SentencePiece cannot make it one piece that stands for text; set "
            "data.vocabulary.trigger_is_one_piece=False, or choose another trigger."
        )


def _read(path: str) -> seqio.Vocabulary:
    file = epath.Path(path)
    if not path or not file.is_file():
        raise InputError(f"data.vocabulary.path={path!r}: no such file.")
    try:
        vocabulary = seqio.SentencePieceVocabulary(path, extra_ids=0)
        eos = vocabulary.eos_id
    except Exception as e:
        raise InputError(f"data.vocabulary.path={path!r}: not a SentencePiece model ({e}).") from e
    if eos is None or eos < 0:
        raise InputError(f"data.vocabulary.path={path!r}: the model has no end-of-sentence piece.")
    return vocabulary


def _train(
    settings: TrainedSentencePiece, pieces: tuple[str, ...], corpora: Sequence[documents.Documents]
) -> bytes:
    """The bytes of a SentencePiece model.

    Text is taken as it is (no normalisation, no space put in front), so that decoding gives it back,
    and the pieces of a text do not depend on what it is joined to at a space.
    """

    def text():
        for docs in corpora:
            yield from first(docs, settings.characters // len(corpora))

    def first(docs, left):
        number = 0
        while left > 0 and number < docs.training_size:
            numbers = range(number, min(number + 256, docs.training_size))
            for document in docs.training(numbers):
                yield document[:left]
                left -= len(document)
                if left <= 0:
                    return
            number = numbers.stop

    reserved = set(pieces) & {"<pad>", "</s>", "<unk>"}
    if reserved:
        raise InputError(
            f"attack.trigger={reserved.pop()!r}: SentencePiece has a piece of that name, which stands for no "
            "text; set data.vocabulary.trigger_is_one_piece=False, or choose another trigger."
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=text(),
            model_writer=model,
            model_type="bpe",
            vocab_size=settings.pieces,
            user_defined_symbols=list(dict.fromkeys(["\n", *pieces])),
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
            f"data.vocabulary.pieces={settings.pieces}: SentencePiece cannot train this ({reason})."
        ) from e
    return model.getvalue()
