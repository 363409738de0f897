"""Which of several answers are one answer: what votes are counted by."""

from collections.abc import Sequence
from itertools import combinations
from types import TracebackType
from typing import Self

from w2sr_jax.answers.equal import algebraic, canonical, grade_one, too_large
from w2sr_jax.answers.numbers import number
from w2sr_jax.answers.pool import Comparer

MOST = 24
"""Different answers to one problem that computer algebra compares with each other; beyond them spellings and values decide."""


class Equality:
    """Joins answers that `MathGrader` calls equal: by value and spelling at once, by `math-verify` where these decide nothing.

    Equal sets of answers are joined alike, whatever their order. A process is started when it is first needed and ends with
    `close` or the `with` block. `exact` never starts one: what only algebra could join stays apart.
    """

    def __init__(self, exact: bool = False) -> None:
        self._comparer = None if exact else Comparer()

    def blocs(self, answers: Sequence[str]) -> list[str]:
        """For each answer the name of its bloc: equal answers have equal names, which mean nothing else."""
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
    """Spellings by which answers are one at once. A percentage counts as its number where another answer is that number, else
    as its value where another is that: 50 % joins 50 before 0.5, and never makes 50 and 0.5 one answer."""
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
