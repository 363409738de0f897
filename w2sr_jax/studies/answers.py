"""What the models of a study's cells answered to the test problems, each read once."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Trace
from w2sr_jax.evaluation.ledger import RIGHT
from w2sr_jax.evaluation.statistics import Reals
from w2sr_jax.graph import skips
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.stages import evaluate, layout
from w2sr_jax.stages.execute import SeedRun
from w2sr_jax.studies.declared import Side
from w2sr_jax.studies.finished import Finished
from w2sr_jax.studies.run import CellRuns


@dataclasses.dataclass(frozen=True)
class Answered:
    """Which test problems a model answered right, `[seeds, problems]`, by the ids of problems and the numbers of seeds; the share
    of its answers that did not end; and the digests of what its evaluations wrote, seed by seed."""

    right: Reals
    problems: tuple[str, ...]
    seeds: tuple[int, ...]
    truncated: float
    digests: tuple[str, ...]


class _Table(NamedTuple):
    """Of one evaluation: whether each graded problem was answered right, and whether each answer was cut off."""

    right: Mapping[str, bool]
    cut: Sequence[bool]


class Answers:
    """What the models of all cells answered. What several cells share is read once."""

    def __init__(self, runs: Sequence[CellRuns], finished: Finished) -> None:
        self._runs = {each.cell.name: each for each in runs}
        self._finished = finished
        self._read: dict[Side, Answered | None] = {}
        self._tables: dict[str, _Table] = {}

    def of(self, side: Side) -> Answered | None:
        """The greedy answers of a model to the problems that have gold answers, of the seeds that have finished its evaluation;
        None where none has, or it was skipped. `UserError` where the cell has no such model."""
        if side.cell not in self._runs:  # it has not begun
            return None
        if side not in self._read:
            self._check(side)
            self._read[side] = self._answered(side)
        return self._read[side]

    def names(self, cell: str) -> list[str]:
        """The models that a cell evaluates."""
        plan = self._runs[cell].seeds[0].plan
        prefix = layout.evaluation("")
        return [stage.name.removeprefix(prefix) for stage in plan if stage.kind == "evaluate" and stage.name.startswith(prefix)]

    def skipped(self, side: Side) -> str:
        """Why a model of a cell has no answers although all that belongs to it is finished, in words; "" where that is not so."""
        for seed, manifest in self._evaluations(side):
            if (skip := skips.of(manifest)) is not None:
                return f"{seed.prefix}{skips.student(skip.origin)} of {side.cell} was skipped: {skip.reason}"
        return ""

    def _check(self, side: Side) -> None:
        names = self.names(side.cell)
        if side.model not in names:
            near = difflib.get_close_matches(side.model, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
            raise UserError(f"the cell {side.cell} evaluates no model {side.model}; {hint}")

    def _evaluations(self, side: Side) -> Iterator[tuple[SeedRun, Manifest]]:
        """The evaluations of a model that are finished."""
        for seed in self._runs[side.cell].seeds if side.cell in self._runs else ():
            stage = seed.plan.by_name.get(layout.evaluation(side.model))
            if stage is not None and (manifest := self._finished.manifest(seed, stage)) is not None:
                yield seed, manifest

    def _answered(self, side: Side) -> Answered | None:
        name = layout.within(layout.evaluation(side.model), layout.GENERATIONS)
        found: list[tuple[int, str, _Table]] = []
        for seed, manifest in self._evaluations(side):
            if name in manifest.files():  # one that was skipped wrote none
                digest = manifest.files()[name]
                if digest not in self._tables:
                    self._tables[digest] = _table(evaluate.generations(seed.store, side.model)[0])
                found.append((seed.seed, digest, self._tables[digest]))
        if not found:
            return None
        seeds, digests, tables = zip(*found, strict=True)
        problems = tuple(problem for problem in tables[0].right if all(problem in table.right for table in tables))
        right = np.array([[float(table.right[problem]) for problem in problems] for table in tables])
        cut = [each for table in tables for each in table.cut]
        return Answered(right, problems, seeds, float(np.mean(cut)) if cut else 0.0, digests)


def _table(greedy: Sequence[Trace]) -> _Table:
    right = {trace.problem_id: trace.verdict == RIGHT for trace in greedy if trace.verdict != "ungraded"}
    return _Table(right, [trace.finish == "length" for trace in greedy])


def paired_vectors(left: Answered, right: Answered, among: Sequence[int]) -> tuple[Reals, Reals, tuple[int, ...]]:
    """The answers of two models to the problems and with the seeds `among` some that both have, `[seeds, problems]` each, and
    those seeds. Empty arrays where they have none in common."""
    seeds = tuple(seed for seed in left.seeds if seed in right.seeds and seed in among)
    shared = set(right.problems)
    problems = [problem for problem in left.problems if problem in shared]

    def of(answered: Answered) -> Reals:
        columns = {problem: index for index, problem in enumerate(answered.problems)}
        rows = [answered.seeds.index(seed) for seed in seeds]
        return answered.right[np.ix_(rows, [columns[problem] for problem in problems])]

    return of(left), of(right), seeds
