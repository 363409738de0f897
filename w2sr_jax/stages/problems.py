"""Problems with their splits: the first stage of every run."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from w2sr_jax.core import codec, records
from w2sr_jax.core.records import Problem, Stored
from w2sr_jax.graph.stage import Context, Stage, StageResult
from w2sr_jax.graph.store import RunStore
from w2sr_jax.problems.copies.matching import Questions, single_spaced
from w2sr_jax.problems.rows import Rejected
from w2sr_jax.problems.settings import Splits
from w2sr_jax.problems.source import ProblemSource, load
from w2sr_jax.problems.splits import split
from w2sr_jax.report.results import BadRow
from w2sr_jax.report.results import Problems as Counts
from w2sr_jax.stages import layout, tables
from w2sr_jax.stages.external import DataSet
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.teacher import Teacher

T = TypeVar("T")

PRETRAIN, TEACHER, POOL, PROBE, TEST = "pretrain", "teacher", "pool", "probe", "test"
SPLITS = (PRETRAIN, TEACHER, POOL, PROBE, TEST)
SPLIT_SEED = 0  # splits are part of the problems, not of a run: all seeds share them


@dataclasses.dataclass(frozen=True)
class Problems(Stage):
    """Read or generate problems and deal them into splits, near-duplicates across splits removed.

    Teachers that are files may bring problems along; where every teacher is one (`only_brought`), problems that none of them
    answered are left out: no student could learn from them. Writes problems/SPLIT.parquet and problems/report.json.
    """

    source: ProblemSource
    test: ProblemSource | None
    splits: Splits
    files: tuple[Teacher, ...] = ()
    only_brought: bool = False
    data: tuple[DataSet, ...] = ()

    kind = "prepare"

    def run(self, context: Context) -> StageResult:
        store = context.store
        quarantine: list[Rejected] = []
        wanted = sum(max(getattr(self.splits, name), 0) for name in SPLITS) if self.source.is_endless() else None
        candidates, bad = load(self.source, wanted)
        quarantine.extend(bad.rows)
        own = {problem.id for problem in candidates}
        test = None
        if self.test is not None:
            test, bad = load(self.test)
            quarantine.extend(bad.rows)
        candidates, left_out = self._with_brought(candidates, test or [])
        quarantine.extend(left_out)
        brought = sum(problem.id not in own for problem in candidates)
        if brought and not self.source.is_endless():
            context.watcher.warn(
                f"{brought:,} questions of recorded traces are not among the problems of {self.source.describe()} and count as "
                "problems of their own; if a prompt is wrapped around them, name its text in the teacher's `strip`"
            )
        dealt, report = split(candidates, self.splits, SPLIT_SEED, test)
        outputs = []
        for name, rows in dealt.items():
            path = store.path(table(name))
            records.write(path, Problem, rows)
            outputs.append(path)
        sizes = {name: len(rows) for name, rows in dealt.items()}
        removed = sum(sum(reasons.values()) for reasons in report.removed.values())
        counts = Counts(
            splits=sizes,
            removed_near_duplicates=removed,
            removed=report.removed,
            quarantined=len(quarantine),
            quarantine=tuple(BadRow(bad.file, bad.line, bad.reason) for bad in quarantine),
        )
        codec.write(store.path(layout.PROBLEMS_REPORT), counts)
        if quarantine:
            first = quarantine[0]
            context.watcher.warn(
                f"{len(quarantine)} rows were left out, the first at {first.file}, line {first.line}: {first.reason}; "
                f"all are listed in {store.path(layout.PROBLEMS_REPORT)}"
            )
        note = ", ".join(f"{name} {count:,}" for name, count in sizes.items() if count)
        note += f"; {removed:,} near-duplicates across splits removed" if removed else ""
        measures = {"problems": sum(sizes.values()), "quarantined": len(quarantine)}
        return StageResult([*outputs, store.path(layout.PROBLEMS_REPORT)], measures=measures, note=note)

    def _with_brought(self, candidates: list[Problem], test: Sequence[Problem]) -> tuple[list[Problem], list[Rejected]]:
        """The problems with those that teachers' files bring along, but for those of a test set of its own, whose traces are the
        teachers' evaluation."""
        if not self.files:
            return candidates, []
        loaded = recorded.load_all(self.files)
        ours, tested = {single_spaced(problem.question): problem for problem in candidates}, Questions(test)
        brought = [problem for problem in loaded.problems if tested.find(problem.question) is None]
        answered = [ours.get(single_spaced(problem.question), problem) for problem in brought]
        if self.only_brought:
            return answered, list(loaded.quarantine)
        ids = {problem.id for problem in candidates}
        return [*candidates, *(problem for problem in answered if problem.id not in ids)], list(loaded.quarantine)


def table(split: str) -> str:
    """The name of a split's file in a run."""
    return layout.problems(split)


def read(store: RunStore, split: str) -> list[Problem]:
    """The problems of one split."""
    return tables.read(store.file(table(split)), Problem)


def part(problems: Sequence[T], bounds: tuple[float, float]) -> list[T]:
    """The part of a split between two fractions of it."""
    return list(problems[slice(*_rows(len(problems), bounds))])


def pool(store: RunStore, bounds: tuple[float, float]) -> Stored[Problem]:
    """A part of the pool, which stays on the disk."""
    every = Stored(store.file(table(POOL)), Problem)
    return every.between(*_rows(len(every), bounds))


def asked(store: RunStore, bounds: tuple[float, float]) -> list[Problem]:
    """The problems that a rung's teachers answer: its part of the pool, and the probe problems, whose traces stay held out."""
    return [*part(read(store, POOL), bounds), *read(store, PROBE)]


def _rows(count: int, bounds: tuple[float, float]) -> tuple[int, int]:
    low, high = (round(bound * count) for bound in bounds)
    return low, high
