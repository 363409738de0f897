"""Teachers' traces for a rung: drawn from a model, or read from a file; graded either way."""

import heapq
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from w2sr_jax.answers.grade import grade_all
from w2sr_jax.configuration.encoding import encode
from w2sr_jax.core import files, records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation.cost import sampling_flops
from w2sr_jax.experiment import Experiment, Graduate, ModelTeacher
from w2sr_jax.graph import verified
from w2sr_jax.graph.stage import Context, Made
from w2sr_jax.sampling.estimate import Estimate
from w2sr_jax.sampling.shards import draw_shards
from w2sr_jax.sampling.traces import Author
from w2sr_jax.stages import models, tables
from w2sr_jax.stages import problems as prepare
from w2sr_jax.stages.models import Model
from w2sr_jax.teachers import endings, recorded
from w2sr_jax.teachers.settings import Recorded, Served

DRAWN = ("token_ids", "logprobs")
"""Columns of traces that fill most of the memory, and that only training and publishing need."""


def directory(context: Context, index: int, teacher: str) -> Path:
    return context.run / "teachers" / teacher / f"rung-{index}"


def by_problem(
    context: Context, index: int, problems: Iterable[Problem], without: Sequence[str] = ()
) -> Iterator[tuple[Problem, list[Trace]]]:
    """The problems that a rung learns from, of `problems` and in their order, each with all its traces. Both are read as they are
    asked for; of the problems, which are gone through twice, only ids are held."""
    order = {problem.id: place for place, problem in enumerate(problems)}

    def of(name: str) -> Iterator[Trace]:
        last = 0
        for path in shards(context.run, index, name):
            for trace in records.iterate(path, Trace, order, without):
                if order[trace.problem_id] < last:
                    raise UserError(f"{path} does not hold its traces in the order of the problems")
                last = order[trace.problem_id]
                yield trace

    place = partial(_place, order)
    merged = heapq.merge(*map(of, context.experiment.rungs[index].teachers), key=place)
    every = iter(problems)
    for _, traces in itertools.groupby(merged, key=place):
        group = list(traces)
        yield next(problem for problem in every if problem.id == group[0].problem_id), group


def foreign_teachers(experiment: Experiment, index: int) -> list[str]:
    """Names of a rung's teachers that are no models of the run: their traces lie in a file, or come from a server."""
    names = {teacher.name for teacher in experiment.teachers if isinstance(teacher, Recorded | Served)}
    return [name for name in experiment.rungs[index].teachers if name in names]


def first_traces(run: Path, index: int, teacher: str, problems: Collection[str] | None = None) -> dict[str, Trace]:
    """A teacher's first trace of each problem (of those in `problems`, if given), without its tokens, by problem id."""
    found: dict[str, Trace] = {}
    for trace in traces_of(run, index, teacher, problems, DRAWN):
        if trace.problem_id not in found or trace.sample < found[trace.problem_id].sample:
            found[trace.problem_id] = trace
    return found


def traces_of(
    run: Path, index: int, teacher: str, problems: Collection[str] | None = None, without: Sequence[str] = ()
) -> list[Trace]:
    """All that a teacher wrote for a rung, or for some of its problems; columns in `without` are left empty."""
    return [trace for path in shards(run, index, teacher) for trace in tables.read(path, Trace, problems, without)]


def shards(run: Path, index: int, teacher: str) -> list[Path]:
    """The files with a teacher's traces for a rung, once all are written."""
    return verified.below(run, f"teachers/{teacher}/rung-{index}/traces-")


def questions(context: Context, index: int) -> list[Problem]:
    """The problems a rung's teachers answer: its part of the pool, and the probe problems, whose traces stay held out."""
    pool = prepare.part(prepare.read(context.run, prepare.POOL), context.experiment.rungs[index].pool)
    return [*pool, *prepare.read(context.run, prepare.PROBE)]


def sample(context: Context, index: int, teacher: ModelTeacher | Graduate, model: Model) -> Made:
    """Draw traces from a model of the run."""
    author = author_of(context, model, teacher.name)
    problems = questions(context, index)
    where = directory(context, index, teacher.name)
    identity = files.digest_json(
        [author.provenance, author.seed, encode((teacher, context.experiment.grader)), [problem.id for problem in problems]]
    )

    def told(estimate: Estimate, rate: float | None) -> None:
        if rate is None and estimate.requests:
            context.watcher.say(f"{teacher.name}: {estimate.words()}")

    drawn = draw_shards(
        where,
        author,
        problems,
        teacher.samples,
        teacher.decoding,
        context.experiment.grader,
        identity,
        on_progress=context.watcher.progress,
        budget=teacher.token_budget,
        on_estimate=told,
    )
    read = teacher.samples * sum(map(len, author.renderer.prompts([problem.question for problem in problems])))
    made = _made(drawn.paths, author.config.parameters(), read)
    if not drawn.left_out:
        return made
    note = f"{made.note}; {drawn.left_out:,} more were not drawn, since token_budget is {teacher.token_budget:,}"
    return made._replace(measures={**made.measures, "left_out": drawn.left_out}, note=note)


def record(context: Context, index: int, teacher: Recorded) -> Made:
    """Read a file of recorded traces and grade those of the rung's problems. Traces of test problems are set aside: they are the
    teacher's evaluation (`on_file`), and no rung has them."""
    wanted = {problem.id: problem for problem in questions(context, index)}
    found = recorded.load(teacher, list(wanted.values()), tested=prepare.read(context.run, prepare.TEST))
    aside = len(found.traces) - sum(trace.problem_id in wanted for trace in found.traces)
    traces = [trace for trace in found.traces if trace.problem_id in wanted]
    texts, problems = [trace.text for trace in traces], [wanted[trace.problem_id] for trace in traces]
    tell = context.watcher.progress
    verdicts = grade_all(context.experiment.grader, texts, problems, lambda done, total: tell(done, total, "grading"))
    path = directory(context, index, teacher.name) / "traces-00000.parquet"
    graded = [trace.graded(verdict) for trace, verdict in zip(traces, verdicts, strict=True)]
    records.write(path, Trace, sorted(graded, key=partial(_place, {key: place for place, key in enumerate(wanted)})))
    made = _made([path], 0, 0)
    counts = {"of_test_problems": aside, "of_other_problems": found.unmatched}
    measures = {**made.measures, "read_as": found.shape, **counts}
    measures |= {"beside": dict(found.notes)} if found.notes else {}
    other = f"; {aside:,} more answer test problems and are set aside for its evaluation" if aside else ""
    other += f"; {found.unmatched:,} more answer other problems" if found.unmatched else ""
    other += "".join(f"; {note} ({count:,} rows)" for note, count in found.notes.items())
    return made._replace(measures=measures, note=f"{made.note}{other}")


def ask(context: Context, index: int, teacher: Served) -> Made:
    """Let a server's model answer the rung's problems. Answers are kept as they arrive, beside the traces and for all rungs."""
    from w2sr_jax.teachers.served import ask as served
    from w2sr_jax.teachers.served import request

    problems, where = questions(context, index), directory(context, index, teacher.name)
    context.watcher.say(f"{teacher.name}: {request.bound(teacher, problems).words()}")
    with context.stop.deferred() as asked:
        found = served.ask(
            where,
            teacher,
            problems,
            context.experiment.grader,
            context.seed,
            journal=where.parent / served.JOURNAL,
            on_progress=context.watcher.progress,
            stop=asked,
        )
    made = _made(found.paths, 0, 0)
    tokens = {"prompt_tokens": found.prompt_tokens, "tokens": found.completion_tokens, "flops": None}
    missing = sum(found.counts[name] for name in ("refused", "filtered", "empty", "failed"))
    note = made.note + (f", {missing:,} answers without a trace" if missing else "")
    if found.counts["unfinished"]:
        note += f", {found.counts['unfinished']:,} not finished ({_listed(found.reasons)})"
    unsaid = found.unknown | {name: count for name, count in found.reasons.items() if name == endings.NOT_GIVEN}
    if unsaid:
        why = f"{teacher.url} gives no known reason why answers ended ({_listed(unsaid)})"
        context.watcher.warn(f"{teacher.name}: {why}; they count as not finished")
    ends = {name: found.counts[name] for name in ("unfinished", "unanswered")} | {"finish_reasons": found.reasons}
    price = f"; {found.prompt_tokens + found.completion_tokens:,} tokens, cost {found.cost:,.2f}"
    return made._replace(measures={**made.measures, **tokens, **ends, "cost": found.cost}, note=note + price)


def _listed(counts: Mapping[str, int]) -> str:
    """Counts by name, in words."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def author_of(context: Context, model: Model, name: str) -> Author:
    """A trained model of the run, ready to write under `name`."""
    renderer, mesh = prepare.renderer(context.run), models.device_mesh(context.experiment)
    config = models.sized(model.config, renderer)
    params, digest = models.parameters(context.run, model, config, mesh), models.digest(context.run, model)
    return Author(name, config, params, renderer, context.seed, digest, mesh)


def _made(paths: Sequence[Path], parameters: int, read: int) -> Made:
    """`read` counts the prompts' tokens."""
    verdicts, tokens = Counter[str](), 0
    for trace in (trace for path in paths for trace in records.iterate(path, Trace, without=DRAWN)):
        verdicts[trace.verdict] += 1
        tokens += trace.tokens
    count, correct = verdicts.total(), verdicts["correct"]
    graded = count - verdicts["ungraded"]
    note = f"{count:,} traces" + (f", {correct / graded:.1%} correct" if graded else ", no gold answers")
    measures = {"traces": count, "correct": correct, "graded": graded, "tokens": tokens}
    return Made(paths, {}, measures | {"flops": sampling_flops(parameters, read + tokens)}, note)


def _place(order: Mapping[str, int], trace: Trace) -> int:
    return order[trace.problem_id]
