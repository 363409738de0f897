"""Any token loss from the last hidden state and the output matrix, block by block: no array of all tokens' logits exists.

The gradient is computed in the forward pass, where a block's logits are at hand, so the backward pass only scales it. Given
the mesh, each device goes through its own tokens and the gradients of the output matrix are added up over devices once, after
the last block; the vocabulary may be split over the mesh's other axes. Every other model that a loss looks at adds the logits of
one block.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.core.axes import free_axes
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK
from w2sr_jax.losses import topk
from w2sr_jax.losses.inputs import Distribution, TokenLoss, Tokens, models_of


class TokenData(NamedTuple):
    """What is known of N tokens besides the logits; `weight` 0 marks an unsupervised one, of which nothing else is looked at."""

    target: Int[Array, " N"]
    span: Int[Array, " N"]
    verdict: Int[Array, " N"]
    teacher_logprob: Float[Array, " N"]
    weight: Float[Array, " N"]


class LossSum(NamedTuple):
    """Sums over tokens, float32 scalars; they add up over micro-batches and devices. Only `loss_sum` has a gradient.

    `loss_sum / weight_sum` is the weighted mean loss. The last three count each supervised token (weight not 0) once, whatever
    its weight: `nll_sum / token_sum` is the mean NLL, `correct_sum / token_sum` the greedy accuracy per token (ties shared).
    """

    loss_sum: Float[Array, ""]
    weight_sum: Float[Array, ""]
    nll_sum: Float[Array, ""]
    correct_sum: Float[Array, ""]
    token_sum: Float[Array, ""]


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

TOKEN_AXES = ("data", "fsdp")
"""Mesh axes that the tokens are split over."""

WIDTH_AXIS = "fsdp"
"""Mesh axis that the output matrix's gradient is split over, by its rows, as the matrix is."""

COPY_AXIS = "data"
"""Mesh axis whose devices hold a copy of the output matrix each."""


class _Rows(NamedTuple):
    """What there is for each token, so what is split into blocks and over devices."""

    hidden: Float[Array, "N D"]
    models: dict[str, Float[Array, "N E"] | TopK | None]
    data: TokenData


class _Common(NamedTuple):
    """What is the same for all tokens: the output matrices of the student and of frozen models, and progress."""

    output: Float[Array, "D V"]
    outputs: dict[str, Float[Array, "E V"]]
    progress: Float[Array, ""]


class _Static(NamedTuple):
    loss: TokenLoss
    block: int
    mesh: Mesh | AbstractMesh | None
    softcap: float | None
    softcaps: dict[str, float | None]
    copied: bool


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
) -> LossSum:
    """Sums of `weight * loss` and its companions over N tokens; differentiable (reverse mode, once) in `hidden` and `output`.

    `output` may be copies [S, D, V], one for each part of the mesh's `COPY_AXIS`, whose gradients are not added up.

    `hidden` and `output` are float32 or bfloat16; logits, losses and the accumulated gradient of `output` are float32. At most
    `block` tokens' logits exist at a time, over all devices together. With a `softcap` the student's logits x are
    softcap · tanh(x / softcap). `models` are those that the loss names, at the same tokens. Where the tokens are split over
    several devices, give their `mesh`: N must divide by its `TOKEN_AXES`. Values that are not finite reach the sums from
    supervised tokens, and never from unsupervised ones. A model that is named and missing and a `block` below 1 are `UserError`s.
    """
    static, rows, common = _prepare(loss, hidden, output, data, progress, models, block, mesh, softcap)
    hidden, output = rows.hidden, common.output
    return _blocked(static, hidden, output, rows._replace(hidden=None), common._replace(output=None))  # type: ignore[arg-type]


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
) -> Float[Array, " N"]:
    """The loss of each token, unweighted, 0 where unsupervised; no gradient. As `blocked` otherwise."""
    static, rows, common = _prepare(loss, hidden, output, data, progress, models, block, mesh, softcap)

    def local(rows: _Rows, common: _Common) -> Float[Array, " N"]:
        def step(carry: None, part: _Rows) -> tuple[None, Float[Array, " T"]]:
            part, supervised = _sound(part)
            losses = loss(_tokens(static, part, common, _capped(_logits(part.hidden, common.output), static.softcap)))
            return None, jnp.where(supervised, losses, 0.0)

        _, losses = jax.lax.scan(step, None, _split(rows, static))
        return _join(losses, rows.hidden.shape[0])

    return jax.lax.stop_gradient(_on_devices(local, static, P(_axes(mesh)))(rows, common))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocked(static: _Static, hidden: Float[Array, "N D"], output: Float[Array, "D V"], rows: _Rows, common: _Common) -> LossSum:
    def local(rows: _Rows, common: _Common) -> LossSum:
        def step(sums: LossSum, part: _Rows) -> tuple[LossSum, None]:
            part, supervised = _sound(part)
            _, new = _sums(static, part, supervised, common, _logits(part.hidden, common.output))
            return jax.tree.map(jnp.add, sums, new), None

        return _total(jax.lax.scan(step, _zero_sums(), _split(rows, static))[0], static.mesh)

    return _on_devices(local, static, P())(rows._replace(hidden=hidden), common._replace(output=output))


_Residuals = tuple[Float[Array, "N D"], Float[Array, "*S D V"], Float[Array, " 0"]]
"""Gradients of `loss_sum` in the hidden state (in its dtype) and in the output matrix (float32), and the latter's dtype."""


def _forward(
    static: _Static, hidden: Float[Array, "N D"], output: Float[Array, "D V"], rows: _Rows, common: _Common
) -> tuple[LossSum, _Residuals]:
    compute = jnp.result_type(hidden, output)

    def local(rows: _Rows, common: _Common) -> tuple[LossSum, Float[Array, "N D"], Float[Array, "D V"]]:
        def step(carry: tuple[LossSum, Array], part: _Rows) -> tuple[tuple[LossSum, Array], Array]:
            sums, to_output = carry
            part, supervised = _sound(part)
            logits = _logits(part.hidden, common.output)
            to_logits, new = jax.grad(partial(_sums, static, part, supervised, common), has_aux=True)(logits)
            to_logits = jnp.where(supervised[:, None], to_logits, 0.0).astype(compute)
            to_hidden = jnp.einsum("tv,dv->td", to_logits, common.output, preferred_element_type=jnp.float32)
            to_output += jnp.einsum("td,tv->dv", part.hidden, to_logits, preferred_element_type=jnp.float32)
            return (jax.tree.map(jnp.add, sums, new), to_output), to_hidden.astype(hidden.dtype)

        start = (_zero_sums(), jnp.zeros(common.output.shape, jnp.float32))
        (sums, to_output), to_hidden = jax.lax.scan(step, start, _split(rows, static))
        return _total(sums, static.mesh), _join(to_hidden, rows.hidden.shape[0]), summed(to_output)

    summed, split = _summed_matrix(static, output)
    on_devices = _on_devices(local, static, (P(), P(_axes(static.mesh)), split))
    sums, to_hidden, to_output = on_devices(rows._replace(hidden=hidden), common._replace(output=output))
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
) -> tuple[_Static, _Rows, _Common]:
    if block < 1:
        raise UserError(f"the loss is evaluated in blocks of {block} tokens; a block has at least 1")
    names = models_of(loss)
    missing = [name for name in names if name not in models]
    if missing:
        raise UserError(f"the loss {loss} looks at the model {missing[0]!r}, which was not given")
    if hidden.shape[0] % _ways(mesh):
        raise UserError(f"{hidden.shape[0]} tokens cannot be split evenly over the {_ways(mesh)} devices of {TOKEN_AXES}")
    frozen = {name: model for name in names if isinstance(model := models[name], Frozen)}
    per_token: dict[str, Array | TopK | None] = {
        name: model.hidden if isinstance(model := models[name], Frozen) else model for name in names
    }
    of_rows, outputs = jax.lax.stop_gradient((per_token, {name: model.output for name, model in frozen.items()}))
    data = data._replace(weight=jax.lax.stop_gradient(data.weight).astype(jnp.float32))
    rows, common = _Rows(hidden, of_rows, data), _Common(output, outputs, jnp.asarray(progress, jnp.float32))
    softcaps = {name: model.softcap for name, model in frozen.items()}
    return _Static(loss, block, mesh, softcap, softcaps, output.ndim == 3), rows, common


def _shards(mesh: Mesh | AbstractMesh | None) -> int:
    """Devices that share the tokens, those of a `jax.shard_map` around included."""
    return 1 if mesh is None else math.prod(mesh.shape[axis] for axis in TOKEN_AXES)


def _axes(mesh: Mesh | AbstractMesh | None) -> tuple[str, ...]:
    """The axes that the tokens here are split over."""
    return () if mesh is None else tuple(axis for axis, ways in free_axes(mesh).items() if axis in TOKEN_AXES and ways > 1)


def _ways(mesh: Mesh | AbstractMesh | None) -> int:
    return 1 if mesh is None else math.prod(mesh.shape[axis] for axis in _axes(mesh))


def _on_devices(local: Callable[..., Any], static: _Static, out_specs: Any) -> Callable[..., Any]:
    """`local(rows, common)` on every device's own tokens, with its own copy of the output matrix; the mesh's other axes are left
    to the compiler."""
    axes = _axes(static.mesh)

    def own(rows: _Rows, common: _Common) -> Any:
        return local(rows, common._replace(output=common.output[0]) if static.copied else common)

    if not axes:
        return own
    specs: Any = (P(axes), _Common(P(COPY_AXIS) if static.copied else P(), P(), P()))  # type: ignore[arg-type]
    return jax.shard_map(own, mesh=static.mesh, in_specs=specs, out_specs=out_specs, axis_names=set(axes), check_vma=False)


def _total(sums: Any, mesh: Mesh | AbstractMesh | None) -> Any:
    return jax.lax.psum(sums, _axes(mesh)) if _axes(mesh) else sums


def _summed_matrix(static: _Static, output: Float[Array, "*S D V"]) -> tuple[Callable[[Array], Array], P]:
    """How the gradients of the output matrix of several devices are added up, and how the sum is split: over `WIDTH_AXIS`, where
    it divides the width. Those of its copies are not added up."""
    axes = _axes(static.mesh)
    scattered = WIDTH_AXIS in axes and output.shape[-2] % static.mesh.shape[WIDTH_AXIS] == 0  # type: ignore[union-attr]
    others = tuple(axis for axis in axes if not ((scattered and axis == WIDTH_AXIS) or (static.copied and axis == COPY_AXIS)))

    def summed(part: Float[Array, "D V"]) -> Array:
        part = _scattered(part) if scattered else part
        part = jax.lax.psum(part, others) if others else part
        return part[None] if static.copied else part

    width = WIDTH_AXIS if scattered else None
    return summed, P(COPY_AXIS if COPY_AXIS in axes else None, width) if static.copied else P(width)


def _scattered(part: Float[Array, "D V"]) -> Float[Array, "d V"]:
    """The sum over `WIDTH_AXIS` of the own rows. Axes that are left to the compiler split the vocabulary; they are named here,
    or it would gather the whole matrix for this operation."""
    here = jax.sharding.get_abstract_mesh()
    left = {axis: ways for axis, ways in free_axes(here).items() if ways > 1}
    columns = P(None, tuple(left) if part.shape[1] % math.prod(left.values()) == 0 else None)
    scatter = partial(jax.lax.psum_scatter, axis_name=WIDTH_AXIS, scatter_dimension=0, tiled=True)
    if not left:
        return scatter(part)
    return jax.shard_map(scatter, mesh=here, in_specs=columns, out_specs=columns, axis_names=set(left), check_vma=False)(part)


def _sums(
    static: _Static, part: _Rows, supervised: Bool[Array, " T"], common: _Common, logits: Float[Array, "T V"]
) -> tuple[Float[Array, ""], LossSum]:
    """The sums of a block; `logits` are not capped yet."""
    weight = part.data.weight
    logits = _capped(logits, static.softcap)
    loss_sum = jnp.sum(jnp.where(supervised, weight * static.loss(_tokens(static, part, common, logits)), 0.0))
    logits = jax.lax.stop_gradient(logits)
    best = jnp.max(logits, axis=-1)
    picked = jax.lax.broadcasted_iota(part.data.target.dtype, logits.shape, 1) == part.data.target[:, None]
    target = jnp.sum(jnp.where(picked, logits, 0.0), axis=-1)
    nll = jax.nn.logsumexp(logits, axis=-1) - target
    ties = jnp.sum(logits == best[:, None], axis=-1).astype(jnp.float32)
    correct = jnp.where(target == best, 1.0 / ties, 0.0)
    over_tokens = [jnp.sum(jnp.where(supervised, value, 0.0)) for value in (nll, correct, jnp.ones_like(nll))]
    return loss_sum, LossSum(loss_sum, jnp.sum(weight), *over_tokens)


def _tokens(static: _Static, part: _Rows, common: _Common, logits: Float[Array, "T V"]) -> Tokens:
    data = part.data

    def distribution(name: str) -> Distribution:
        values = part.models[name]
        if values is None:
            return Distribution(jnp.zeros_like(logits), jnp.zeros(data.target.shape, bool))
        if isinstance(values, TopK):
            return Distribution(topk.logprobs(values, logits.shape[-1]), values.available)
        return Distribution(_capped(_logits(values, common.outputs[name]), static.softcaps[name]))

    models = {name: distribution(name) for name in part.models}
    return Tokens(logits, data.target, data.span, data.verdict, data.teacher_logprob, models, common.progress)


def _logits(hidden: Float[Array, "T D"], output: Float[Array, "D V"]) -> Float[Array, "T V"]:
    return jnp.einsum("td,dv->tv", hidden, output, preferred_element_type=jnp.float32)


def _capped(logits: Float[Array, "T V"], softcap: float | None) -> Float[Array, "T V"]:
    return logits if softcap is None else softcap * jnp.tanh(logits / softcap)


def _sound(part: _Rows) -> tuple[_Rows, Bool[Array, " T"]]:
    """The block with zeros for all that belongs to unsupervised tokens: what is not finite there would become nan times 0."""
    supervised = part.data.weight != 0.0

    def keep(leaf: Array) -> Array:
        return jnp.where(supervised.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, jnp.zeros((), leaf.dtype))

    return jax.tree.map(keep, part), supervised


def _zero_sums() -> LossSum:
    return LossSum(*[jnp.zeros((), jnp.float32)] * len(LossSum._fields))


def _split(rows: _Rows, static: _Static) -> _Rows:
    """K equal blocks of one device's tokens, as few as can be; padded with zeros, whose weight is 0."""
    tokens = rows.hidden.shape[0]
    count = max(1, math.ceil(tokens / max(1, static.block // _shards(static.mesh))))
    each = math.ceil(tokens / count)

    def split(leaf: Array) -> Array:
        padded = jnp.pad(leaf, [(0, count * each - tokens)] + [(0, 0)] * (leaf.ndim - 1))
        # Every count-th token: where the compiler splits the tokens (no mesh given), each device has its share of each block.
        return padded.reshape(each, count, *leaf.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(split, rows)


def _join(blocks: Float[Array, "K T *C"], tokens: int) -> Float[Array, "N *C"]:
    """The inverse of `_split`."""
    return blocks.swapaxes(0, 1).reshape(-1, *blocks.shape[2:])[:tokens]
