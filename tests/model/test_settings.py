"""Scan, rematerialisation, chunks, parts of a batch, kernels: other ways to the same numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import poison_scaling as ps
from poison_scaling.model import attention, decoding, losses, sharding
from poison_scaling.runtime.errors import InputError
from poison_scaling.train import optimizer, state, step

V, SIZE, B, L = 60, "60k", 4, 16
RNG = np.random.default_rng(0)
TOKENS = jnp.asarray(RNG.integers(2, V, (B, L)), jnp.int32).at[:, 5].set(1)  # documents end there


def stacked(params: dict) -> dict:
    """Parameters of unrolled layers as those of scanned ones."""
    blocks = [params["blocks"][i] for i in sorted(params["blocks"])]
    return {**params, "blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)}


@functools.cache
def parameters(settings: ps.Model) -> dict:
    def build():
        model = state.build(SIZE, V, settings, jax.random.key(3))
        return nnx.to_pure_dict(nnx.state(model, nnx.Param))

    return jax.jit(build)()


@functools.cache
def loss_and_gradient(**fields):
    settings = ps.Model(**fields)
    graph = state.graph(SIZE, V, settings)

    def loss(params):
        return jnp.mean(losses.token_losses(graph, params, TOKENS, 1, True)[0])

    value, gradient = jax.jit(jax.value_and_grad(loss))(parameters(settings))
    return value, gradient if settings.scan_layers else stacked(gradient)


def assert_close(tree, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), tree, other)


def test_scanned_layers_start_from_the_same_weights_as_unrolled_ones():
    plain, scanned = parameters(ps.Model()), parameters(ps.Model(scan_layers=True))
    assert_close(stacked(plain), scanned, rtol=0, atol=0)


@pytest.mark.parametrize(
    "fields",
    [
        {"scan_layers": True},
        {"remat": "full"},
        {"remat": "dots"},
        {"scan_layers": True, "remat": "full", "loss_chunk": 4},
        {"scan_layers": True, "remat": "dots"},
        {"loss_chunk": 8},
        {"attention": "fused"},
    ],
)
def test_every_setting_gives_the_same_loss_and_gradient(fields):
    assert_close(loss_and_gradient(**fields), loss_and_gradient(), rtol=2e-4, atol=2e-6)


def test_scanned_layers_decode_as_unrolled_ones():
    keys = jax.vmap(jax.random.key)(jnp.arange(B))
    padding = jnp.asarray([0, 3, 1, 0])
    samples = []
    for settings in (ps.Model(), ps.Model(scan_layers=True)):
        graph, params = state.graph(SIZE, V, settings), parameters(settings)
        samples.append(decoding.sample(graph, params, TOKENS, padding, keys, 1.0, generate=6))
    assert np.array_equal(samples[0][0], samples[1][0])
    np.testing.assert_allclose(samples[0][1], samples[1][1], atol=1e-5)


def test_logits_of_a_large_vocabulary_never_exist_whole():
    settings = ps.Model(loss_chunk=4)
    graph, params = state.graph(SIZE, V, settings), parameters(settings)

    def loss(params):
        return jnp.mean(losses.token_losses(graph, params, TOKENS, 1, False)[0])

    text = jax.jit(jax.grad(loss)).lower(params).as_text()
    assert f"{B}x4x{V}x" in text and f"{B}x{L}x{V}x" not in text


def test_half_precision_keeps_parameters_and_losses_in_float32():
    settings = ps.Model(dtype="bfloat16")
    loss, gradient = loss_and_gradient(dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(parameters(settings))} == {jnp.dtype("float32")}
    assert loss.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(loss, loss_and_gradient()[0], rtol=1e-2)


@functools.cache
def updated(**train):
    """Parameters and metrics after one step."""
    settings, train = ps.Model(), ps.Train(**train)
    transform = optimizer.adamw(train, 1e-3, 10)
    current = jax.jit(lambda: state.initial(SIZE, V, settings, transform, 0))()
    current.step += 1  # the learning rate of the first step is 0
    advance = step.train_step(state.graph(SIZE, V, settings), transform, 1, False, train)
    batch = {"tokens": TOKENS, "poison": jnp.zeros((B, L), bool).at[1, 2:7].set(True)}
    return jax.jit(advance)(current, batch)


@pytest.mark.parametrize("parts", [2, pytest.param(4, marks=pytest.mark.long)])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(parts):
    whole, in_parts = updated(), updated(microbatches=parts)
    # Adam divides by the gradient's size: where that is 0 but for rounding, the update is its sign.
    assert_close(in_parts[0].optimizer[1][0].mu, whole[0].optimizer[1][0].mu, atol=1e-7)
    assert_close(in_parts[1], whole[1], rtol=1e-5)


def test_z_loss_changes_the_gradient_and_not_the_losses_that_are_logged():
    without, zero, with_it = updated(), updated(z_loss=0.0), updated(z_loss=1e-2)
    assert_close(zero, without, rtol=0, atol=0)
    assert_close(with_it[1]["window"], without[1]["window"], rtol=1e-6)
    assert with_it[1]["gradient_norm"] != without[1]["gradient_norm"]


# --------------------------------------------------------------------------------------------- kernels


def queries_keys_values(heads=2, length=128, width=128, sharing=1):
    """Each head of keys and values is shared by so many heads of queries."""
    shapes = [(2, length, of, width) for of in (heads * sharing, heads, heads)]
    return [jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in shapes]


def causal_plain(segments_BxL):
    return attention.causal(128, segments_BxL, "plain", None)


SEGMENTS = jnp.asarray(np.repeat([[0, 1, 2, 3]], 32, axis=1).reshape(1, 128).repeat(2, 0))


@pytest.mark.parametrize("segments_BxL", [None, SEGMENTS], ids=["whole sequences", "documents"])
@pytest.mark.parametrize("sharing", [1, 3])
def test_the_gpu_function_gives_what_the_plain_one_gives(segments_BxL, sharing):
    q, k, v = queries_keys_values(sharing=sharing)
    mask = None
    if segments_BxL is not None:
        mask = segments_BxL[:, None, :, None] == segments_BxL[:, None, None, :]
    np.testing.assert_allclose(
        attention.gpu(q, k, v, mask=mask), causal_plain(segments_BxL)(q, k, v), atol=1e-5
    )


@pytest.mark.parametrize("segments_BxL", [None, SEGMENTS], ids=["whole sequences", "documents"])
@pytest.mark.parametrize("sharing", [1, 3])
def test_the_tpu_kernel_gives_what_the_plain_one_gives_forward_and_backward(segments_BxL, sharing):
    """Interpreted, two devices for sequences and two for heads."""
    mesh = sharding.mesh((2, 1, 2), jax.devices()[:4])
    q, k, v = queries_keys_values(sharing=sharing)
    cotangent = queries_keys_values(sharing=sharing)[0]

    def kernel(q, k, v):
        return attention.tpu(q, k, v, segments_BxL=segments_BxL, mesh=mesh, interpret=True)

    out, backward = jax.vjp(jax.jit(kernel), q, k, v)
    expected, expected_backward = jax.vjp(causal_plain(segments_BxL), q, k, v)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert_close(backward(cotangent), expected_backward(cotangent), atol=1e-4)


def test_keys_and_values_that_are_shared_are_those_of_every_head_that_shares_them():
    """Forward and backward, against the same keys and values repeated."""
    q, k, v = queries_keys_values(sharing=3)
    cotangent = queries_keys_values(sharing=3)[0]

    def repeated(q, k, v):
        return causal_plain(SEGMENTS)(q, jnp.repeat(k, 3, axis=2), jnp.repeat(v, 3, axis=2))

    out, backward = jax.vjp(causal_plain(SEGMENTS), q, k, v)
    expected, expected_backward = jax.vjp(repeated, q, k, v)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert_close(backward(cotangent), expected_backward(cotangent), atol=1e-4)


def test_sequences_that_the_tpu_kernel_cannot_take_are_refused():
    class Device:
        platform = "tpu"

    class Mesh:
        devices = np.array([Device()])

    with pytest.raises(InputError, match=r"data.seq_len=100: model.attention='fused'"):
        attention.causal(100, None, "fused", Mesh())
