"""What the engine compiles: prefill, seating, the decoding of a chunk of tokens, and the growing of the cache.

A *slot* is a row of the running batch. Each program has one shape per class of lengths, so that a run compiles a handful of them,
whatever comes.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.core.topk import TopK
from w2sr_jax.models import decoding as model
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.decoding import Cache, Weights
from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.sampling.draw import draw_with_logprob, draw_with_logprobs, draw_within, most_probable, sampled_logprob
from w2sr_jax.sampling.settings import Decoding

CHUNK = 32
"""Most tokens of a row before the host looks at what was drawn."""


class Slots(NamedTuple):
    """The running batch. `position` is where a row's next token goes, `left` how many tokens it may still draw (0: free)."""

    cache: Cache
    logits: Float[Array, "B V"]
    position: Int[Array, " B"]
    left: Int[Array, " B"]
    keys: Array
    seen: Bool[Array, "B V"] | None
    """Tokens that a row holds, where a repetition penalty asks for them."""


class Prompts(NamedTuple):
    """Prompts that were read, waiting to be seated."""

    cache: Cache
    logits: Float[Array, "P V"]
    length: Int[Array, " P"]
    seen: Bool[Array, "P V"] | None


class Seats(NamedTuple):
    """For each slot the prompt that takes it (-1: none), the row's key and how many tokens it may draw."""

    prompt: Int[Array, " B"]
    keys: Array
    limit: Int[Array, " B"]


class Chunk(NamedTuple):
    """What a chunk of steps drew for each slot."""

    tokens: Int[Array, "CHUNK B"]
    """-1 where nothing was drawn."""
    logprobs: Float[Array, "CHUNK B"]
    top: TopK | None
    """The distributions that they were drawn from, where these are recorded, [CHUNK, B, …]."""
    sampled: Float[Array, "CHUNK B"] | None = None
    """Log-probabilities to be drawn as they were, where these are asked for and are others than `logprobs`."""


class Programs(NamedTuple):
    """`weights(params, positions)`, for rows of up to so many positions, and `angles(positions)`, the part of them into which no
    parameter enters; `empty(S)`, slots that are all free, and `emptied(slots)`, the same in the memory of others;
    `prefill(weights, tokens [P, L], lengths [P])`; `seat(slots, prompts, seats)` and `free(slots, which [B])`, which ends rows;
    `resize(slots, S)`; `decode(weights, slots, patience)`: up to CHUNK tokens for each row, fewer once `patience` rows have
    ended, and the slots. Slots given are donated.
    """

    weights: Callable[[Any, int], Weights]
    angles: Callable[[int], Any]
    empty: Callable[[int], Slots]
    emptied: Callable[[Slots], Slots]
    prefill: Callable[[Weights, Any, Any], Prompts]
    seat: Callable[[Slots, Prompts, Seats], Slots]
    free: Callable[[Slots, Any], Slots]
    resize: Callable[[Slots, int], Slots]
    decode: Callable[[Weights, Slots, Any], tuple[Chunk, Slots]]


@lru_cache(maxsize=32)
def programs(
    config: ModelConfig,
    decoding: Decoding,
    end_tokens: tuple[int, ...],
    mesh: Mesh | None,
    limit: int | None = None,
    sampled: bool = False,
) -> Programs:
    """Of `decoding`, `batch`, how tokens are drawn, `weights` and `record_top` count. Ids from `limit` on are never drawn, nor
    recorded. `sampled` asks for `Chunk.sampled`."""
    sampled = sampled and decoding.temperature != 0 and (decoding.changes or limit is not None)
    batch, penalised = decoding.batch, decoding.repetition_penalty != 1
    layout = _slot_layout(mesh, penalised, config)
    split = None if mesh is None else meshes.batch_sharding(mesh)

    def empty(slots: int) -> Slots:
        seen = jnp.zeros((batch, config.vocab_size), bool) if penalised else None
        nothing = jnp.zeros(batch, jnp.int32)
        # One large logit: what is drawn for an empty slot takes no search.
        logits = jnp.zeros((batch, config.vocab_size), jnp.float32).at[:, 0].set(1e4)
        return Slots(model.empty(config, batch, slots), logits, nothing, nothing, jnp.zeros((batch, 2), jnp.uint32), seen)

    def emptied(slots: Slots) -> Slots:
        return empty(model.slots(slots.cache))

    def prefill(weights: Weights, tokens: Array, lengths: Array) -> Prompts:
        logits, cache = model.prefill(config, weights, tokens, lengths, split)
        seen = None
        if penalised:
            real = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None] < lengths[:, None]
            seen = jax.vmap(_marked)(jnp.zeros(logits.shape, bool), tokens, real)
        return Prompts(cache, logits, lengths, seen)

    def seat(slots: Slots, prompts: Prompts, seats: Seats) -> Slots:
        taken = seats.prompt >= 0

        def per_row(old: Array, new: Array) -> Array:
            return jnp.where(taken.reshape(-1, *[1] * (old.ndim - 1)), new[jnp.maximum(seats.prompt, 0)], old)

        def whole(old: Array, new: Array) -> Array:
            """Copies the rows that are taken; on several devices all rows, since a row may move to another device."""
            if mesh is not None:
                start = (0,) * old.ndim
                part = per_row(jax.lax.slice(old, start, (batch, *new.shape[1:])), new)
                return jax.lax.dynamic_update_slice(old, part, start)

            def one(row: Array, into: Array) -> Array:
                copied = jax.lax.dynamic_slice_in_dim(new, seats.prompt[order[row]], 1)
                return jax.lax.dynamic_update_slice(into, copied, (order[row],) + (0,) * (old.ndim - 1))

            return jax.lax.fori_loop(0, taken.sum(), one, old)

        order = jnp.argsort(~taken)
        return Slots(
            jax.tree.map(whole, slots.cache, prompts.cache),
            per_row(slots.logits, prompts.logits),
            per_row(slots.position, prompts.length),
            jnp.where(taken, seats.limit, slots.left),
            jnp.where(taken[:, None], seats.keys, slots.keys),
            None if slots.seen is None else per_row(slots.seen, prompts.seen),  # type: ignore[arg-type]
        )

    def drawing(
        logits: Array, uniform: Array, again: Array | None, seen: Array | None
    ) -> tuple[tuple[Array, Array], TopK | None, Array | None]:
        top = most_probable(logits, decoding.record_top, limit) if decoding.record_top else None
        if limit is None or again is None:
            if sampled:
                token, own, share = draw_with_logprobs(logits, uniform, decoding, seen)
                return (token, own), top, share
            return draw_with_logprob(logits, uniform, decoding, seen), top, None
        drawn = draw_within(logits, uniform, again, limit, decoding, seen)
        return drawn, top, sampled_logprob(logits, drawn[0], decoding, seen, limit) if sampled else None

    if split is not None and split.mesh.size > 1:
        # Rows do not see each other, but to rank their logits the partitioner would gather those of all of them.
        drawing = jax.shard_map(drawing, mesh=mesh, in_specs=split.spec, out_specs=split.spec, check_vma=False)

    def decode(weights: Weights, slots: Slots, patience: Array) -> tuple[Chunk, Slots]:
        started = (slots.left > 0).sum(dtype=jnp.int32)
        real, top = jnp.zeros((CHUNK, batch), jnp.float32), None
        if decoding.record_top:
            listed = jnp.zeros((CHUNK, batch, decoding.record_top), jnp.float32)
            top = TopK(listed.astype(jnp.int32), listed, real)
        nothing = Chunk(jnp.full((CHUNK, batch), -1, jnp.int32), real, top, real if sampled else None)

        def going(state: tuple[Array, Chunk, Slots]) -> Array:
            drawn, _, now = state
            running = (now.left > 0).sum(dtype=jnp.int32)
            return (drawn < CHUNK) & (running > 0) & (started - running < patience)

        def one(state: tuple[Array, Chunk, Slots]) -> tuple[Array, Chunk, Slots]:
            drawn, chunk, now = state
            keys = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(now.keys, impl="threefry2x32"), now.position)
            again = None if limit is None else _uniform(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys))
            (token, logprob), top, share = drawing(now.logits, _uniform(keys), again, now.seen)
            running = now.left > 0
            ended = jnp.isin(token, jnp.array(end_tokens, jnp.int32)) if end_tokens else jnp.zeros_like(running)
            logits, cache = model.step(config, weights, now.cache, token, now.position, split)
            seen = None if now.seen is None else jax.vmap(_marked)(now.seen, token, running)
            left = jnp.where(ended, 0, jnp.maximum(now.left - 1, 0))
            then = Slots(cache, logits, now.position + running.astype(jnp.int32), left, now.keys, seen)
            new = Chunk(jnp.where(running, token, -1), logprob, top, share)
            return drawn + 1, jax.tree.map(lambda every, here: every.at[drawn].set(here), chunk, new), then

        _, chunk, slots = jax.lax.while_loop(going, one, (jnp.int32(0), nothing, slots))
        return chunk, slots

    def free(slots: Slots, which: Array) -> Slots:
        return slots._replace(left=jnp.where(which, 0, slots.left))

    def resize(slots: Slots, size: int) -> Slots:
        return slots._replace(cache=model.resized(slots.cache, size))

    def weights(params: Any, positions: int) -> Weights:
        if mesh is not None:
            params = jax.lax.with_sharding_constraint(params, weight_shardings(config, mesh))
        return model.weights(config, params, positions, decoding.weights)

    def angles(positions: int) -> Any:
        return model.angles(config, positions)

    # Slots lie alike before and after a program, so that its results can take the memory of its arguments, also where these are
    # only described.
    steps = None if mesh is None else NamedSharding(mesh, P(None, meshes.RULES["batch"]))
    return Programs(
        jax.jit(weights, static_argnums=1),
        jax.jit(angles, static_argnums=0, out_shardings=None if mesh is None else NamedSharding(mesh, P())),
        jax.jit(empty, static_argnums=0, out_shardings=layout),
        jax.jit(emptied, donate_argnums=0, in_shardings=(layout,), out_shardings=layout, keep_unused=True),
        jax.jit(prefill),
        jax.jit(seat, donate_argnums=0, in_shardings=(layout, None, None), out_shardings=layout),
        jax.jit(free, donate_argnums=0, in_shardings=(layout, None), out_shardings=layout),
        jax.jit(resize, static_argnums=1, in_shardings=(layout,), out_shardings=layout),
        jax.jit(decode, donate_argnums=1, in_shardings=(None, layout, None), out_shardings=(steps, layout)),
    )


def _uniform(keys: Array) -> Float[Array, " B"]:
    return jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32))(keys)


def _marked(seen: Bool[Array, " V"], tokens: Int[Array, "*L"], real: Bool[Array, "*L"]) -> Bool[Array, " V"]:
    """One row's tokens, with those marked that are `real`. Mapped over rows, it is split over a mesh as they are."""
    return seen.at[tokens].max(real)


def weight_shardings(config: ModelConfig, mesh: Mesh) -> Any:
    """Where weights lie while decoding: split over fsdp and tensor, one copy for each device along data. Over fsdp each matrix is
    gathered for each token, which costs more than the token, so that only models that fit in no other way should be."""
    return meshes.shardings(mesh, transformer.logical_axes(config), transformer.shapes(config))


def _slot_layout(mesh: Mesh | None, penalised: bool, config: ModelConfig) -> Slots | None:
    """Where the slots' arrays lie on a mesh: rows over data × fsdp, heads over tensor."""
    if mesh is None:
        return None
    rows = meshes.RULES["batch"]
    row = NamedSharding(mesh, P(rows))
    cache = NamedSharding(mesh, P(rows, meshes.RULES["kv_heads"]))
    keys: Any = cache
    values: Any = cache
    if mesh.devices.flat[0].platform == "tpu" and config.kv_heads > mesh.shape["tensor"]:
        # As a TPU writes one token of each row: otherwise the loop begins and ends with a copy of the whole cache. The heads of
        # a device lie side by side, and where it has one, most of that would be padding.
        keys, values = Format(Layout((0, 2, 4, 1, 3)), cache), Format(Layout((0, 2, 1, 3)), cache)
    return Slots(((keys, values),) * config.layers, row, row, row, row, row if penalised else None)  # type: ignore[arg-type]
