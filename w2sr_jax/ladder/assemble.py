"""The numbers of a run, of one seed or several pooled, gathered from its files into `results.json`, and the page made of them."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from w2sr_jax import files, lineage
from w2sr_jax.answers.steps import steps
from w2sr_jax.evaluation.scores import Generations, compare, outcomes, score_seeds
from w2sr_jax.experiment import BASE, GOLD, Experiment, Graduate, ModelTeacher
from w2sr_jax.ladder import curate, evidence, faithful, graded, measure, models, prepare, probing, tables
from w2sr_jax.ladder.models import Model
from w2sr_jax.ladder.outcomes import GENERATIONS
from w2sr_jax.ladder.sources import Sources
from w2sr_jax.ladder.task import Context, Made
from w2sr_jax.records import Problem, Trace
from w2sr_jax.report.evidence import Evidence
from w2sr_jax.report.rule import headline_arm, headline_comparison
from w2sr_jax.report.write import write
from w2sr_jax.saved import config_hash, encode
from w2sr_jax.training import journal

SAMPLES = 12  # problems whose traces the report shows
CURVE = 120  # points of a training curve


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


def results(experiment: Experiment, sources: Sources) -> tuple[dict[str, Any], list[Evidence]]:
    """Everything the report shows (report/schema.py says what it looks like), and the pages with the rows behind it."""
    runs = sources.runs
    test = prepare.read(runs[0], prepare.TEST)
    evaluated = {model.name: model for model in _models(experiment)}
    greedy = {
        name: np.stack([outcomes(test, measure.generations(run / "evaluations" / name)[0]) for run in runs]) for name in evaluated
    }
    devices = jax.devices()
    mesh = models.device_mesh(experiment)
    ledgers, pages = evidence.ledgers(experiment, sources)
    compared = evidence.teachers(experiment, sources)
    pages += [page for _, page in compared]
    rungs = [_rung(experiment, runs, index, greedy) for index in range(len(experiment.rungs))]
    for rung in rungs:
        made = dict(evidence.curations(experiment, rung["index"], sources))
        rung["curation_evidence"] = {arm: page.key for arm, page in made.items()}
        folder = models.rung_directory(experiment, rung["index"])
        rung["sources"] = sources.of([f"{folder}/curation.json", *(f"{folder}/{arm}/{curate.FATES}" for arm in made)])
        pages += made.values()
    described = {name: _model(experiment, sources, model, test) for name, model in evaluated.items()}
    held = {rung["models"][arm]: found["teacher"] for rung in rungs for arm, found in rung["comparisons"].items()}
    for name, model in described.items():
        teacher = held.get(name)
        taught = [right(test, measure.generations(run / "evaluations" / teacher)[0]) for run in runs] if teacher else None
        traces = [measure.generations(run / "evaluations" / name)[0] for run in runs]
        page = evidence.answers(name, name, sources, test, traces, taught, _looks(runs, name))
        model["evidence"] = page.key
        pages.append(page)
    verdicts, doubts = graded.grading(experiment, sources, evaluated)
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
        "problems": files.read_json(runs[0] / "problems" / "report.json"),
        "rungs": rungs,
        "climb": _climb(experiment, rungs, greedy),
        "models": described,
        "ledgers": ledgers,
        "teachers": [found for found, _ in compared],
        "grading": verdicts,
        "warnings": warnings(experiment, runs),
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


def _models(experiment: Experiment) -> list[Model]:
    """All models that are evaluated, teachers first."""
    found = [models.teacher(teacher) for teacher in experiment.teachers if isinstance(teacher, ModelTeacher)]
    for index in range(len(experiment.rungs)):
        found.extend(models.evaluated(experiment, index))
    return found


def _rung(experiment: Experiment, runs: Sequence[Path], index: int, greedy: dict[str, Any]) -> dict[str, Any]:
    rung = experiment.rungs[index]
    own = {model.arm or "": model.name for model in models.evaluated(experiment, index)}
    teachers = [_teacher_model(experiment, index, name) for name in rung.teachers]
    answering = [name for name in teachers if name in greedy]
    # With several teachers a student is held against the best of them: outgrowing the weakest would prove little.
    best = max(answering, key=lambda name: float(greedy[name].mean()), default=None)
    comparisons = {}
    for arm in rung.arms:
        found = compare(
            greedy[own[arm]],
            greedy[best] if best else None,
            greedy[own[BASE]],
            greedy[own[GOLD]] if rung.gold else None,
            experiment.evaluation,
        )
        comparisons[arm] = {**found, "teacher": best}
    curation = files.read_json(runs[0] / models.rung_directory(experiment, index) / "curation.json")
    config = models.sized(rung.model, prepare.renderer(runs[0]))
    parent = getattr(rung.start, "arm", None)
    return {
        "index": index,
        "name": rung.name,
        "student": {"parameters": config.parameters(), "width": config.width, "layers": config.layers},
        "teachers": teachers,
        "parent": models.student(experiment, index - 1, parent).name if parent else None,
        "models": own,
        "comparisons": comparisons,
        "curation": curation,
        "traces": [_traces(experiment, runs, index, name) for name in rung.teachers],
    }


def _climb(experiment: Experiment, rungs: Sequence[dict[str, Any]], greedy: dict[str, Any]) -> dict[str, Any] | None:
    """From end to end: the last rung's student against the teacher of the first, each as the rule has it."""
    if len(rungs) < 2:
        return None
    teacher = headline_comparison(rungs[0]).get("teacher")
    student = rungs[-1]["models"].get(headline_arm(rungs[-1]) or "")
    if teacher not in greedy or student not in greedy or greedy[teacher].shape != greedy[student].shape:
        return None
    difference = compare(greedy[student], greedy[teacher], None, None, experiment.evaluation)["vs_teacher"]
    return {"student": student, "teacher": teacher, "difference": difference}


def _teacher_model(experiment: Experiment, index: int, name: str) -> str:
    """The model behind a teacher's name."""
    teacher = next(teacher for teacher in experiment.teachers if teacher.name == name)
    return models.student(experiment, index - 1, teacher.arm).name if isinstance(teacher, Graduate) else name


def _traces(experiment: Experiment, runs: Sequence[Path], index: int, name: str) -> dict[str, Any]:
    """How many traces a teacher wrote for a rung, and how many of them are right."""
    made = [lineage.load(run, f"{models.rung_directory(experiment, index)}/traces-{name}") for run in runs]
    measures = [manifest.measures for manifest in made if manifest]
    traces, graded, correct = (sum(m[key] for m in measures) for key in ("traces", "graded", "correct"))
    return {
        "teacher": name,
        "traces": traces,
        "graded": graded,
        "correct": correct,
        "accuracy": correct / graded if graded else None,
    }


def _model(experiment: Experiment, sources: Sources, model: Model, test: Sequence[Problem]) -> dict[str, Any]:
    runs, folder = sources.runs, f"evaluations/{model.name}"
    generations = [Generations(test, *measure.generations(run / folder)) for run in runs]
    trained = [lineage.load(run, model.task) for run in runs]
    held = [files.read_json(path) for run in runs if (path := run / folder / measure.HELD_OUT).exists()]
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
        "faithfulness": faithful.summary(looked, experiment.evaluation) if looked else None,
        "sources": sources.of(
            [
                *(f"{folder}/{name}" for name in (GENERATIONS, measure.SCORES, measure.HELD_OUT, measure.FAITHFULNESS)),
                *(f"{model.directory}/{name}" for name in (journal.METRICS, journal.PROBE) if own),
            ]
        ),
    }


def _looks(runs: Sequence[Path], name: str) -> list[dict[str, Any]]:
    """What was found when a model's chains were cut and changed, per seed."""
    paths = (run / "evaluations" / name / measure.FAITHFULNESS for run in runs)
    return [files.read_json(path) for path in paths if path.exists()]


def _lines(
    experiment: Experiment, runs: Sequence[Path], model: Model, name: str, keep: tuple[str, ...], most: int | None = None
) -> list[dict[str, Any]]:
    """Lines of a training's journal over all seeds, thinned to about `most` per seed."""
    found: list[dict[str, Any]] = []
    for seed, run in zip(experiment.seeds, runs, strict=True):
        lines = journal.read(run / model.directory / name)
        every = max(1, len(lines) // most) if most else 1
        found.extend({"seed": seed, **{key: line[key] for key in keep}} for line in lines[::every])
    return found


def right(problems: Sequence[Problem], traces: Sequence[Trace]) -> dict[str, bool]:
    """Which problems a model gets right."""
    known = {problem.id for problem in problems if problem.answer is not None}
    return {trace.problem_id: trace.verdict == "correct" for trace in traces if trace.problem_id in known}


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
        if made.kind != "report"
    ]


def _samples(experiment: Experiment, run: Path, test: Sequence[Problem], evaluated: dict[str, Model]) -> list[dict[str, Any]]:
    """The first test problems with the greedy traces of the teacher and of the last rung's models: no choice by outcome."""
    last = len(experiment.rungs) - 1
    shown = [m for m in evaluated.values() if m.role in ("teacher", "student", "gold") and m.rung in (None, last)]
    traces = {
        model.name: {trace.problem_id: trace for trace in measure.generations(run / "evaluations" / model.name)[0]}
        for model in shown
    }
    return [
        {
            "problem": {"id": problem.id, "question": problem.question, "answer": problem.answer},
            "traces": [_shown(traces[model.name][problem.id], model) for model in shown],
        }
        for problem in test[:SAMPLES]
    ]


def _shown(trace: Trace, model: Model) -> dict[str, Any]:
    return {
        "model": model.name,
        "role": model.role,
        "text": trace.text,
        "verdict": trace.verdict,
        "rule": trace.rule,
        "finish": trace.finish,
        "steps": [{"start": step.start, "end": step.end, "valid": step.valid} for step in steps(trace.text)],
    }
