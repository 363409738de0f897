"""Continuous batching: prompts in, completions with their log-probabilities out.

A fixed number of slots decodes together; a row that has ended gives its slot to the next request. Equal prompts are read once.
The cache is as long as the longest row at work needs it, not as the longest that may come.

A completion depends on the parameters, its prompt, its key and the decoding settings; which rows it shares the batch with, and in
which order, changes no more than the last bits of its log-probabilities: rows do not see each other, and each token's key is
fold_in(row's key, the token's position). Equal calls give equal bits.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.decoding import slots
from w2sr_jax.models.transformer import Params
from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel import processes
from w2sr_jax.sampling.programs import CHUNK, Chunk, Programs, Prompts, Seats, programs
from w2sr_jax.sampling.settings import Decoding

if TYPE_CHECKING:
    from w2sr_jax.core.records import Finish

PREFILL = 2048
"""Tokens that are read together, prompts' padding included, or one prompt where it is longer."""


class NotFinite(UserError):
    """A model's logits are no distribution after `drawn` tokens of its completion of prompt `row`: nan, +inf, or nothing but
    -inf."""

    def __init__(self, row: int, drawn: int) -> None:
        super().__init__(
            f"the model's logits after prompt {row} and {drawn} tokens of its completion are not finite numbers, so that no "
            "token can be drawn; its parameters are damaged, or its computation overflows"
        )
        self.row, self.drawn = row, drawn


class Completion(NamedTuple):
    """What was decoded after one prompt."""

    tokens: list[int]
    """The end token is included where one was drawn."""
    logprobs: list[float]
    """Of each token under the model itself: no temperature, no truncation, no penalty."""
    finish: "Finish"
    top: TopK | None = None
    """The distribution that each token was drawn from, where `decoding.record_top` asks for it."""


Progress = Callable[[int, int, int], None]
"""Called with (completions done, completions in all, tokens decoded so far) whenever some were done."""

Stopper = Callable[[list[int]], int | None]
"""How many of a completion's tokens to keep, if it is to end before its last one."""


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
    stop: Stopper | None = None,
    limits: Sequence[int] | None = None,
    vocabulary: int | None = None,
) -> list[Completion]:
    """One completion per prompt, in the prompts' order. `limits` are the most tokens of each (by default `decoding.max_tokens`).
    `stop` is asked from time to time, and must give the same whenever it is; what it keeps has finish "stop". `vocabulary` is how
    many ids the tokenizer knows, where the model has more rows than that: others are never drawn.

    On a mesh of several processes every process passes the same arguments and gets all completions.
    Raises UserError for an empty prompt, a token outside the vocabulary, a batch that the mesh does not divide, or a
    `decoding.record_top` above the vocabulary; `NotFinite` where a token would be drawn from logits that are no distribution.
    """
    decoding.check()
    config.check()
    limits = [decoding.max_tokens] * len(prompts) if limits is None else list(limits)
    _check(config, prompts, keys, decoding, mesh, limits)
    if not prompts:
        return []
    if mesh is not None:
        params = processes.put(params, meshes.resting(mesh, transformer.logical_axes(config), transformer.shapes(config)))
    how = dataclasses.replace(decoding, max_tokens=1, stop=())
    limit = vocabulary if vocabulary is not None and vocabulary < config.vocab_size else None
    if decoding.record_top > (limit or config.vocab_size):
        raise UserError(f"decoding.record_top is {decoding.record_top}; the vocabulary has {limit or config.vocab_size:,} tokens")
    compiled = programs(config, how, tuple(end_tokens), mesh, limit)
    longest = max(cache_class(len(prompt) + limit) for prompt, limit in zip(prompts, limits, strict=True))
    weights = compiled.weights(params, max(longest, prompt_class(max(map(len, prompts)))))
    batch = _Batch(compiled, weights, decoding.batch, mesh)
    data = np.asarray(jax.random.key_data(keys))
    waiting = _Waiting(prompts, pad, decoding.batch, 1 if mesh is None else meshes.batch_divisor(mesh))
    completions: dict[int, Completion] = {}
    decoded = 0
    while len(completions) < len(prompts):
        while (free := batch.free()) and (group := waiting.take(len(free), batch)) is not None:
            batch.seat(free, group, data, limits)
        before = len(completions)
        for row, drawn, ended in batch.decode(1 + decoding.batch // 16 if waiting else decoding.batch, stop):
            ids = drawn.tokens.tolist()
            finish: Finish = "stop" if ended or ids[-1] in end_tokens else "length"
            completions[row] = Completion(ids, drawn.logprobs.tolist(), finish, drawn.top)
            decoded += len(ids)
        if on_progress is not None and len(completions) > before:
            on_progress(len(completions), len(prompts), decoded)
    return [completions[row] for row in range(len(prompts))]


def prompt_class(length: int) -> int:
    """The prompt positions of the program that reads a prompt of this length: 48, 64, 96, 128, 192, 256, …"""
    return _class(length, 48)


def cache_class(length: int) -> int:
    """The cache slots of the program that decodes rows of up to this length: 128, 192, 256, 384, 512, 768, …"""
    return _class(length, 128)


def _class(length: int, least: int) -> int:
    slots = least
    while slots < length:
        slots = slots * 3 // 2 if slots & (slots - 1) == 0 else slots * 4 // 3
    return slots


class _Group(NamedTuple):
    """Requests of prompts that were read together, and the index of each one's prompt among them."""

    prompts: Prompts
    rows: list[int]
    indices: list[int]


class _Row(NamedTuple):
    """A request at work: its number, where it will end at the latest, what it has drawn, chunk after chunk."""

    row: int
    end: int
    drawn: list[Chunk]


class _Waiting:
    """Requests in the order in which they are seated: by class of length, then as given, equal prompts together."""

    def __init__(self, prompts: Sequence[Sequence[int]], pad: int, batch: int, ways: int) -> None:
        self._prompts, self._pad, self._batch, self._ways = prompts, pad, batch, ways
        rows: dict[tuple[int, ...], list[int]] = {}
        for row, prompt in enumerate(prompts):
            rows.setdefault(tuple(prompt), []).append(row)
        order = sorted(rows, key=lambda prompt: prompt_class(len(prompt)))
        self._unread = deque(order)
        self._rows = rows
        self._read: Prompts | None = None
        self._seats: deque[tuple[int, int]] = deque()

    def __bool__(self) -> bool:
        return bool(self._seats or self._unread)

    def take(self, count: int, batch: "_Batch") -> _Group | None:
        """The next requests, at most `count`; None where there is none left."""
        if not self._seats:
            if not self._unread:
                return None
            self._read = self._prefill(batch)
        taken = [self._seats.popleft() for _ in range(min(count, len(self._seats)))]
        assert self._read is not None
        return _Group(self._read, [row for row, _ in taken], [index for _, index in taken])

    def _prefill(self, batch: "_Batch") -> Prompts:
        """Reads the next prompts of one class; few are read one by one, since every program has its full number of rows."""
        length = prompt_class(len(self._unread[0]))
        most = max(1, min(self._batch, PREFILL // length))
        same = sum(1 for _ in _while(lambda prompt: prompt_class(len(prompt)) == length, self._unread, most))
        rows = -(-(1 if same * 8 <= most else most) // self._ways) * self._ways
        tokens, lengths = np.full((rows, length), self._pad, np.int32), np.zeros(rows, np.int32)
        for index in range(min(rows, same)):
            prompt = self._unread.popleft()
            tokens[index, : len(prompt)], lengths[index] = prompt, len(prompt)
            self._seats.extend((row, index) for row in self._rows.pop(prompt))
        return batch.prefill(tokens, lengths)

    def length(self, row: int) -> int:
        return len(self._prompts[row])


class _Batch:
    """The slots on the devices, and what the host knows of them."""

    def __init__(self, compiled: Programs, weights: Any, size: int, mesh: jax.sharding.Mesh | None) -> None:
        self._compiled, self._weights, self._size, self._mesh = compiled, weights, size, mesh
        self._slots: Any = None
        self._cache = 0
        self._rows: dict[int, _Row] = {}
        self._at: dict[int, int] = {}  # where each slot's next token goes

    def free(self) -> list[int]:
        return [slot for slot in range(self._size) if slot not in self._rows]

    def prefill(self, tokens: np.ndarray, lengths: np.ndarray) -> Prompts:
        return self._compiled.prefill(self._weights, self._split(tokens), self._split(lengths))

    def seat(self, free: Sequence[int], group: _Group, data: np.ndarray, limits: Sequence[int]) -> None:
        """Gives free slots to requests."""
        lengths = processes.gather(group.prompts.length)
        prompt, limit = np.full(self._size, -1, np.int32), np.zeros(self._size, np.int32)
        words = np.zeros((self._size, data.shape[1]), data.dtype)
        for slot, row, index in zip(free, group.rows, group.indices, strict=False):
            prompt[slot], limit[slot], words[slot] = index, limits[row], data[row]
            self._rows[slot] = _Row(row, int(lengths[index]) + limits[row], [])
            self._at[slot] = int(lengths[index])
        self._fit(slots(group.prompts.cache))
        self._slots = self._compiled.seat(self._slots, group.prompts, Seats(*map(self._split, (prompt, words, limit))))

    def decode(self, patience: int, stop: Stopper | None) -> Iterator[tuple[int, Chunk, bool]]:
        """Draws a chunk of tokens; what has ended, as (request, all that it drew, whether `stop` ended it)."""
        self._fit(0)
        chunk, self._slots = self._compiled.decode(self._weights, self._slots, np.int32(patience))
        chunk, left = processes.gather((chunk, self._slots.left))
        self._check(chunk.tokens, chunk.logprobs)
        stopped = np.zeros(self._size, bool)
        for slot in list(self._rows):
            row = self._rows[slot]
            count = int((chunk.tokens[:, slot] >= 0).sum())
            row.drawn.append(jax.tree.map(lambda steps, slot=slot, count=count: steps[:count, slot], chunk))
            self._at[slot] += count
            keep = None if stop is None else stop(np.concatenate([each.tokens for each in row.drawn]).tolist())
            if left[slot] and keep is None:
                continue
            stopped[slot] = left[slot] > 0
            del self._rows[slot], self._at[slot]
            yield row.row, jax.tree.map(lambda *parts, keep=keep: np.concatenate(parts)[:keep], *row.drawn), keep is not None
        if stopped.any():
            self._slots = self._compiled.free(self._slots, self._split(stopped))

    def _check(self, tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """`NotFinite` where a token was drawn from what is no distribution."""
        wrong = (tokens >= 0) & ~np.isfinite(logprobs)
        if wrong.any():
            slot = int(wrong.any(axis=0).argmax())
            row = self._rows[slot]
            raise NotFinite(row.row, sum(len(each.tokens) for each in row.drawn) + int(wrong[:, slot].argmax()))

    def _fit(self, least: int) -> None:
        """Makes the cache as long as the rows need for another chunk, and at least `least`; shorter only where that halves it."""
        needed = max([least, *(min(self._at[slot] + CHUNK, row.end) for slot, row in self._rows.items())])
        size = cache_class(needed)
        if self._slots is None:
            self._slots = self._compiled.empty(size)
        elif size > self._cache or 2 * size <= self._cache:
            self._slots = self._compiled.resize(self._slots, size)
        else:
            return
        self._cache = size

    def _split(self, array: np.ndarray) -> Any:
        return array if self._mesh is None else processes.put(array, meshes.batch_sharding(self._mesh))


def _while(condition: Callable[[Any], bool], items: Sequence[Any], most: int) -> Iterator[Any]:
    for item, _ in zip(items, range(most)):
        if not condition(item):
            return
        yield item


def _check(
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    keys: Key[Array, " N"],
    decoding: Decoding,
    mesh: jax.sharding.Mesh | None,
    limits: Sequence[int],
) -> None:
    if len(keys) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts, but {len(keys)} keys")
    if len(limits) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts, but {len(limits)} limits")
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(f"prompt {row} is empty; a completion needs at least one token before it")
        if min(prompt) < 0 or max(prompt) >= config.vocab_size:
            raise UserError(f"prompt {row} holds a token outside the model's vocabulary of {config.vocab_size}")
        if not 1 <= limits[row] <= decoding.max_tokens:
            raise UserError(f"the limit of prompt {row} is {limits[row]} tokens; it must lie in 1 … {decoding.max_tokens}")
    if mesh is not None and decoding.batch % meshes.batch_divisor(mesh):
        ways = meshes.batch_divisor(mesh)
        raise UserError(f"decoding.batch is {decoding.batch}; on this mesh it must be a multiple of {ways} (data × fsdp)")
