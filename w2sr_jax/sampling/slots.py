"""The slots on the devices and what the host knows of them, and the requests that wait for one."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from w2sr_jax.core.errors import UserError
from w2sr_jax.models.decoding import Weights, slots
from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel import processes
from w2sr_jax.sampling.lengths import PREFILL, cache_class, prompt_class
from w2sr_jax.sampling.programs import CHUNK, Chunk, Programs, Prompts, Seats

Stopper = Callable[[list[int]], int | None]
"""How many of a completion's tokens to keep, if it is to end before its last one."""


class NotFinite(UserError):
    """A model's logits are no distribution after `drawn` tokens of its completion of prompt `row`: nan, +inf, or nothing but
    -inf."""

    def __init__(self, row: int, drawn: int) -> None:
        super().__init__(
            f"the model's logits after prompt {row} and {drawn} tokens of its completion are not finite numbers, so that no "
            "token can be drawn; its parameters are damaged, or its computation overflows"
        )
        self.row, self.drawn = row, drawn


class Ended(NamedTuple):
    """A request that has ended: its number, all that it drew, and whether a stopper ended it."""

    row: int
    drawn: Chunk
    stopped: bool


class Group(NamedTuple):
    """Requests of prompts that were read together, and the index of each one's prompt among them."""

    prompts: Prompts
    rows: list[int]
    indices: list[int]


class _Row(NamedTuple):
    """A request at work: its number, where it will end at the latest, what it has drawn, chunk after chunk."""

    row: int
    end: int
    drawn: list[Chunk]


class Waiting:
    """Requests in the order in which they are seated: by class of length, then as they came, equal prompts together."""

    def __init__(self, prompts: Sequence[Sequence[int]], pad: int, batch: int, ways: int) -> None:
        self._pad, self._batch, self._ways = pad, batch, ways
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

    def take(self, count: int, read: Callable[[np.ndarray, np.ndarray], Prompts]) -> Group | None:
        """The next requests, at most `count`; None where there is none left. `read` takes prompts [P, L] and their lengths."""
        if not self._seats:
            if not self._unread:
                return None
            self._read = self._prefill(read)
        taken = [self._seats.popleft() for _ in range(min(count, len(self._seats)))]
        assert self._read is not None
        return Group(self._read, [row for row, _ in taken], [index for _, index in taken])

    def _prefill(self, read: Callable[[np.ndarray, np.ndarray], Prompts]) -> Prompts:
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
        return read(tokens, lengths)


class Batch:
    """The slots and the requests that they have. `begin` a set of requests, then in turn `seat`, `decode` and `collect`."""

    def __init__(self, compiled: Programs, size: int, mesh: jax.sharding.Mesh | None) -> None:
        self._compiled, self._size, self._mesh = compiled, size, mesh
        self._slots: Any = None
        self._cache = 0
        self._fresh = True
        self._rows: dict[int, _Row] = {}
        self._at: dict[int, int] = {}  # where each slot's next token goes

    def __bool__(self) -> bool:
        """Whether a request is at work."""
        return bool(self._rows)

    def begin(self) -> None:
        """From here on everything is as in a new batch: slots of the right size keep their memory, but none of their contents."""
        self._fresh = True

    def let_go(self) -> None:
        """Forgets all requests, and lets the slots' memory go."""
        self._slots, self._cache = None, 0
        self._rows.clear()
        self._at.clear()

    def free(self) -> list[int]:
        return [slot for slot in range(self._size) if slot not in self._rows]

    def read(self, weights: Weights, tokens: np.ndarray, lengths: np.ndarray) -> Prompts:
        return self._compiled.prefill(weights, self._split(tokens), self._split(lengths))

    def seat(self, free: Sequence[int], group: Group, data: np.ndarray, limits: Sequence[int]) -> None:
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

    def decode(self, weights: Weights, patience: int) -> tuple[Chunk, Any]:
        """Starts a chunk of tokens: what it will have drawn, and what each slot will have left. Returns at once."""
        self._fit(0)
        chunk, self._slots = self._compiled.decode(weights, self._slots, np.int32(patience))
        return chunk, self._slots.left

    def collect(self, drawn: tuple[Chunk, Any], stop: Stopper | None) -> list[Ended]:
        """Waits for a chunk; the requests that have ended with it."""
        chunk, left = processes.gather(drawn)
        self._check(chunk.tokens, chunk.logprobs)
        ended, stopped = [], np.zeros(self._size, bool)
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
            whole = jax.tree.map(lambda *parts, keep=keep: np.concatenate(parts)[:keep], *row.drawn)
            ended.append(Ended(row.row, whole, keep is not None))
        if stopped.any():
            self._slots = self._compiled.free(self._slots, self._split(stopped))
        return ended

    def _check(self, tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """`NotFinite` where a token was drawn from what is no distribution."""
        wrong = (tokens >= 0) & ~np.isfinite(logprobs)
        if wrong.any():
            slot = int(wrong.any(axis=0).argmax())
            row = self._rows[slot]
            raise NotFinite(row.row, sum(len(each.tokens) for each in row.drawn) + int(wrong[:, slot].argmax()))

    def _fit(self, least: int) -> None:
        """Makes the cache as long as the rows need for another chunk, and at least `least`; shorter only where that halves it, or
        where it is of earlier requests."""
        needed = max([least, *(min(self._at[slot] + CHUNK, row.end) for slot, row in self._rows.items())])
        size = cache_class(needed)
        if self._fresh and size == self._cache:
            self._slots = self._compiled.emptied(self._slots)
        elif self._fresh:
            self._slots = None  # before there are others
            self._slots = self._compiled.empty(size)
        elif size > self._cache or 2 * size <= self._cache:
            self._slots = self._compiled.resize(self._slots, size)
        else:
            size = self._cache
        self._cache, self._fresh = size, False

    def _split(self, array: np.ndarray) -> Any:
        return array if self._mesh is None else processes.put(array, meshes.batch_sharding(self._mesh))


def _while(condition: Callable[[Any], bool], items: Sequence[Any], most: int) -> Iterator[Any]:
    for item, _ in zip(items, range(most)):
        if not condition(item):
            return
        yield item
