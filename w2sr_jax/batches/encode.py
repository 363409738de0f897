"""Examples as arrays."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example
from w2sr_jax.core.topk import TopK
from w2sr_jax.text.render import Rendered, Renderer

VERDICT_CODES = {"correct": 1, "incorrect": -1, "unparsed": 0, "ungraded": 0}
"""What losses see of a verdict. A trace without a readable answer may be cut short rather than wrong: unknown."""

OVER_LENGTH, END_SPELT = "over_length", "end_of_turn_spelt"
"""Why examples are left out: they do not fit into a row; an end of turn is spelt out in the midst of their response, or is
all of it."""

_TOGETHER = 1024


class Encoded(NamedTuple):
    """One example as n tokens: ids, spans (`text.spans`), which of them are imitated, the verdict's code, the example's
    weight, the teacher's log-probability of each token (natural logarithm; NaN where it is not known), and the distribution that
    the teacher drew each token from, where any was recorded (ids are all -1 where it is not known)."""

    tokens: Int[np.ndarray, "n"]
    span: Int[np.ndarray, "n"]
    supervised: Bool[np.ndarray, "n"]
    verdict: int
    weight: float
    teacher_logprob: Float[np.ndarray, "n"]
    top: TopK | None = None


def encode(examples: Iterable[Example], renderer: Renderer, length: int) -> tuple[list[Encoded], Counter[str]]:
    """`encoded` as a list, and the counts of what was left out."""
    rejected: Counter[str] = Counter()
    return list(encoded(examples, renderer, length, rejected)), rejected


def encoded(examples: Iterable[Example], renderer: Renderer, length: int, rejected: Counter[str]) -> Iterator[Encoded]:
    """Render each example; those that do not fit into a row of `length` positions are left out and counted in `rejected`, never
    cut, as are those that the renderer refuses for an end of turn that they spell out. A thousand are looked at together.

    Raises `UserError` naming the example where the renderer would lose text or the weight is not a finite number ≥ 0.
    """
    for row in each(examples, renderer, length):
        if isinstance(row, str):
            rejected[row] += 1
        else:
            yield row


def each(examples: Iterable[Example], renderer: Renderer, length: int) -> Iterator[Encoded | str]:
    """What `encoded` makes of each example, or why it leaves it out, in their order. Raises as it does."""
    for example, name, row in _rendered(iter(examples), renderer):
        if row is None:
            yield END_SPELT
            continue
        if not (np.isfinite(example.weight) and example.weight >= 0):
            raise UserError(f"{name} has the weight {example.weight}; weights are finite and not negative")
        if len(row.tokens) - 1 > length:
            yield OVER_LENGTH
            continue
        tokens = np.asarray(row.tokens, np.int32)
        supervised = np.asarray(row.supervised, bool)
        own = _drawn(example, tokens, supervised)
        yield Encoded(
            tokens,
            np.asarray(row.span, np.int8),
            supervised,
            VERDICT_CODES[example.verdict],
            float(example.weight),
            _teacher_logprob(example, supervised, own),
            _teacher_top(example, supervised, own),
        )


def named(example: Example) -> str:
    """An example in a message about it."""
    return f"example {example.id} (problem {example.problem_id}, teacher {example.teacher})"


def _rendered(examples: Iterator[Example], renderer: Renderer) -> Iterator[tuple[Example, str, Rendered | None]]:
    """Each example, its name and what is rendered of it; None where the renderer refuses it."""
    while some := list(itertools.islice(examples, _TOGETHER)):
        refused = [bool(renderer.refusal(example.response)) for example in some]
        sound = [example for example, left_out in zip(some, refused, strict=True) if not left_out]
        names = [named(example) for example in sound]
        rows = iter(renderer.encode_all([(example.question, example.response, example.style) for example in sound], names))
        for example, left_out in zip(some, refused, strict=True):
            yield example, named(example), None if left_out else next(rows)


def _drawn(example: Example, tokens: Int[np.ndarray, "n"], supervised: Bool[np.ndarray, "n"]) -> Int[np.ndarray, "m"]:
    """Where the tokens are that the teacher drew: nowhere, unless it drew these very ids."""
    imitated, ids = tokens[supervised], np.asarray(example.token_ids, np.int32)
    # An unfinished trace has no end token of its own; training appends one.
    if len(imitated) - len(ids) in (0, 1) and np.array_equal(ids, imitated[: len(ids)]):
        return np.flatnonzero(supervised)[: len(ids)]
    return np.zeros(0, np.int64)


def _teacher_logprob(example: Example, supervised: Bool[np.ndarray, "n"], own: Int[np.ndarray, "m"]) -> Float[np.ndarray, "n"]:
    """Per token where the teacher drew it itself, else their mean, on every supervised token."""
    logprobs = np.full(len(supervised), np.nan, np.float32)
    drawn = np.asarray(example.logprobs, np.float32)
    if len(drawn):
        logprobs[supervised] = drawn.mean()
        if len(drawn) == len(own):
            logprobs[own] = drawn
    return logprobs


def _teacher_top(example: Example, supervised: Bool[np.ndarray, "n"], own: Int[np.ndarray, "m"]) -> TopK | None:
    """What was recorded at the tokens that the teacher drew itself; nothing is known of the others."""
    recorded = example.top
    if recorded is None or len(recorded.rest) != len(own):
        return None
    shape = (len(supervised), recorded.ids.shape[1])
    top = TopK(np.full(shape, -1, np.int32), np.zeros(shape, np.float32), np.zeros(len(supervised), np.float32))
    top.ids[own], top.logprobs[own], top.rest[own] = recorded[:3]
    return top
