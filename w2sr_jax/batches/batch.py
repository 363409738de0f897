"""Batches addressed by step: `batch_at(step)` is a pure function of (data, seed, step), the same for any number of processes."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from w2sr_jax.batches.packing import Packed
from w2sr_jax.batches.settings import Batching
from w2sr_jax.core import keys
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK

if TYPE_CHECKING:
    import grain

NO_MODELS: Mapping[str, TopK] = {}


class RolloutData(NamedTuple):
    """What is known of targets that the student drew itself: the advantage of each one's rollout, and its log-probability
    (natural logarithm) under the distribution that it was drawn from, at that time. 0 where nothing was drawn."""

    advantage: Float[np.ndarray, "R L"]
    sampled: Float[np.ndarray, "R L"]


class Batch(NamedTuple):
    """R rows of L positions, as NumPy arrays of int32 or float32.

    `tokens` are read, `target` is the token that follows in the same example. `positions` count from 0 and `segments` from 1
    within a row, anew for each example; segment 0 marks positions that hold nothing. `span` and `teacher_logprob` (natural
    logarithm, NaN where unknown) are the target's, `verdict` is its example's (+1 correct, -1 wrong, 0 unknown). `weight` is the
    example's weight where the target is imitated, else 0. `models` are other models' distributions of the target, [R, L, …], by
    name, as far as they are read instead of computed: a training adds them (`training.imitation`). `rollout` is there where the
    student drew the targets itself.
    """

    tokens: Int[np.ndarray, "R L"]
    positions: Int[np.ndarray, "R L"]
    segments: Int[np.ndarray, "R L"]
    target: Int[np.ndarray, "R L"]
    span: Int[np.ndarray, "R L"]
    verdict: Int[np.ndarray, "R L"]
    teacher_logprob: Float[np.ndarray, "R L"]
    weight: Float[np.ndarray, "R L"]
    models: Mapping[str, TopK] = NO_MODELS
    rollout: RolloutData | None = None


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Size of a data set: examples, rows they fill, tokens read, targets imitated, and the filled part of all positions."""

    examples: int
    rows: int
    tokens: int
    supervised_tokens: int
    fill: float


@dataclasses.dataclass(frozen=True)
class Batches:
    """A packed data set in an order that depends on `seed` and on the data without what teachers measured, and on nothing else;
    every epoch has an order of its own."""

    packed: Packed
    settings: Batching
    seed: int = 0

    def __post_init__(self) -> None:
        if self.packed.tokens.shape[1] != self.settings.length:
            raise UserError(
                f"the data is packed in rows of {self.packed.tokens.shape[1]} positions, not of {self.settings.length}"
            )

    @functools.cached_property
    def digest(self) -> str:
        """Digest of the data; with the seed it determines every batch. The order of the rows depends on less, see `_order`."""
        return self.packed.digest

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which every row has been seen at least once."""
        return -(-len(self.packed.tokens) // self.settings.rows)

    @functools.cached_property
    def statistics(self) -> Statistics:
        used = self.packed.segments > 0
        tokens = int(used.sum())
        return Statistics(
            examples=int(self.packed.segments.max(axis=1).sum()),
            rows=len(used),
            tokens=tokens,
            supervised_tokens=int((self.packed.weight > 0).sum()),
            fill=tokens / used.size,
        )

    def batch_at(self, step: int) -> Batch:
        """The global batch of `step` (from 0, without end)."""
        rows, p = self.rows_at(step), self.packed
        return Batch(
            tokens=p.tokens[rows],
            positions=p.positions[rows],
            segments=p.segments[rows],
            target=p.target[rows],
            span=p.span[rows].astype(np.int32),
            verdict=p.verdict[rows].astype(np.int32),
            teacher_logprob=p.teacher_logprob[rows],
            weight=p.weight[rows],
        )

    def recorded_at(self, step: int) -> TopK | None:
        """The distributions that the teachers drew the targets of `step` from, [R, L, …], as far as they were recorded; None
        where none was."""
        top = self.packed.top
        if top is None:
            return None
        rows = self.rows_at(step)
        ids = top.ids[rows]
        return TopK(ids, top.logprobs[rows], top.rest[rows], ids[..., 0] >= 0)

    def rows_at(self, step: int) -> Int[np.ndarray, " R"]:
        """Which rows of the packed data the batch of `step` has."""
        return self._order[step]

    def steps_of(self, row: int, total: int) -> list[int]:
        """Which of the first `total` optimizer steps (from 1) read a row of the packed data; `batch_at` counts them from 0."""
        return [step + 1 for step in range(total) if row in self.rows_at(step)]

    @functools.cached_property
    def _order(self) -> 'grain.MapDataset[Int[np.ndarray, "R"]]':
        import grain  # takes long to import, and only the order of batches needs it

        # A digest of the data takes part, so that two data sets of one size are not visited in the same order; of its exact part
        # alone, so that a teacher that drew on another number of devices leaves the order as it is.
        seed = keys.words(self.seed, "batches", self.packed.exact_digest)[0]
        rows = grain.MapDataset.range(len(self.packed.tokens)).shuffle(seed=seed)
        return rows.repeat().batch(self.settings.rows)
