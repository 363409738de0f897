"""The numbers of a run, of one seed or several pooled, gathered from its files into `results.json`, and the page made of them."""

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from w2sr_jax.answers.steps import steps
from w2sr_jax.configuration.encoding import encode
from w2sr_jax.configuration.saved import config_hash
from w2sr_jax.core import files
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation.answered import by_problem, settled
from w2sr_jax.evaluation.scores import Generations, outcomes, score_seeds
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph import manifest as lineage
from w2sr_jax.graph import verified
from w2sr_jax.graph.stage import Context, Made
from w2sr_jax.report.evidence import Evidence
from w2sr_jax.report.write import write
from w2sr_jax.stages import curate, evaluate, faithfulness, models, probing, skips, tables
from w2sr_jax.stages import problems as prepare
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.outcomes import GENERATIONS
from w2sr_jax.stages.report import comparisons, evidence, grading, on_file
from w2sr_jax.stages.report.comparisons import Scored
from w2sr_jax.stages.report.sources import Sources
from w2sr_jax.training import journal

SAMPLES = 12  # problems whose traces the report shows
CURVE = 120  # points of a training curve
REPORT = "report"
"""The stage that makes a run's report, and in the folder of several seeds the one that pools theirs."""


def report(context: Context) -> Made:
    """Write report/index.html and report/results.json of a run with one seed."""
    return pooled(context.run, context.experiment, [context.run])


def pooled(run: Path, experiment: Experiment, runs: Sequence[Path]) -> Made:
    """Write RUN/report from the runs of all seeds."""
    sources = Sources(runs)
    with tables.remembered():
        found, pages = results(experiment, sources)
    written = write(run / "report", found, timings(sources), pages)
    # Numbers and rows must reproduce; the page shows times.
    seals = [path for path in (written.index, written.timings) if path is not None]
    return Made([written.numbers, *written.evidence], {}, {}, f"report at {written.index}", seals)


def commit_pooled(run: Path, experiment: Experiment, runs: Sequence[Path], made: Made, finished: str) -> None:
    """The manifest of the report of all seeds, which stands on theirs."""

    def digest(seed: Path) -> str:
        of_seed = verified.manifest(seed, REPORT)
        return of_seed.digest() if of_seed else ""

    given = tuple(lineage.Given(f"{seed.name}/{REPORT}", partial(digest, seed)) for seed in runs)
    stage = lineage.Stage(run, REPORT, REPORT, files.digest_json(encode(experiment)), given=given)
    stage.commit(made.outputs, {}, {"finished": finished, "note": made.note}, made.seals)


def results(experiment: Experiment, sources: Sources) -> tuple[dict[str, Any], list[Evidence]]:
    """Everything the report shows (report/schema.py says what it looks like), and the pages with the rows behind it."""
    runs = sources.runs
    test = prepare.read(runs[0], prepare.TEST)
    skipped = skips.missing(experiment, runs)
    evaluated = {model.name: model for model in models.all_evaluated(experiment) if model.name not in skipped}
    greedy = {name: np.stack([outcomes(test, evaluate.generations(run, name)[0]) for run in runs]) for name in evaluated}
    on_files = on_file.sat(experiment, runs[0], test)
    scored = Scored(greedy, on_files)
    devices = jax.devices()
    mesh = models.device_mesh(experiment)
    ledgers, pages = evidence.ledgers(experiment, sources)
    beside = evidence.teachers(experiment, sources)
    pages += [page for _, page in beside]
    rungs = [comparisons.rung(experiment, runs, index, scored) for index in range(len(experiment.rungs))]
    for rung in rungs:
        made = dict(evidence.curations(experiment, rung["index"], sources))
        rung["curation_evidence"] = {arm: page.key for arm, page in made.items()}
        folder = models.rung_directory(experiment, rung["index"])
        rung["sources"] = sources.of([f"{folder}/curation.json", *(f"{folder}/{arm}/{curate.FATES}" for arm in made)])
        pages += made.values()
    described: dict[str, Any] = {}
    for recorded in on_file.teachers(experiment):
        if recorded.name in on_files:
            described[recorded.name], page = on_file.described(experiment, sources, recorded, test)
            pages.append(page)
    described |= {name: _model(experiment, sources, model, test) for name, model in evaluated.items()}
    held = {rung["models"][arm]: found["teacher"] for rung in rungs for arm, found in rung["comparisons"].items()}
    for name in evaluated:
        teacher, model = held.get(name), described[name]
        taught = [_right(run, teacher, test, scored) for run in runs] if teacher else None
        traces = [evaluate.generations(run, name)[0] for run in runs]
        page = evidence.answers(name, name, sources, test, traces, taught, _looks(runs, name))
        model["evidence"] = page.key
        pages.append(page)
    verdicts, doubts = grading.grading(experiment, sources, evaluated)
    pages += doubts
    return {
        "name": experiment.name,
        "rehearsal": experiment.rehearsal,
        "experiment": encode(experiment),
        "config_hash": config_hash(experiment),
        "versions": lineage.versions(),
        "device": {"kind": devices[0].device_kind, "count": len(devices), "mesh": dict(mesh.shape)},
        "seeds": list(experiment.seeds),
        "test_problems": len(test),
        "problems": files.read_json(verified.file(runs[0], "problems/report.json")),
        "rungs": rungs,
        "climb": comparisons.climb(experiment, rungs, scored),
        "models": described,
        "ledgers": ledgers,
        "teachers": [found for found, _ in beside],
        "grading": verdicts,
        "warnings": warnings(experiment, runs),
        **({"skipped": list(skipped.values())} if skipped else {}),
        "stages": _stages(sources, devices),
        "samples": _samples(experiment, runs[0], test, evaluated),
    }, pages


def timings(sources: Sources) -> dict[str, Any]:
    """What depends on a clock, by stage."""
    return {
        "stages": {
            sources.prefix(run) + made.stage: {key: made.measures.get(key) for key in ("seconds", "finished")}
            for run, found in sources.manifests.items()
            for made in found
            if made.kind != "report"
        }
    }


def warnings(experiment: Experiment, runs: Sequence[Path]) -> list[str]:
    """What the gates of the probe said, arm by arm."""
    found = []
    for seed, run in zip(experiment.seeds, runs, strict=True):
        for index, rung in enumerate(experiment.rungs):
            said = probing.reasons(run, experiment, index) if rung.probe.every else []
            found += [f"seed {seed}, {words}" if len(runs) > 1 else words for words in said]
    return found


def _model(experiment: Experiment, sources: Sources, model: Model, test: Sequence[Problem]) -> dict[str, Any]:
    runs, folder = sources.runs, f"evaluations/{model.name}"
    generations = [Generations(test, *evaluate.generations(run, model.name)) for run in runs]
    trained = [verified.manifest(run, model.task) for run in runs]
    held = [files.read_json(path) for run in runs if (path := verified.optional(run, f"{folder}/{evaluate.HELD_OUT}"))]
    looked = _looks(runs, model.name)
    curve = _lines(experiment, runs, model, journal.METRICS, ("step", "loss", "nll", "learning_rate"), CURVE)
    probe = _lines(experiment, runs, model, journal.PROBE, ("step", "accuracy", "induced", "n", "n_induced"))
    measures = [dict(manifest.measures) for manifest in trained if manifest]
    own = model.role != models.DIRECT
    return {
        "role": model.role,
        "rung": model.rung,
        "arm": model.arm,
        "parameters": measures[0]["parameters"],
        "scores": score_seeds(generations, experiment.evaluation),
        "held_out": _held_out(held),
        "training": {"curve": curve, "tokens": sum(m.get("tokens", 0) for m in measures)} if curve and own else None,
        "probe": probe if probe and own else None,
        "faithfulness": faithfulness.summary(looked, experiment.evaluation) if looked else None,
        "sources": sources.of(
            [
                *(f"{folder}/{name}" for name in (GENERATIONS, evaluate.SCORES, evaluate.HELD_OUT, evaluate.FAITHFULNESS)),
                *(f"{model.directory}/{name}" for name in (journal.METRICS, journal.PROBE) if own),
            ]
        ),
    }


def _looks(runs: Sequence[Path], name: str) -> list[dict[str, Any]]:
    """What was found when a model's chains were cut and changed, per seed."""
    paths = (verified.optional(run, f"evaluations/{name}/{evaluate.FAITHFULNESS}") for run in runs)
    return [files.read_json(path) for path in paths if path]


def _lines(
    experiment: Experiment, runs: Sequence[Path], model: Model, name: str, keep: tuple[str, ...], most: int | None = None
) -> list[dict[str, Any]]:
    """Lines of a training's journal over all seeds, thinned to about `most` per seed."""
    found: list[dict[str, Any]] = []
    for seed, run in zip(experiment.seeds, runs, strict=True):
        path = verified.optional(run, f"{model.directory}/{name}")
        lines = journal.read(path) if path else []
        every = max(1, len(lines) // most) if most else 1
        found.extend({"seed": seed, **{key: line[key] for key in keep}} for line in lines[::every])
    return found


def right(problems: Sequence[Problem], traces: Sequence[Trace]) -> dict[str, bool]:
    """Which problems a model gets right."""
    known = {problem.id for problem in problems if problem.answer is not None}
    return {trace.problem_id: trace.verdict == "correct" for trace in traces if trace.problem_id in known}


def _right(run: Path, teacher: str, test: Sequence[Problem], scored: Scored) -> dict[str, bool]:
    """Which problems a teacher gets right, of those that it answered."""
    if teacher in scored.on_file:
        return settled(on_file.answers(run, teacher))
    return right(test, evaluate.generations(run, teacher)[0])


def _held_out(found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    known = [held for held in found if held["nll"] is not None]
    if not known:
        return None
    return {
        "nll": statistics.fmean(held["nll"] for held in known),
        "unigram": statistics.fmean(held["unigram"] for held in known),
        "traces": sum(held["traces"] for held in known),
        "tokens": sum(held["tokens"] for held in known),
    }


def _stages(sources: Sources, devices: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": sources.prefix(run) + made.stage,
            "kind": made.kind,
            "tokens": made.measures.get("tokens"),
            "flops": made.measures.get("flops"),
            **({"cost": made.measures["cost"]} if "cost" in made.measures else {}),
            "device": f"{len(devices)} × {devices[0].device_kind}",
        }
        for run, found in sources.manifests.items()
        for made in found
        if made.kind != "report" and skips.of(made) is None
    ]


def _samples(experiment: Experiment, run: Path, test: Sequence[Problem], evaluated: dict[str, Model]) -> list[dict[str, Any]]:
    """The first test problems with the greedy traces of the teacher and of the last rung's models: no choice by outcome."""
    last = len(experiment.rungs) - 1
    shown = [m for m in evaluated.values() if m.role in ("teacher", "student", "gold") and m.rung in (None, last)]
    traces = {model.name: {trace.problem_id: trace for trace in evaluate.generations(run, model.name)[0]} for model in shown}
    written = {teacher.name: by_problem(on_file.answers(run, teacher.name)) for teacher in on_file.teachers(experiment)}
    return [
        {
            "problem": {"id": problem.id, "question": problem.question, "answer": problem.answer},
            "traces": [
                *(_shown(own[problem.id][0], name, on_file.ROLE) for name, own in written.items() if problem.id in own),
                *(_shown(traces[model.name][problem.id], model.name, model.role) for model in shown),
            ],
        }
        for problem in test[:SAMPLES]
    ]


def _shown(trace: Trace, name: str, role: str) -> dict[str, Any]:
    return {
        "model": name,
        "role": role,
        "text": trace.text,
        "verdict": trace.verdict,
        "rule": trace.rule,
        "finish": trace.finish,
        "steps": [{"start": step.start, "end": step.end, "valid": step.valid} for step in steps(trace.text)],
    }
