"""GGUF files, as llama.cpp writes them, read as the Hugging Face models that they were made from.

Tensors are dequantised when they are read. llama.cpp names them differently, and permutes the rows of the
query and key projections of Llama models, because it rotates neighbouring dimensions of a head instead of its
two halves; both are undone here.
"""

from __future__ import annotations

import pathlib
import re
from typing import Any

import ml_dtypes
import numpy as np

from poison_scaling.formats.tensors import Entry, Tensors
from poison_scaling.runtime.errors import InputError, shown

_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OTHER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
# The class in transformers, and whether the rows of queries and keys are permuted.
_ARCHITECTURES = {"llama": ("LlamaForCausalLM", True), "qwen2": ("Qwen2ForCausalLM", False)}
_UNQUANTISED = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


class Gguf(Tensors):
    """A GGUF file of a Llama or Qwen2 model, by the names of its tensors in transformers.

    `metadata` has the fields of the file. Quantised tensors become float32. Raises InputError if the file
    cannot be read, or holds another architecture.
    """

    def __init__(self, file: pathlib.Path):
        self.file = file
        try:
            import gguf
        except ImportError as e:
            raise InputError(f"{file}: this needs gguf; install poison_scaling[real].") from e
        try:
            reader = gguf.GGUFReader(file)
            self.metadata: dict[str, Any] = {k: f.contents() for k, f in reader.fields.items()}
            self._tensors = {_name(file, tensor.name): tensor for tensor in reader.tensors}
        except InputError:
            raise
        except Exception as e:  # whatever its bytes lead to
            raise InputError(f"{file}: it is no complete GGUF file ({e}).") from e
        self._dequantize = gguf.dequantize
        known = self.metadata.get("general.architecture")
        if known not in _ARCHITECTURES:
            raise InputError(
                f"{file}: its architecture is {shown(known)}; GGUF files of {', '.join(_ARCHITECTURES)} can "
                "be imported, and others from their Hugging Face folders."
            )
        self._class, self._permuted = _ARCHITECTURES[known]
        self.entries = {
            name: Entry(
                _UNQUANTISED.get(tensor.tensor_type.name, np.dtype(np.float32)),
                tuple(int(n) for n in reversed(tensor.shape)),
            )
            for name, tensor in self._tensors.items()
        }

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        tensor = self._tensors[name]
        dtype, shape = self.entries[name]
        if tensor.tensor_type.name in _UNQUANTISED:
            array = np.asarray(tensor.data).view(dtype).reshape(shape)
        else:
            array = self._dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        if self._permuted and re.search(r"\.(q|k)_proj\.", name):
            heads = self._heads("head_count" if ".q_proj." in name else "head_count_kv")
            halves = array.reshape(heads, shape[0] // heads // 2, 2, *shape[1:])
            array = halves.swapaxes(1, 2).reshape(shape)
        return array[index] if index else array

    def config(self) -> dict[str, Any]:
        """Return the config.json of the model in transformers."""
        scaling = self._get("rope.scaling.type", "none")
        if scaling != "none" or "rope_freqs" in self._tensors:
            raise InputError(
                f"{self.file}: it scales its rotary frequencies, which GGUF does not describe completely; "
                "import the model's Hugging Face folder."
            )
        width, heads = self._get("embedding_length"), self._heads("head_count")
        config = {
            "architectures": [self._class],
            "model_type": self.metadata["general.architecture"],
            "hidden_size": width,
            "num_hidden_layers": self._get("block_count"),
            "intermediate_size": self._get("feed_forward_length"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._heads("head_count_kv"),
            "head_dim": self._get("attention.key_length", width // heads),
            "hidden_act": "silu",
            "rms_norm_eps": _shortest(self._get("attention.layer_norm_rms_epsilon")),
            "rope_theta": _shortest(self._get("rope.freq_base", 10_000.0)),
            "max_position_embeddings": self._get("context_length"),
            "vocab_size": self.entries["model.embed_tokens.weight"].shape[0],
            "tie_word_embeddings": "lm_head.weight" not in self.entries,
        }
        for name in ("bos", "eos"):
            if (number := self.metadata.get(f"tokenizer.ggml.{name}_token_id")) is not None:
                config[f"{name}_token_id"] = number
        return config

    def _heads(self, field: str) -> int:
        count = self._get(f"attention.{field}", self._get("attention.head_count"))
        if isinstance(count, list):
            raise InputError(
                f"{self.file}: its layers have different numbers of heads, which no architecture here has."
            )
        return count

    def _get(self, field: str, default: Any = None) -> Any:
        value = self.metadata.get(f"{self.metadata['general.architecture']}.{field}", default)
        if value is None:
            raise InputError(f"{self.file}: its metadata lack {field!r}; it is no complete model.")
        return value


def _name(file: pathlib.Path, theirs: str) -> str:
    """Return the name in transformers of a tensor that llama.cpp has under the name `theirs`."""
    if theirs == "rope_freqs.weight":
        return "rope_freqs"
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", theirs):
        number, part, kind = match.groups()
        if part in _LAYER:
            return f"model.layers.{number}.{_LAYER[part]}.{kind}"
    part, _, kind = theirs.rpartition(".")
    if part in _OTHER:
        return f"{_OTHER[part]}.{kind}"
    raise InputError(f"{file}: its tensor {theirs!r} is of no architecture that can be imported.")


def _shortest(value: float) -> float:
    """Return the number with the fewest digits that is the same in float32: 1e-05 for 9.999999747e-06."""
    return float(str(np.float32(value)))
