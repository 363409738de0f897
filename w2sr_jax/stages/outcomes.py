"""What teacher, base and student answered to the same problem: the rows behind the error ledger.

Held-out problems are the test problems, or the probe problems where the teacher is a recorded file, which need not answer others.
Training problems are those of the rung's pool that `evaluation.pool` asks for; the teacher's answer is its first trace, whether
or not an arm was trained on it.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation.ledger import Outcome, answer
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.store import RunStore
from w2sr_jax.stages import layout, models, problems, tables
from w2sr_jax.stages import traces as teach
from w2sr_jax.stages.layout import GENERATIONS

Set = Literal["training", "held-out"]
SETS: tuple[Set, ...] = ("training", "held-out")
GREEDY = -1  # the sample number of a greedy answer


class Case(NamedTuple):
    """One problem that has a gold answer, and the three traces."""

    problem: Problem
    teacher: Trace
    base: Trace
    student: Trace

    def outcome(self) -> Outcome:
        return Outcome(self.problem.id, answer(self.teacher), answer(self.base), answer(self.student))


class Files(NamedTuple):
    """Where the traces of a ledger were read from, relative to the run; the teacher's may be in several shards."""

    teacher: Sequence[str]
    base: str
    student: str


def cases(store: RunStore, experiment: Experiment, index: int, teacher: str, arm: str, which: Set) -> list[Case]:
    """The problems of a set that all three answered, in the order of the split."""
    split, name = _split(experiment, index, teacher, which)
    base, student = (_answers(store, model.name, name) for model in _pair(experiment, index, arm))
    taught = _teacher(store, experiment, index, teacher, which)
    return [
        Case(problem, taught[problem.id], base[problem.id], student[problem.id])
        for problem in problems.read(store, split)
        if problem.answer is not None and problem.id in taught and problem.id in base and problem.id in student
    ]


def files_of(store: RunStore, experiment: Experiment, index: int, teacher: str, arm: str, which: Set) -> Files:
    """The files that `cases` reads."""
    _, name = _split(experiment, index, teacher, which)
    base, student = (layout.within(layout.evaluation(model.name), name) for model in _pair(experiment, index, arm))
    model = _teacher_model(experiment, index, teacher)
    if which == "held-out" and model is not None:
        return Files([layout.within(layout.evaluation(model), GENERATIONS)], base, student)
    return Files([store.relative(path) for path in teach.shards(store, index, teacher)], base, student)


def _pair(experiment: Experiment, index: int, arm: str) -> tuple[models.Model, models.Model]:
    return models.before(experiment, index), models.student(experiment, index, arm)


def _split(experiment: Experiment, index: int, teacher: str, which: Set) -> tuple[str, str]:
    """A set's split, and the file in an evaluation's folder that has the answers to it."""
    if which == "training":
        return problems.POOL, f"{problems.POOL}.parquet"
    if experiment.teacher(teacher).foreign:
        return problems.PROBE, f"{problems.PROBE}.parquet"
    return problems.TEST, GENERATIONS


def _teacher(store: RunStore, experiment: Experiment, index: int, teacher: str, which: Set) -> dict[str, Trace]:
    model = _teacher_model(experiment, index, teacher)
    if which == "held-out" and model is not None:
        return _answers(store, model, GENERATIONS)
    return teach.first_traces(store, index, teacher)


def _teacher_model(experiment: Experiment, index: int, name: str) -> str | None:
    """The evaluated model behind a teacher's name; None for a recorded one."""
    model = models.writer(experiment, index, experiment.teacher(name))
    return None if model is None else model.name


def _answers(store: RunStore, model: str, name: str) -> dict[str, Trace]:
    """A model's greedy answers by problem id; none where the file was not asked for."""
    path = store.optional(layout.within(layout.evaluation(model), name))
    traces = tables.read(path, Trace) if path else []
    return {trace.problem_id: trace for trace in traces if trace.sample == GREEDY}
