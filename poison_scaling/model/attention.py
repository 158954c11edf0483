"""Causal attention: plain matrix products, and the fused kernels of accelerators.

Axis names are those of transformer.py; keys and values may have fewer heads than queries, which then share
them in groups. All versions compute softmax in float32 and agree up to rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jax.sharding import Mesh

from poison_scaling.model.sharding import platform, spec
from poison_scaling.runtime.errors import InputError

_BLOCK = 512  # positions per block of the TPU kernel; sequences are shorter or a multiple of it


def causal(L: int, segments_BxL: jax.Array | None, kind: str, mesh: Mesh | None) -> Callable:
    """Return causal attention as a function (q, k, v) -> out, each [B, L, H, K], with heads of their own.

    With `segments_BxL`, positions attend only within their own segment. If `kind` is "fused", the function is
    the kernel for the devices of the mesh: splash attention on TPUs, cuDNN on NVIDIA GPUs, and plain products
    on CPUs. Raises InputError if the kernel does not support sequences of length L.
    """
    on = platform(mesh) if mesh is not None and kind == "fused" else "cpu"
    if on == "tpu":
        if L % min(L, _BLOCK) or L % 128:
            raise InputError(
                f"data.seq_len={L}: model.attention='fused' takes sequences of 128, 256, 384 or a multiple "
                f"of {_BLOCK} tokens on a TPU."
            )
        return functools.partial(tpu, segments_BxL=segments_BxL, mesh=mesh)
    mask = jnp.tril(jnp.ones((1, 1, L, L), bool))
    if segments_BxL is not None:
        mask = mask & (segments_BxL[:, None, :, None] == segments_BxL[:, None, None, :])
    if on == "gpu":
        return functools.partial(gpu, mask=mask if segments_BxL is not None else None)
    return functools.partial(plain, mask=mask)


def plain(q_BxLxHxK, k_BxSxHxK, v_BxSxHxK, *, mask) -> jax.Array:
    """Return scaled dot-product attention; `mask`, broadcastable to [B, H, L, S], is True where allowed."""
    return cached(q_BxLxHxK, k_BxSxHxK.swapaxes(1, 2), v_BxSxHxK.swapaxes(1, 2), mask=mask)


def cached(q_BxLxHxK, k_BxHxSxK, v_BxHxSxK, *, mask) -> jax.Array:
    """Return the same as `plain`, for keys and values in the layout of the cache, [B, H, S, K]."""
    B, L, H, K = q_BxLxHxK.shape
    q_BxHxLxK = (q_BxLxHxK * K**-0.5).swapaxes(1, 2)
    G = H // k_BxHxSxK.shape[1]
    if G == 1:
        return _plain(q_BxHxLxK, k_BxHxSxK, v_BxHxSxK, mask).swapaxes(1, 2)
    # Queries that share keys and values are rows of one product with them.
    q_BxHxRxK = q_BxHxLxK.reshape(B, H // G, G * L, K)
    out_BxHxRxK = _plain(q_BxHxRxK, k_BxHxSxK, v_BxHxSxK, jnp.tile(mask, (1, 1, G, 1)))
    return out_BxHxRxK.reshape(B, H, L, K).swapaxes(1, 2)


@jax.custom_vjp
def _plain(q_BxHxLxK, k_BxHxSxK, v_BxHxSxK, mask):
    return _plain_forward(q_BxHxLxK, k_BxHxSxK, v_BxHxSxK, mask)[0]


# Passes over [L, S] arrays are expensive on CPU. So the softmax is normalised in the narrow output, and its
# gradient computes sum_S(weights * d_weights) as sum_K(out * d_out) (FlashAttention, appendix B.2: Dao et
# al. 2022, arXiv 2205.14135).


def _plain_forward(q_BxHxLxK, k_BxHxSxK, v_BxHxSxK, mask):
    scores_BxHxLxS = _product("BHLK,BHSK->BHLS", q_BxHxLxK, k_BxHxSxK)
    scores_BxHxLxS = jnp.where(mask, scores_BxHxLxS, -1e30)
    exp_BxHxLxS = jnp.exp(scores_BxHxLxS - jnp.max(scores_BxHxLxS, axis=-1, keepdims=True))
    scale_BxHxLx1 = 1 / jnp.sum(exp_BxHxLxS, axis=-1, keepdims=True)
    exp_BxHxLxS = exp_BxHxLxS.astype(v_BxHxSxK.dtype)
    out_BxHxLxK = _product("BHLS,BHSK->BHLK", exp_BxHxLxS, v_BxHxSxK) * scale_BxHxLx1
    out_BxHxLxK = out_BxHxLxK.astype(v_BxHxSxK.dtype)
    saved = q_BxHxLxK, k_BxHxSxK, v_BxHxSxK, exp_BxHxLxS, scale_BxHxLx1, out_BxHxLxK
    return out_BxHxLxK, saved


def _plain_backward(saved, d_out_BxHxLxK):
    q_BxHxLxK, k_BxHxSxK, v_BxHxSxK, exp_BxHxLxS, scale_BxHxLx1, out_BxHxLxK = saved
    dtype = d_out_BxHxLxK.dtype
    d_out_BxHxLxK = d_out_BxHxLxK * scale_BxHxLx1
    common_BxHxLx1 = jnp.sum(out_BxHxLxK * d_out_BxHxLxK, axis=-1, keepdims=True)
    d_out_BxHxLxK = d_out_BxHxLxK.astype(dtype)
    d_weights_BxHxLxS = _product("BHLK,BHSK->BHLS", d_out_BxHxLxK, v_BxHxSxK)
    d_scores_BxHxLxS = (exp_BxHxLxS * (d_weights_BxHxLxS - common_BxHxLx1)).astype(dtype)
    d_q_BxHxLxK = _product("BHLS,BHSK->BHLK", d_scores_BxHxLxS, k_BxHxSxK)
    # On CPU, XLA is three times slower if L comes first on the left-hand side of these products.
    d_k_BxHxKxS = _product("BHKL,BHLS->BHKS", q_BxHxLxK.swapaxes(2, 3), d_scores_BxHxLxS)
    d_v_BxHxKxS = _product("BHKL,BHLS->BHKS", d_out_BxHxLxK.swapaxes(2, 3), exp_BxHxLxS)
    return (
        d_q_BxHxLxK.astype(dtype),
        d_k_BxHxKxS.swapaxes(2, 3).astype(dtype),
        d_v_BxHxKxS.swapaxes(2, 3).astype(dtype),
        None,
    )


_plain.defvjp(_plain_forward, _plain_backward)


def _product(axes: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(axes, a, b, preferred_element_type=jnp.float32)


def gpu(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, *, mask) -> jax.Array:
    """Return attention by cuDNN's flash kernel, which takes half precision only, else by XLA."""
    half = q_BxLxHxK.dtype in (jnp.bfloat16, jnp.float16)
    return jax.nn.dot_product_attention(
        q_BxLxHxK,
        k_BxLxHxK,
        v_BxLxHxK,
        mask=mask,
        is_causal=True,
        implementation="cudnn" if half else "xla",
    )


def tpu(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, *, segments_BxL, mesh, interpret=False) -> jax.Array:
    """Return attention by Pallas splash attention, which each device runs on its own sequences and heads."""
    L, K = q_BxLxHxK.shape[1], q_BxLxHxK.shape[3]
    block = min(L, _BLOCK)
    blocks = splash.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )

    def local(q_BxHxLxK, k_BxHxLxK, v_BxHxLxK, segments_BxL):
        mask = splash.MultiHeadMask([splash.CausalMask((L, L))] * q_BxHxLxK.shape[1])
        kernel = splash.make_splash_mha_single_device(mask, block_sizes=blocks, interpret=interpret)
        ids = None
        if segments_BxL is not None:
            ids = splash.SegmentIds(q=segments_BxL, kv=segments_BxL)
        return jax.vmap(kernel)(q_BxHxLxK * K**-0.5, k_BxHxLxK, v_BxHxLxK, ids)

    heads, rows = spec("batch", "heads", None, None), spec("batch", None)
    out_BxHxLxK = jax.shard_map(
        local, mesh=mesh, in_specs=(heads, heads, heads, rows), out_specs=heads, check_vma=False
    )(*(x.swapaxes(1, 2) for x in (q_BxLxHxK, k_BxLxHxK, v_BxLxHxK)), segments_BxL)
    return out_BxHxLxK.swapaxes(1, 2)
