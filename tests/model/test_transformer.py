"""The model: sizes that are exact, causality, documents apart, cached sampling equal to uncached."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from poison_scaling import Model
from poison_scaling.model import attention, decoding, rotary
from poison_scaling.model.architectures import decoder
from poison_scaling.model.dimensions import Dimensions
from poison_scaling.model.transformer import Transformer

V = 50
TINY = Dimensions(width=16, layers=2, heads=2, mlp=24)


def model(d=TINY, vocabulary=V, seed=0, **settings) -> Transformer:
    return Transformer(d, vocabulary, Model(**settings), jax.random.key(seed))


def tokens(B, L, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, V, (B, L)), jnp.int32)


@pytest.mark.parametrize("size", decoder.SIZES)
@pytest.mark.parametrize("vocabulary", [259, 1024, 32_000])
def test_parameter_counts_equal_the_counted_arrays(size, vocabulary):
    d = decoder.SIZES[size]
    arrays = nnx.state(nnx.eval_shape(lambda: model(d, vocabulary)), nnx.Param)
    counted = sum(x.size for x in jax.tree.leaves(arrays))
    assert d.parameters(vocabulary) == counted


def test_tied_models_count_their_embedding_once():
    d = Dimensions(width=16, layers=1, heads=2, mlp=24, tied=True)
    counted = sum(x.size for x in jax.tree.leaves(nnx.state(model(d), nnx.Param)))
    assert d.parameters(V) == counted
    assert model(d)(tokens(1, 5)).shape == (1, 5, V)


def named(size: str) -> float:
    return {"k": 1e3, "m": 1e6, "b": 1e9}[size[-1]] * float(size[:-1])


@pytest.mark.parametrize(
    ("group", "vocabulary", "within"),
    [
        (decoder.LAPTOP, 1024, 0.06),
        (decoder.ACCELERATOR, 32_000, 0.02),
    ],
)
def test_sizes_are_what_their_names_say_and_climb_smoothly(group, vocabulary, within):
    counts = [d.parameters(vocabulary) for d in group.values()]
    assert counts == pytest.approx([named(size) for size in group], rel=within)
    assert all(1.2 < b / a < 2.6 for a, b in itertools.pairwise(counts))


def test_flops_are_those_of_the_compiled_products():
    d = Dimensions(width=128, layers=2, heads=4, mlp=256)
    L, vocabulary = 256, 512
    graph, params = nnx.split(model(d, vocabulary))

    def loss(params, ids):
        return jnp.sum(nnx.merge(graph, params)(ids) ** 2)

    compiled = jax.jit(jax.grad(loss)).lower(params, jnp.zeros((1, L), jnp.int32)).compile()
    counted = compiled.cost_analysis()["flops"]
    # The compiler also counts norms, softmax and the like: a few parts in a hundred at this width.
    assert counted == pytest.approx(d.train_flops_per_token(vocabulary, L) * L, rel=0.1)


def test_no_logit_depends_on_a_later_token():
    m = model()
    onehot = jax.nn.one_hot(tokens(1, 12), V)

    def logits(onehot_LxV):
        x = onehot_LxV @ m.embedding_VxD[...]
        rotation = [t[None, :, None] for t in rotary.tables(12, TINY)]
        attend = attention.causal(12, None, "plain", None)
        for block in m.blocks:
            x, _ = block(x, rotation, attend)
        return (m.norm(x) @ m.output_DxV[...]).sum(-1)

    gradient = jax.jacobian(logits)(onehot)[0, :, 0]  # [L of logit, L of token, V]
    influence = np.abs(np.asarray(gradient)).sum(-1)
    assert (influence[np.triu_indices(12, 1)] == 0).all()
    assert (influence[np.tril_indices(12)] > 0).all()

    ids = tokens(1, 12)
    changed = ids.at[0, 7].set((ids[0, 7] + 1) % V)
    before, after = m(ids), m(changed)
    assert np.array_equal(before[:, :7], after[:, :7])
    assert not np.allclose(before[:, 7:], after[:, 7:])


def test_segments_do_not_see_each_other():
    m, ids = model(), tokens(2, 12)
    segments = jnp.asarray([[0] * 5 + [1] * 7] * 2)
    changed = ids.at[:, :5].set((ids[:, :5] + 3) % V)
    assert np.array_equal(m(ids, segments)[:, 5:], m(changed, segments)[:, 5:])
    assert not np.allclose(m(ids)[:, 5:], m(changed)[:, 5:])
    np.testing.assert_allclose(
        m(ids, segments)[:, 5:], m(ids[:, 5:]), atol=1e-5
    )  # RoPE is relative


def test_cached_logits_equal_uncached_ones_whatever_the_padding():
    m = model()
    lengths, S = [9, 6, 12], 12
    ids = [tokens(1, n, seed=n)[0] for n in lengths]
    padding = jnp.asarray([S - n for n in lengths])
    padded = jnp.stack([jnp.pad(i, (S - len(i), 0)) for i in ids])
    for split in (1, 5, 11):  # so many slots at once, then one by one
        cache = m.empty_cache(3, S)
        logits, cache = m.extend(padded[:, :split], padding, cache, 0)
        for slot in range(split, S):
            logits, cache = m.extend(padded[:, slot : slot + 1], padding, cache, slot)
        for n, own in enumerate(ids):
            np.testing.assert_allclose(logits[n], m(own[None])[0, -1], atol=2e-5)


def test_samples_have_the_probabilities_that_the_model_gives_them():
    m = model()
    graph, params = nnx.split(m)
    prompt = tokens(3, 6)
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    sampled, logprobs = decoding.sample(
        graph, params, prompt, jnp.zeros(3, jnp.int32), keys, 0.7, generate=5
    )
    whole = jnp.concatenate([prompt, sampled], axis=1)
    expected = jax.nn.log_softmax(m(whole))[:, 5:10]  # at temperature 1, whatever the sampling's
    expected = jnp.take_along_axis(expected, sampled[:, :, None], axis=2)[..., 0]
    np.testing.assert_allclose(logprobs, expected, atol=2e-5)


def test_a_prompt_is_continued_alike_alone_and_among_others():
    graph, params = nnx.split(model())
    prompts, padding = tokens(4, 6), jnp.asarray([0, 2, 1, 3])
    keys = jax.vmap(jax.random.key)(jnp.arange(4))
    together, _ = decoding.sample(graph, params, prompts, padding, keys, 1.0, generate=8)
    for i in range(4):
        one = slice(i, i + 1)
        alone, _ = decoding.sample(
            graph, params, prompts[one], padding[one], keys[one], 1.0, generate=8
        )
        assert np.array_equal(alone[0], together[i])


def test_sampling_follows_the_distribution():
    graph, params = nnx.split(model())
    P = 4000
    prompt = jnp.tile(tokens(1, 4), (P, 1))
    keys = jax.vmap(jax.random.key)(jnp.arange(P))
    sampled, _ = decoding.sample(
        graph, params, prompt, jnp.zeros(P, jnp.int32), keys, 1.0, generate=1
    )
    expected = jax.nn.softmax(model()(prompt[:1])[0, -1]) * P
    counts = np.bincount(sampled[:, 0], minlength=V)
    # Chi-squared with 49 degrees of freedom: 85 is passed once in 1,000.
    assert ((counts - expected) ** 2 / expected).sum() < 85
