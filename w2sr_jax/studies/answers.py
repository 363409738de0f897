"""What the models of a study's cells answered to the test problems, each read once."""

import dataclasses
import difflib
from collections.abc import Sequence

import numpy as np

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.ledger import RIGHT
from w2sr_jax.evaluation.statistics import Reals
from w2sr_jax.graph.store import RunStore
from w2sr_jax.stages import evaluate, layout
from w2sr_jax.studies.declared import Side
from w2sr_jax.studies.run import CellRuns


@dataclasses.dataclass(frozen=True)
class Answered:
    """Which test problems a model answered right, `[seeds, problems]`, by the ids of problems and the numbers of seeds."""

    right: Reals
    problems: tuple[str, ...]
    seeds: tuple[int, ...]


class Answers:
    """What the models of all cells answered, each read once."""

    def __init__(self, runs: Sequence[CellRuns]) -> None:
        self._runs = {each.cell.name: each for each in runs}
        self._read: dict[Side, Answered | None] = {}

    def of(self, side: Side) -> Answered | None:
        """The greedy answers of a model to the problems that have gold answers, of the seeds that have finished its evaluation;
        None where none has. `UserError` where the cell has no such model."""
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

    def truncated(self, side: Side) -> float:
        """The share of a model's greedy answers that did not end."""
        cut = [trace.finish == "length" for seed in self._finished(side) for trace in evaluate.generations(seed, side.model)[0]]
        return float(np.mean(cut)) if cut else 0.0

    def _check(self, side: Side) -> None:
        names = self.names(side.cell)
        if side.model not in names:
            near = difflib.get_close_matches(side.model, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
            raise UserError(f"the cell {side.cell} evaluates no model {side.model}; {hint}")

    def _finished(self, side: Side) -> list[RunStore]:
        stage = layout.evaluation(side.model)
        return [seed.store for seed in self._runs[side.cell].seeds if seed.store.peek(stage) is not None]

    def _answered(self, side: Side) -> Answered | None:
        rows: list[dict[str, bool]] = []
        seeds: list[int] = []
        for seed in self._runs[side.cell].seeds:
            if seed.store.peek(layout.evaluation(side.model)) is not None:
                greedy, _ = evaluate.generations(seed.store, side.model)
                rows.append({trace.problem_id: trace.verdict == RIGHT for trace in greedy if trace.verdict != "ungraded"})
                seeds.append(seed.seed)
        if not rows:
            return None
        problems = tuple(problem for problem in rows[0] if all(problem in row for row in rows))
        right = np.array([[float(row[problem]) for problem in problems] for row in rows])
        return Answered(right, problems, tuple(seeds))


def paired_vectors(left: Answered, right: Answered) -> tuple[Reals, Reals, tuple[int, ...]]:
    """The answers of two models to the problems and with the seeds that both have, `[seeds, problems]` each, and those seeds.
    Empty arrays where they have none in common."""
    seeds = tuple(seed for seed in left.seeds if seed in right.seeds)
    problems = [problem for problem in left.problems if problem in set(right.problems)]

    def of(answered: Answered) -> Reals:
        columns = {problem: index for index, problem in enumerate(answered.problems)}
        rows = [answered.seeds.index(seed) for seed in seeds]
        return answered.right[np.ix_(rows, [columns[problem] for problem in problems])]

    return of(left), of(right), seeds
