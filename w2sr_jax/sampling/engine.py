"""Continuous batching: prompts in, completions with their log-probabilities out.

A fixed number of slots decodes together; a row that has ended gives its slot to the next request. Equal prompts are read once.
The cache is as long as the longest row at work needs it, not as the longest that may come.

A completion depends on the parameters, its prompt, its key and the decoding settings; which rows it shares the batch with, and in
which order, changes no more than the last bits of its log-probabilities: rows do not see each other, and each token's key is
fold_in(row's key, the token's position). Equal calls give equal bits, whatever an engine did before.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.decoding import Weights
from w2sr_jax.models.transformer import Params
from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel import processes
from w2sr_jax.sampling.lengths import cache_class
from w2sr_jax.sampling.programs import programs
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.slots import Batch, Ended, NotFinite, Stopper, Waiting

if TYPE_CHECKING:
    from w2sr_jax.core.records import Finish

__all__ = ["Completion", "Engine", "NotFinite", "Progress", "Stopper", "generate"]


class Completion(NamedTuple):
    """What was decoded after one prompt."""

    tokens: list[int]
    """The end token is included where one was drawn."""
    logprobs: list[float]
    """Of each token under the model itself: no temperature, no truncation, no penalty."""
    finish: "Finish"
    top: TopK | None = None
    """The distribution that each token was drawn from, where `decoding.record_top` asks for it."""
    sampled: list[float] | None = None
    """Of each token under the distribution that it was drawn from: with penalty, temperature and truncation, and among the ids
    that the tokenizer knows; 0 where decoding is greedy. None where it was not asked for, as in `generate`."""


Progress = Callable[[int, int, int], None]
"""Called with (completions done, completions in all, tokens decoded so far) whenever some were done."""


class Engine:
    """Completions from one model whose parameters change: between calls it keeps the memory of its slots and its compiled
    programs. A call gives the same bits as the first call of a new engine.

    On a mesh of several processes all processes make the same calls, and take the same completions from them.
    """

    def __init__(
        self,
        config: ModelConfig,
        decoding: Decoding,
        end_tokens: tuple[int, ...],
        pad: int,
        mesh: jax.sharding.Mesh | None = None,
        vocabulary: int | None = None,
        longest: int = 0,
        sampled: bool = True,
    ) -> None:
        """`vocabulary` is how many ids the tokenizer knows, where the model has more rows than that: others are never drawn.
        Where the most tokens that a prompt and its completion will have together are stated as `longest`, calls with prompts
        of any length share their programs. `sampled` asks for `Completion.sampled`.

        Raises UserError for settings outside their range, a batch that the mesh does not divide, or a `decoding.record_top` above
        the vocabulary.
        """
        decoding.check()
        config.check()
        limit = vocabulary if vocabulary is not None and vocabulary < config.vocab_size else None
        ways = 1 if mesh is None else meshes.batch_divisor(mesh)
        if decoding.batch % ways:
            raise UserError(f"decoding.batch is {decoding.batch}; on this mesh it must be a multiple of {ways} (data × fsdp)")
        if decoding.record_top > (limit or config.vocab_size):
            raise UserError(
                f"decoding.record_top is {decoding.record_top}; the vocabulary has {limit or config.vocab_size:,} tokens"
            )
        self.decoding = decoding
        self._config, self._mesh, self._ways = config, mesh, ways
        self._end_tokens, self._pad, self._sampled = frozenset(end_tokens), pad, sampled
        self._own = not decoding.changes and limit is None
        how = dataclasses.replace(decoding, max_tokens=1, stop=())
        self._compiled = programs(config, how, tuple(end_tokens), mesh, limit, sampled)
        self._longest = self._positions = cache_class(longest)
        self._weights: Weights | None = None
        self._batch = Batch(self._compiled, decoding.batch, mesh)
        self._at_work = False

    def update(self, params: Params) -> None:
        """Completions that are asked for from now on are of these parameters, which may then be donated or deleted. The weights
        of earlier ones are let go before the new ones are laid out. `ValueError` amid a call of `complete`."""
        self._idle()
        self._weights = None
        if self._mesh is not None:
            axes, shapes = transformer.logical_axes(self._config), transformer.shapes(self._config)
            params = processes.put(params, meshes.resting(self._mesh, axes, shapes))
        self._weights = self._compiled.weights(params, self._positions)

    def release(self) -> None:
        """Lets weights and slots go, so that their memory is free until `update` and `complete` are called again. `ValueError`
        amid a call of `complete`."""
        self._idle()
        self._weights = None
        self._batch.let_go()

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Key[Array, " N"],
        limits: Sequence[int] | None = None,
        stop: Stopper | None = None,
    ) -> Iterator[tuple[int, Completion]]:
        """One completion per prompt, as (the prompt's index, completion), in the order in which they end; the devices go on while
        the caller looks at them. `limits` are the most tokens of each (by default `decoding.max_tokens`). `stop` is asked from
        time to time, and must give the same whenever it is; what it keeps has finish "stop".

        Raises UserError for an empty prompt, a token outside the vocabulary or a limit outside 1 … `decoding.max_tokens`;
        `NotFinite`, amid the completions, where a token would be drawn from logits that are no distribution; `ValueError` before
        `update`, or before an earlier call has ended.
        """
        return (one for some in self.rounds(prompts, keys, limits, stop) for one in some)

    def rounds(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Key[Array, " N"],
        limits: Sequence[int] | None = None,
        stop: Stopper | None = None,
    ) -> Iterator[list[tuple[int, Completion]]]:
        """`complete`, those that end together at a time."""
        limits = [self.decoding.max_tokens] * len(prompts) if limits is None else list(limits)
        _check(self._config, prompts, keys, self.decoding, limits)
        if self._weights is None:
            raise ValueError("an engine without parameters: call `update` first")
        return self._draw(prompts, np.asarray(jax.random.key_data(keys)), limits, stop)

    def _draw(
        self, prompts: Sequence[Sequence[int]], data: np.ndarray, limits: Sequence[int], stop: Stopper | None
    ) -> Iterator[list[tuple[int, Completion]]]:
        self._idle()
        if not prompts:
            return
        self._at_work, batch, slots = True, self._batch, self.decoding.batch
        try:
            weights = self._reaching(max(len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)))
            waiting = Waiting(prompts, self._pad, slots, self._ways)
            read = partial(batch.read, weights)
            ended: list[Ended] = []
            batch.begin()
            while waiting or batch:
                while (free := batch.free()) and (group := waiting.take(len(free), read)) is not None:
                    batch.seat(free, group, data, limits)
                drawn = batch.decode(weights, 1 + slots // 16 if waiting else slots)
                if ended:
                    yield [self._completion(one) for one in ended]
                ended = batch.collect(drawn, stop)
            yield [self._completion(one) for one in ended]
        except BaseException:
            batch.let_go()
            raise
        finally:
            self._at_work = False

    def _idle(self) -> None:
        if self._at_work:
            raise ValueError("an engine amid a call of `complete`: take all of its completions, or close it, first")

    def _reaching(self, longest: int) -> Weights:
        """The weights for rows of up to so many tokens."""
        assert self._weights is not None
        positions = max(self._longest, cache_class(longest))
        if positions != self._positions:
            self._weights = self._weights._replace(angles=self._compiled.angles(positions))
            self._positions = positions
        return self._weights

    def _completion(self, ended: Ended) -> tuple[int, Completion]:
        drawn, sampled = ended.drawn, None
        ids, logprobs = drawn.tokens.tolist(), drawn.logprobs.tolist()
        if self._sampled and self.decoding.temperature == 0:
            sampled = [0.0] * len(ids)
        elif self._sampled:
            sampled = logprobs if drawn.sampled is None else drawn.sampled.tolist()
        finish: Finish = "stop" if ended.stopped or ids[-1] in self._end_tokens else "length"
        return ended.row, Completion(ids, logprobs, finish, drawn.top, sampled)


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
    """One completion per prompt, in the prompts' order, from an `Engine` of its own; see there.

    On a mesh of several processes every process passes the same arguments and gets all completions.
    """
    decoding.check()
    limits = [decoding.max_tokens] * len(prompts) if limits is None else list(limits)
    _check(config, prompts, keys, decoding, limits)
    longest = max((len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)), default=0)
    engine = Engine(config, decoding, end_tokens, pad, mesh, vocabulary, longest, sampled=False)
    if not prompts:
        return []
    engine.update(params)
    del params
    completions: dict[int, Completion] = {}
    decoded = 0
    for some in engine.rounds(prompts, keys, limits, stop):
        completions |= some
        decoded += sum(len(completion.tokens) for _, completion in some)
        if on_progress is not None:
            on_progress(len(completions), len(prompts), decoded)
    return [completions[row] for row in range(len(prompts))]


def _check(
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    keys: Key[Array, " N"],
    decoding: Decoding,
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
