"""One optimizer step on whole sequences as a pure function of arrays: preference losses on pairs, policy losses on rollouts.

A row holds up to S sequences, its segments 1 to S; a pair is two neighbours of a row, so that it is never split over
micro-batches or devices. Losses are summed with the weights of their sequences, as those of tokens are (`training.step`).
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from w2sr_jax.losses.blocks import Drawn
from w2sr_jax.losses.inputs import INITIAL
from w2sr_jax.losses.logprobs import logprobs
from w2sr_jax.losses.preference import PreferenceLoss, right_minus_wrong
from w2sr_jax.losses.sequences import SequenceLoss, Sequences, available, of_tokens
from w2sr_jax.losses.sequences import sums as sums_of
from w2sr_jax.models import lora as adapters
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import here
from w2sr_jax.training.accumulation import gradient, micro_batches
from w2sr_jax.training.hidden import last_hidden, ratio
from w2sr_jax.training.optimizer import changed
from w2sr_jax.training.state import Metrics, TrainState, advance
from w2sr_jax.training.step import Batch, Step, StepSettings

BLOCK = 1024
"""Tokens whose logits exist at a time."""


class SequenceRows(NamedTuple):
    """R rows of up to S sequences each (`rows` is a `batches.batch.Batch`), as NumPy or jax arrays. `reference` is the sum of a
    sequence's log-probabilities under the frozen student of the beginning, 0 where the loss does not look at it; `weight` is
    how much its loss counts, that of a pair is its first sequence's. Which tokens of a sequence are its own says `rows.weight`,
    by not being 0. Rollouts have `rows.rollout`, with one advantage for all tokens of one."""

    rows: Batch
    reference: Float[Any, "R S"]
    weight: Float[Any, "R S"]


@dataclasses.dataclass(frozen=True)
class LearningSequences:
    """Satisfies `training.program.Learning`: a loss on sequences, in the weighted mean over those of a step or, where their
    weights hold a declared denominator, in the weighted sum (`mean` is False). `count` is the most sequences of a row; `drawn`
    makes a token's log-probability of logits as rollouts were drawn."""

    loss: SequenceLoss
    count: int
    block: int = BLOCK
    mean: bool = True
    drawn: Drawn | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """None: what it looks at of a reference comes with the batch."""
        return ()

    def make_step(
        self,
        config: ModelConfig,
        optimizer: optax.GradientTransformation,
        schedule: optax.Schedule,
        total_steps: int,
        how: StepSettings,
    ) -> Step:
        return make_sequence_step(self, config, optimizer, schedule, how)


class SequenceSum(NamedTuple):
    """Sums over sequences or pairs, float32 scalars that add up; `beside` are those that metrics are made of."""

    loss: Float[Array, ""]
    weight: Float[Array, ""]
    beside: Mapping[str, Float[Array, ""]]


def make_sequence_step(
    learning: LearningSequences,
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    how: StepSettings,
) -> Step:
    """Build `(state, batch, frozen) -> (state, metrics)`; `batch` is a `SequenceRows`, all else as in `training.step.make_step`.

    Metrics are float32 scalars (`sound` a bool): `loss` is the weighted mean of the losses, or their sum, `weight` the sum of
    weights, `tokens` counts supervised ones; `gradient_norm`, `update_norm`, `learning_rate` and `changed` are as there. Of
    pairs: `pairs` counts them, `margin` is their mean margin as the loss has it (without one of its own the difference of
    log-probability ratios; nats), `pair_accuracy` the share above 0, `chosen_logprob` and `rejected_logprob` the means over
    tokens (nats). Of others: `sequences` counts them, `nll` is the mean over tokens.
    """
    loss, mesh, lora = learning.loss, how.mesh, how.lora

    def sequences(params: Any, frozen: Any, part: SequenceRows) -> Sequences:
        rows = part.rows
        student = adapters.beside(lora, frozen[INITIAL], params) if lora.rank else params
        hidden, output = last_hidden(mesh, config, student, rows, trained=not lora.rank or lora.embeddings)
        supervised = rows.weight != 0.0
        where = None if mesh is None else here(mesh)
        flat = (rows.target.reshape(-1), supervised.reshape(-1), learning.block, where, config.logit_softcap, learning.drawn)
        logprob = logprobs(hidden, output, *flat).logprob.reshape(rows.target.shape)
        advantage, sampled = (None, None) if rows.rollout is None else rows.rollout
        made = of_tokens(logprob, supervised, rows.segments, learning.count, part.reference, None, sampled)
        if advantage is None:
            return made
        of_tokens_each = sums_of(jnp.where(supervised, advantage, 0.0), rows.segments, learning.count)
        return made._replace(advantage=of_tokens_each / made.lengths)

    def sums(params: Any, frozen: Any, part: SequenceRows, progress: Float[Array, ""]) -> tuple[Float[Array, ""], SequenceSum]:
        del progress
        made = sequences(params, frozen, part)
        there = available(loss, made)
        weight = jnp.where(there, part.weight[:, 0::2] if loss.pairs else part.weight, 0.0)
        total = jnp.sum(weight * jnp.where(there, loss(made), 0.0))
        beside = jax.lax.stop_gradient(_of_pairs(loss, made, there) if loss.pairs else _of_sequences(made))
        return total, SequenceSum(total, jnp.sum(weight), beside)

    def nothing() -> SequenceSum:
        zero = jnp.zeros((), jnp.float32)
        return SequenceSum(zero, zero, dict.fromkeys(_PAIRS if loss.pairs else _SEQUENCES, zero))

    def step(state: TrainState, batch: SequenceRows, frozen: Any) -> tuple[TrainState, Metrics]:
        parts = micro_batches(batch, how.accumulation, mesh)
        slope, total = gradient(sums, nothing, state.params, frozen, parts, jnp.zeros(()), how.accumulation, mesh)
        value = total.loss
        if learning.mean:
            value = ratio(value, total.weight)
            slope = jax.tree.map(lambda leaf: ratio(leaf, total.weight), slope)
        norm = optax.global_norm(slope)
        sound = state.sound & jnp.isfinite(value) & jnp.isfinite(norm) & (total.weight >= 0.0)
        new, updates = advance(state, slope, optimizer, sound)
        metrics = {
            "loss": value,
            "gradient_norm": norm,
            "update_norm": optax.global_norm(updates),
            "learning_rate": schedule(state.step),
            "weight": total.weight,
            "sound": sound,
            **_means(total.beside),
        }
        if any(leaf.dtype != jnp.float32 for leaf in jax.tree.leaves(state.params)):
            scale = jnp.float32(1.0) if how.peak is None else how.peak / schedule(state.step)
            metrics["changed"] = changed(state.params, updates, scale)
        return new, metrics

    return step


_PAIRS = ("pairs", "margin", "pair_accuracy", "chosen_logprob", "rejected_logprob", "chosen_tokens", "rejected_tokens")
_SEQUENCES = ("sequences", "nll", "tokens")


def _of_pairs(loss: SequenceLoss, made: Sequences, there: Array) -> dict[str, Array]:
    own = loss.margin(made) if isinstance(loss, PreferenceLoss) else right_minus_wrong(made.logprob - made.reference)

    def total(values: Any) -> Array:
        return jnp.sum(jnp.where(there, values, 0.0), dtype=jnp.float32)

    chosen, rejected = (jax.tree.map(lambda leaf, side=side: leaf[:, side::2], made) for side in (0, 1))
    values = (1.0, own, own > 0.0, chosen.logprob, rejected.logprob, chosen.tokens, rejected.tokens)
    return {name: total(value) for name, value in zip(_PAIRS, values, strict=True)}


def _of_sequences(made: Sequences) -> dict[str, Array]:
    count = jnp.sum(made.available, dtype=jnp.float32)
    return dict(zip(_SEQUENCES, (count, -jnp.sum(made.logprob), jnp.sum(made.tokens)), strict=True))


def _means(sums: Mapping[str, Array]) -> dict[str, Array]:
    if "nll" in sums:
        return {**sums, "nll": ratio(sums["nll"], sums["tokens"])}
    over = {"margin": "pairs", "pair_accuracy": "pairs", "chosen_logprob": "chosen_tokens", "rejected_logprob": "rejected_tokens"}
    means = {name: ratio(sums[name], sums[of]) for name, of in over.items()}
    return {**means, "pairs": sums["pairs"], "tokens": sums["chosen_tokens"] + sums["rejected_tokens"]}


class Texts(NamedTuple):
    """What is read of packed rows to tell how likely their sequences are: [R, L] each, as in a batch, and which tokens count."""

    tokens: Any
    positions: Any
    segments: Any
    target: Any
    supervised: Any


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def sequence_logprobs(config: ModelConfig, block: int, count: int, mesh: Mesh, params: Any, rows: Texts) -> Float[Array, "R S"]:
    """The sum over the supervised tokens of each sequence of its log-probabilities under a model on `mesh`, 0 where a row has
    none of that number."""
    hidden, output = last_hidden(mesh, config, params, rows)
    flat = (rows.target.reshape(-1), rows.supervised.reshape(-1), block, mesh, config.logit_softcap)
    logprob = logprobs(hidden, output, *flat).logprob.reshape(rows.target.shape)
    return of_tokens(logprob, rows.supervised, rows.segments, count).logprob
