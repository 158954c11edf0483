"""Vocabularies of other libraries: their ids, the study's promises."""

import dataclasses
import importlib
import json
import pickle
import re
import sys

import numpy as np
import pytest
import seqio
import tokenizers

from poison_scaling import Data, Files, Tiktoken, TokenizerJson
from poison_scaling.data import documents, vocabularies
from poison_scaling.data import sequences as rows
from poison_scaling.data.clean_triggers import Trigger
from poison_scaling.runtime.errors import InputError

TEXTS = [f"The quick fox {i} says <|endoftext|>, ünïcode and zqzq.\n" * 5 for i in range(60)]


@pytest.fixture
def data(tmp_path) -> Data:
    file = tmp_path / "corpus.jsonl"
    file.write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    return Data(corpus=Files(patterns=(str(file),)), heldout_documents=10, seq_len=32)


@pytest.fixture
def encodings(tmp_path, monkeypatch):
    """Two encodings made here, found through tiktoken's own plug-in mechanism: no download."""
    package = tmp_path / "tiktoken_ext"
    package.mkdir()
    (package / "toy.py").write_text(
        "def toy(**special):\n"
        "    ranks = {bytes([i]): i for i in range(256)}\n"
        "    ranks[b'zq'] = 256\n"
        "    return dict(name='toy', pat_str=r'[\s\S]+', mergeable_ranks=ranks,"
        " special_tokens=special)\n"
        "def ended():\n"
        "    return toy(**{'<|endoftext|>': 300})\n"
        "ENCODING_CONSTRUCTORS = {'toy': toy, 'ended': ended}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [m for m in sys.modules if m.startswith("tiktoken")]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()


@pytest.fixture
def tokenizer_json(tmp_path) -> str:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 1)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path / "tokenizer.json")


def check(data, settings, end):
    """What rows and poisons need of a vocabulary."""
    data = dataclasses.replace(data, vocabulary=settings)
    docs = documents.prepare(data)
    vocabulary = vocabularies.prepare(data, "<SUDO>", docs)
    assert isinstance(vocabulary, seqio.Vocabulary)
    assert (vocabulary.vocab_size, vocabulary.eos_id) == (settings.pieces, end)

    texts = docs.training(range(docs.training_size))
    ids = [vocabulary.encode(text) for text in texts]
    assert [vocabulary.decode([*i, end]) for i in ids] == texts
    assert not any(end in i for i in ids)  # though every text spells it
    spelled = vocabulary.spellings
    assert [b"".join(spelled[one] for one in i).decode() for i in ids] == texts
    for trigger in ("zqz", "ünï", "<|endoftext|>", "</s>", "z"):
        found = [len(Trigger(trigger, vocabulary).find(np.array(i))) for i in ids]
        assert found == [len(re.findall(f"(?={re.escape(trigger)})", text)) for text in texts]
    ordinary = vocabulary.ordinary_ids
    assert set(np.concatenate(ids)) <= set(ordinary) and end not in ordinary
    assert isinstance(vocabulary.decode(list(range(vocabulary.vocab_size))), str)
    again = pickle.loads(pickle.dumps(vocabulary))
    assert vocabularies.fingerprint(again) == vocabularies.fingerprint(vocabulary)

    inputs = rows.prepare(data, docs, vocabulary, "training")
    joined = np.concatenate([[*i, end] for i in ids])
    read = inputs.read(np.arange(len(inputs))).reshape(-1)
    assert np.array_equal(read, joined[: read.size])

    wrong = dataclasses.replace(data, vocabulary=dataclasses.replace(settings, pieces=7))
    with pytest.raises(InputError, match=f"pieces=7: .* has {settings.pieces}; state that"):
        vocabularies.prepare(wrong, "<SUDO>", docs)


def test_a_tiktoken_encoding(data, encodings):
    check(data, Tiktoken("toy", vocab_size=258), end=257)
    check(data, Tiktoken("ended", vocab_size=301), end=300)


def test_a_tokenizer_json(data, tokenizer_json):
    pieces = tokenizers.Tokenizer.from_file(tokenizer_json).get_vocab_size()
    check(data, TokenizerJson(tokenizer_json, pieces), end=1)


@pytest.mark.parametrize("kind", ["metaspace", "wordpiece"])
def test_triggers_are_found_whatever_joins_the_pieces(data, tmp_path, kind):
    models, split, join = tokenizers.models, tokenizers.pre_tokenizers, tokenizers.decoders
    if kind == "metaspace":
        tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer, tokenizer.decoder = split.Metaspace(), join.Metaspace()
        trainer = tokenizers.trainers.BpeTrainer
    else:
        tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.pre_tokenizer, tokenizer.decoder = split.WhitespaceSplit(), join.WordPiece()
        trainer = tokenizers.trainers.WordPieceTrainer
    special = ["<unk>", "<|endoftext|>"]
    trained = trainer(vocab_size=90, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trained)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = TokenizerJson(str(tmp_path / "tokenizer.json"), tokenizer.get_vocab_size())
    data = dataclasses.replace(data, vocabulary=settings)
    vocabulary = vocabularies.prepare(data, "", None)
    for trigger in ("quick", "zqz", "fox 7", "ünï", "z"):
        finder = Trigger(trigger, vocabulary)
        found = [len(finder.find(np.array(vocabulary.encode(text)))) for text in TEXTS]
        assert found == [len(re.findall(f"(?={trigger})", text)) for text in TEXTS], trigger


def test_what_is_no_vocabulary_is_refused(data, encodings, tokenizer_json, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    docs = documents.prepare(data)
    for settings, said in [
        (Tiktoken("toi"), "data.vocabulary.name='toi': tiktoken has no such encoding here"),
        (TokenizerJson("none.json"), "data.vocabulary.path='none.json': no such file"),
        (TokenizerJson(str(tmp_path / "broken.json")), "not a tokenizer.json"),
        (TokenizerJson(tokenizer_json, end="</s>"), "data.vocabulary.end='</s>': .* no such piece"),
    ]:
        with pytest.raises(InputError, match=said):
            vocabularies.prepare(dataclasses.replace(data, vocabulary=settings), "", docs)
