"""Where the teachers' errors went, how teachers differ, and the rows behind the report's numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from w2sr_jax.answers.quality import loops
from w2sr_jax.answers.steps import validity
from w2sr_jax.configuration.words import words
from w2sr_jax.core import records
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.dispositions import Disposition
from w2sr_jax.evaluation.faithfulness import FRACTIONS, Intervention, Interventions, same_answer
from w2sr_jax.evaluation.ledger import CELLS, Answer, answer, cells, ledger
from w2sr_jax.evaluation.process import overruns
from w2sr_jax.evaluation.teachers import compare
from w2sr_jax.experiment import Experiment
from w2sr_jax.report.evidence import Evidence, EvidenceRow
from w2sr_jax.report.results import LedgerEntry, Source, TeachersEntry
from w2sr_jax.stages import faithfulness, layout, models, outcomes, problems
from w2sr_jax.stages import traces as teach
from w2sr_jax.stages.outcomes import Case
from w2sr_jax.stages.report.sources import Sources

ANSWERS = {
    "correct": "Right answers",
    "incorrect": "Wrong answers",
    "unparsed": "No answer could be read",
    "ungraded": "Not graded",
    "only_student": "Right where the teacher is wrong",
    "only_teacher": "Wrong where the teacher is right",
    "wrong_step": "An equation that does not hold",
    "looping": "Looping",
    "cut_off": "Cut off at the token limit",
    "changed_answer": "The first marked answer differs from the last",
    "early_answering": "The same answer after half of the chain or less",
    "mistakes": "Chains that were given a mistake",
}


class Written(NamedTuple):
    """A teacher's traces for some problems, and the files of the run that they are from."""

    traces: list[Trace]
    shards: list[str]


def ledgers(experiment: Experiment, sources: Sources) -> tuple[list[LedgerEntry], list[Evidence]]:
    """The error ledger of every rung, teacher, arm (the ceiling too) and set, and the pages with their problems."""
    entries, pages = [], []
    for index, rung in enumerate(experiment.rungs):
        for teacher in rung.teachers:
            for arm in (arm.name for arm in rung.trained):
                last = rung.stages_of(rung.arm(arm))[-1]
                loss = words(getattr(last, "loss", None) or (last.objective or rung.objective).loss)
                for which in outcomes.SETS:
                    of_runs = [outcomes.cases(run, experiment, index, teacher, arm, which) for run in sources.runs]
                    if not all(of_runs):
                        continue
                    counted = ledger([[case.outcome() for case in cases] for cases in of_runs], which, experiment.evaluation)
                    key = f"ledger-{index}-{rung.name}-{arm}-{teacher}-{which}"
                    read = outcomes.files_of(sources.runs[0], experiment, index, teacher, arm, which)
                    files = sources.of(dict.fromkeys([*read.teacher, read.base, read.student]))
                    student, base = models.student(experiment, index, arm).name, models.before(experiment, index).name
                    about = f"What the teacher {teacher}, the base and {student} answered to {which} problems. Loss: {loss}."
                    pages.append(_ledger_page(key, f"Error ledger: {student}, {which}", about, files, sources, of_runs))
                    entries.append(LedgerEntry(index, arm, student, teacher, base, loss, counted, key, files))
    return entries, pages


def teachers(experiment: Experiment, sources: Sources) -> list[tuple[TeachersEntry, Evidence]]:
    """The teachers of each rung, and of all rungs where there are several, compared on the probe problems (of the first seed)."""
    run = sources.runs[0]
    probe = [problem for problem in problems.read(run, problems.PROBE) if problem.answer is not None]
    wanted = {problem.id for problem in probe}
    every: dict[str, Written] = {}
    by_rung = []
    for index, rung in enumerate(experiment.rungs):
        own = {}
        for name in rung.teachers:
            traces = [trace for trace in teach.traces_of(run, index, name, without=teach.DRAWN) if trace.problem_id in wanted]
            own[name] = Written(traces, [run.relative(path) for path in teach.shards(run, index, name)])
            every[f"{name}, rung {index}" if name in every else name] = own[name]
        if probe and all(written.traces for written in own.values()):
            by_rung.append(_compared(experiment, sources, probe, own, index))
    if len(by_rung) == 1:
        return by_rung
    together = [_compared(experiment, sources, probe, every, None)] if by_rung else []
    # A table of one teacher compares nothing.
    return [(entry, page) for entry, page in by_rung if len(entry.comparison.teachers) > 1] + together


def _compared(
    experiment: Experiment, sources: Sources, probe: Sequence[Problem], wrote: Mapping[str, Written], rung: int | None
) -> tuple[TeachersEntry, Evidence]:
    own = sources.prefix(sources.runs[0])
    files = tuple(source for written in wrote.values() for source in sources.of(written.shards) if source.path.startswith(own))
    comparison = compare({name: written.traces for name, written in wrote.items()}, probe, experiment.evaluation, rung)
    answered: dict[str, list[tuple[str, Trace]]] = {problem.id: [] for problem in probe}
    for name, written in wrote.items():
        for trace in written.traces:
            answered[trace.problem_id].append((name, trace))
    groups = {
        **{name: f"Traces of {name}" for name in wrote},
        "union": "Problems that at least one trace gets right",
        "disagree": "Problems to which teachers give different answers",
        "same_wrong": "Problems that several teachers get wrong with the same answer",
    }
    rows = []
    for problem in probe:
        joint = _joint([(name, answer(trace)) for name, trace in answered[problem.id]])
        for name, trace in answered[problem.id]:
            values = (name, str(trace.sample), problem.question, problem.answer, trace.answer, trace.verdict, trace.text)
            rows.append(EvidenceRow(problem.id, values, (name, *joint)))
    where = "all rungs" if rung is None else f"rung {rung}"
    about = "The teachers’ traces for the probe problems, which no student is trained on."
    columns = ("teacher", "sample", "question", "gold", "answer", "verdict", "what it wrote")
    key = "teachers" if rung is None else f"teachers-{rung}"
    page = Evidence(key, f"Teachers compared: {where}", about, files, columns, groups, rows)
    return TeachersEntry(comparison, key, files), page


def _joint(answers: Sequence[tuple[str, Answer]]) -> list[str]:
    """What all teachers' answers to one problem have in common or not."""
    groups = ["union"] if any(one.correct for _, one in answers) else []
    if len({one.key for _, one in answers}) > 1 and len({name for name, _ in answers}) > 1:
        groups.append("disagree")
    wrong = {(name, one.key) for name, one in answers if not one.correct and one.key is not None}
    if len({key for _, key in wrong}) < len(wrong):
        groups.append("same_wrong")
    return groups


def answers(
    name: str,
    title: str,
    sources: Sources,
    test: Sequence[Problem],
    greedy: Sequence[Sequence[Trace]],
    teacher: Sequence[Mapping[str, bool]] | None,
    interventions: Sequence[Interventions],
) -> Evidence:
    """One model's greedy answers to the test problems, `greedy` per seed; `teacher` says per seed which problems its teacher gets
    right; `interventions` are those on its chains per seed, if any."""
    by_id = {problem.id: problem for problem in test}
    several = len(sources.runs) > 1
    rows = []
    for number, (run, traces) in enumerate(zip(sources.runs, greedy, strict=True)):
        changed = {row.problem_id: row for row in interventions[number].rows} if interventions else {}
        for trace in traces:
            if trace.problem_id not in by_id:
                continue
            problem, row = by_id[trace.problem_id], changed.get(trace.problem_id)
            values = (problem.question, problem.answer, trace.answer, trace.rule, trace.text)
            taught = None if teacher is None else teacher[number].get(trace.problem_id)
            also = [faithfulness.in_words(row) if row else None] if interventions else []
            groups = [*groups_of(trace, taught), *(_intervention_groups(row) if row else ())]
            rows.append(EvidenceRow(problem.id, (*([run.name] if several else []), *values, *also), tuple(groups)))
    more = ["when its chain is cut or changed"] if interventions else []
    columns = (*(["seed"] if several else []), "question", "gold", "answer", "found by", "what it wrote", *more)
    files = sources.of([layout.within(layout.evaluation(name), layout.GENERATIONS)], f"sample = {outcomes.GREEDY}")
    about = "Greedy answers to the test problems; accuracy is the share of right ones."
    return Evidence(f"answers-{name}", f"Answers: {title}", about, files, columns, ANSWERS, rows)


def groups_of(trace: Trace, taught: bool | None = None) -> Iterator[str]:
    """The groups (`ANSWERS`) that an answer belongs to; `taught` says whether its teacher is right."""
    yield trace.verdict
    right = trace.verdict == "correct"
    if taught is not None and taught != right:
        yield "only_student" if right else "only_teacher"
    valid, parsed = validity(trace.text)
    if valid < parsed:
        yield "wrong_step"
    if loops(trace.text):
        yield "looping"
    if trace.finish == "length":
        yield "cut_off"
    if overruns(trace.text):
        yield "changed_answer"


def _intervention_groups(row: Intervention) -> Iterator[str]:
    half = [answer for fraction, answer in zip(FRACTIONS, row.answers) if fraction <= 0.5]
    if any(same_answer(answer, row.answer) for answer in half):
        yield "early_answering"
    if row.flipped is not None:
        yield "mistakes"


def curations(experiment: Experiment, index: int, sources: Sources) -> Iterator[tuple[str, Evidence]]:
    """Per arm of a rung, what became of every trace (of the first seed)."""
    rung, run = experiment.rungs[index], sources.runs[0]
    traces = {trace.id: trace for name in rung.teachers for trace in teach.traces_of(run, index, name, without=teach.DRAWN)}
    questions = {problem.id: problem for problem in problems.read(run, problems.POOL)}
    for arm in rung.arm_names:
        path = layout.within(layout.arm(models.rung_directory(experiment, index), arm), layout.DISPOSITIONS)
        table = run.optional(path)
        if table is None:  # the rung was skipped
            continue
        dispositions = records.read(table, Disposition)
        reasons = sorted({row.reason for row in dispositions} - {"kept"})
        groups = {"kept": "Kept", **{reason: f"Left out: {reason.replace('_', ' ')}" for reason in reasons}}
        rows = [
            EvidenceRow(
                row.problem_id, _disposition_values(row, traces[row.trace_id], questions.get(row.problem_id)), (row.reason,)
            )
            for row in dispositions
        ]
        files = tuple(source for source in sources.of([path]) if source.path.startswith(sources.prefix(run)))
        about = "What became of each of the teachers’ traces, and at which step."
        columns = ("teacher", "step", "question", "gold", "answer", "verdict", "what it wrote")
        title = f"Curation: {models.student(experiment, index, arm).name}"
        yield arm, Evidence(f"curation-{index}-{rung.name}-{arm}", title, about, files, columns, groups, rows)


def _ledger_page(
    key: str, title: str, about: str, files: Sequence[Source], sources: Sources, of_runs: Sequence[Sequence[Case]]
) -> Evidence:
    several = len(sources.runs) > 1
    rows = [
        EvidenceRow(
            case.problem.id,
            (*([run.name] if several else []), *_case_values(case)),
            cells(case.outcome()),
        )
        for run, cases in zip(sources.runs, of_runs, strict=True)
        for case in cases
    ]
    columns = ("question", "gold", "teacher", "base", "student", "what the teacher wrote", "what the student wrote")
    return Evidence(key, title, about, files, (*(["seed"] if several else []), *columns), CELLS, rows)


def _case_values(case: Case) -> tuple[str | None, ...]:
    answers = (case.teacher.answer, case.base.answer, case.student.answer)
    return (case.problem.question, case.problem.answer, *answers, case.teacher.text, case.student.text)


def _disposition_values(row: Disposition, trace: Trace, problem: Problem | None) -> tuple[str | None, ...]:
    question, gold = (problem.question, problem.answer) if problem else (None, None)
    return (trace.teacher, row.step, question, gold, trace.answer, trace.verdict, trace.text)
