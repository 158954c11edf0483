"""Speed of reading: the stream of a run against seqio's packer, array_record and a bare np.memmap.

    python -m benchmarks.reading

Everything is read from warm disk, by one process, best of three. Prints a table in Markdown; takes about
three minutes and 1.2 GB of a temporary folder. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import seqio
import tensorflow as tf
from array_record.python import array_record_module as array_record
from etils import epath

import poison_scaling as ps
from poison_scaling.data import shards
from poison_scaling.data.batches import by_number, sharded
from poison_scaling.data.sequences import Sequences
from poison_scaling.model import sharding
from poison_scaling.study import grid
from poison_scaling.study.inputs import Inputs
from poison_scaling.study.run import Run
from poison_scaling.train import loop

ROOT = pathlib.Path(__file__).parents[1]
L = 2048
SHARD_TOKENS, SHARDS = 64_000_000, 4  # 512 MB: more than any cache of a processor holds
CHUNK = 256  # sequences read at a time by the peers


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = epath.Path(temporary)
        os.environ["POISON_SCALING_CACHE"] = str(folder / "cache")
        inputs, run, long_run = long_sequences(folder)
        print("| read | M tokens/s |\n|---|---:|")
        for name, speed in speeds(folder, inputs, run).items():
            print(f"| {name} | {speed / 1e6:,.1f} |")
        print("\n| first step | ms for the next 64 steps of 8 sequences |\n|---|---:|")
        for start in (0, 1_000_000):
            print(f"| {start:,} | {1e3 * steps_seconds(inputs, long_run, start):.2f} |")
        step, host, array = demo_seconds(folder)
        print(
            f"\nA step of the demo: {1e3 * step:.2f} ms. Its batch as a host array: {1e6 * host:.0f} µs,"
        )
        print(f"{host / step:.2%} of it; as a jax.Array: {1e6 * array:.0f} µs, {array / step:.2%}.")


def best(read: Callable[[], int]) -> float:
    """Units a second of `read`, which returns how many units it read: the best of three."""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        units = read()
        found.append(units / (time.perf_counter() - start))
    return max(found)


# ------------------------------------------------------------------------------------- long sequences


def long_sequences(folder: epath.Path) -> tuple[Inputs, Run, Run]:
    """The smoke study on sequences of 2,048 made up tokens: a run with a poison in every 50th, and one
    of more than a million steps."""
    study = ps.load(str(ROOT / "configs" / "smoke.py"))
    data = dataclasses.replace(study.data, seq_len=L, epochs=200)
    study = dataclasses.replace(
        study,
        ladder=(ps.Rung("150k", 1300), ps.Rung("150k", 200_000)),
        doses=(2000,),
        data=data,
        evaluation=dataclasses.replace(study.evaluation, heldout_sequences=1),
    )
    inputs = Inputs(study)
    tokens = folder / "tokens"

    def write() -> dict:
        records = []
        for i in range(SHARDS):
            ids = np.random.default_rng(i).integers(0, data.vocabulary.vocab_size, SHARD_TOKENS)

            def fill(file, ids=ids):
                ids.astype("<u2").tofile(file)
                return {"tokens": SHARD_TOKENS}

            records.append(shards.write(tokens / str(i), fill))
        return {"dtype": "<u2", "shards": records}

    shards.complete(tokens, write)
    inputs.training = Sequences(tokens, L)
    run, long_run, *_ = grid.runs(study)[:: len(study.seeds)]
    return inputs, run, long_run


def speeds(folder: epath.Path, inputs: Inputs, run: Run) -> dict[str, float]:
    """Tokens a second, by what reads them."""
    stream = inputs.stream(run)
    count, B = 40_960, run.study.train.batch_size
    placed = sharding.batch_sharding(sharding.mesh(), B)

    def through_stream() -> int:
        for i in range(0, count, 512):
            stream.read(np.arange(i, i + 512))
        return count * L

    def through_batches() -> int:
        feed = sharded(by_number(stream, B), placed, (B, L), 0, count // B, 4)
        with contextlib.closing(feed):
            for batch in feed:
                batch["tokens"].block_until_ready()
        return count * L

    memory = np.memmap(folder / "tokens" / "0", "<u2", "r")
    size = memory.size // L

    def through_memmap() -> int:
        for i in range(0, size, CHUNK):
            np.array(memory[i * L : (i + CHUNK) * L])
        return size * L

    file = str(folder / "sequences.array_record")
    writer = array_record.ArrayRecordWriter(file, "group_size:1,uncompressed")
    for sequence in memory[: size * L].reshape(size, L):
        writer.write(sequence.tobytes())
    writer.close()
    reader = array_record.ArrayRecordReader(file, "readahead_buffer_size:0,max_parallelism:0")
    order = np.random.default_rng(0).permutation(size)

    def through_array_record() -> int:
        for i in range(0, size, CHUNK):
            records = reader.read(order[i : i + CHUNK].tolist())
            np.frombuffer(b"".join(records), "<u2").astype(np.int32)
        return size * L

    documents = np.split(memory[:2_000_000], np.arange(500, 2_000_000, 500))
    ids = tf.ragged.constant([d.tolist() for d in documents], tf.int32)

    def through_packer() -> int:
        source = tf.data.Dataset.from_tensor_slices({"targets": ids})
        packed = seqio.trim_and_pack_dataset(source, {"targets": L})
        return sum(int((e["targets"] > 0).sum()) for e in packed.as_numpy_iterator())

    return {
        "stream with poisons, host array": best(through_stream),
        "stream with poisons, batches of 8 as jax.Array": best(through_batches),
        "seqio's packer, ids in memory": best(through_packer),
        f"array_record, {CHUNK} sequences at random": best(through_array_record),
        f"np.memmap, {CHUNK} sequences in order": best(through_memmap),
    }


def steps_seconds(inputs: Inputs, run: Run, start: int) -> float:
    """Seconds to read 64 steps from `start` on."""
    stream, B = inputs.stream(run), run.study.train.batch_size
    numbers = np.arange(start * B, (start + 64) * B)
    return 1 / best(lambda: len(stream.read(numbers)[0]) / numbers.size)


# ------------------------------------------------------------------------------------------- demo


def demo_seconds(folder: epath.Path) -> tuple[float, float, float]:
    """Seconds of a step of the demo's smallest model: all of it, reading it, and making it an array."""
    study = ps.load(str(ROOT / "configs" / "demo.py"))
    study = dataclasses.replace(
        study,
        ladder=(ps.Rung("60k", 10),),
        doses=(100,),
        evaluation=dataclasses.replace(study.evaluation, times=2),
    )
    [run, *_] = grid.runs(study)
    inputs = Inputs(study)
    steps = []

    def clocked(step: int, record: dict) -> None:
        steps.append((step, time.perf_counter()))

    loop.train(run, inputs, folder / "run", {}, report=clocked, stopping=lambda: False)
    # The median between two reports: few have a compilation or an evaluation between them.
    each = [(t1 - t0) / (s1 - s0) for (s0, t0), (s1, t1) in itertools.pairwise(steps) if s1 > s0]
    stream, B = inputs.stream(run), study.train.batch_size
    placed = sharding.batch_sharding(sharding.mesh(), B)

    def arrays() -> int:
        shape = (B, study.data.seq_len)
        with contextlib.closing(
            sharded(by_number(stream, B), placed, shape, 0, run.steps, 4)
        ) as feed:
            return sum(1 for _ in feed)

    def host() -> int:
        for i in range(0, run.sequences - 512, 512):
            stream.read(np.arange(i, i + 512))
        return run.sequences // B

    return float(np.median(each)), 1 / best(host), 1 / best(arrays)


if __name__ == "__main__":
    main()
