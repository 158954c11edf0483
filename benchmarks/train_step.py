"""Speed of one whole optimizer step: the project's own against torch.compile and the machine's limit.

    python -m benchmarks.train_step

Our step is the one that `poison-scaling train` runs, called as its loop calls it. The peer is the same
arithmetic in PyTorch, compiled, with its fused attention and its fused AdamW. Both make their batch from
sequences in host memory at each step. Each side runs in a process of its own on the same cores; they take
turns, and the best turn counts. Prints tables in Markdown; takes about ten minutes and needs a C++
compiler. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

import poison_scaling as ps
from benchmarks.turns import Side
from poison_scaling.model.architectures.decoder import SIZES as DIMENSIONS
from poison_scaling.runtime.memory import keep_freed

B, L, V = 8, 128, 1024  # of the demo
SIZES = ("60k", "90k", "150k", "1m", "5m")  # the demo's, then widths 128 and 256
DEPTHS, DEPTHS_WIDTH = (2, 4, 8, 16, 32), 64
TURNS = 7  # of each side; the best counts
TURN_SECONDS = 1.0


def main() -> None:
    cores = os.cpu_count() or 1
    for n in sorted({1, min(2, cores)}):
        print(f"\nOn {n} of {cores} cores, {B} sequences of {L} tokens, vocabulary {V:,}:\n")
        limit = max(best_product(ours_products, n), best_product(torch_products, n))
        print(f"Best float32 matrix product: {limit / 1e9:.0f} GFLOP/s.\n")
        print("| size | width | ours, tokens/s | torch, tokens/s | ratio | ours, of the product |")
        print("|---|---:|---:|---:|---:|---:|", flush=True)
        for size in SIZES:
            ours, torch = take_turns([Side(ours_steps, n, size), Side(torch_steps, n, size)])
            flops = DIMENSIONS[size].train_flops_per_token(V, L) * ours
            print(
                f"| {size} | {DIMENSIONS[size].width} | {ours:,.0f} | {torch:,.0f} "
                f"| {ours / torch:.2f} | {flops / limit:.0%} |",
                flush=True,
            )
    print(f"\nSeconds to compile a step, width {DEPTHS_WIDTH}, 1 core:\n")
    print("| layers | unrolled | scanned |\n|---:|---:|---:|")
    for layers in DEPTHS:
        seconds = [compile_seconds(layers, scanned) for scanned in (False, True)]
        print(f"| {layers} | {seconds[0]:.1f} | {seconds[1]:.1f} |", flush=True)


def take_turns(sides: list[Side]) -> list[float]:
    """Tokens a second of each side, in its best turn."""
    with sides[0], sides[1]:
        steps = [max(1, round(TURN_SECONDS / side.ask(10) * 10)) for side in sides]
        turns = [
            [n * B * L / side.ask(n) for side, n in zip(sides, steps, strict=True)]
            for _ in range(TURNS)
        ]
    return np.max(turns, axis=0).tolist()


def best_product(products: Callable, cores: int) -> float:
    """FLOP/s of the fastest of a few shapes."""
    with Side(products, cores) as side:
        return max(2 * n**3 / side.ask(n) for n in (256, 512, 1024, 2048) for _ in range(3))


def token_batches() -> np.ndarray:
    return np.random.default_rng(0).integers(2, V, (64, B, L), dtype=np.int32)


# ------------------------------------------------------------------------------------------ our side


def compiled(size: str, **model):
    """What the loop trains a run of this size with."""
    from poison_scaling.model import sharding
    from poison_scaling.train.compiled import Compiled

    vocabulary = ps.TrainedSentencePiece(vocab_size=V)
    study = ps.Study(
        name="",
        ladder=(),
        doses=(),
        data=ps.Data(seq_len=L, vocabulary=vocabulary),
        model=ps.Model(**model),
        train=ps.Train(batch_size=B),
    )
    return Compiled(size, 6e-3, 1000, study, 1, sharding.mesh())


class InMemory:
    """A stream of sequences without poisons, as the loop reads one."""

    def __init__(self):
        self._sequences = token_batches().reshape(-1, L)

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tokens = self._sequences[indices % len(self._sequences)]
        return tokens, np.zeros(tokens.shape, bool)


def ours_steps(size: str) -> Callable[[int], float]:
    """Seconds that n steps take."""
    import jax

    from poison_scaling.data.batches import by_number, sharded

    keep_freed()
    ours = compiled(size)
    state = ours.initial(0)

    def steps(n: int) -> float:
        nonlocal state
        start = time.perf_counter()
        reader, prefetch = by_number(InMemory(), B), ps.Machine().prefetch_batches
        for batch in sharded(reader, ours.batch, (B, L), 0, n, prefetch):
            state, metrics = ours.step(state, batch)
        jax.block_until_ready(metrics)
        return time.perf_counter() - start

    steps(3)
    return steps


def ours_products() -> Callable[[int], float]:
    """Seconds that the product of two [n, n] matrices takes."""
    import jax

    product = jax.jit(lambda a: a @ a)

    def seconds(n: int) -> float:
        a = jax.numpy.ones((n, n), "float32")
        return fastest(lambda: product(a).block_until_ready())

    return seconds


def fastest(call: Callable[[], object]) -> float:
    found = []
    for _ in range(8):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def compile_seconds(layers: int, scanned: bool) -> float:
    with Side(compiling, 1, layers, scanned) as side:
        return side.ask(0)


def compiling(layers: int, scanned: bool) -> Callable[[int], float]:
    import dataclasses

    import jax

    base = next(d for d in DIMENSIONS.values() if d.width == DEPTHS_WIDTH)
    DIMENSIONS["deep"] = dataclasses.replace(base, layers=layers)
    ours = compiled("deep", scan_layers=scanned)
    batch = {"tokens": np.zeros((B, L), np.int32), "poison": np.zeros((B, L), bool)}

    def seconds(_: int) -> float:
        start = time.perf_counter()
        ours.step.lower(ours.abstract, jax.device_put(batch, ours.batch)).compile()
        return time.perf_counter() - start

    return seconds


# ------------------------------------------------------------------------------------------- PyTorch


def torch_steps(size: str) -> Callable[[int], float]:
    """Seconds that n steps take."""
    import torch

    from benchmarks.torch_model import Model

    torch.manual_seed(0)
    model = Model(DIMENSIONS[size], V)
    loss = torch.compile(model.loss, fullgraph=True)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=6e-3, betas=(0.9, 0.95), fused=True)
    batches = token_batches()

    def steps(n: int) -> float:
        start = time.perf_counter()
        for i in range(n):
            tokens = torch.from_numpy(batches[i % len(batches)]).long()
            loss(tokens).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - start

    steps(3)
    return steps


def torch_products() -> Callable[[int], float]:
    """Seconds that the product of two [n, n] matrices takes."""
    import torch

    def seconds(n: int) -> float:
        a = torch.ones(n, n)
        return fastest(lambda: a @ a)

    return seconds


if __name__ == "__main__":
    main()
