"""The weights of an imported model in the folder of its run, and their way to the devices.

They are kept as they were published: by Hugging Face's names, in their own types, in one safetensors file.
config.json has the SHA-256 of each tensor, which is checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
from etils import epath
from jax.sharding import Mesh

from analysis.files import read_json
from poison_scaling.formats.safetensors import Safetensors
from poison_scaling.formats.tensors import Entry, Tensors
from poison_scaling.model import weights
from poison_scaling.model.settings import Model
from poison_scaling.runtime.errors import Damaged, InputError
from poison_scaling.study.run import Run
from poison_scaling.train import state

FILE = "weights.safetensors"


def digest_of(entries: Mapping[str, Entry], digests: Mapping[str, str]) -> str:
    """Return the digest of a model from the SHA-256 of each of its tensors."""
    listed = [
        [name, entries[name].dtype.name, entries[name].shape, digests[name]]
        for name in sorted(entries)
    ]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of the values of a tensor."""
    values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.sha256(values.data).hexdigest()


def opened(folder: epath.Path) -> Tensors:
    """Return the tensors of an imported run. Raises InputError if it has none."""
    file = pathlib.Path(folder / FILE)
    if not file.is_file():
        raise InputError(
            f"{folder}: it is an imported model without weights, which can be planned and compiled only; "
            "import it again without --config-only."
        )
    return Safetensors([file])


def checked(folder: epath.Path) -> tuple[Tensors, Callable[[str], np.ndarray]]:
    """Return the tensors of an imported run, and a function that reads one of them and checks it.

    The function raises Damaged if a tensor is not as it was imported.
    """
    tensors = opened(folder)
    digests = read_json(folder / "config.json", sealed=True).get("tensors", {})

    def read(name: str) -> np.ndarray:
        array = tensors.read(name)
        if sha256(array) != digests.get(name):
            raise Damaged(
                f"{folder / FILE}: {name!r} is not as it was imported; delete the folder of the import, and "
                "import the model again."
            )
        return array

    return tensors, read


def load(run: Run, folder: epath.Path, settings: Model, mesh: Mesh) -> dict:
    """Return the parameters of an imported run on a mesh, for a model with these `settings`.

    Raises InputError if they are damaged.
    """
    _, read = checked(folder)
    size, vocab_size = run.rung.size, run.study.data.vocabulary.vocab_size
    shardings = state.parameter_shardings(size, vocab_size, settings, mesh)
    return weights.load(read, settings, size, vocab_size, shardings)


def check(run: Run, folder: epath.Path) -> None:
    """Check every tensor, and that together they are those of the run. Raises InputError if not."""
    tensors, read = checked(folder)
    digests = {name: sha256(read(name)) for name in tensors.entries}
    imported = run.study.imported
    assert imported is not None
    if digest_of(tensors.entries, digests) != imported.digest:
        raise Damaged(f"{folder / FILE}: it holds other tensors than were imported.")
