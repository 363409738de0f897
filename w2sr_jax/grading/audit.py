"""What a grader says of texts, beside what a label and a second opinion say of them."""

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

TOGETHER = 10_000  # texts graded between two tellings of progress
_SURE: dict[str, Literal["correct", "incorrect"]] = {"correct": "correct", "incorrect": "incorrect"}

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Graded:
    """A text, what grading said of it, what the other opinion is, and the kind of its gold."""

    item: Item
    verdict: Verdict
    other: Opinion
    kind: str

    @property
    def right(self) -> bool | None:
        """Whether the text counts as right; None where it was not graded."""
        return None if self.verdict.verdict == "ungraded" else self.verdict.verdict == "correct"

    @property
    def label_differs(self) -> bool:
        return self.item.label is not None and self.right is not None and self.item.label != self.right

    @property
    def judged(self) -> bool:
        """Whether there are two opinions on it."""
        return self.right is not None and self.other.verdict is not None

    @property
    def other_differs(self) -> bool:
        return self.judged and (self.other.verdict == "correct") != self.right


class Count(NamedTuple):
    """Of `n` texts that have something in common: how many are right and unparsed, how many have two opinions, and how many of
    these are alike."""

    name: str
    n: int
    graded: int
    correct: int
    unparsed: int
    judged: int
    alike: int


def audit(items: Sequence[Item], grader: Named, against: Named | None, on_progress: Progress | None = None) -> list[Graded]:
    """Each text graded, with the opinion of `against` (None: the rules of `answers.second`)."""
    found: list[Graded] = []
    kinds: dict[str, str] = {}
    for start in range(0, len(items), TOGETHER):
        part = items[start : start + TOGETHER]

        def tell(done: int, of: int, start: int = start) -> None:
            if on_progress is not None:
                on_progress(start + done, len(items))

        verdicts = _verdicts(grader, part, tell)
        others = _opinions(against, part)
        for item, verdict, other in zip(part, verdicts, others, strict=True):
            gold = item.problem.answer or ""
            if gold not in kinds:
                kinds[gold] = kind(gold)
            found.append(Graded(item, verdict, other, kinds[gold]))
        tell(len(part), len(part))
    return found


def counts(rows: Sequence[Graded], key: Callable[[Graded], str]) -> list[Count]:
    """The texts counted by what `key` says of them, the most frequent first."""
    groups: dict[str, list[Graded]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    found = [
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
    return sorted(found, key=lambda count: (-count.n, count.name))


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
