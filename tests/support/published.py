"""A small random Llama as others publish models: config.json, model.safetensors and a tokenizer of bytes."""

import json
import pathlib

import ml_dtypes
import numpy as np

from poison_scaling.data.vocabularies.byte import ByteVocabulary
from poison_scaling.data.vocabularies.conversion import tokenizer_json
from poison_scaling.formats import safetensors
from poison_scaling.formats.tensors import Entry
from poison_scaling.model import huggingface, weights

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 264,  # more than the 259 tokens
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 1,
}
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def write(
    folder: pathlib.Path, shard_bytes: int = 10**9, dtype=BFLOAT16, **fields
) -> dict[str, np.ndarray]:
    """Write the model, with some fields of its config.json replaced; return its tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIG, **fields}
    architecture, size, vocab_size = huggingface.from_huggingface(config)
    random = np.random.default_rng(0)
    tensors = {
        name: (random.normal(size=shape) * 0.1 + (len(shape) == 1)).astype(dtype)
        for parameter in weights.table(architecture, size, vocab_size)
        for name, shape in parameter.tensors.items()
    }
    entries = {name: Entry(array.dtype, array.shape) for name, array in tensors.items()}
    safetensors.write_folder(folder, entries, tensors.__getitem__, shard_bytes)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(ByteVocabulary())))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    return tensors
