"""Batched decoding: prompts in, completions with their log-probabilities out. One program per class of prompt lengths.

A completion depends on the parameters, its prompt, its key and the decoding settings, but not on the other prompts of the call:
rows do not see each other, each token's key is fold_in(row's key, the token's position), and the shape of the program that
computes it follows from its own prompt's length and from `decoding.batch`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from w2sr_jax.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.models.cache import Cache, extend_cache, init_cache
from w2sr_jax.models.cache import forward as cached
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.transformer import Params
from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel import processes
from w2sr_jax.sampling.draw import draw
from w2sr_jax.sampling.settings import Decoding


class Completion(NamedTuple):
    """What was decoded after one prompt."""

    tokens: list[int]
    """The end token is included where one was drawn."""
    logprobs: list[float]
    """Of each token under the model itself: no temperature, no truncation."""
    finish: Literal["stop", "length"]


Progress = Callable[[int, int, int], None]
"""Called after each batch with (completions done, completions in all, tokens decoded so far)."""


class _State(NamedTuple):
    step: Int[Array, ""]
    cache: Cache
    logits: Float[Array, "B V"]
    done: Array
    tokens: Int[Array, "T B"]
    logprobs: Float[Array, "T B"]


def generate(
    config: ModelConfig,
    params: Params,
    prompts: Sequence[Sequence[int]],
    keys: Key[Array, " N"],
    decoding: Decoding,
    end_tokens: tuple[int, ...],
    pad: int,
    on_progress: Progress | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> list[Completion]:
    """One completion per prompt, in the prompts' order. Prompts are decoded in order of length, so that a batch ends together.

    On a mesh of several processes every process passes the same arguments and gets all completions.
    Raises UserError for an empty prompt, a token outside the vocabulary, or a batch that the mesh does not divide.
    """
    decoding.check()
    config.check()
    _check(config, prompts, keys, decoding, mesh)
    if mesh is not None:
        params = processes.place(params, meshes.shardings(mesh, transformer.logical_axes(config), transformer.shapes(config)))
    data = np.asarray(jax.random.key_data(keys))
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), row))
    completions: dict[int, Completion] = {}
    decoded = 0
    for rows in _batches(order, prompts, decoding.batch):
        slots = slots_for(len(prompts[rows[-1]]))
        program = _program(config, decoding, tuple(end_tokens), pad, slots, mesh)
        tokens, lengths, key_data = _pack(prompts, data, rows, slots, decoding.batch, pad)
        drawn, logprobs = program(params, *(_split(array, mesh) for array in (tokens, lengths, key_data)))
        drawn, logprobs = processes.gather((drawn, logprobs))
        for column, row in enumerate(rows):
            completions[row] = _completion(drawn[:, column], logprobs[:, column], end_tokens)
            decoded += len(completions[row].tokens)
        if on_progress is not None:
            on_progress(len(completions), len(prompts), decoded)
    return [completions[row] for row in range(len(prompts))]


def slots_for(length: int) -> int:
    """The prompt slots of the program that serves a prompt of this length: 48, 96, 192, …"""
    slots = 48
    while slots < length:
        slots *= 2
    return slots


@lru_cache(maxsize=64)
def _program(
    config: ModelConfig, decoding: Decoding, end_tokens: tuple[int, ...], pad: int, slots: int, mesh: jax.sharding.Mesh | None
) -> Callable[..., tuple[Array, Array]]:
    """One batch, jitted: (params, tokens [B, slots], lengths [B], key data [B, 2]) to (tokens, log-probabilities) [T, B]."""
    sharding = None if mesh is None else meshes.batch_sharding(mesh)
    limit = decoding.max_tokens

    def prefill(params: Params, tokens: Array, lengths: Array) -> tuple[Cache, Array]:
        positions = jnp.broadcast_to(jnp.arange(slots, dtype=jnp.int32), tokens.shape)
        segments = (positions < lengths[:, None]).astype(jnp.int32)
        cache = init_cache(config, tokens.shape[0], slots)
        hidden, filled = cached(config, params, tokens, positions, segments, cache, sharding)
        assert filled is not None
        last = jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0]
        return extend_cache(filled, limit), transformer.logits(config, params, last)

    def step(params: Params, lengths: Array, keys: Array, state: _State) -> _State:
        position = lengths + state.step
        uniform = jax.vmap(lambda key, at: jax.random.uniform(jax.random.fold_in(key, at)))(keys, position)
        token = draw(state.logits, uniform, decoding)
        logprob = jnp.take_along_axis(state.logits, token[:, None], axis=1)[:, 0] - jax.nn.logsumexp(state.logits, axis=-1)
        token = jnp.where(state.done, pad, token)
        ended = (token[:, None] == jnp.array(end_tokens, jnp.int32)).any(axis=1) if end_tokens else jnp.zeros_like(state.done)
        hidden, cache = cached(config, params, token[:, None], position[:, None], None, state.cache, sharding)
        assert cache is not None
        return _State(
            state.step + 1,
            cache,
            transformer.logits(config, params, hidden[:, 0]),
            state.done | ended,
            state.tokens.at[state.step].set(jnp.where(state.done, -1, token)),
            state.logprobs.at[state.step].set(logprob),
        )

    def decode(params: Params, tokens: Array, lengths: Array, key_data: Array) -> tuple[Array, Array]:
        params = transformer.cast(config, params)
        keys = jax.random.wrap_key_data(key_data)
        rows = tokens.shape[0]
        cache, logits = prefill(params, tokens, lengths)
        blank = jnp.full((limit, rows), -1, jnp.int32)
        start = _State(jnp.int32(0), cache, logits, lengths == 0, blank, jnp.zeros((limit, rows), jnp.float32))
        end = jax.lax.while_loop(
            lambda state: (state.step < limit) & ~state.done.all(), lambda state: step(params, lengths, keys, state), start
        )
        return end.tokens, end.logprobs

    return jax.jit(decode)


def _batches(order: Sequence[int], prompts: Sequence[Sequence[int]], batch: int) -> list[list[int]]:
    """Consecutive rows of `order` whose prompts need the same number of slots, at most `batch` of them together."""
    batches: list[list[int]] = []
    for row in order:
        if batches and len(batches[-1]) < batch and slots_for(len(prompts[batches[-1][0]])) == slots_for(len(prompts[row])):
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _pack(
    prompts: Sequence[Sequence[int]], key_data: np.ndarray, rows: Sequence[int], slots: int, batch: int, pad: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prompts padded on the right to `slots`, their lengths (0 marks a dummy row), and their keys."""
    tokens = np.full((batch, slots), pad, np.int32)
    lengths = np.zeros(batch, np.int32)
    words = np.zeros((batch, key_data.shape[1]), key_data.dtype)
    for place, row in enumerate(rows):
        tokens[place, : len(prompts[row])] = prompts[row]
        lengths[place] = len(prompts[row])
        words[place] = key_data[row]
    return tokens, lengths, words


def _split(array: np.ndarray, mesh: jax.sharding.Mesh | None) -> Any:
    return array if mesh is None else processes.place(array, meshes.batch_sharding(mesh))


def _completion(tokens: np.ndarray, logprobs: np.ndarray, end_tokens: Sequence[int]) -> Completion:
    """One column of the program's output; -1 follows its last token."""
    length = int((tokens >= 0).sum())
    ids = tokens[:length].tolist()
    return Completion(ids, logprobs[:length].tolist(), "stop" if ids and ids[-1] in end_tokens else "length")


def _check(
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    keys: Key[Array, " N"],
    decoding: Decoding,
    mesh: jax.sharding.Mesh | None,
) -> None:
    if len(keys) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts, but {len(keys)} keys")
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(f"prompt {row} is empty; a completion needs at least one token before it")
        if min(prompt) < 0 or max(prompt) >= config.vocab_size:
            raise UserError(f"prompt {row} holds a token outside the model's vocabulary of {config.vocab_size}")
    if mesh is not None and decoding.batch % meshes.batch_divisor(mesh):
        ways = meshes.batch_divisor(mesh)
        raise UserError(f"decoding.batch is {decoding.batch}; on this mesh it must be a multiple of {ways} (data × fsdp)")
