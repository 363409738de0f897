"""Recorded teachers whose files hold answers to test problems: these are set aside, graded, and the teacher's evaluation."""

from pathlib import Path

from w2sr_jax.answers.grade import grade_all
from w2sr_jax.core import codec, records
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation.answered import Answered, answered, by_problem, score_answers
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph import verified
from w2sr_jax.graph.stage import Context, Made
from w2sr_jax.report import wording
from w2sr_jax.report.evidence import Evidence, EvidenceRow
from w2sr_jax.report.results import Model, OnFile
from w2sr_jax.stages import evaluate as measure
from w2sr_jax.stages import problems as prepare
from w2sr_jax.stages import tables
from w2sr_jax.stages.outcomes import GENERATIONS
from w2sr_jax.stages.report import evidence
from w2sr_jax.stages.report.sources import Sources
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.settings import Recorded

ROLE = "teacher"


def evaluate(context: Context, teacher: Recorded) -> Made:
    """Write evaluations/TEACHER/{generations.parquet,scores.json} from the file's answers to test problems; nothing where it
    has none. No student is trained on them: the pool holds no test problem."""
    problems = prepare.read(context.run, prepare.TEST)
    traces = recorded.load(teacher, [], tested=problems).traces if problems else []
    by_id = {problem.id: problem for problem in problems}
    progress = context.watcher.progress
    verdicts = grade_all(
        context.experiment.grader,
        [trace.text for trace in traces],
        [by_id[trace.problem_id] for trace in traces],
        lambda done, total: progress(done, total, "grading"),
    )
    graded = [trace.graded(verdict) for trace, verdict in zip(traces, verdicts, strict=True)]
    scores = score_answers(problems, graded, context.experiment.evaluation)
    counts = {"traces": len(graded), "problems": len({trace.problem_id for trace in graded}), "test_problems": len(problems)}
    if scores is None:
        return Made((), {}, counts, f"{wording.count(len(graded))} answers to test problems, none of which can be graded")
    directory = context.run / "evaluations" / teacher.name
    records.write(directory / GENERATIONS, Trace, graded)
    codec.write(directory / measure.SCORES, scores)
    accuracy = scores.accuracy
    note = (
        f"{len(graded):,} answers in the file to {counts['problems']:,} of {len(problems):,} test problems, set aside: accuracy "
        f"{accuracy.value:.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}]"
    )
    paths = [directory / GENERATIONS, directory / measure.SCORES]
    return Made(paths, {}, {**counts, "accuracy": accuracy.value}, note)


def teachers(experiment: Experiment) -> list[Recorded]:
    """The teachers of an experiment that are files."""
    return [teacher for teacher in experiment.teachers if isinstance(teacher, Recorded)]


def answers(run: Path, name: str) -> list[Trace]:
    """A recorded teacher's graded answers to test problems; none where its file has none."""
    path = verified.optional(run, f"evaluations/{name}/{GENERATIONS}")
    return tables.read(path, Trace) if path else []


def scored(experiment: Experiment, run: Path, test: list[Problem]) -> dict[str, Answered]:
    """The recorded teachers that have answers to test problems, and how well they do."""
    by_name = {teacher.name: answered(test, answers(run, teacher.name)) for teacher in teachers(experiment)}
    return {name: found for name, found in by_name.items() if found.indices.size}


def described(experiment: Experiment, sources: Sources, teacher: Recorded, test: list[Problem]) -> tuple[Model, Evidence]:
    """What the report shows of a recorded teacher that has answers to test problems, and the page with them. All seeds have the
    same file, so its first run speaks for all."""
    traces = answers(sources.runs[0], teacher.name)
    scores = score_answers(test, traces, experiment.evaluation)
    assert scores is not None
    page = _page(teacher, sources, test, traces)
    folder = f"evaluations/{teacher.name}"
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
        sources=sources.of([f"{folder}/{GENERATIONS}", f"{folder}/{measure.SCORES}"]),
    )
    return model, page


def _page(teacher: Recorded, sources: Sources, test: list[Problem], traces: list[Trace]) -> Evidence:
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
    files_of = sources.of([f"evaluations/{teacher.name}/{GENERATIONS}"])
    return Evidence(f"answers-{teacher.name}", f"Answers: {teacher.name}", about, files_of, columns, evidence.ANSWERS, rows)
