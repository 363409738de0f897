"""Recorded teachers whose files hold answers to test problems: these are set aside, graded, and the teacher's evaluation."""

from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation.answered import Answered, answered, by_problem, score_answers
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.store import RunStore
from w2sr_jax.report.evidence import Evidence, EvidenceRow
from w2sr_jax.report.results import Model, OnFile
from w2sr_jax.stages import layout, tables
from w2sr_jax.stages.layout import GENERATIONS
from w2sr_jax.stages.report import evidence
from w2sr_jax.stages.report.sources import Sources
from w2sr_jax.teachers.teacher import Teacher

ROLE = "teacher"


def teachers(experiment: Experiment) -> list[Teacher]:
    """The teachers of an experiment that are files."""
    return [teacher for teacher in experiment.teachers if teacher.is_file]


def answers(run: RunStore, name: str) -> list[Trace]:
    """A recorded teacher's graded answers to test problems; none where its file has none."""
    path = run.optional(layout.within(layout.evaluation(name), GENERATIONS))
    return tables.read(path, Trace) if path else []


def scored(experiment: Experiment, run: RunStore, test: list[Problem]) -> dict[str, Answered]:
    """The recorded teachers that have answers to test problems, and how well they do."""
    by_name = {teacher.name: answered(test, answers(run, teacher.name)) for teacher in teachers(experiment)}
    return {name: answered_by for name, answered_by in by_name.items() if answered_by.indices.size}


def described(experiment: Experiment, sources: Sources, teacher: Teacher, test: list[Problem]) -> tuple[Model, Evidence]:
    """What the report shows of a recorded teacher that has answers to test problems, and the page with them. All seeds have the
    same file, so its first run speaks for all."""
    traces = answers(sources.runs[0], teacher.name)
    scores = score_answers(test, traces, experiment.evaluation)
    assert scores is not None
    page = _page(teacher, sources, test, traces)
    folder = layout.evaluation(teacher.name)
    model = Model(
        role=ROLE,
        rung=None,
        arm=None,
        scores=scores,
        training=None,
        held_out=None,
        faithfulness=None,
        probe=None,
        on_file=OnFile(teacher.path, len(traces), scores.problems, len(test)),
        evidence=page.key,
        sources=sources.of([layout.within(folder, GENERATIONS), layout.within(folder, layout.SCORES)]),
    )
    return model, page


def _page(teacher: Teacher, sources: Sources, test: list[Problem], traces: list[Trace]) -> Evidence:
    by_id = {problem.id: problem for problem in test}
    rows = []
    for trace in (trace for group in by_problem(traces).values() for trace in group):
        problem = by_id[trace.problem_id]
        values = (str(trace.sample), problem.question, problem.answer, trace.answer, trace.rule, trace.text)
        rows.append(EvidenceRow(problem.id, values, tuple(evidence.groups_of(trace))))
    columns = ("sample", "question", "gold", "answer", "found by", "what it wrote")
    about = (
        "Answers to test problems that lie in the teacher’s file. No student is trained on them; accuracy is the mean over "
        "problems of the share of right ones."
    )
    files_of = sources.of([layout.within(layout.evaluation(teacher.name), GENERATIONS)])
    return Evidence(f"answers-{teacher.name}", f"Answers: {teacher.name}", about, files_of, columns, evidence.ANSWERS, rows)
