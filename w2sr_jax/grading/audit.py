"""Verdicts of a grader on texts, beside their labels and a second opinion."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from w2sr_jax.answers.grade import grade_all
from w2sr_jax.answers.second import Opinion, second_opinion
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Verdict
from w2sr_jax.grading.columns import Item
from w2sr_jax.grading.graders import Named
from w2sr_jax.grading.kinds import kind

TOGETHER = 10_000  # texts that are graded between two reports of progress
_SURE: dict[str, Literal["correct", "incorrect"]] = {"correct": "correct", "incorrect": "incorrect"}

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Graded:
    """A text, its verdict, the other opinion on it, and the kind of its gold answer."""

    item: Item
    verdict: Verdict
    other: Opinion
    kind: str

    @property
    def right(self) -> bool | None:
        """Whether the verdict is "correct"; None where the text was not graded."""
        return None if self.verdict.verdict == "ungraded" else self.verdict.verdict == "correct"

    @property
    def label_differs(self) -> bool:
        return self.item.label is not None and self.right is not None and self.item.label != self.right

    @property
    def judged(self) -> bool:
        """Whether there are two opinions on the text."""
        return self.right is not None and self.other.verdict is not None

    @property
    def other_differs(self) -> bool:
        return self.judged and (self.other.verdict == "correct") != self.right


class Count(NamedTuple):
    """A group of `n` texts: how many of them are graded, correct and unparsed, how many have two opinions (`judged`), and for how
    many both opinions are equal (`alike`)."""

    name: str
    n: int
    graded: int
    correct: int
    unparsed: int
    judged: int
    alike: int


def audit(items: Sequence[Item], grader: Named, against: Named | None, on_progress: Progress | None = None) -> list[Graded]:
    """Each text with its verdict, and the opinion of the grader `against` (None: of `answers.second`). `on_progress` is called
    with the numbers of graded and of all texts."""
    graded: list[Graded] = []
    kinds: dict[str, str] = {}
    for start in range(0, len(items), TOGETHER):
        chunk = items[start : start + TOGETHER]

        def report(done: int, of: int, start: int = start) -> None:
            if on_progress is not None:
                on_progress(start + done, len(items))

        verdicts = _verdicts(grader, chunk, report)
        others = _opinions(against, chunk)
        for item, verdict, other in zip(chunk, verdicts, others, strict=True):
            gold = item.problem.answer or ""
            if gold not in kinds:
                kinds[gold] = kind(gold)
            graded.append(Graded(item, verdict, other, kinds[gold]))
        report(len(chunk), len(chunk))
    return graded


def counts(rows: Sequence[Graded], key: Callable[[Graded], str]) -> list[Count]:
    """The texts counted in groups of equal `key`, the largest group first."""
    groups: dict[str, list[Graded]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    result = [
        Count(
            name,
            len(group),
            sum(row.right is not None for row in group),
            sum(row.right is True for row in group),
            sum(row.verdict.verdict == "unparsed" for row in group),
            sum(row.judged for row in group),
            sum(row.judged and not row.other_differs for row in group),
        )
        for name, group in groups.items()
    ]
    return sorted(result, key=lambda count: (-count.n, count.name))


def _opinions(against: Named | None, items: Sequence[Item]) -> list[Opinion]:
    if against is None:
        return [second_opinion(item.text, item.problem.answer) for item in items]
    return [Opinion(_SURE.get(verdict.verdict), verdict.answer) for verdict in _verdicts(against, items, None)]


def _verdicts(named: Named, items: Sequence[Item], on_progress: Progress | None) -> list[Verdict]:
    texts: list[str] = [item.text for item in items]
    problems: list[Problem] = [item.problem for item in items]
    if named.file is None:
        return grade_all(named.grader, texts, problems, on_progress)
    with usercode.running(named.file):
        verdicts = grade_all(named.grader, texts, problems, on_progress)
    if not all(isinstance(verdict, Verdict) for verdict in verdicts):
        raise UserError(f"{named.file}: {named.name} must return a w2sr_jax.core.records.Verdict")
    return verdicts
