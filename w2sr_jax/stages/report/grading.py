"""How the verdicts of a run came about, gathered from its files: for the traces of teachers, the answers of models, and the wrong
traces that a student learns from."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from w2sr_jax.core import records
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.dispositions import KEPT, Disposition
from w2sr_jax.evaluation.grading import Doubt, Doubts, doubt, readings
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.store import RunStore
from w2sr_jax.report.evidence import Evidence, EvidenceRow
from w2sr_jax.report.results import DoubtsEntry, Grading, ReadingsEntry
from w2sr_jax.stages import evaluate, layout, models, outcomes
from w2sr_jax.stages import problems as prepare
from w2sr_jax.stages import traces as teach
from w2sr_jax.stages.report.sources import Sources

WRONG = (-1,)
"""The verdicts of an arm that learns from wrong traces alone; see `Select.verdicts`."""
NAMED = 12  # doubted problems named in results.json
GROUPS = {
    "doubted": "Correct by the second opinion",
    "silent": "No second opinion",
    "agreed": "Incorrect by both",
}


def grading(experiment: Experiment, sources: Sources, evaluated: Collection[str]) -> tuple[Grading, list[Evidence]]:
    """Rules and graders of all texts, second opinions on the wrong traces, and the pages with the latter."""
    entries: list[ReadingsEntry] = []
    wrong, pages = [], []
    for index, rung in enumerate(experiment.rungs):
        for teacher in rung.teachers:
            shards = {run: teach.shards(run, index, teacher) for run in sources.runs}
            traces = (trace for paths in shards.values() for trace in _traces(paths))
            files = sources.of(dict.fromkeys(run.relative(path) for run, paths in shards.items() for path in paths))
            entries.append(ReadingsEntry("traces", teacher, index, readings(traces), None, files))
        for arm in rung.selected_arms:
            if arm.select.verdicts == WRONG and models.student(experiment, index, arm.name).name in evaluated:
                entry, page = _doubts(experiment, index, arm.name, sources)
                wrong.append(entry)
                pages.append(page)
    for name in evaluated:
        files = sources.of([layout.within(layout.evaluation(name), layout.GENERATIONS)], f"sample = {outcomes.GREEDY}")
        answers = (trace for run in sources.runs for trace in evaluate.generations(run, name)[0])
        entries.append(ReadingsEntry("answers", name, None, readings(answers), f"answers-{name}", files))
    return Grading(
        tuple(entry for entry in entries if entry.readings.texts), tuple(entry for entry in wrong if entry.doubts.traces)
    ), pages


def _doubts(experiment: Experiment, index: int, arm: str, sources: Sources) -> tuple[DoubtsEntry, Evidence]:
    several = len(sources.runs) > 1
    name = experiment.rungs[index].name
    key = f"wrong-{index}-{name}" if arm == "incorrect" else f"wrong-{index}-{name}-{arm}"
    counts: Counter[Doubt] = Counter()
    problems: dict[str, None] = {}
    rows = []
    for run in sources.runs:
        for problem, trace in _kept(run, experiment, index, arm):
            kind, opinion = doubt(trace, problem)
            counts[kind] += 1
            if kind == "doubted" and len(problems) < NAMED:
                problems[problem.id] = None
            values = (trace.teacher, problem.question, problem.answer, trace.answer, trace.rule, opinion.answer, trace.text)
            rows.append(EvidenceRow(problem.id, (*([run.name] if several else []), *values), (kind,)))
    path = layout.within(layout.arm(models.rung_directory(experiment, index), arm), layout.DISPOSITIONS)
    files = sources.of([path], f"reason = {KEPT}")
    doubts = Doubts(counts.total(), counts["agreed"], counts["doubted"], counts["silent"], tuple(problems))
    columns = ("teacher", "question", "gold", "answer", "found by", "second opinion read", "what it wrote")
    about = "The wrong traces that a student learns from, and what rules of another make say of them."
    title = f"Wrong traces: {models.student(experiment, index, arm).name}"
    page = Evidence(key, title, about, files, (*(["seed"] if several else []), *columns), GROUPS, rows)
    return DoubtsEntry(index, arm, doubts, key, files), page


def _kept(run: RunStore, experiment: Experiment, index: int, arm: str) -> Iterator[tuple[Problem, Trace]]:
    """The wrong traces that the arm was given, with their problems."""
    rung = experiment.rungs[index]
    path = run.file(layout.within(layout.arm(models.rung_directory(experiment, index), arm), layout.DISPOSITIONS))
    kept = {row.trace_id for row in records.iterate(path, Disposition) if row.reason == KEPT}
    problems = {problem.id: problem for problem in prepare.read(run, prepare.POOL)}
    for teacher in rung.teachers:
        for trace in _traces(teach.shards(run, index, teacher)):
            if trace.id in kept and trace.problem_id in problems:
                yield problems[trace.problem_id], trace


def _traces(paths: Sequence[Path]) -> Iterator[Trace]:
    for path in paths:
        yield from records.iterate(path, Trace, without=teach.DRAWN)
