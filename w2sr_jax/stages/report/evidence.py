"""Where the teachers' errors went, how teachers differ, and the rows behind the report's numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from w2sr_jax.answers.quality import loops
from w2sr_jax.answers.steps import validity
from w2sr_jax.configuration.words import words
from w2sr_jax.core import records
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.fates import Fate
from w2sr_jax.evaluation.faithfulness import FRACTIONS, same_answer
from w2sr_jax.evaluation.ledger import CELLS, Answer, answer, cells, ledger
from w2sr_jax.evaluation.process import overruns
from w2sr_jax.evaluation.teachers import compare
from w2sr_jax.experiment import GOLD, Experiment
from w2sr_jax.graph import verified
from w2sr_jax.report.evidence import Evidence, EvidenceRow
from w2sr_jax.report.schema_evidence import Source
from w2sr_jax.stages import curate, faithfulness, models, outcomes, problems
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


def ledgers(experiment: Experiment, sources: Sources) -> tuple[list[dict[str, Any]], list[Evidence]]:
    """The error ledger of every rung, teacher, arm (the ceiling too) and set, and the pages with their problems."""
    found, pages = [], []
    for index, rung in enumerate(experiment.rungs):
        for teacher in rung.teachers:
            for arm in (*rung.arms, *((GOLD,) if rung.gold else ())):
                for which in outcomes.SETS:
                    of_runs = [outcomes.cases(run, experiment, index, teacher, arm, which) for run in sources.runs]
                    if not all(of_runs):
                        continue
                    said = ledger([[case.outcome() for case in cases] for cases in of_runs], which, experiment.evaluation)
                    key = f"ledger-{index}-{rung.name}-{arm}-{teacher}-{which}"
                    read = outcomes.files_of(sources.runs[0], experiment, index, teacher, arm, which)
                    files = sources.of(dict.fromkeys([*read.teacher, read.base, read.student]))
                    student, base = models.student(experiment, index, arm).name, models.before(experiment, index).name
                    loss = words(rung.objective.loss)
                    about = f"What the teacher {teacher}, the base and {student} answered to {which} problems. Loss: {loss}."
                    pages.append(_ledger_page(key, f"Error ledger: {student}, {which}", about, files, sources, of_runs))
                    names = {"rung": index, "arm": arm, "student": student, "teacher": teacher, "base": base, "loss": loss}
                    found.append({**names, **said, "evidence": key, "sources": files})
    return found, pages


def teachers(experiment: Experiment, sources: Sources) -> list[tuple[dict[str, Any], Evidence]]:
    """The teachers of each rung, and of all rungs where there are several, compared on the probe problems (of the first seed)."""
    run = sources.runs[0]
    probe = [problem for problem in problems.read(run, problems.PROBE) if problem.answer is not None]
    known = {problem.id for problem in probe}
    wrote: dict[str, tuple[list[Trace], list[str]]] = {}
    found = []
    for index, rung in enumerate(experiment.rungs):
        own = {}
        for name in rung.teachers:
            traces = [trace for trace in teach.traces_of(run, index, name, without=teach.DRAWN) if trace.problem_id in known]
            own[name] = traces, [str(path.relative_to(run)) for path in teach.shards(run, index, name)]
            wrote[f"{name}, rung {index}" if name in wrote else name] = own[name]
        if probe and all(traces for traces, _ in own.values()):
            found.append(_compared(experiment, sources, probe, own, index))
    if len(found) == 1:
        return found
    everyone = [_compared(experiment, sources, probe, wrote, None)] if found else []
    # A table of one teacher compares nothing.
    return [entry for entry in found if len(entry[0]["teachers"]) > 1] + everyone


def _compared(
    experiment: Experiment,
    sources: Sources,
    probe: Sequence[Problem],
    wrote: Mapping[str, tuple[list[Trace], list[str]]],
    rung: int | None,
) -> tuple[dict[str, Any], Evidence]:
    own = sources.prefix(sources.runs[0])
    files = [entry for _, shards in wrote.values() for entry in sources.of(shards) if entry["path"].startswith(own)]
    said = compare({name: traces for name, (traces, _) in wrote.items()}, probe, experiment.evaluation)
    answered: dict[str, list[tuple[str, Trace]]] = {problem.id: [] for problem in probe}
    for name, (traces, _) in wrote.items():
        for trace in traces:
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
    return {**said, "rung": rung, "evidence": key, "sources": files}, page


def _joint(answers: Sequence[tuple[str, Answer]]) -> list[str]:
    """What all teachers' answers to one problem have in common or not."""
    found = ["union"] if any(given.correct for _, given in answers) else []
    if len({given.key for _, given in answers}) > 1 and len({name for name, _ in answers}) > 1:
        found.append("disagree")
    wrong = {(name, given.key) for name, given in answers if not given.correct and given.key is not None}
    if len({key for _, key in wrong}) < len(wrong):
        found.append("same_wrong")
    return found


def answers(
    name: str,
    title: str,
    sources: Sources,
    test: Sequence[Problem],
    greedy: Sequence[Sequence[Trace]],
    teacher: Sequence[Mapping[str, bool]] | None,
    looks: Sequence[Mapping[str, Any]],
) -> Evidence:
    """One model's greedy answers to the test problems, `greedy` per seed; `teacher` says per seed which problems its teacher gets
    right; `looks` are what `faithful.look` found per seed, if anything."""
    known = {problem.id: problem for problem in test}
    several = len(sources.runs) > 1
    rows = []
    for number, (run, traces) in enumerate(zip(sources.runs, greedy, strict=True)):
        looked = {row["problem_id"]: row for row in looks[number]["rows"]} if looks else {}
        for trace in traces:
            if trace.problem_id not in known:
                continue
            problem, row = known[trace.problem_id], looked.get(trace.problem_id)
            values = (problem.question, problem.answer, trace.answer, trace.rule, trace.text)
            taught = None if teacher is None else teacher[number].get(trace.problem_id)
            also = [faithfulness.shown(row) if row else None] if looks else []
            groups = [*groups_of(trace, taught), *(_looked_groups(row) if row else ())]
            rows.append(EvidenceRow(problem.id, (*([run.name] if several else []), *values, *also), tuple(groups)))
    more = ["when its chain is cut or changed"] if looks else []
    columns = (*(["seed"] if several else []), "question", "gold", "answer", "found by", "what it wrote", *more)
    files = sources.of([f"evaluations/{name}/{outcomes.GENERATIONS}"], f"sample = {outcomes.GREEDY}")
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


def _looked_groups(row: Mapping[str, Any]) -> Iterator[str]:
    half = [given for fraction, given in zip(FRACTIONS, row["answers"]) if fraction <= 0.5]
    if any(same_answer(given, row["answer"]) for given in half):
        yield "early_answering"
    if row["flipped"] is not None:
        yield "mistakes"


def curations(experiment: Experiment, index: int, sources: Sources) -> Iterator[tuple[str, Evidence]]:
    """Per arm of a rung, what became of every trace (of the first seed)."""
    rung, run = experiment.rungs[index], sources.runs[0]
    traces = {trace.id: trace for name in rung.teachers for trace in teach.traces_of(run, index, name, without=teach.DRAWN)}
    questions = {problem.id: problem for problem in problems.read(run, problems.POOL)}
    for arm in rung.arms:
        path = f"{models.rung_directory(experiment, index)}/{arm}/{curate.FATES}"
        told = verified.optional(run, path)
        if told is None:  # the rung was skipped
            continue
        fates = records.read(told, Fate)
        reasons = sorted({fate.reason for fate in fates} - {"kept"})
        groups = {"kept": "Kept", **{reason: f"Left out: {reason.replace('_', ' ')}" for reason in reasons}}
        rows = [
            EvidenceRow(
                fate.problem_id, _fate_values(fate, traces[fate.trace_id], questions.get(fate.problem_id)), (fate.reason,)
            )
            for fate in fates
        ]
        files = [entry for entry in sources.of([path]) if entry["path"].startswith(sources.prefix(run))]
        about = "What became of each of the teachers’ traces, and at which step."
        columns = ("teacher", "step", "question", "gold", "answer", "verdict", "what it wrote")
        title = f"Curation: {models.student(experiment, index, arm).name}"
        yield arm, Evidence(f"curation-{index}-{rung.name}-{arm}", title, about, files, columns, groups, rows)


def _ledger_page(
    key: str, title: str, about: str, files: list[Source], sources: Sources, of_runs: Sequence[Sequence[Case]]
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


def _fate_values(fate: Fate, trace: Trace, problem: Problem | None) -> tuple[str | None, ...]:
    question, gold = (problem.question, problem.answer) if problem else (None, None)
    return (trace.teacher, fate.step, question, gold, trace.answer, trace.verdict, trace.text)
