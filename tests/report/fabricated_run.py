"""A made-up run of two rungs, scored by the real evaluation, so that what one writes and the other reads stay together."""

from typing import Any, NamedTuple

import fabricated_evidence
import fabricated_grading
import numpy as np

from w2sr_jax.answers.steps import steps
from w2sr_jax.core import codec
from w2sr_jax.core import keys as randomness
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation import scores
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.report.evidence import Evidence

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


def funnel(kept: int, arm: str) -> dict[str, Any]:
    filtered = {"all": 3904, "correct": 1730, "incorrect": 2150}[arm]
    return {
        "arm": arm,
        "given": 4000,
        "kept": kept,
        "steps": [
            {"name": "given", "count": 4000},
            {"name": "finished", "count": 3951},
            {"name": "distinct", "count": 3904},
            {"name": f"arm {arm}", "count": filtered},
            {"name": "drawn per problem", "count": kept},
        ],
        "rejections": {"unfinished": 49, "duplicate": 47, "wrong_verdict": 3904 - filtered, "over_quota": filtered - kept},
        "difficulty": {
            "before": {"operations": 3.02, "solve rate": 0.44},
            "after": {"operations": {"all": 3.02, "correct": 2.71, "incorrect": 3.25}[arm], "solve rate": 0.52},
        },
        "teacher_accuracy": {"all": 0.44, "correct": 1.0, "incorrect": 0.0}[arm],
        "teacher_accuracy_before": 0.44,
        "problems": kept,
        "problems_before": 2000,
        "tokens": kept * 17,
    }


def curve(end: float, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "nll": end + 3.0 * float(np.exp(-step / 60)) + 0.02 * np.sin(step + 9 * seed),
            "learning_rate": 2e-3,
            "seed": seed,
        }
        for seed in seeds
        for step in range(10, 501, 10)
    ]


class Report(NamedTuple):
    """The arguments of `report.write.write`, after the directory."""

    results: dict[str, Any]
    timings: dict[str, Any]
    evidence: list[Evidence]


def results(seeds: tuple[int, ...] = (0,), count: int = 300) -> dict[str, Any]:
    return report(seeds, count).results


def report(seeds: tuple[int, ...] = (0,), count: int = 300) -> Report:
    asked = problems(count)
    runs = {name: [generations(name, asked, seed) for seed in seeds] for name in RATES}
    right = {name: np.stack([scores.outcomes(run.problems, run.greedy) for run in group]) for name, group in runs.items()}
    models: dict[str, Any] = {}
    for name, group in runs.items():
        rung, _, arm = name.partition(".")
        role = "teacher" if name == "teacher" else arm if arm in ("base", "base-direct", "gold") else "student"
        models[name] = {
            "role": role,
            "rung": None if name == "teacher" else int(rung[0]),
            "arm": arm or None,
            "parameters": SIZES["teacher" if name == "teacher" else rung[0]],
            "scores": codec.encode(scores.score_seeds(group, SETTINGS)),
            "training": None if role == "base-direct" else {"curve": curve(1.1 - RATES[name], seeds), "tokens": 261_344},
            "held_out": {"nll": 0.61, "unigram": 2.84, "traces": 311, "tokens": 5400} if role in ("student", "gold") else None,
            "faithfulness": fabricated_evidence.faithful(60, RATES[name], SETTINGS) if role in ("teacher", "student") else None,
            "probe": fabricated_evidence.probe(RATES[name], seeds) if role == "student" else None,
            "evidence": f"answers-{name}",
            "sources": [
                fabricated_evidence.source(f"evaluations/{name}/generations.parquet", 5 * count, "sample = -1"),
                fabricated_evidence.source(f"evaluations/{name}/scores.json"),
                fabricated_evidence.source(f"rungs/{name}/metrics.jsonl", 50),
                fabricated_evidence.source(f"rungs/{name}/probe.jsonl", 11),
            ],
        }
    rungs = []
    for index, rung in enumerate(("small", "medium")):
        teacher = "teacher" if index == 0 else "0-small.correct"
        names = {arm: f"{index}-{rung}.{arm}" for arm in ("base", "base-direct", "all", "correct", "incorrect", "gold")}
        comparisons = {
            arm: {
                **codec.encode(
                    scores.compare(right[names[arm]], right[teacher], right[names["base"]], right[names["gold"]], SETTINGS)
                ),
                "teacher": teacher,
            }
            for arm in ("all", "correct", "incorrect", "gold")
        }
        rungs.append(
            {
                "index": index,
                "name": rung,
                "student": {"parameters": SIZES[str(index)], "layers": 3},
                "teachers": [teacher],
                "traces": [{"teacher": teacher, "traces": 4000, "graded": 4000, "correct": 1760, "accuracy": 0.44}],
                "parent": None if index == 0 else "0-small.correct",
                "models": names,
                "comparisons": comparisons,
                "curation": {arm: funnel(kept, arm) for arm, kept in (("all", 2000), ("correct", 1210), ("incorrect", 1480))},
                "curation_evidence": {arm: f"curation-{index}-{rung}-{arm}" for arm in ("all", "correct", "incorrect")},
                "sources": [fabricated_evidence.source(f"rungs/{index}-{rung}/curation.json")],
            }
        )
    stages = [
        {
            "name": f"{kind}/{name}",
            "kind": kind,
            "tokens": 261_344,
            "flops": 5.6e11,
            "device": "cpu",
        }
        for name in RATES
        for kind in ("train", "evaluate")
    ]
    entries, pages = fabricated_evidence.ledgers(asked, seeds, SETTINGS)
    teacher = runs["teacher"][0].greedy
    pages += [fabricated_evidence.answers(name, asked, group[0].greedy, teacher) for name, group in runs.items()]
    pages += [fabricated_evidence.curation(asked, rung, arm) for rung in ("0-small", "1-medium") for arm in ("all", "correct")]
    pages.append(fabricated_evidence.teacher_page(asked))
    graded, doubts = fabricated_grading.grading(asked, list(models))
    pages += doubts
    found = {
        "name": "made-up",
        "experiment": {"name": "made-up", "rungs": [{"name": "small", "training": {"learning_rate": 2e-3}}]},
        "config_hash": "0123456789abcdef",
        "versions": {"python": "3.11.9", "jax": "0.10.2", "numpy": "2.3.1", "w2sr-jax": "0.1.0"},
        "device": {"kind": "cpu", "count": 1, "mesh": {"data": 1, "fsdp": 1, "tensor": 1}},
        "seeds": list(seeds),
        "test_problems": count,
        "problems": {"splits": {"test": count, "teacher": 2000, "pool": 2000}, "removed_near_duplicates": 3, "quarantined": 0},
        "rungs": rungs,
        "models": models,
        "ledgers": entries,
        "teachers": fabricated_evidence.compared(asked[:100], SETTINGS),
        "grading": graded,
        "climb": {
            "student": "1-medium.correct",
            "teacher": "teacher",
            "difference": codec.encode(
                scores.compare(right["1-medium.correct"], right["teacher"], None, None, SETTINGS).vs_teacher
            ),
        },
        "warnings": ["0-small.incorrect: induced errors are rising: 31.0% of 143 problems at step 400, from 19.0% at step 40"],
        "stages": stages,
        "samples": [sample(problem) for problem in asked[:2]],
    }
    timings = {
        "stages": {
            stage["name"]: {"seconds": 43.0 if stage["kind"] == "train" else 3.0, "finished": "2026-11-23T16:18:05+00:00"}
            for stage in stages
        }
    }
    return Report(found, timings, pages)


def sample(problem: Problem) -> dict[str, Any]:
    return {
        "problem": {"id": problem.id, "question": problem.question, "answer": problem.answer},
        "traces": [
            sample_trace("teacher", "teacher", WRONG, "incorrect"),
            sample_trace("1-medium.base", "base", "24", "correct", "last_number"),
            sample_trace("1-medium.correct", "student", RIGHT, "correct"),
            sample_trace("1-medium.incorrect", "student", "16 - 4 = 12 ; 12 and then", "unparsed", "none"),
        ],
    }


def sample_trace(model: str, role: str, text: str, verdict: str, rule: str = "####") -> dict[str, Any]:
    found = [{"start": step.start, "end": step.end, "valid": step.valid} for step in steps(text)]
    return {"model": model, "role": role, "text": text, "verdict": verdict, "rule": rule, "finish": "stop", "steps": found}
