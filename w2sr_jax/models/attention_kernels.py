"""Attention among packed tokens by the kernels that come with JAX: Splash on a TPU, FlashAttention in Pallas on a GPU. Neither
makes an array of all scores. Splash skips blocks above the diagonal and outside a window, Pallas those above the diagonal.

cuDNN is not among them: through `jax.nn` it learns of segments by a mask over all pairs of tokens alone. The kernels see no mesh;
`attention.packed` gives each device its own rows and heads. The modules are imported when first used, since they are slow to
import and of no use on other platforms.

Index names: B rows, L tokens, H query heads, K key/value heads, C head size.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LANES = 128
"""Rows must be as long as a multiple of this, for either kernel."""


def splash_attention(
    query: Float[Array, "B L H C"],
    key: Float[Array, "B L K C"],
    value: Float[Array, "B L K C"],
    segments: Int[Array, "B L"],
    scale: float,
    cap: float | None,
    window: int | None,
    interpret: bool = False,
) -> Float[Array, "B L H C"]:
    """As `attention.packed`; a token with a `window` sees that many tokens, itself included. L is a multiple of `LANES`."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    length, heads = query.shape[1:3]
    shape = (length, length)
    seen = masks.CausalMask(shape) if window is None else masks.LocalMask(shape, (window - 1, 0), 0)
    size = math.gcd(length, 512)
    sizes = kernel.BlockSizes(
        block_q=size,
        block_kv=size,
        block_kv_compute=size,
        block_q_dkv=size,
        block_kv_dkv=size,
        block_kv_dkv_compute=size,
        block_q_dq=size,
        block_kv_dq=size,
    )
    attend = kernel.make_splash_mha(
        masks.MultiHeadMask([seen] * heads),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        attn_logits_soft_cap=cap,
        interpret=interpret,
    )
    rows = (x.swapaxes(1, 2) for x in (query * jnp.asarray(scale, query.dtype), key, value))
    mixed = jax.vmap(attend)(*rows, kernel.SegmentIds(segments, segments))
    return mixed.swapaxes(1, 2).astype(query.dtype)


def pallas_attention(
    query: Float[Array, "B L H C"],
    key: Float[Array, "B L K C"],
    value: Float[Array, "B L K C"],
    segments: Int[Array, "B L"],
    scale: float,
    interpret: bool = False,
) -> Float[Array, "B L H C"]:
    """As `attention.packed` without a cap or a reach. L is a multiple of `LANES`. Key heads are repeated for the query heads that
    share them."""
    from jax.experimental.pallas.ops.gpu import attention as kernel

    size = min(64, query.shape[1])
    sizes = kernel.BlockSizes(block_q=size, block_k=size, block_q_dkv=size, block_kv_dkv=size, block_q_dq=size, block_kv_dq=size)
    shared = query.shape[2] // key.shape[2]
    key, value = (jnp.repeat(x, shared, axis=2) for x in (key, value))
    return kernel.mha(query, key, value, segments, scale, True, sizes, interpret=interpret)
