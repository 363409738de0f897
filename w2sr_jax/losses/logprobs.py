"""The log-probability of each token under the student, block by block: what losses on whole sequences are made of.

No array of all tokens' logits exists. A block's logits are computed once for the value and once more for the gradient, which
depends on what is made of the log-probabilities afterwards.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.losses import splitting
from w2sr_jax.losses.blocks import Drawn, capped, logits_of, sound


class Logprobs(NamedTuple):
    """Of N tokens, float32; both are 0 where unsupervised. Only `logprob` has a gradient."""

    logprob: Float[Array, " N"]
    """The target's, natural logarithm."""
    entropy: Float[Array, " N"]
    """Of the student's own distribution of the target, nats."""


class _Rows(NamedTuple):
    hidden: Float[Array, "N D"]
    target: Int[Array, " N"]
    weight: Float[Array, " N"]


class _Static(NamedTuple):
    block: int
    mesh: Mesh | AbstractMesh | None
    softcap: float | None
    copied: bool
    drawn: Drawn | None


def logprobs(
    hidden: Float[Array, "N D"],
    output: Float[Array, "D V"],
    target: Int[Array, " N"],
    weight: Float[Array, " N"] | Bool[Array, " N"],
    block: int = 1024,
    mesh: Mesh | AbstractMesh | None = None,
    softcap: float | None = None,
    drawn: Drawn | None = None,
) -> Logprobs:
    """The log-probabilities of N targets; differentiable (reverse mode, once) in `hidden` and `output`.

    `hidden` [N, D] and `output` [D, V], or its copies [S, D, V], are float32 or bfloat16; logits and the accumulated gradient of
    `output` are float32. `weight` 0 (or False) marks an unsupervised token, of which nothing is looked at. `drawn` makes the
    log-probability of logits where it is that of a sampled distribution. `block`, `mesh`, `softcap` and errors as in
    `blocks.blocked`.
    """
    splitting.check(hidden.shape[0], block, mesh)
    static = _Static(block, mesh, softcap, output.ndim == 3, drawn)
    return _logprobs(static, hidden, output, target, jax.lax.stop_gradient(jnp.asarray(weight, jnp.float32)))


def _of_block(
    static: _Static, target: Int[Array, " T"], logits: Float[Array, "T V"]
) -> tuple[Float[Array, " T"], Float[Array, "T V"]]:
    """The targets' log-probabilities, and the logits as they count. `logits` are not capped yet."""
    logits = capped(logits, static.softcap)
    if static.drawn is not None:
        return static.drawn(logits, target), logits
    picked = jax.lax.broadcasted_iota(target.dtype, logits.shape, 1) == target[:, None]
    return jnp.sum(jnp.where(picked, logits, 0.0), axis=-1) - jax.nn.logsumexp(logits, axis=-1), logits


def _entropy(logits: Float[Array, "T V"]) -> Float[Array, " T"]:
    logprob = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.sum(jnp.exp(logprob) * jnp.where(logprob > -jnp.inf, logprob, 0.0), axis=-1)


def _values(
    static: _Static,
    hidden: Float[Array, "N D"],
    output: Float[Array, "D V"],
    target: Int[Array, " N"],
    weight: Float[Array, " N"],
) -> Logprobs:
    def local(rows: _Rows, output: Float[Array, "D V"], _: None) -> Logprobs:
        def step(carry: None, part: _Rows) -> tuple[None, Logprobs]:
            part, supervised = sound(part, part.weight)
            logprob, logits = _of_block(static, part.target, logits_of(part.hidden, output))
            return None, Logprobs(*(jnp.where(supervised, value, 0.0) for value in (logprob, _entropy(logits))))

        _, values = jax.lax.scan(step, None, splitting.split(rows, static.block, static.mesh))
        return Logprobs(*(splitting.join(value, rows.hidden.shape[0]) for value in values))

    layout = P(splitting.token_axes(static.mesh))
    spread = splitting.on_devices(local, static.mesh, static.copied, Logprobs(layout, layout))  # type: ignore[arg-type]
    values: Logprobs = spread(_Rows(hidden, target, weight), output, None)
    return values


_Inputs = tuple[Float[Array, "N D"], Float[Array, "D V"], Int[Array, " N"], Float[Array, " N"]]


def _forward(static: _Static, *inputs: Array) -> tuple[Logprobs, _Inputs]:
    hidden, output, target, weight = inputs
    return _values(static, *inputs), (hidden, output, target, weight)


def _backward(
    static: _Static, inputs: _Inputs, cotangent: Logprobs
) -> tuple[Float[Array, "N D"], Float[Array, "*S D V"], None, None]:
    hidden, output, target, weight = inputs
    compute, mesh = jnp.result_type(hidden, output), static.mesh

    def local(
        rows: tuple[_Rows, Float[Array, " N"]], output: Float[Array, "D V"], _: None
    ) -> tuple[Float[Array, "N D"], Float[Array, "*S D V"]]:
        def step(to_output: Array, part: tuple[_Rows, Array]) -> tuple[Array, Array]:
            (own, slope), supervised = sound(part, part[0].weight)
            back = jax.vjp(lambda logits: _of_block(static, own.target, logits)[0], logits_of(own.hidden, output))[1]
            to_logits = jnp.where(supervised[:, None], back(slope)[0], 0.0).astype(compute)
            to_hidden = jnp.einsum("tv,dv->td", to_logits, output, preferred_element_type=jnp.float32)
            to_output += jnp.einsum("td,tv->dv", own.hidden, to_logits, preferred_element_type=jnp.float32)
            return to_output, to_hidden.astype(hidden.dtype)

        start = jnp.zeros(output.shape, jnp.float32)
        to_output, to_hidden = jax.lax.scan(step, start, splitting.split(rows, static.block, mesh))
        return splitting.join(to_hidden, rows[1].shape[0]), summed(to_output)

    summed, layout = splitting.summed_matrix(output, mesh, static.copied)
    spread = splitting.on_devices(local, mesh, static.copied, (P(splitting.token_axes(mesh)), layout))
    to_hidden, to_output = spread((_Rows(hidden, target, weight), cotangent.logprob), output, None)
    return to_hidden, to_output.astype(output.dtype), None, None


_logprobs = jax.custom_vjp(_values, nondiff_argnums=(0,))
_logprobs.defvjp(_forward, _backward)
