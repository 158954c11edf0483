"""safetensors files (https://github.com/huggingface/safetensors), single and sharded.

A file is the length of its header, 8 bytes, little-endian; the header, a JSON object with the type, shape
and place of each tensor; and the bytes of the tensors. A sharded model has several files, and an index that
names the file of each tensor.
"""

from __future__ import annotations

import json
import os
import pathlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from analysis.files import write_text
from poison_scaling.formats.tensors import Entry, Tensors
from poison_scaling.runtime.errors import InputError, shown

_DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class Safetensors(Tensors):
    """The tensors of one or more files, which are mapped into memory and read on demand.

    Raises InputError if a file is missing, truncated or no safetensors file, or if a tensor has another type
    than float32, float16 or bfloat16.
    """

    def __init__(self, files: list[pathlib.Path]):
        self.files = files
        self._open: dict[str, Any] = {}
        self.entries = {}
        for file in files:
            opened = _opened(file)
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                if name in self.entries:
                    raise InputError(f"{file}: it holds {name!r}, and another file does, too.")
                part = opened.get_slice(name)
                if part.get_dtype() not in _DTYPES:
                    raise InputError(
                        f"{file}: {name!r} is of type {part.get_dtype()}; give a model with weights of type "
                        f"{', '.join(_DTYPES)}."
                    )
                self.entries[name] = Entry(_DTYPES[part.get_dtype()], tuple(part.get_shape()))
                self._open[name] = opened

    @classmethod
    def of_folder(cls, folder: pathlib.Path) -> Safetensors:
        """Return the tensors of a Hugging Face folder. Raises InputError if a file of them is missing."""
        index = folder / INDEX
        if not index.exists():
            return cls([_present(folder / SINGLE)])
        weight_map = _weight_map(index)
        files = [_present(folder / name, index) for name in sorted(set(weight_map.values()))]
        found = cls(files)
        if lacking := sorted(set(weight_map) - set(found.entries)):
            raise InputError(f"{index}: it names {lacking[0]!r}, which none of its files holds.")
        return found

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        opened = self._open[name]
        return opened.get_slice(name)[index] if index else opened.get_tensor(name)


def _opened(file: pathlib.Path) -> Any:
    try:
        return safe_open(file, framework="numpy")
    except (SafetensorError, OSError) as e:
        raise InputError(
            f"{file}: it is no complete safetensors file ({e}); download it again."
        ) from e


def _present(file: pathlib.Path, index: pathlib.Path | None = None) -> pathlib.Path:
    if file.is_file():
        return file
    if index is not None:
        raise InputError(f"{file}: {index.name} names this file, and it is missing; download it.")
    pickles = [p for kind in ("*.bin", "*.pt", "*.pth") for p in file.parent.glob(kind)]
    if pickles:
        raise refused(pickles[0])
    raise InputError(f"{file.parent}: it holds no weights; there is no {SINGLE} and no {INDEX}.")


def refused(file: pathlib.Path) -> InputError:
    """Return the error for a file of pickled tensors, which can run any code when it is read."""
    return InputError(
        f"{file}: it is a pickle, which can run any program when it is read; load it where you trust it, and "
        "write it again with save_pretrained(DIR, safe_serialization=True)."
    )


def _weight_map(index: pathlib.Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index.read_text())["weight_map"]
        if all("/" not in name and "\\" not in name for name in weight_map.values()):
            return dict(weight_map)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f"{index}: it is no index of a sharded model; its weight_map names files.")


# -------------------------------------------------------------------------------------------- writing


def write(
    file: pathlib.Path,
    entries: Mapping[str, Entry],
    read: Callable[[str], np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a file atomically, one tensor at a time, each as `read` returns it when its turn comes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, entry in entries.items():
        start, end = end, end + entry.nbytes
        header[name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.parent / f".{file.name}.{secrets.token_hex(8)}"
    try:
        with temporary.open("xb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for name, entry in entries.items():
                array = read(name)
                if (array.dtype, array.shape) != (entry.dtype, entry.shape):
                    raise ValueError(f"{name}: {array.dtype}{array.shape} is not {shown(entry)}")
                np.ascontiguousarray(array).reshape(-1).view(np.uint8).tofile(out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_folder(
    folder: pathlib.Path,
    entries: Mapping[str, Entry],
    read: Callable[[str], np.ndarray],
    shard_bytes: int,
) -> None:
    """Write the weights of a Hugging Face folder: one file, or several of at most `shard_bytes` and their
    index. A tensor that is larger has a file to itself.
    """
    shards: list[dict[str, Entry]] = []
    filled = shard_bytes
    for name, entry in entries.items():
        if filled + entry.nbytes > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = entry
        filled += entry.nbytes
    metadata = {"format": "pt"}  # which transformers asks for
    if len(shards) == 1:
        write(folder / SINGLE, shards[0], read, metadata)
        return
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write(folder / file, shard, read, metadata)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(entry.nbytes for entry in entries.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_text(folder / INDEX, json.dumps(index, indent=1) + "\n")
