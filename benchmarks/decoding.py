"""Speed of sampling: with a cache, without one, and Hugging Face `generate` on a model of the same size.

    python -m benchmarks.decoding

Ours is the function that evaluations call. "Without cache" computes whole sequences again for every token, in
one compiled program of our own model. The peer is a Llama of the same dimensions in transformers, sampling
at temperature 1 without an early end. All decode one batch of prompts of equal length on the same cores,
each in a process of its own, in turns; the best turn counts. Prints a table in Markdown; takes about
three minutes. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

from benchmarks.train_step import V, compiled
from benchmarks.turns import Side
from poison_scaling.model.architectures.decoder import SIZES
from poison_scaling.runtime.memory import keep_freed

# Size, prompts, tokens of each, tokens generated: an evaluation of the demo, and a larger one.
CASES = (("90k", 128, 24, 32), ("5m", 16, 64, 64))
TURNS = 3


def main() -> None:
    columns = "size", "prompts", "tokens of each", "generated", "cores"
    measured = "tokens/s, cached", "without cache", "transformers"
    print(f"| {' | '.join(columns + measured)} |\n|---|{'---:|' * 7}", flush=True)
    for size, P, T, G in CASES:
        for cores in sorted({1, min(2, os.cpu_count() or 1)}):
            arguments = cores, size, P, T, G
            sides = [Side(make, *arguments) for make in (with_cache, without_cache, transformers_)]
            with sides[0], sides[1], sides[2]:
                seconds = [[side.ask(None) for side in sides] for _ in range(TURNS)]
            speeds = " | ".join(f"{P * G / s:,.0f}" for s in np.min(seconds, axis=0))
            print(f"| {size} | {P} | {T} | {G} | {cores} | {speeds} |", flush=True)


def prompts(P: int, T: int) -> np.ndarray:
    return np.random.default_rng(0).integers(2, V, (P, T), dtype=np.int32)


def timed(call: Callable[[], object]) -> Callable[[None], float]:
    """Seconds of a call, when asked; it was compiled before."""
    call()

    def seconds(_) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return seconds


def with_cache(size: str, P: int, T: int, G: int) -> Callable[[None], float]:
    keep_freed()
    import jax

    from poison_scaling.model import decoding

    ours = compiled(size)
    params = ours.initial(0).params
    keys_P = jax.vmap(jax.random.key)(np.arange(P))
    tokens_PxT, padding_P = prompts(P, T), np.zeros(P, np.int32)

    def call():
        sampled = decoding.sample(
            ours.graph, params, tokens_PxT, padding_P, keys_P, 1.0, generate=G
        )
        return jax.block_until_ready(sampled)

    return timed(call)


def without_cache(size: str, P: int, T: int, G: int) -> Callable[[None], float]:
    keep_freed()
    import jax
    import jax.numpy as jnp
    from flax import nnx

    ours = compiled(size)
    params = ours.initial(0).params

    @jax.jit
    def sample(params, tokens_PxT, key):
        model = nnx.merge(ours.graph, params)

        def draw(i, tokens_PxS):
            x_Px1xD = jax.lax.dynamic_slice_in_dim(model.hidden(tokens_PxS), i - 1, 1, axis=1)
            logits_PxV = model.logits(x_Px1xD)[:, 0]
            tokens_P = jax.random.categorical(jax.random.fold_in(key, i), logits_PxV)
            return tokens_PxS.at[:, i].set(tokens_P)

        return jax.lax.fori_loop(T, T + G, draw, jnp.pad(tokens_PxT, ((0, 0), (0, G))))

    tokens_PxT = prompts(P, T)
    return timed(lambda: jax.block_until_ready(sample(params, tokens_PxT, jax.random.key(0))))


def transformers_(size: str, P: int, T: int, G: int) -> Callable[[None], float]:
    import torch
    import transformers

    d = SIZES[size]
    settings = transformers.LlamaConfig(
        vocab_size=V,
        hidden_size=d.width,
        intermediate_size=d.mlp,
        num_hidden_layers=d.layers,
        num_attention_heads=d.heads,
        max_position_embeddings=T + G,
        tie_word_embeddings=d.tied,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(settings).eval()
    tokens = torch.from_numpy(prompts(P, T)).long()
    options = dict(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=G)
    mask = torch.ones_like(tokens)

    def call():
        with torch.inference_mode():
            made = model.generate(tokens, attention_mask=mask, **options)
        assert made.shape == (P, T + G)

    return timed(call)


if __name__ == "__main__":
    main()
