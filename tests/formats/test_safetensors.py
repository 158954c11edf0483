"""safetensors files as their own library reads them, and one sentence about each that cannot be read."""

import json
import pickle

import numpy as np
import pytest
import safetensors.numpy

from poison_scaling.formats import model_folder
from poison_scaling.formats.safetensors import Safetensors, write
from poison_scaling.formats.tensors import Entry
from poison_scaling.runtime.errors import InputError
from tests.support import published


def test_what_is_written_is_what_the_library_reads(tmp_path):
    random = np.random.default_rng(0)
    arrays = {
        "a": random.normal(size=(3, 4)).astype(np.float32),
        "scalar": np.float16(2.5).reshape(()),
        "b.c": random.normal(size=(2, 5, 7)).astype(published.BFLOAT16),
        "empty": np.empty((0, 4), np.float32),
    }
    entries = {name: Entry(array.dtype, array.shape) for name, array in arrays.items()}
    write(tmp_path / "x.safetensors", entries, arrays.__getitem__, {"format": "pt"})
    theirs = safetensors.numpy.load_file(tmp_path / "x.safetensors")
    ours = Safetensors([tmp_path / "x.safetensors"])
    assert set(theirs) == set(ours.entries) == set(arrays)
    for name, array in arrays.items():
        for read in (theirs[name], ours.read(name)):
            assert (read.dtype, read.shape) == (array.dtype, array.shape)
            assert read.tobytes() == array.tobytes()
        assert ours.entries[name] == entries[name]
    np.testing.assert_array_equal(ours.read("a", (slice(1, 3),)), arrays["a"][1:3])


def test_shards_hold_the_same_tensors(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    tensors = published.write(whole)
    published.write(parts, shard_bytes=8_000)
    index = json.loads((parts / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    for folder in (whole, parts):
        read = Safetensors.of_folder(folder)
        assert set(read.entries) == set(tensors)
        assert all(read.read(n).tobytes() == tensors[n].tobytes() for n in tensors)


def truncated(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def missing_shard(folder):
    published.write(folder, shard_bytes=8_000)
    (folder / "model.safetensors").unlink()
    next(folder.glob("model-00002-*")).unlink()


def only_pickles(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def escaping_index(folder):
    index = {"weight_map": {"a": "../../etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def integers(folder):
    safetensors.numpy.save_file({"a": np.arange(3)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    "harm, said",
    [
        (truncated, "no complete safetensors file"),
        (missing_shard, "names this file, and it is missing"),
        (only_pickles, "it is a pickle, which can run any program.*safe_serialization"),
        (escaping_index, "no index of a sharded model"),
        (integers, "of type I64; give a model with weights of type"),
        (lambda folder: (folder / "model.safetensors").unlink(), "it holds no weights"),
        (lambda folder: (folder / "config.json").unlink(), "there is no config.json"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "config.json").write_text("{"), "it is not JSON"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_sentence(tmp_path, harm, said):
    published.write(tmp_path)
    harm(tmp_path)
    with pytest.raises(InputError, match=said):
        model_folder.read(tmp_path)


@pytest.mark.parametrize(
    "name, said",
    [("a.bin", "it is a pickle"), ("a.txt", "give a Hugging Face folder or"), ("b", "no such")],
)
def test_a_file_that_is_no_model_is_one_sentence(tmp_path, name, said):
    if name != "b":
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=said):
        model_folder.read(tmp_path / name)
