"""Any token loss from the last hidden state and the output matrix, block by block: no array of all tokens' logits exists.

The gradient is computed in the forward pass, where a block's logits are at hand, so the backward pass only scales it. Given
the mesh, each device goes through its own tokens and the gradients of the output matrix are added up over devices once, after
the last block; the vocabulary may be split over the mesh's other axes. Every other model that a loss looks at adds the logits of
one block.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK
from w2sr_jax.losses import formulas, splitting, topk
from w2sr_jax.losses.inputs import Distribution, Rollout, TokenLoss, Tokens, models_of
from w2sr_jax.losses.sums import LossSum, Watch, merge, no_tokens, over_axes


class TokenData(NamedTuple):
    """What is known of N tokens besides the logits; `weight` 0 marks an unsupervised one, of which nothing else is looked at.

    `advantage` and `sampled` are those of `Rollout`; both are None where the tokens are not the student's own.
    """

    target: Int[Array, " N"]
    span: Int[Array, " N"]
    verdict: Int[Array, " N"]
    teacher_logprob: Float[Array, " N"]
    weight: Float[Array, " N"]
    advantage: Float[Array, " N"] | None = None
    sampled: Float[Array, " N"] | None = None


class Frozen(NamedTuple):
    """A frozen model at N tokens, its width perhaps not the student's. With a `softcap` its logits x are
    softcap · tanh(x / softcap)."""

    hidden: Float[Array, "N E"]
    """Its last hidden state."""
    output: Float[Array, "E V"]
    """Its output matrix."""
    softcap: float | None = None


Model: TypeAlias = Frozen | TopK | None
"""Another model at N tokens: computed from its parameters, or its most probable tokens as recorded; None: nowhere known."""

NO_MODELS: Mapping[str, Model] = {}

Rows = TypeVar("Rows")

Drawn: TypeAlias = Callable[[Float[Array, "T V"], Int[Array, " T"]], Float[Array, " T"]]
"""The log-probability of each target under the distribution that settings of sampling make of the student's logits; it is
differentiable in the logits, and each token's own."""


class _Rows(NamedTuple):
    """What there is for each token, so what is split into blocks and over devices."""

    hidden: Float[Array, "N D"]
    models: dict[str, Float[Array, "N E"] | TopK | None]
    data: TokenData


class _Common(NamedTuple):
    """What is the same for all tokens: the output matrices of frozen models, and progress."""

    outputs: dict[str, Float[Array, "E V"]]
    progress: Float[Array, ""]


class _Static(NamedTuple):
    loss: TokenLoss
    block: int
    mesh: Mesh | AbstractMesh | None
    softcap: float | None
    softcaps: dict[str, float | None]
    copied: bool
    drawn: Drawn | None
    watch: Watch | None
    known: int | None


def blocked(
    loss: TokenLoss,
    hidden: Float[Array, "N D"],
    output: Float[Array, "D V"],
    data: TokenData,
    progress: Float[Array, ""] | float,
    models: Mapping[str, Model] = NO_MODELS,
    block: int = 1024,
    mesh: Mesh | AbstractMesh | None = None,
    softcap: float | None = None,
    drawn: Drawn | None = None,
    watch: Watch | None = None,
    known: int | None = None,
) -> LossSum:
    """Sums of `weight * loss` and its companions over N tokens; differentiable (reverse mode, once) in `hidden` and `output`.

    `output` may be copies [S, D, V], one for each part of the mesh's `splitting.COPY_AXIS`, whose gradients are not added up.

    `hidden` and `output` are float32 or bfloat16; logits, losses and the accumulated gradient of `output` are float32. At most
    `block` tokens' logits exist at a time, over all devices together. With a `softcap` the student's logits x are
    softcap · tanh(x / softcap). `models` are those that the loss and the watch name, at the same tokens. Where the tokens are
    split over several devices, give their `mesh`: N must divide by its `splitting.TOKEN_AXES`. Values that are not finite reach
    the sums from supervised tokens, and never from unsupervised ones. A model that is named and missing and a `block` below 1
    are `UserError`s.

    Where the data has rollouts, `drawn` makes their log-probabilities of logits; without it they are those of the student itself,
    as at temperature 1. What `watch` gives comes back as `sums` and `peaks`, and has no influence on anything else. With `known`
    loss and watch see the logits of ids below it alone, of all models: output matrices may then have different numbers of rows
    beyond, of ids that no text has.
    """
    static, rows, common = _prepare(loss, hidden, output, data, progress, models, block, mesh, softcap, drawn, watch, known)
    return _blocked(static, hidden, output, rows._replace(hidden=None), common)  # type: ignore[arg-type]


def token_losses(
    loss: TokenLoss,
    hidden: Float[Array, "N D"],
    output: Float[Array, "D V"],
    data: TokenData,
    progress: Float[Array, ""] | float,
    models: Mapping[str, Model] = NO_MODELS,
    block: int = 1024,
    mesh: Mesh | AbstractMesh | None = None,
    softcap: float | None = None,
    drawn: Drawn | None = None,
    known: int | None = None,
) -> Float[Array, " N"]:
    """The loss of each token, unweighted, 0 where unsupervised; no gradient. As `blocked` otherwise."""
    static, rows, common = _prepare(loss, hidden, output, data, progress, models, block, mesh, softcap, drawn, known=known)

    def local(rows: _Rows, output: Float[Array, "D V"], common: _Common) -> Float[Array, " N"]:
        def step(carry: None, part: _Rows) -> tuple[None, Float[Array, " T"]]:
            part, supervised = sound(part, part.data.weight)
            losses = loss(_tokens(static, part, common, capped(logits_of(part.hidden, output), static.softcap)))
            return None, jnp.where(supervised, losses, 0.0)

        _, losses = jax.lax.scan(step, None, splitting.split(rows, block, mesh))
        return splitting.join(losses, rows.hidden.shape[0])

    spread = splitting.on_devices(local, mesh, static.copied, P(splitting.token_axes(mesh)))
    return jax.lax.stop_gradient(spread(rows, output, common))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocked(static: _Static, hidden: Float[Array, "N D"], output: Float[Array, "D V"], rows: _Rows, common: _Common) -> LossSum:
    def local(rows: _Rows, output: Float[Array, "D V"], common: _Common) -> LossSum:
        def step(sums: LossSum, part: _Rows) -> tuple[LossSum, None]:
            part, supervised = sound(part, part.data.weight)
            _, new = _sums(static, part, supervised, common, logits_of(part.hidden, output))
            return merge(sums, new), None

        parts = splitting.split(rows, static.block, static.mesh)
        return over_axes(jax.lax.scan(step, no_tokens(static.watch), parts)[0], splitting.token_axes(static.mesh))

    return splitting.on_devices(local, static.mesh, static.copied, P())(rows._replace(hidden=hidden), output, common)


_Residuals = tuple[Float[Array, "N D"], Float[Array, "*S D V"], Float[Array, " 0"]]
"""Gradients of `loss_sum` in the hidden state (in its dtype) and in the output matrix (float32), and the latter's dtype."""


def _forward(
    static: _Static, hidden: Float[Array, "N D"], output: Float[Array, "D V"], rows: _Rows, common: _Common
) -> tuple[LossSum, _Residuals]:
    compute = jnp.result_type(hidden, output)
    mesh = static.mesh

    def local(
        rows: _Rows, output: Float[Array, "D V"], common: _Common
    ) -> tuple[LossSum, Float[Array, "N D"], Float[Array, "*S D V"]]:
        def step(carry: tuple[LossSum, Array], part: _Rows) -> tuple[tuple[LossSum, Array], Array]:
            sums, to_output = carry
            part, supervised = sound(part, part.data.weight)
            logits = logits_of(part.hidden, output)
            to_logits, new = jax.grad(partial(_sums, static, part, supervised, common), has_aux=True)(logits)
            to_logits = jnp.where(supervised[:, None], to_logits, 0.0).astype(compute)
            to_hidden = jnp.einsum("tv,dv->td", to_logits, output, preferred_element_type=jnp.float32)
            to_output += jnp.einsum("td,tv->dv", part.hidden, to_logits, preferred_element_type=jnp.float32)
            return (merge(sums, new), to_output), to_hidden.astype(hidden.dtype)

        start = (no_tokens(static.watch), jnp.zeros(output.shape, jnp.float32))
        (sums, to_output), to_hidden = jax.lax.scan(step, start, splitting.split(rows, static.block, mesh))
        total = over_axes(sums, splitting.token_axes(mesh))
        return total, splitting.join(to_hidden, rows.hidden.shape[0]), summed(to_output)

    summed, layout = splitting.summed_matrix(output, mesh, static.copied)
    spread = splitting.on_devices(local, mesh, static.copied, (P(), P(splitting.token_axes(mesh)), layout))
    sums, to_hidden, to_output = spread(rows._replace(hidden=hidden), output, common)
    return sums, (to_hidden, to_output, jnp.zeros((0,), output.dtype))


def _backward(
    static: _Static, residuals: _Residuals, cotangent: LossSum
) -> tuple[Float[Array, "N D"], Float[Array, "D V"], None, None]:
    to_hidden, to_output, like_output = residuals
    scale = cotangent.loss_sum
    return (
        (scale * to_hidden.astype(jnp.float32)).astype(to_hidden.dtype),
        (scale * to_output).astype(like_output.dtype),
        None,
        None,
    )


_blocked.defvjp(_forward, _backward)


def _prepare(
    loss: TokenLoss,
    hidden: Float[Array, "N D"],
    output: Float[Array, "D V"],
    data: TokenData,
    progress: Float[Array, ""] | float,
    models: Mapping[str, Model],
    block: int,
    mesh: Mesh | AbstractMesh | None,
    softcap: float | None,
    drawn: Drawn | None = None,
    watch: Watch | None = None,
    known: int | None = None,
) -> tuple[_Static, _Rows, _Common]:
    splitting.check(hidden.shape[0], block, mesh)
    names = models_of(loss) if watch is None else models_of(loss, watch)
    missing = [name for name in names if name not in models]
    if missing:
        raise UserError(f"the loss {loss} looks at the model {missing[0]!r}, which was not given")
    if (data.advantage is None) != (data.sampled is None):
        raise UserError("tokens of rollouts have both an advantage and the log-probability that they were drawn with")
    frozen = {name: model for name in names if isinstance(model := models[name], Frozen)}
    per_token: dict[str, Array | TopK | None] = {
        name: model.hidden if isinstance(model := models[name], Frozen) else model for name in names
    }
    of_rows, outputs = jax.lax.stop_gradient((per_token, {name: model.output for name, model in frozen.items()}))
    data = data._replace(weight=jax.lax.stop_gradient(data.weight).astype(jnp.float32))
    rows, common = _Rows(hidden, of_rows, data), _Common(outputs, jnp.asarray(progress, jnp.float32))
    softcaps = {name: model.softcap for name, model in frozen.items()}
    return _Static(loss, block, mesh, softcap, softcaps, output.ndim == 3, drawn, watch, known), rows, common


def _sums(
    static: _Static, part: _Rows, supervised: Bool[Array, " T"], common: _Common, logits: Float[Array, "T V"]
) -> tuple[Float[Array, ""], LossSum]:
    """The sums of a block; `logits` are not capped yet."""
    weight = part.data.weight
    logits = capped(logits, static.softcap)
    tokens = _tokens(static, part, common, logits)
    loss_sum = jnp.sum(jnp.where(supervised, weight * static.loss(tokens), 0.0))
    logits = jax.lax.stop_gradient(logits)
    best = jnp.max(logits, axis=-1)
    picked = jax.lax.broadcasted_iota(part.data.target.dtype, logits.shape, 1) == part.data.target[:, None]
    target = jnp.sum(jnp.where(picked, logits, 0.0), axis=-1)
    nll = jax.nn.logsumexp(logits, axis=-1) - target
    ties = jnp.sum(logits == best[:, None], axis=-1).astype(jnp.float32)
    correct = jnp.where(target == best, 1.0 / ties, 0.0)
    over = [jnp.sum(jnp.where(supervised, value, 0.0)) for value in (nll, correct, jnp.ones_like(nll))]
    new = LossSum(loss_sum, jnp.sum(weight), over[0], over[1], over[2])
    return loss_sum, new if static.watch is None else _watched(static.watch, jax.lax.stop_gradient(tokens), supervised, new)


def _watched(watch: Watch, tokens: Tokens, supervised: Bool[Array, " T"], sums: LossSum) -> LossSum:
    values = {name: value.astype(jnp.float32) for name, value in watch(tokens).items()}
    return sums._replace(
        sums={name: jnp.sum(jnp.where(supervised, values[name], 0.0)) for name in watch.sums},
        peaks={name: jnp.max(jnp.where(supervised, values[name], -jnp.inf)) for name in watch.peaks},
    )


def _tokens(static: _Static, part: _Rows, common: _Common, logits: Float[Array, "T V"]) -> Tokens:
    data, whole, logits = part.data, logits, _of_known(static, logits)

    def distribution(name: str) -> Distribution:
        values = part.models[name]
        if values is None:
            return Distribution(jnp.zeros_like(logits), jnp.zeros(data.target.shape, bool))
        if isinstance(values, TopK):
            return Distribution(topk.logprobs(values, logits.shape[-1]), values.available)
        return Distribution(_of_known(static, capped(logits_of(values, common.outputs[name]), static.softcaps[name])))

    models = {name: distribution(name) for name in part.models}
    tokens = Tokens(logits, data.target, data.span, data.verdict, data.teacher_logprob, models, common.progress)
    if data.advantage is None or data.sampled is None:
        return tokens
    logprob = formulas.target_logprob(tokens) if static.drawn is None else static.drawn(whole, data.target)
    return tokens._replace(rollout=Rollout(data.advantage, data.sampled, logprob))


def _of_known(static: _Static, logits: Float[Array, "T V"]) -> Float[Array, "T K"]:
    return logits if static.known is None else logits[:, : static.known]


def logits_of(hidden: Float[Array, "T D"], output: Float[Array, "D V"]) -> Float[Array, "T V"]:
    return jnp.einsum("td,dv->tv", hidden, output, preferred_element_type=jnp.float32)


def capped(logits: Float[Array, "T V"], softcap: float | None) -> Float[Array, "T V"]:
    return logits if softcap is None else softcap * jnp.tanh(logits / softcap)


def sound(part: Rows, weight: Float[Array, " T"]) -> tuple[Rows, Bool[Array, " T"]]:
    """A block with zeros for all that belongs to unsupervised tokens, whose weight is 0, and which ones are supervised: what is
    not finite there would become nan times 0."""
    supervised = weight != 0.0

    def keep(leaf: Array) -> Array:
        return jnp.where(supervised.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, jnp.zeros((), leaf.dtype))

    return jax.tree.map(keep, part), supervised
