"""A wrong step in a chain of thought: the result of one equation that holds is altered, alone or with all that follows from it.

A text that was altered is read again by `answers.steps`: it has the same equations, and of those that held all but one still do.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from w2sr_jax.answers.expressions import evaluate, lex
from w2sr_jax.answers.extract import extract
from w2sr_jax.answers.numbers import number
from w2sr_jax.answers.steps import LONGEST, Step, steps

SLIPS = (1, -1, 2, -2, 3, -3, 10, -10)
"""By how much a result may be wrong."""
DECIMALS = 4  # places of a number that follows from an altered one

_NUMBER = re.compile(r"(?<![\w.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,15})(?:\.\d{1,6})?(?![\d])")


class _Written(NamedTuple):
    """A number as a text has it."""

    value: Fraction
    start: int
    end: int


def altered(text: str, carry: bool, generator: np.random.Generator, known: Callable[[str], bool] = lambda _: True) -> str | None:
    """The text with the result of one of its equations altered by one of `SLIPS`; which one, and by how much, `generator` says.

    With `carry`, later numbers that are equal to an altered result are altered too, later equations hold with what follows, and
    the answer that the text states is then another one. Without, only the result is altered, and the answer stays. Only numbers
    that are not negative and written in digits are altered, and none becomes negative. None where the text states no number as
    its answer, where no equation can be altered so, or only to what is not `known`.
    """
    if len(text) > LONGEST:
        return None
    parsed, written = steps(text), _numbers(text)
    results = _results(text, parsed, written)
    before = extract(text).answer
    stated = None if before is None else number(before)
    if stated is None:
        return None
    places = sorted(results)
    for place in generator.permutation(len(places)).tolist():
        at = places[place]
        for slip in generator.permutation(len(SLIPS)).tolist():
            value = written[at].value + SLIPS[slip]
            spelled = _spelled(text, written, results, parsed, at, value, carry)
            new = None if spelled is None else _with(text, written, spelled)
            if new is None or new == text or not known(new):
                continue
            if _sound(parsed, results[at], new) and _answers(new, stated.value) is (not carry):
                return new
    return None


def _answers(text: str, value: Fraction) -> bool | None:
    """Whether a text still states the same answer; None where it states none that is a number."""
    after = extract(text).answer
    stated = None if after is None else number(after)
    return None if stated is None else stated.value == value


def _numbers(text: str) -> list[_Written]:
    values = ((number(match.group()), match) for match in _NUMBER.finditer(text))
    return [_Written(value.value, match.start(), match.end()) for value, match in values if value is not None]


def _results(text: str, parsed: Sequence[Step], written: Sequence[_Written]) -> dict[int, int]:
    """Which numbers are the results of which steps: of those whose right side is a number alone that is the left side's value."""
    by_end = {one.end: place for place, one in enumerate(written)}
    results = {}
    for index, step in enumerate(parsed):
        place = by_end.get(step.end)
        if not step.valid or place is None or written[place].value != step.stated:
            continue
        between = text[step.start + len(step.left) : written[place].start]
        if re.fullmatch(r"[^=]*=\s*[$€£]?\s*", between) and evaluate(lex(step.left), False) == step.stated:
            results[place] = index
    return results


def _spelled(
    text: str,
    written: Sequence[_Written],
    results: dict[int, int],
    parsed: Sequence[Step],
    at: int,
    value: Fraction,
    carry: bool,
) -> dict[int, str] | None:
    """The numbers to be written otherwise, by their place; None where one cannot be."""
    first = _spelling(value, text[written[at].start : written[at].end])
    if first is None:
        return None
    spelled = {at: first}
    if text.startswith(">>", written[at].end) and at + 1 < len(written):  # <<16-4=12>>12
        copy = written[at + 1]
        if copy.start == written[at].end + 2 and copy.value == written[at].value:
            spelled[at + 1] = first
    if not carry:
        return spelled
    follows = {written[at].value: value}
    for place in range(at + 1, len(written)):
        if place in spelled:
            continue
        old = written[place]
        new = follows.get(old.value)
        if place in results:
            step = parsed[results[place]]
            inside = {
                other: spelled[other]
                for other in range(place)
                if other in spelled and step.start <= written[other].start < step.start + len(step.left)
            }
            left = _with(text[step.start : step.start + len(step.left)], written, inside, step.start)
            new = evaluate(lex(left), False)
            if new is None:
                return None
            follows.pop(old.value, None)  # from here on the number is this result
            if new != old.value:
                follows[old.value] = new
        if new is not None and new != old.value:
            spelling = _spelling(new, text[old.start : old.end])
            if spelling is None:
                return None
            spelled[place] = spelling
    return spelled


def _spelling(value: Fraction, like: str) -> str | None:
    """A number spelt like another one; None for a negative one, and for one of more than `DECIMALS` places."""
    places = max(len(like.partition(".")[2]), next((n for n in range(DECIMALS + 1) if 10**n % value.denominator == 0), -1))
    scaled = value * 10**places if places >= 0 else None
    if value < 0 or scaled is None or scaled.denominator != 1:
        return None
    digits = f"{int(scaled):0{places + 1}d}"
    whole, part = (digits[:-places], digits[-places:]) if places else (digits, "")
    whole = f"{int(whole):,}" if "," in like else whole
    return f"{whole}.{part}" if part else whole


def _with(text: str, written: Sequence[_Written], spelled: dict[int, str], offset: int = 0) -> str:
    """The text, which begins at `offset`, with those numbers written otherwise."""
    parts, end = [], 0
    for place, spelling in sorted(spelled.items()):
        parts += [text[end : written[place].start - offset], spelling]
        end = written[place].end - offset
    return "".join([*parts, text[end:]])


def _sound(parsed: Sequence[Step], index: int, new: str) -> bool:
    """Whether of the equations of the new text that one alone holds no longer."""
    again = steps(new)
    return len(again) == len(parsed) and all(
        after.valid == (before.valid and place != index) for place, (before, after) in enumerate(_zipped(parsed, again))
    )


def _zipped(before: Sequence[Step], after: Sequence[Step]) -> Iterator[tuple[Step, Step]]:
    return zip(before, after, strict=True)
