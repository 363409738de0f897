"""Teachers' traces for a rung: drawn from a model of the run, read from a file, asked of a server, or made by a user's own
code."""

import dataclasses
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from w2sr_jax.answers.grade import Grader
from w2sr_jax.configuration.encoding import encode
from w2sr_jax.core import files, records
from w2sr_jax.core.code import returned, usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation.cost import sampling_flops
from w2sr_jax.graph.stage import NOT_READ, Context, Stage, StageResult
from w2sr_jax.graph.store import RunStore
from w2sr_jax.parallel.placement import Placement
from w2sr_jax.stages import layout, problems, tables
from w2sr_jax.stages.external import DataSet
from w2sr_jax.stages.models import author_of
from w2sr_jax.stages.problems import Problems
from w2sr_jax.stages.tokenizer import Tokenizer, renderer
from w2sr_jax.teachers.teacher import Teacher
from w2sr_jax.teachers.work import TeacherWork, WrittenTraces
from w2sr_jax.teachers.written import PREFIX

if TYPE_CHECKING:
    from w2sr_jax.sampling.traces import Author
    from w2sr_jax.stages.train import Train

DRAWN = ("token_ids", "logprobs", "top")
"""Columns of traces that fill most of the memory, and that only training and publishing need."""
_RIGHT = "return WrittenTraces (w2sr_jax.teachers.work) with a list of the files that it wrote"


@dataclasses.dataclass(frozen=True)
class Traces(Stage):
    """Let a teacher write traces for the problems of a rung, and grade them. Writes teachers/TEACHER/rung-N/traces-*.parquet.

    `steering` is all of the teacher's settings that its traces depend on; `writer` trains the model of the run behind it, whose
    parameters lie on the devices of `mesh`.
    """

    teacher: Teacher = dataclasses.field(metadata=NOT_READ)
    steering: Any
    rung: int
    pool: tuple[float, float]
    grader: Grader
    problems: Problems
    tokenizer: Tokenizer | None = None
    writer: "Train | None" = None
    mesh: Placement | None = dataclasses.field(default=None, metadata=NOT_READ)
    seed: int | None = None
    data: tuple[DataSet, ...] = ()
    parents: tuple[Stage, ...] = dataclasses.field(default=(), metadata=NOT_READ)

    kind = "sample"

    @property
    def hosts(self) -> Literal["one", "all"]:
        return "one" if self.writer is None else "all"

    @property
    def serves(self) -> int:
        return self.rung

    @property
    def after(self) -> tuple[Stage, ...]:
        return self.parents

    @property
    def computes_on(self) -> Placement | None:
        return self.mesh

    def run(self, context: Context) -> StageResult:
        store = context.store
        where = store.path(layout.traces(self.teacher.name, self.rung))
        work = TeacherWork(
            problems=problems.asked(store, self.pool),
            tested=problems.read(store, problems.TEST),
            grader=self.grader,
            seed=self.seed or 0,
            folder=where,
            shared_folder=where.parent,
            identity=files.digest_json([encode(self.steering), encode(self.grader)]),
            progress=context.watcher.progress,
            say=context.watcher.say,
            warn=context.watcher.warn,
            stop=context.stop.deferred,
            author=self._author(store),
            sharing=store.sharing,
            tokenizer=None if self.tokenizer is None else lambda: renderer(store).tokenizer,
        )
        with usercode.guarded(self.teacher):
            written = returned.fitting(self.teacher.write(work), WrittenTraces, self.teacher, "write", _RIGHT)
            for path in written.paths:
                returned.fitting(path, Path, self.teacher, "write", _RIGHT)
        if not context.first:
            return StageResult()
        measures, note = _counts(written.paths, written.parameters, written.prompt_tokens)
        return StageResult(written.paths, measures={**measures, **written.measures}, note=note + written.note)

    def _author(self, store: RunStore) -> "Callable[[], Author] | None":
        if self.writer is None:
            return None
        return partial(author_of, store, self.writer, self.teacher.name, self.mesh or self.writer.mesh)


def teachers(stages: Iterable[Stage]) -> Iterator[tuple[str, int]]:
    """The teachers' names and the rungs of stages that are `Traces`."""
    return ((stage.teacher.name, stage.rung) for stage in stages if isinstance(stage, Traces))


def shards(store: RunStore, rung: int, teacher: str, unfinished: str | None = None) -> list[Path]:
    """The files with a teacher's traces for a rung, once all are written; with the stage's name also those that lie there before
    it has finished."""
    prefix = layout.within(layout.traces(teacher, rung), PREFIX)
    return store.below(prefix) if unfinished is None else store.lying(prefix, unfinished, f"{PREFIX}*.parquet")


def by_problem(
    store: RunStore, rung: int, teachers: Sequence[str], problems: Iterable[Problem], without: Sequence[str] = ()
) -> Iterator[tuple[Problem, list[Trace]]]:
    """Those of `problems` that teachers answered for a rung, in their order, each with all its traces. Both are read as they are
    asked for; of the problems, which are gone through twice, only ids are held."""
    order = {problem.id: row for row, problem in enumerate(problems)}

    def of(name: str) -> Iterator[Trace]:
        last = 0
        for path in shards(store, rung, name):
            for trace in records.iterate(path, Trace, order, without):
                if order[trace.problem_id] < last:
                    raise UserError(f"{path} does not hold its traces in the order of the problems")
                last = order[trace.problem_id]
                yield trace

    row = partial(_row, order)
    merged = heapq.merge(*map(of, teachers), key=row)
    every = iter(problems)
    for _, traces in itertools.groupby(merged, key=row):
        group = list(traces)
        yield next(problem for problem in every if problem.id == group[0].problem_id), group


def first_traces(store: RunStore, rung: int, teacher: str, problems: Collection[str] | None = None) -> dict[str, Trace]:
    """A teacher's first trace of each problem (of those in `problems`, if given), without its tokens, by problem id."""
    first: dict[str, Trace] = {}
    for trace in traces_of(store, rung, teacher, problems, DRAWN):
        if trace.problem_id not in first or trace.sample < first[trace.problem_id].sample:
            first[trace.problem_id] = trace
    return first


def traces_of(
    store: RunStore, rung: int, teacher: str, problems: Collection[str] | None = None, without: Sequence[str] = ()
) -> list[Trace]:
    """All that a teacher wrote for a rung, or for some of its problems; columns in `without` are left empty."""
    return [trace for path in shards(store, rung, teacher) for trace in tables.read(path, Trace, problems, without)]


def _counts(paths: Sequence[Path], parameters: int, prompt_tokens: int) -> tuple[dict[str, Any], str]:
    """What traces there are, and what writing them took."""
    verdicts, tokens = Counter[str](), 0
    for trace in (trace for path in paths for trace in records.iterate(path, Trace, without=DRAWN)):
        verdicts[trace.verdict] += 1
        tokens += trace.tokens
    count, correct = verdicts.total(), verdicts["correct"]
    graded = count - verdicts["ungraded"]
    note = f"{count:,} traces" + (f", {correct / graded:.1%} correct" if graded else ", no gold answers")
    measures = {"traces": count, "correct": correct, "graded": graded, "tokens": tokens}
    return measures | {"flops": sampling_flops(parameters, prompt_tokens + tokens)}, note


def _row(order: Mapping[str, int], trace: Trace) -> int:
    return order[trace.problem_id]
