"""Examples as arrays."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example
from w2sr_jax.text.render import Rendered, Renderer

VERDICT_CODES = {"correct": 1, "incorrect": -1, "unparsed": 0, "ungraded": 0}
"""What losses see of a verdict. A trace without a readable answer may be cut short rather than wrong: unknown."""

OVER_LENGTH, END_SPELT = "over_length", "end_of_turn_spelt"
"""Why examples are left out: they do not fit into a row; an end of turn is spelt out in the midst of their response, or is
all of it."""

_TOGETHER = 1024


class Encoded(NamedTuple):
    """One example as n tokens: ids, spans (`text.spans`), which of them are imitated, the verdict's code, the example's
    weight, and the teacher's log-probability of each token (natural logarithm; NaN where it is not known)."""

    tokens: Int[np.ndarray, "n"]
    span: Int[np.ndarray, "n"]
    supervised: Bool[np.ndarray, "n"]
    verdict: int
    weight: float
    teacher_logprob: Float[np.ndarray, "n"]


def encode(examples: Iterable[Example], renderer: Renderer, length: int) -> tuple[list[Encoded], Counter[str]]:
    """`encoded` as a list, and the counts of what was left out."""
    rejected: Counter[str] = Counter()
    return list(encoded(examples, renderer, length, rejected)), rejected


def encoded(examples: Iterable[Example], renderer: Renderer, length: int, rejected: Counter[str]) -> Iterator[Encoded]:
    """Render each example; those that do not fit into a row of `length` positions are left out and counted in `rejected`, never
    cut, as are those that the renderer refuses for an end of turn that they spell out. A thousand are looked at together.

    Raises `UserError` naming the example where the renderer would lose text or the weight is not a finite number ≥ 0.
    """
    for example, name, row in _rendered(iter(examples), renderer, rejected):
        if not (np.isfinite(example.weight) and example.weight >= 0):
            raise UserError(f"{name} has the weight {example.weight}; weights are finite and not negative")
        if len(row.tokens) - 1 > length:
            rejected[OVER_LENGTH] += 1
            continue
        tokens = np.asarray(row.tokens, np.int32)
        supervised = np.asarray(row.supervised, bool)
        yield Encoded(
            tokens,
            np.asarray(row.span, np.int8),
            supervised,
            VERDICT_CODES[example.verdict],
            float(example.weight),
            _teacher_logprob(example, tokens, supervised),
        )


def named(example: Example) -> str:
    """An example in a message about it."""
    return f"example {example.id} (problem {example.problem_id}, teacher {example.teacher})"


def _rendered(examples: Iterator[Example], renderer: Renderer, rejected: Counter[str]) -> Iterator[tuple[Example, str, Rendered]]:
    while some := list(itertools.islice(examples, _TOGETHER)):
        sound = [example for example in some if not renderer.refusal(example.response)]
        if len(sound) < len(some):
            rejected[END_SPELT] += len(some) - len(sound)
        names = [named(example) for example in sound]
        rows = renderer.encode_all([(example.question, example.response, example.style) for example in sound], names)
        yield from zip(sound, names, rows, strict=True)


def _teacher_logprob(example: Example, tokens: Int[np.ndarray, "n"], supervised: Bool[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Per token where the teacher drew these very ids, else their mean on every supervised token."""
    known = np.full(len(tokens), np.nan, np.float32)
    drawn = np.asarray(example.logprobs, np.float32)
    if not len(drawn):
        return known
    imitated = tokens[supervised]
    ids = np.asarray(example.token_ids, np.int32)
    known[supervised] = drawn.mean()
    if len(ids) == len(drawn) <= len(imitated) and np.array_equal(ids, imitated[: len(ids)]) and len(imitated) - len(ids) <= 1:
        # An unfinished trace has no end token of its own; the one that training appends keeps the mean.
        known[np.flatnonzero(supervised)[: len(ids)]] = drawn
    return known
