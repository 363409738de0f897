"""Which of several answers are equal, so that votes can be counted."""

from collections.abc import Sequence
from itertools import combinations
from types import TracebackType
from typing import Self

from w2sr_jax.answers.equal import algebraic, canonical, grade_one, too_large
from w2sr_jax.answers.numbers import number
from w2sr_jax.answers.pool import Comparer

MOST = 24
"""Different answers to one problem that computer algebra compares with each other; of more, only values and spellings count."""


class Equality:
    """Groups answers that `MathGrader` calls equal: by value and spelling, and by `math-verify` where these are not certain.

    The groups do not depend on the order of the answers. A process for `math-verify` is started when it is first needed and ends
    with `close` or the `with` block. With `exact` none is started, and answers that only computer algebra could join stay apart.
    """

    def __init__(self, exact: bool = False) -> None:
        self._comparer = None if exact else Comparer()

    def groups(self, answers: Sequence[str]) -> list[str]:
        """For each answer the name of its group, in order. Equal answers have equal names; a name means nothing else."""
        keys = _keys(answers)
        texts = {key: answer for answer, key in sorted(zip(answers, keys), reverse=True)}
        joined = self._joined(texts)
        return [joined[key] for key in keys]

    def close(self) -> None:
        if self._comparer is not None:
            self._comparer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _joined(self, texts: dict[str, str]) -> dict[str, str]:
        names = sorted(texts)
        equal: set[tuple[str, str]] = set()
        undecided: list[tuple[str, str]] = []
        for one, other in combinations(names, 2):
            certain = _certain(texts[one], texts[other], one, other)
            if certain:
                equal.add((one, other))
            elif certain is None and len(names) <= MOST and not (too_large(texts[one]) or too_large(texts[other])):
                undecided.append((one, other))
        if undecided and self._comparer is not None:
            outcomes = self._comparer.compare([(algebraic(texts[one]), algebraic(texts[other])) for one, other in undecided])
            equal.update(pair for pair, outcome in zip(undecided, outcomes, strict=True) if outcome.equal)
        joined: dict[str, str] = {}
        for name in names:
            joined[name] = next((joined[other] for other in joined if (other, name) in equal), name)
        return joined


def _keys(answers: Sequence[str]) -> list[str]:
    """A key for each answer; answers with one key are equal. A percentage has the key of its number where another answer is that
    number, else of its value where another is that: 50 % joins 50 rather than 0.5, and never makes 50 and 0.5 equal."""
    values = [number(answer) for answer in answers]
    plain = {value.value for value in values if value is not None and not value.percent}
    keys = []
    for answer, value in zip(answers, values, strict=True):
        if value is None or not value.percent:
            keys.append(canonical(answer))
        else:
            keys.append(str(value.value / 100 if value.value not in plain and value.value / 100 in plain else value.value))
    return keys


def _certain(one: str, other: str, key: str, other_key: str) -> bool | None:
    values = number(one), number(other)
    if values[0] is not None and values[1] is not None and (values[0].percent or values[1].percent):
        return key == other_key  # percentages have been settled
    return grade_one(one, other)
