"""Split problems: without near-duplicates across splits, and independently of the order of the problems."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.problems.copies.duplicates import CopyIndex, Question, lcs, normalised
from w2sr_jax.problems.settings import Splits

__all__ = ["CopyIndex", "SplitReport", "check_disjoint", "lcs", "normalised", "split"]

PRIORITY = ("test", "probe", "teacher", "pool", "pretrain")  # the first of two splits keeps a problem that has a copy in both
REST = -1  # as the size of the pool: all problems that the splits before it leave
COUNTS = ("pretrain", "teacher", "pool", "probe", "test")


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """The result of splitting in numbers: how many `problems` there were, the `sizes` of the splits, problems that no split
    needed (`unused`), problems with an id that another one has (`repeated`), and near-duplicates that were left out (`removed`),
    by the split that would have had them and by reason (see `CopyIndex`)."""

    problems: int
    sizes: Mapping[str, int]
    unused: int
    repeated: int
    removed: Mapping[str, Mapping[str, int]]


def split(
    problems: Sequence[Problem], splits: Splits, seed: int, test: Sequence[Problem] | None = None
) -> tuple[dict[str, list[Problem]], SplitReport]:
    """Problems by split, and what was left out. Problems are taken in the order of a digest of (seed, id).

    The test split is filled first (with `test`, if that is given), then probe, teacher, pool and pretrain. A problem that is a
    copy of one of an earlier split is left out (see `CopyIndex`); copies within a split stay. Raises UserError where there are
    too few problems.
    """
    wanted = {name: int(getattr(splits, name)) for name in COUNTS}
    for name, count in wanted.items():
        if count < 0 and not (name == "pool" and count == REST):
            raise UserError(
                f"split {name}: {count} problems cannot be; give 0 or more" + (" (or -1: the rest)" if name == "pool" else "")
            )
    if wanted["pool"] == REST:
        if wanted["pretrain"]:
            raise UserError("split pool takes the rest (-1), so nothing is left for pretrain; give pool a number, or pretrain 0")
        wanted["pool"] = len(problems)
    if test is not None and wanted["test"]:
        raise UserError(f"there are test problems of their own, so split test must be 0, not {wanted['test']}")
    unique: dict[str, Problem] = {}
    for problem in problems:
        unique.setdefault(problem.id, problem)
    queue = sorted(unique.values(), key=lambda problem: files.digest_json([seed, problem.id]))
    questions: dict[str, Question] = {}
    taken = CopyIndex(copies=splits.copies)
    done: dict[str, list[Problem]] = {}
    removed: dict[str, dict[str, int]] = {}
    position = 0
    for name in PRIORITY:
        chosen: list[Problem] = (
            list({problem.id: problem for problem in test}.values()) if name == "test" and test is not None else []
        )
        reasons: Counter[str] = Counter()
        while len(chosen) < wanted[name] and position < len(queue):
            problem = queue[position]
            position += 1
            asked = taken.read(problem)
            reason = taken.match(problem, asked)
            if reason is None:
                chosen.append(problem)
                questions[problem.id] = asked
            else:
                reasons[reason] += 1
        if len(chosen) < wanted[name] and not (name == "pool" and splits.pool == REST):
            lost = sum(reasons.values()) + sum(sum(counts.values()) for counts in removed.values())
            asked = sum(max(0, getattr(splits, split_name)) for split_name in wanted)
            raise UserError(
                f"too few problems for the splits: {asked} asked for, {len(queue)} given, {lost} of them left "
                f"out as near-duplicates across splits; {name} gets {len(chosen)} of {wanted[name]}; ask for fewer"
            )
        for problem in chosen:
            taken.add(problem, questions.get(problem.id))
        done[name] = chosen
        removed[name] = dict(reasons)
    ordered = {name: done[name] for name in wanted}
    _check(ordered, {key: asked.text for key, asked in questions.items()})
    sizes = {name: len(rows) for name, rows in ordered.items()}
    report = SplitReport(len(problems), sizes, len(queue) - position, len(problems) - len(unique), removed)
    return ordered, report


def check_disjoint(splits: Mapping[str, Sequence[Problem]]) -> None:
    """Raises UserError where a problem, by its id or its normalised question, is in two splits."""
    _check(splits, {})


def _check(splits: Mapping[str, Sequence[Problem]], texts: Mapping[str, str]) -> None:
    """`check_disjoint` with the normalised questions of some problems, by their ids."""
    owner: dict[str, str] = {}
    for name, problems in splits.items():
        for problem in problems:
            for key in (problem.id, texts.get(problem.id) or normalised(problem.question)):
                if owner.setdefault(key, name) != name:
                    raise UserError(
                        f"problem {problem.id} is in both split {owner[key]} and split {name}; splits must not share problems"
                    )
