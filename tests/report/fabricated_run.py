"""A made-up run of two rungs, scored by the real evaluation, so that what one writes and the other reads stay together."""

from typing import Any, NamedTuple

import fabricated_evidence
import fabricated_grading
import numpy as np
from fabricated_evidence import source

from w2sr_jax.answers.steps import steps
from w2sr_jax.core import keys as randomness
from w2sr_jax.core.records import Problem, Trace, VerdictName
from w2sr_jax.curation.arms import LABELS
from w2sr_jax.curation.funnel import Difficulty, Funnel, Histogram, Step
from w2sr_jax.evaluation import scores
from w2sr_jax.evaluation.arms import ArmTraining, Needed
from w2sr_jax.evaluation.cost import Sittings, StageCost, StageTime, Timings
from w2sr_jax.evaluation.scores import Comparison, HeldOut
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.report.evidence import Evidence
from w2sr_jax.report.results import (
    Climb,
    CurvePoint,
    Device,
    Model,
    Problems,
    Results,
    Rung,
    Sample,
    SampleProblem,
    SampleStep,
    SampleTrace,
    Student,
    TeacherTraces,
    TrainingLog,
)

SETTINGS = Evaluation(samples=4, resamples=400)
RATES = {
    "teacher": 0.585,
    "0-small.base-direct": 0.11,
    "0-small.base": 0.10,
    "0-small.all": 0.655,
    "0-small.correct": 0.705,
    "0-small.incorrect": 0.47,
    "0-small.gold": 0.85,
    "1-medium.base-direct": 0.16,
    "1-medium.base": 0.14,
    "1-medium.all": 0.72,
    "1-medium.correct": 0.79,
    "1-medium.incorrect": 0.5,
    "1-medium.gold": 0.91,
}
SIZES = {"teacher": 117_184, "0": 359_904, "1": 1_204_416}
RIGHT = "16 - 4 = 12 ; 12 * 2 = 24 #### 24"
WRONG = "16 - 4 = 11 ; 11 * 2 = 22 #### 22"
QUESTION = (
    "Fay has 16 apples . She gives 4 to Bob . Cleo has twice as many apples as Fay has now . How many apples does Cleo have ?"
)


def problems(count: int) -> list[Problem]:
    return [Problem.of(f"{QUESTION} ( {i} )", "24", RIGHT, "made up") for i in range(count)]


def trace(problem: Problem, model: str, sample: int, right: bool, text: str | None = None) -> Trace:
    text = text if text is not None else RIGHT if right else WRONG
    answer = text.rpartition("####")[2].strip() or None
    verdict: Any = "correct" if right else "incorrect" if answer else "unparsed"
    identity = Trace.identity(problem.id, model, sample, text)
    return Trace(identity, problem.id, model, sample, text, answer, verdict, "stop", 16 + sample, -0.2, "", rule="####")


def generations(model: str, asked: list[Problem], seed: int) -> scores.Generations:
    """Right answers come at the model's rate, and more on the same (easy) problems for all models."""
    easy = randomness.generator(0, "easy").random(len(asked))
    rng = randomness.generator(seed, model)
    rate = np.clip(RATES[model] + rng.normal(0, 0.02 * (seed > 0)), 0, 1)

    def draw() -> list[bool]:
        return list(0.6 * easy + 0.4 * rng.random(len(asked)) < np.quantile(0.6 * easy + 0.4 * rng.random(len(asked)), rate))

    greedy = [trace(p, model, 0, ok) for p, ok in zip(asked, draw())]
    samples = [trace(p, model, k, ok) for k in range(SETTINGS.samples) for p, ok in zip(asked, draw())]
    return scores.Generations(asked, greedy, samples)


def funnel(kept: int, arm: str) -> Funnel:
    filtered = {"all": 3904, "correct": 1730, "incorrect": 2150}[arm]
    accuracy = {"all": 0.44, "correct": 1.0, "incorrect": 0.0}[arm]
    return Funnel(
        arm=arm,
        name=LABELS[arm],
        given=4000,
        kept=kept,
        steps=(
            Step("given", 4000),
            Step("finished", 3951),
            Step("distinct", 3904),
            Step(f"arm {arm}", filtered),
            Step("drawn per problem", kept),
        ),
        rejections={"unfinished": 49, "duplicate": 47, "wrong_verdict": 3904 - filtered, "over_quota": filtered - kept},
        difficulty=Difficulty(
            before={"operations": 3.02, "solve rate": 0.44},
            after={"operations": {"all": 3.02, "correct": 2.71, "incorrect": 3.25}[arm], "solve rate": 0.52},
        ),
        histogram=Histogram("operations", {"3": 2000}, {"3": kept}),
        teacher_accuracy=accuracy,
        teacher_accuracy_before=0.44,
        kept_by_teacher={"teacher": kept},
        accuracy_by_teacher={"teacher": accuracy},
        problems=kept,
        problems_before=2000,
        tokens=kept * 17,
    )


def curve(end: float, seeds: tuple[int, ...]) -> tuple[CurvePoint, ...]:
    def nll(step: int, seed: int) -> float:
        return float(end + 3.0 * np.exp(-step / 60) + 0.02 * np.sin(step + 9 * seed))

    return tuple(CurvePoint(seed, step, nll(step, seed), nll(step, seed), 2e-3) for seed in seeds for step in range(10, 501, 10))


class Report(NamedTuple):
    """The arguments of `report.write.write`, after the directory."""

    results: Results
    timings: Timings
    evidence: list[Evidence]


def results(seeds: tuple[int, ...] = (0,), count: int = 300) -> Results:
    return report(seeds, count).results


def report(seeds: tuple[int, ...] = (0,), count: int = 300) -> Report:
    asked = problems(count)
    runs = {name: [generations(name, asked, seed) for seed in seeds] for name in RATES}
    right = {name: np.stack([scores.outcomes(run.problems, run.greedy) for run in group]) for name, group in runs.items()}
    models = {name: model(name, group, seeds, count) for name, group in runs.items()}
    stages = tuple(
        StageCost(f"{kind}/{name}", kind, tokens=261_344, flops=5.6e11, device="cpu")
        for name in RATES
        for kind in ("train", "evaluate")
    )
    entries, pages = fabricated_evidence.ledgers(asked, seeds, SETTINGS)
    teacher = runs["teacher"][0].greedy
    pages += [fabricated_evidence.answers(name, asked, group[0].greedy, teacher) for name, group in runs.items()]
    pages += [fabricated_evidence.curation(asked, rung, arm) for rung in ("0-small", "1-medium") for arm in ("all", "correct")]
    pages.append(fabricated_evidence.teacher_page(asked))
    graded, doubts = fabricated_grading.grading(asked, list(models))
    pages += doubts
    growth = scores.compare(right["1-medium.correct"], right["teacher"], None, None, SETTINGS).vs_teacher
    assert growth is not None
    found = Results(
        name="made-up",
        rehearsal=False,
        experiment={"name": "made-up", "rungs": [{"name": "small", "training": {"learning_rate": 2e-3}}]},
        config_hash="0123456789abcdef",
        versions={"python": "3.11.9", "jax": "0.10.2", "numpy": "2.3.1", "w2sr-jax": "0.1.0"},
        device=Device("cpu", 1, {"data": 1, "fsdp": 1, "tensor": 1}),
        seeds=seeds,
        test_problems=count,
        problems=Problems({"test": count, "teacher": 2000, "pool": 2000}, 3, {"pool": {"near": 3}}, 0, ()),
        rungs=tuple(rung(index, name, right) for index, name in enumerate(("small", "medium"))),
        models=models,
        ledgers=tuple(entries),
        teachers=fabricated_evidence.compared(asked[:100], SETTINGS),
        grading=graded,
        climb=Climb("1-medium.correct", "teacher", growth),
        warnings=("0-small.incorrect: induced errors are rising: 31.0% of 143 problems at step 400, from 19.0% at step 40",),
        stages=stages,
        samples=tuple(sample(problem) for problem in asked[:2]),
    )
    finished = "2026-11-23T16:18:05+00:00"
    sittings = Sittings(wall=43.0, stepping=30.1, lost_steps=25, lost_seconds=2.5, sittings=2)
    timings = Timings(
        {
            stage.name: StageTime(43.0, finished, sittings) if stage.kind == "train" else StageTime(3.0, finished)
            for stage in stages
        }
    )
    return Report(found, timings, pages)


def model(name: str, group: list[scores.Generations], seeds: tuple[int, ...], count: int) -> Model:
    rung, _, arm = name.partition(".")
    role = "teacher" if name == "teacher" else arm if arm in ("base", "base-direct", "gold") else "student"
    return Model(
        role=role,
        rung=None if name == "teacher" else int(rung[0]),
        arm=arm or None,
        parameters=SIZES["teacher" if name == "teacher" else rung[0]],
        scores=scores.score_seeds(group, SETTINGS),
        training=None if role == "base-direct" else TrainingLog(curve(1.1 - RATES[name], seeds), 261_344),
        held_out=HeldOut(0.61, 2.84, 311, 5400) if role in ("student", "gold") else None,
        faithfulness=fabricated_evidence.faithful(60, RATES[name], SETTINGS) if role in ("teacher", "student") else None,
        probe=fabricated_evidence.probe(RATES[name], seeds) if role == "student" else None,
        evidence=f"answers-{name}",
        sources=(
            source(f"evaluations/{name}/generations.parquet", 5 * count, "sample = -1"),
            source(f"evaluations/{name}/scores.json"),
            source(f"rungs/{name}/metrics.jsonl", 50),
            source(f"rungs/{name}/probe.jsonl", 11),
        ),
    )


def rung(index: int, name: str, right: dict[str, np.ndarray]) -> Rung:
    teacher = "teacher" if index == 0 else "0-small.correct"
    names = {arm: f"{index}-{name}.{arm}" for arm in ("base", "base-direct", "all", "correct", "incorrect", "gold")}

    def comparison(arm: str) -> Comparison:
        others = right[teacher], right[names["base"]], right[names["gold"]]
        return scores.compare(right[names[arm]], *others, SETTINGS, teacher_name=teacher)

    return Rung(
        index=index,
        name=name,
        student=Student(SIZES[str(index)], width=64, layers=3),
        teachers=(teacher,),
        traces=(TeacherTraces(teacher, 4000, 4000, 1760, 0.44),),
        parent=None if index == 0 else "0-small.correct",
        models=names,
        comparisons={arm: comparison(arm) for arm in ("all", "correct", "incorrect", "gold")},
        curation={arm: funnel(kept, arm) for arm, kept in (("all", 2000), ("correct", 1210), ("incorrect", 1480))},
        curation_evidence={arm: f"curation-{index}-{name}-{arm}" for arm in ("all", "correct", "incorrect")},
        sources=(source(f"rungs/{index}-{name}/curation.json"),),
        arms={arm: training(names[arm], arm) for arm in ("all", "correct", "incorrect", "gold")},
    )


def training(model: str, arm: str) -> ArmTraining:
    own = Needed("own", (f"train/{model}",), 1, 500, 261_344, None, 5.6e11)
    taught = Needed("teacher", ("train/teacher",), 6, 500, 261_344, None, 5.6e11)
    return ArmTraining(("traces",), None, arm != "gold", 2000, (own,) if arm == "gold" else (own, taught))


def sample(problem: Problem) -> Sample:
    return Sample(
        SampleProblem(problem.id, problem.question, problem.answer),
        (
            sample_trace("teacher", "teacher", WRONG, "incorrect"),
            sample_trace("1-medium.base", "base", "24", "correct", "last_number"),
            sample_trace("1-medium.correct", "student", RIGHT, "correct"),
            sample_trace("1-medium.incorrect", "student", "16 - 4 = 12 ; 12 and then", "unparsed", "none"),
        ),
    )


def sample_trace(model: str, role: str, text: str, verdict: VerdictName, rule: str = "####") -> SampleTrace:
    marks = tuple(SampleStep(step.start, step.end, step.valid) for step in steps(text))
    return SampleTrace(model, role, text, verdict, rule, "stop", marks)
