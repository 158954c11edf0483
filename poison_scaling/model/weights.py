"""The parameters of our models as the tensors of Hugging Face's, in both directions, one at a time.

Hugging Face stores the weights of a linear layer as [outputs, inputs], and queries, keys and values apart or,
in GPT-NeoX, fused as [heads, (q, k, v), head width]. Ours are [inputs, outputs], and queries, keys and values
are fused as [key heads, (q, ..., q, k, v), head width], so that splitting them over devices splits heads.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from poison_scaling.model.architectures.architecture import Architecture
from poison_scaling.model.huggingface import dimensions
from poison_scaling.model.settings import Model
from poison_scaling.runtime.errors import InputError, shown

# Constants that older checkpoints hold beside the weights.
_CONSTANTS = re.compile(r".*(rotary_emb\.inv_freq|attention\.bias|attention\.masked_bias)")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of one of our models, and the tensors of Hugging Face that it is made of."""

    name: str  # dotted, within the model or the block
    layer: int | None  # None: it is not in a block
    shape: tuple[int, ...]
    tensors: dict[str, tuple[int, ...]]  # name and shape of each part
    head: int  # width of a head
    groups: int  # heads of keys and values

    def path(self, scan_layers: bool) -> tuple[str | int, ...]:
        """Return the path in the tree of parameters; blocks are stacked there if layers are scanned."""
        block = () if self.layer is None else ("blocks",) if scan_layers else ("blocks", self.layer)
        return (*block, *self.name.split("."))

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the parameter from its tensors, as float32."""
        # Copies in any case: the tensors may be views of a file, and JAX may keep what it is given.
        parts = [part.astype(np.float32) for part in parts]
        whole = parts[0]
        if len(parts) > 1:
            rest = whole.shape[1:]
            grouped = [part.reshape(self.groups, -1, self.head, *rest) for part in parts]
            whole = np.concatenate(grouped, axis=1).reshape(-1, *rest)
        return _transpose(whole) if self._transposed else whole

    def split(self, whole: np.ndarray) -> list[np.ndarray]:
        """Return the tensors from the parameter, in its data type, each contiguous as files need it."""
        parts = [_transpose(whole) if self._transposed else whole]
        if len(self.tensors) > 1:
            grouped = parts[0].reshape(self.groups, -1, self.head, *parts[0].shape[1:])
            queries = grouped.shape[1] - 2
            parts = np.split(grouped, [queries, queries + 1], axis=1)
        shapes = self.tensors.values()
        pairs = zip(parts, shapes, strict=True)
        return [np.ascontiguousarray(part.reshape(shape)) for part, shape in pairs]

    @property
    def _transposed(self) -> bool:
        return len(self.shape) == 2 and self.name != "embedding_VxD"


def _transpose(x_IxO: np.ndarray) -> np.ndarray:
    """Return the transpose, contiguous. By blocks that fit into the cache, this is four times as fast."""
    y_OxI = np.empty(x_IxO.shape[::-1], x_IxO.dtype)
    for start in range(0, len(x_IxO), 64):
        y_OxI[:, start : start + 64] = x_IxO[start : start + 64].T
    return y_OxI


def table(architecture: Architecture, size: str, vocab_size: int) -> list[Parameter]:
    """Return every parameter of a model with its tensors; the blocks in order, after what is outside of them.

    Raises InputError if Hugging Face has no such model.
    """
    family, d = dimensions(architecture, size)

    def parameter(name: str, shape: tuple[int, ...], layer: int | None) -> Parameter:
        names = family.TENSORS[name]
        names = names if isinstance(names, tuple) else (names,)
        outer = shape[::-1] if name != "embedding_VxD" else shape
        lengths = [outer[0]]
        if len(names) > 1:
            lengths = [d.heads * d.head, d.groups * d.head, d.groups * d.head]
        tensors: dict[str, tuple[int, ...]] = {
            n.format(layer): (length, *outer[1:]) for n, length in zip(names, lengths, strict=True)
        }
        return Parameter(name, layer, shape, tensors, d.head, d.groups)

    outside = [parameter(*of, None) for of in d.shapes(vocab_size).items()]
    block = d.block_shapes().items()
    return outside + [parameter(*of, layer) for layer in range(d.layers) for of in block]


def check(
    found: Mapping[str, Sequence[int]], architecture: Architecture, size: str, vocab_size: int
) -> None:
    """Compare the names and shapes of a checkpoint's tensors with those of a model.

    Raises InputError, one sentence about the first tensor that is missing, left over or of another shape.
    """
    wanted = {n: s for p in table(architecture, size, vocab_size) for n, s in p.tensors.items()}
    ignored = {tied} if (tied := _tied_output(architecture, size)) else set()
    for name, shape in wanted.items():
        if name not in found:
            raise InputError(
                f"weights: the tensor {name!r} is missing; the model of size {size} has {len(wanted)} "
                f"tensors, and there are {len(found)}."
            )
        if tuple(found[name]) != shape:
            raise InputError(
                f"weights: the tensor {name!r} has shape {list(found[name])}; by config.json it must have "
                f"{list(shape)}."
            )
    for name in found:
        if name not in wanted and name not in ignored and not _CONSTANTS.fullmatch(name):
            near = difflib.get_close_matches(name, wanted, n=1, cutoff=0.0)
            raise InputError(
                f"weights: the model has no tensor {shown(name)}; the nearest is {near[0]!r}."
            )


def _tied_output(architecture: Architecture, size: str) -> str | None:
    """Return the name of the output layer's tensor if it copies the embedding, as in some files."""
    family, d = dimensions(architecture, size)
    output = family.TENSORS["output_DxV"]
    assert isinstance(output, str)
    return output if d.tied else None


def load(
    read: Callable[[str], np.ndarray],
    settings: Model,
    size: str,
    vocab_size: int,
    shardings: dict | None = None,
) -> dict:
    """Return the parameters of a model, float32 on the devices, from the tensors that `read` returns by name.

    `shardings` are those of `train.state.parameter_shardings`; without them, everything is on the default
    device. At any time, host memory holds the tensors of one parameter in one layer besides the parameter
    itself, as far as it lies on the devices of this process. Raises InputError if a tensor has another shape.
    """
    stacks: dict[tuple, list[Parameter]] = {}
    for parameter in table(settings.architecture, size, vocab_size):
        stacks.setdefault(parameter.path(settings.scan_layers), []).append(parameter)
    default = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params: dict = {}
    for path, layers in stacks.items():
        sharding = default if shardings is None else _at(shardings, path)
        stacked = len(layers) if settings.scan_layers and layers[0].layer is not None else 0
        arrays = (_joined(read, parameter) for parameter in layers)
        _set(params, path, _placed(arrays, layers[0].shape, stacked, sharding))
    return params


def _joined(read: Callable[[str], np.ndarray], parameter: Parameter) -> np.ndarray:
    parts = []
    for name, shape in parameter.tensors.items():
        part = np.asarray(read(name))
        if part.shape != shape:
            raise InputError(
                f"weights: the tensor {name!r} has shape {list(part.shape)}; by config.json it must have "
                f"{list(shape)}."
            )
        parts.append(part)
    return parameter.join(parts)


def _placed(
    arrays: Iterator[np.ndarray],
    shape: tuple[int, ...],
    layers: int,
    sharding: jax.sharding.Sharding,
) -> jax.Array:
    """Return one array on its devices: the only one of `arrays` or, if `layers`, so many of them stacked."""
    if not layers:
        (array,) = arrays
        return jax.make_array_from_callback(shape, sharding, lambda index: array[index or ...])
    shape = (layers, *shape)
    # What each device holds of the stack, once for all devices that hold the same. Layers are not sharded.
    held: dict[str, np.ndarray] = {}
    places = sharding.addressable_devices_indices_map(shape)
    for layer, array in enumerate(arrays):
        filled = set()
        for index in places.values():
            key = str(index)
            if key not in held:
                held[key] = np.empty(sharding.shard_shape(shape), np.float32)
            if key not in filled:
                held[key][layer] = array[index[1:] if index else ...]
                filled.add(key)
    on_devices = [jax.device_put(held[str(index)], device) for device, index in places.items()]
    return jax.make_array_from_single_device_arrays(shape, sharding, on_devices)


def tensors(
    params: dict, settings: Model, size: str, vocab_size: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the values of each tensor of Hugging Face's, in the parameters' data type.

    `params` holds arrays of JAX or NumPy; one parameter of one layer is in host memory at a time.
    """
    for parameter in table(settings.architecture, size, vocab_size):
        array = _at(params, parameter.path(settings.scan_layers))
        if settings.scan_layers and parameter.layer is not None:
            array = array[parameter.layer]
        yield from zip(parameter.tensors, parameter.split(np.asarray(array)), strict=True)


def _at(tree: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _set(tree: dict, path: tuple[str | int, ...], value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value
