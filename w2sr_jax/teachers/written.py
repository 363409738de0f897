"""Graded traces into a folder: those that a teacher gives as a whole, and those that a model of the run draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from w2sr_jax.answers.grade import grade_all
from w2sr_jax.core import files, records, sentences
from w2sr_jax.core.code import returned, usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.work import WrittenTraces

if TYPE_CHECKING:
    from w2sr_jax.teachers.teacher import Teacher
    from w2sr_jax.teachers.work import TeacherWork

SHARD = "traces-00000.parquet"
PREFIX = "traces-"
_RIGHT = "yield Trace.of(problem.id, self.name, sample, text) for each"
_TEXTS = {"problem_id": str, "teacher": str, "sample": int, "text": str}


def checked(teacher: Teacher, traces: object) -> Iterator[Trace]:
    """What `traces` of a teacher gave, trace by trace. `UserError` where it is anything else."""
    for number, trace in enumerate(returned.each(traces, teacher, "traces", f"give traces: {_RIGHT}"), 1):
        if not isinstance(trace, Trace):
            raise returned.refusal(teacher, "traces", trace, f"give traces alone: {_RIGHT}", "gave")
        fault = next((name for name, kind in _TEXTS.items() if not isinstance(getattr(trace, name), kind)), None)
        if fault is not None:
            shown, right = sentences.value(getattr(trace, fault), 60), "a whole number" if fault == "sample" else "text"
            where = f"{usercode.defined(type(teacher).traces)}: {type(teacher).__name__}.traces"
            raise UserError(f"{where} gave a trace (number {number:,}) whose {fault} is {shown}; it must be {right}")
        yield trace


def write(work: TeacherWork, traces: Sequence[Trace]) -> WrittenTraces:
    """Grade traces and write them in the order of the problems. `UserError` where one answers another problem, or an id occurs
    twice."""
    order = {problem.id: row for row, problem in enumerate(work.problems)}
    foreign = next((trace for trace in traces if trace.problem_id not in order), None)
    if foreign is not None:
        raise UserError(f"a trace of teacher {foreign.teacher!r} answers problem {foreign.problem_id}, which it was not asked")
    if len({trace.id for trace in traces}) < len(traces):
        raise UserError("two traces have one id; number the samples of a problem")
    problems = [work.problems[order[trace.problem_id]] for trace in traces]
    texts = [trace.text for trace in traces]
    verdicts = grade_all(work.grader, texts, problems, lambda done, total: work.progress(done, total, "grading"))
    graded = [trace.graded(verdict) for trace, verdict in zip(traces, verdicts, strict=True)]
    path = work.folder / SHARD
    records.write(path, Trace, sorted(graded, key=lambda trace: order[trace.problem_id]))
    return WrittenTraces([path])


def draw(work: TeacherWork, name: str, samples: int, decoding: Decoding, budget: int | None) -> WrittenTraces:
    """Let the run's model behind a teacher write `samples` traces per problem, at most `budget` tokens of them in all."""
    from w2sr_jax.sampling.estimate import Estimate
    from w2sr_jax.sampling.shards import draw_shards

    assert work.author is not None
    author = work.author()

    def tell(estimate: Estimate, rate: float | None) -> None:
        if rate is None and estimate.requests:
            work.say(f"{name}: {estimate.words()}")

    ids = [problem.id for problem in work.problems]
    drawn = draw_shards(
        work.folder,
        author,
        work.problems,
        samples,
        decoding,
        work.grader,
        files.digest_json([author.provenance, author.seed, work.identity, ids]),
        on_progress=work.progress,
        budget=budget,
        on_estimate=tell,
        sharing=work.sharing,
    )
    lengths = (map(len, author.renderer.prompts([each.question for each in part])) for part in _parts(work.problems))
    written = partial(WrittenTraces, drawn.paths, parameters=author.config.parameters())
    read = samples * sum(map(sum, lengths))
    if not drawn.left_out:
        return written(prompt_tokens=read)
    note = f"; {drawn.left_out:,} more were not drawn, since token_budget is {budget or 0:,}"
    return written(measures={"left_out": drawn.left_out}, note=note, prompt_tokens=read)


def _parts(problems: Sequence[Problem], size: int = 1024) -> Iterator[Sequence[Problem]]:
    """The problems, some at a time."""
    return (problems[start : start + size] for start in range(0, len(problems), size))
