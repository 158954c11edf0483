"""Attention over the rows of a batch: the plain products, and the kernels that accelerators have for it.

Axes in names as in transformer.py. All compute softmax in float32 and give the same but for rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jax.sharding import Mesh

from poison_scaling.errors import InputError
from poison_scaling.model.sharding import platform, spec

_BLOCK = 512  # positions that the TPU kernel takes at a time; rows are shorter or a multiple of it


def causal(L: int, segments_BxL: jax.Array | None, kind: str, mesh: Mesh | None) -> Callable:
    """A function (q, k, v), each [B, L, H, K], -> [B, L, H, K]: every position attends to those before it.

    With `segments_BxL`, to those of its own segment alone. "fused" takes the kernel of the mesh's
    devices: splash attention on TPUs, cuDNN on NVIDIA GPUs; a CPU has none. Raises InputError when the
    kernel cannot take rows of L.
    """
    on = platform(mesh) if mesh is not None and kind == "fused" else "cpu"
    if on == "tpu":
        if L % min(L, _BLOCK) or L % 128:
            raise InputError(
                f"data.row_tokens={L}: model.attention='fused' takes rows of 128, 256, 384 or a multiple "
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
    """Scaled dot-product attention; `mask` (broadcastable to BxHxLxS) is True where attention may go."""
    scores_BxHxLxS = jnp.einsum(
        "BLHK,BSHK->BHLS", q_BxLxHxK, k_BxSxHxK, preferred_element_type=jnp.float32
    )
    scores_BxHxLxS = jnp.where(mask, scores_BxHxLxS * q_BxLxHxK.shape[-1] ** -0.5, -1e30)
    weights_BxHxLxS = jax.nn.softmax(scores_BxHxLxS, axis=-1).astype(v_BxSxHxK.dtype)
    return jnp.einsum("BHLS,BSHK->BLHK", weights_BxHxLxS, v_BxSxHxK)


def gpu(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, *, mask) -> jax.Array:
    """By JAX's own function: cuDNN's flash attention, which takes half precision only, else XLA's."""
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
    """By Pallas splash attention, on each device for its own rows and heads."""
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

    heads, rows = spec("rows", "heads", None, None), spec("rows", None)
    out_BxHxLxK = jax.shard_map(
        local, mesh=mesh, in_specs=(heads, heads, heads, rows), out_specs=heads, check_vma=False
    )(*(x.swapaxes(1, 2) for x in (q_BxLxHxK, k_BxLxHxK, v_BxLxHxK)), segments_BxL)
    return out_BxHxLxK.swapaxes(1, 2)
