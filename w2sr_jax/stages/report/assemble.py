"""The numbers of a run, of one seed or several pooled, gathered from its files into `results.json`, and the page made of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from math import prod
from typing import TypeVar

import jax
import numpy as np

from w2sr_jax.answers.steps import steps
from w2sr_jax.configuration.encoding import encode
from w2sr_jax.configuration.saved import config_hash
from w2sr_jax.core import codec
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation.answered import by_problem, unanimous
from w2sr_jax.evaluation.cost import GOODPUT, Sittings, StageCost, StageTime, Timings
from w2sr_jax.evaluation.faithfulness import Interventions
from w2sr_jax.evaluation.scores import Generations, HeldOut, outcomes, score_seeds
from w2sr_jax.evaluation.statistics import Difference, Reals, paired
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph import manifest as lineage
from w2sr_jax.graph import skips
from w2sr_jax.graph.stage import StageResult
from w2sr_jax.graph.store import RunStore
from w2sr_jax.parallel.placement import mesh_of
from w2sr_jax.report.evidence import Evidence
from w2sr_jax.report.results import (
    Device,
    Model,
    Problems,
    Results,
    Sample,
    SampleProblem,
    SampleStep,
    SampleTrace,
    Skipped,
)
from w2sr_jax.report.write import write
from w2sr_jax.stages import evaluate, faithfulness, layout, models, placing, probing, tables
from w2sr_jax.stages import problems as prepare
from w2sr_jax.stages.report import arms, comparisons, curves, evidence, grading, on_file
from w2sr_jax.stages.report.comparisons import Scored
from w2sr_jax.stages.report.sources import Sources

T = TypeVar("T")

SAMPLES = 12  # problems whose traces the report shows
EVALUATED = (layout.GENERATIONS, layout.SCORES, layout.HELD_OUT, layout.FAITHFULNESS)


def pooled(run: RunStore, experiment: Experiment, runs: Sequence[RunStore]) -> StageResult:
    """Write RUN/report from the runs of all seeds."""
    sources = Sources(runs)
    with tables.remembered():
        gathered, pages = results(experiment, sources)
    written = write(run.path(layout.REPORT), gathered, timings(sources), pages)
    # Numbers and rows must reproduce; the page shows times.
    seals = [path for path in (written.index, written.timings) if path is not None]
    where = written.index if run.mirror is None else f"{run.mirror.bucket.address}/{layout.PAGE}"
    return StageResult([written.numbers, *written.evidence], note=f"report at {where}", seals=seals)


def results(experiment: Experiment, sources: Sources) -> tuple[Results, list[Evidence]]:
    """Everything the report shows, and the pages with the rows behind it."""
    runs = sources.runs
    test = prepare.read(runs[0], prepare.TEST)
    skipped = missing(experiment, runs)
    evaluated = {model.name: model for model in models.all_evaluated(experiment) if model.name not in skipped}
    greedy = {name: np.stack([outcomes(test, evaluate.generations(run, name)[0]) for run in runs]) for name in evaluated}
    scored = Scored(greedy, on_file.scored(experiment, runs[0], test))
    devices = jax.devices()
    ledgers, pages = evidence.ledgers(experiment, sources)
    compared = evidence.teachers(experiment, sources)
    pages += [page for _, page in compared]
    problems = codec.read(Problems, runs[0].file(layout.PROBLEMS_REPORT))
    trained = arms.trainings(experiment, sources, problems.splits.get(prepare.POOL, 0))
    rungs = []
    for index in range(len(experiment.rungs)):
        curations = dict(evidence.curations(experiment, index, sources))
        folder = models.rung_directory(experiment, index)
        tables_of = [
            layout.within(folder, layout.FUNNELS),
            *(layout.within(layout.arm(folder, arm), layout.DISPOSITIONS) for arm in curations),
        ]
        keys = {arm: page.key for arm, page in curations.items()}
        rungs.append(comparisons.rung(experiment, sources, index, scored, keys, tables_of, trained[index]))
        pages += curations.values()
    described: dict[str, Model] = {}
    for recorded in on_file.teachers(experiment):
        if recorded.name in scored.on_file:
            described[recorded.name], page = on_file.described(experiment, sources, recorded, test)
            pages.append(page)
    held = {rung.models[arm]: comparison.teacher for rung in rungs for arm, comparison in rung.comparisons.items()}
    for name, model in evaluated.items():
        teacher = held.get(name)
        taught = [_right(run, teacher, test, scored) for run in runs] if teacher else None
        interventions = _each(runs, layout.within(layout.evaluation(name), layout.FAITHFULNESS), Interventions)
        traces = [evaluate.generations(run, name)[0] for run in runs]
        page = evidence.answers(name, name, sources, test, traces, taught, interventions)
        described[name] = _model(experiment, sources, model, test, interventions, page.key, _gain(experiment, model, greedy))
        pages.append(page)
    verdicts, doubts = grading.grading(experiment, sources, evaluated)
    pages += doubts
    return Results(
        name=experiment.name,
        rehearsal=experiment.rehearsal,
        experiment=encode(experiment),
        config_hash=config_hash(experiment),
        versions=lineage.versions(),
        device=Device(devices[0].device_kind, len(devices), dict(mesh_of(placing.of_largest(experiment)).shape)),
        seeds=experiment.seeds,
        test_problems=len(test),
        problems=problems,
        rungs=tuple(rungs),
        climb=comparisons.climb(experiment, rungs, scored),
        models=described,
        ledgers=tuple(ledgers),
        teachers=tuple(entry for entry, _ in compared),
        grading=verdicts,
        warnings=tuple(warnings(experiment, runs)),
        skipped=tuple(skipped.values()),
        stages=_stages(sources, f"{len(devices)} × {devices[0].device_kind}"),
        samples=_samples(experiment, runs[0], test, evaluated),
    ), pages


def missing(experiment: Experiment, runs: Sequence[RunStore]) -> dict[str, Skipped]:
    """The models that a report of these runs, one per seed, has to do without, by name: those that some seed has skipped."""
    skipped: dict[str, Skipped] = {}
    for model in models.all_evaluated(experiment):
        for seed, run in zip(experiment.seeds, runs, strict=True):
            skip = skips.of(run.peek(layout.evaluation(model.name)))
            if skip is not None:
                first = Skipped(model.name, model.rung, model.arm, skip.reason, skips.student(skip.origin), ())
                entry = skipped.get(model.name, first)
                skipped[model.name] = dataclasses.replace(entry, seeds=(*entry.seeds, seed))
    return skipped


def timings(sources: Sources) -> Timings:
    """What depends on a clock, by stage."""
    return Timings(
        {
            sources.prefix(run) + manifest.stage: _time(manifest)
            for run, manifests in sources.manifests.items()
            for manifest in manifests
            if manifest.kind != layout.REPORT
        }
    )


def _time(manifest: lineage.Manifest) -> StageTime:
    measures = manifest.measures
    sittings = codec.decode(Sittings, measures[GOODPUT], f"the manifest of {manifest.stage}") if GOODPUT in measures else None
    return StageTime(measures.get("seconds"), measures.get("finished"), sittings, _devices(manifest))


def _devices(manifest: lineage.Manifest) -> int | None:
    """On how many devices a stage computed: those of its mesh, one where it has none and leaves them idle; None where nothing
    is known of a mesh."""
    mesh = manifest.environment.get("mesh")
    return None if mesh is None else prod(int(axis.rpartition(" ")[2]) for axis in mesh.split(",") if axis)


def warnings(experiment: Experiment, runs: Sequence[RunStore]) -> list[str]:
    """What the gates of the probe said, arm by arm."""
    every = []
    for seed, run in zip(experiment.seeds, runs, strict=True):
        for index in range(len(experiment.rungs)):
            of_rung = probing.warnings(run, experiment, index)
            every += [f"seed {seed}, {text}" if len(runs) > 1 else text for text in of_rung]
    return every


def _model(
    experiment: Experiment,
    sources: Sources,
    model: models.Model,
    test: Sequence[Problem],
    interventions: Sequence[Interventions],
    page: str,
    gain: tuple[str, Difference] | None,
) -> Model:
    runs, folder = sources.runs, layout.evaluation(model.name)
    generations = [Generations(test, *evaluate.generations(run, model.name)) for run in runs]
    trained = [run.manifest(model.stage) for run in runs]
    measures = [manifest.measures for manifest in trained if manifest]
    own = model.role != models.DIRECT
    logs = curves.logs(experiment, runs, model) if own else []
    probe = curves.probe(experiment, runs, model) if own else ()
    made = curves.chain(experiment, model) if own else []
    return Model(
        role=model.role,
        rung=model.rung,
        arm=model.arm,
        parameters=measures[0]["parameters"],
        scores=score_seeds(generations, experiment.evaluation),
        held_out=HeldOut.pooled(_each(runs, layout.within(folder, layout.HELD_OUT), HeldOut)),
        training=logs[-1] if logs else None,
        earlier=tuple(logs[:-1]),
        before=None if gain is None else gain[0],
        vs_before=None if gain is None else gain[1],
        probe=probe or None,
        faithfulness=faithfulness.summary(interventions, experiment.evaluation) if interventions else None,
        evidence=page,
        sources=sources.of(
            [
                *(layout.within(folder, name) for name in EVALUATED),
                *(layout.within(each.directory, layout.METRICS) for each in made),
                *(layout.within(each.directory, layout.PROBE) for each in made),
            ]
        ),
    )


def _gain(experiment: Experiment, model: models.Model, greedy: Mapping[str, Reals]) -> tuple[str, Difference] | None:
    """What a teacher's own training stages have brought: the model before them, and the paired difference. None for others."""
    if model.role != "teacher":
        return None
    first = models.teacher_chain(experiment.teachers[models.teacher_of(experiment, model)])[0]
    if first.name == model.name or first.name not in greedy:
        return None
    return first.name, paired(greedy[model.name], greedy[first.name], experiment.evaluation)


def _each(runs: Sequence[RunStore], name: str, kind: type[T]) -> list[T]:
    """What a file holds in each of the runs that have it."""
    paths = (run.optional(name) for run in runs)
    return [codec.read(kind, path) for path in paths if path]


def right(problems: Sequence[Problem], traces: Sequence[Trace]) -> dict[str, bool]:
    """Which problems a model gets right."""
    graded = {problem.id for problem in problems if problem.answer is not None}
    return {trace.problem_id: trace.verdict == "correct" for trace in traces if trace.problem_id in graded}


def _right(run: RunStore, teacher: str, test: Sequence[Problem], scored: Scored) -> dict[str, bool]:
    """Which problems a teacher gets right, of those that it answered."""
    if teacher in scored.on_file:
        return unanimous(on_file.answers(run, teacher))
    return right(test, evaluate.generations(run, teacher)[0])


def _stages(sources: Sources, device: str) -> tuple[StageCost, ...]:
    return tuple(
        StageCost(
            name=sources.prefix(run) + manifest.stage,
            kind=manifest.kind,
            tokens=manifest.measures.get("tokens"),
            flops=manifest.measures.get("flops"),
            cost=manifest.measures.get("cost"),
            device=device,
        )
        for run, manifests in sources.manifests.items()
        for manifest in manifests
        if manifest.kind != layout.REPORT and skips.of(manifest) is None
    )


def _samples(
    experiment: Experiment, run: RunStore, test: Sequence[Problem], evaluated: Mapping[str, models.Model]
) -> tuple[Sample, ...]:
    """The first test problems with the greedy traces of the teacher and of the last rung's models: no choice by outcome."""
    last = len(experiment.rungs) - 1
    shown = [m for m in evaluated.values() if m.role in ("teacher", "student", "gold") and m.rung in (None, last)]
    traces = {model.name: {trace.problem_id: trace for trace in evaluate.generations(run, model.name)[0]} for model in shown}
    written = {teacher.name: by_problem(on_file.answers(run, teacher.name)) for teacher in on_file.teachers(experiment)}
    return tuple(
        Sample(
            SampleProblem(problem.id, problem.question, problem.answer),
            (
                *(_sample(own[problem.id][0], name, on_file.ROLE) for name, own in written.items() if problem.id in own),
                *(_sample(traces[model.name][problem.id], model.name, model.role) for model in shown),
            ),
        )
        for problem in test[:SAMPLES]
    )


def _sample(trace: Trace, name: str, role: str) -> SampleTrace:
    marks = tuple(SampleStep(step.start, step.end, step.valid) for step in steps(trace.text))
    return SampleTrace(name, role, trace.text, trace.verdict, trace.rule, trace.finish, marks)
