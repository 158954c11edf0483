"""GGUF files, written by the package of that name, read back as the model that they were made from."""

import json

import numpy as np
import pytest

from poison_scaling.formats import model_folder
from poison_scaling.runtime.errors import InputError
from tests.support import published

gguf = pytest.importorskip("gguf")
tokenizers = pytest.importorskip("tokenizers")

THEIRS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def written(file, tensors, architecture="llama", pre="smollm", quantised=()):
    """Write tensors of transformers' as llama.cpp does, with a byte-level tokenizer of two merges."""
    writer = gguf.GGUFWriter(file, architecture)
    config = published.CONFIG
    writer.add_block_count(2)
    writer.add_context_length(256)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_license("apache-2.0")
    characters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = [*TOKENS, *characters, "he", "Ġhe", "12"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["h e", "Ġ he", "1 2"])
    writer.add_eos_token_id(2)
    for name, array in tensors.items():
        part, _, kind = name.removeprefix("model.").rpartition(".")
        theirs = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}.get(
            part
        )
        if theirs is None:
            _, number, part = part.split(".", 2)
            theirs = f"blk.{number}.{THEIRS[part]}"
        array = array.astype(np.float32)
        heads = {"q": 4, "k": 2}.get(part.removesuffix("_proj")[-1]) if "attn." in part else None
        if heads:  # the two halves of a head, in turn
            halves = array.reshape(heads, 2, -1, *array.shape[1:])
            array = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)
        raw = None
        if name in quantised:
            raw = gguf.GGMLQuantizationType.Q8_0
            array = gguf.quantize(array, raw)
        writer.add_tensor(f"{theirs}.{kind}", array, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_read_as_the_model_that_it_was_made_from(tmp_path):
    tensors = published.write(tmp_path / "model")
    quantised = "model.layers.0.self_attn.q_proj.weight"
    written(tmp_path / "model.gguf", tensors, quantised=(quantised,))
    read = model_folder.read(tmp_path / "model.gguf")
    assert read.license == "apache-2.0"
    same = {**published.CONFIG, "eos_token_id": 2, "head_dim": 8}
    del same["bos_token_id"]
    assert read.config == same
    assert set(read.tensors.entries) == set(tensors)
    for name, array in tensors.items():
        found, expected = read.tensors.read(name), array.astype(np.float32)
        assert read.tensors.entries[name] == (found.dtype, found.shape)
        if name == quantised:
            assert 0 < np.abs(found - expected).max() < 0.01
        else:
            np.testing.assert_array_equal(found, expected)


def test_its_tokenizer_splits_digits_and_then_as_gpt_2_does(tmp_path):
    written(tmp_path / "model.gguf", published.write(tmp_path / "model"))
    read = model_folder.read(tmp_path / "model.gguf")
    assert read.tokenizer == "tokenizer.json" and read.end == "<|endoftext|>"
    tokenizer = tokenizers.Tokenizer.from_str(read.files["tokenizer.json"].decode())

    def tokens(text):
        return tokenizer.encode(text).tokens

    assert tokens(" he 12") == ["Ġhe", "Ġ", "1", "2"]  # the merge of 1 and 2 never applies
    assert tokens("<|im_start|>he") == ["<|im_start|>", "he"]
    for text in ("Äöü ß\n\t ½ 2024", "  \n12 he's <|im_end|>"):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
    about = json.loads(read.files["tokenizer_config.json"])
    assert about["eos_token"] == "<|im_end|>"


def cut(file):
    file.write_bytes(file.read_bytes()[:-1000])


@pytest.mark.parametrize(
    "options, harm, said",
    [
        ({"architecture": "falcon"}, None, "architecture is 'falcon'"),
        ({"pre": "unheard-of"}, None, "pre-tokenizer 'unheard-of'"),
        ({}, cut, "no complete GGUF file"),
        ({}, lambda file: file.write_bytes(b"GGUF"), "no complete GGUF file"),
    ],
)
def test_a_gguf_file_that_cannot_be_imported_is_one_sentence(tmp_path, options, harm, said):
    file = tmp_path / "model.gguf"
    written(file, published.write(tmp_path / "model"), **options)
    if harm:
        harm(file)
    with pytest.raises(InputError, match=said):
        model_folder.read(file)
