"""scores.json and comparisons, from traces made by hand."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from w2sr_jax.core import codec
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace, VerdictName
from w2sr_jax.evaluation import scores, statistics
from w2sr_jax.evaluation.process import Rate
from w2sr_jax.evaluation.settings import Evaluation

SETTINGS = Evaluation(resamples=300)
PROBLEMS = [Problem.of(f"question {i}", "24") for i in range(4)]


def trace(problem: Problem, verdict: VerdictName, sample: int = 0, answer: str | None = "24") -> Trace:
    return Trace(f"{problem.id}{sample}", problem.id, "m", sample, f"#### {answer}", answer, verdict, "stop", 7, None, "")


def greedy(*right: bool, problems: list[Problem] = PROBLEMS) -> list[Trace]:
    return [trace(p, "correct" if ok else "incorrect", answer="24" if ok else "22") for p, ok in zip(problems, right)]


def test_scores_of_greedy_answers_alone() -> None:
    found = scores.score(PROBLEMS, greedy(True, False, True, True), [], SETTINGS)
    assert found.accuracy.value == 0.75
    assert (found.problems, found.accuracy.n, found.seeds) == (4, 4, 1)
    assert found.accuracy.low < 0.75 < found.accuracy.high
    assert found.avg_at_k is None
    assert found.pass_at_k == found.maj_at_k == ()
    assert found.mean_tokens == 7
    assert codec.decode(type(found), json.loads(json.dumps(codec.encode(found), allow_nan=False)), "file") == found


def test_scores_of_samples() -> None:
    verdicts: list[list[VerdictName]] = [
        ["correct"] * 3,
        ["correct", "incorrect", "incorrect"],
        ["incorrect"] * 3,
        ["unparsed"] * 3,
    ]
    samples = [
        trace(p, verdict, k, {"correct": "24", "incorrect": f"{k}", "unparsed": None}[verdict])
        for p, row in zip(PROBLEMS, verdicts)
        for k, verdict in enumerate(row)
    ]
    found = scores.score(PROBLEMS, greedy(True, True, False, False), samples, SETTINGS)
    assert found.avg_at_k is not None
    assert found.avg_at_k.k == 3
    assert found.avg_at_k.value == pytest.approx(4 / 12)
    assert {e.k: e.value for e in found.pass_at_k} == pytest.approx({1: 4 / 12, 2: (1 + 2 / 3) / 4, 3: 2 / 4})
    # Problem 1: one right and two different wrong answers tie three ways.
    assert {e.k: e.value for e in found.maj_at_k}[3] == pytest.approx((1 + 1 / 3) / 4)
    assert {e.k: e.value for e in found.maj_at_k}[1] == pytest.approx(4 / 12)


@pytest.mark.parametrize(
    ("wrong", "cut", "share"),
    [
        (["x+1", "1+x", "7"], 0, 0.0),  # two that algebra joins outvote one that is right
        (["x+1", "x+2", "7"], 0, 1 / 4),
        (["50\\%", "50", "7"], 0, 0.0),
        (["7", "7", "8"], 2, 1 / 2),  # what was cut off has no vote
    ],
)
def test_a_majority_counts_answers_as_the_grader_does(wrong: list[str], cut: int, share: float) -> None:
    problem = PROBLEMS[0]
    samples = [trace(problem, "correct", 0), *(trace(problem, "incorrect", k, answer) for k, answer in enumerate(wrong, 1))]
    samples = [dataclasses.replace(t, finish="length") if 0 < t.sample <= cut else t for t in samples]
    found = scores.score([problem], greedy(True, problems=[problem]), samples, SETTINGS)
    assert {e.k: e.value for e in found.maj_at_k}[4] == pytest.approx(share)


def test_unparsed_answers_count_as_wrong_and_are_reported() -> None:
    traces = [*greedy(True, True, True), trace(PROBLEMS[3], "unparsed", answer=None)]
    found = scores.score(PROBLEMS, traces, [], SETTINGS)
    assert found.accuracy.value == 0.75
    assert found.unparsed == Rate(0.25, 4)


def test_problems_without_gold_are_left_out_and_counted() -> None:
    extra = Problem.of("open question", None)
    found = scores.score([*PROBLEMS, extra], [*greedy(True, False, True, True), trace(extra, "ungraded")], [], SETTINGS)
    assert (found.problems, found.ungraded) == (4, 1)
    assert found.accuracy.value == 0.75
    with pytest.raises(UserError, match="gold"):
        scores.score([extra], [trace(extra, "ungraded")], [], SETTINGS)


def test_seeds_are_pooled() -> None:
    runs = [
        scores.Generations(PROBLEMS, greedy(True, False, True, True)),
        scores.Generations(PROBLEMS, greedy(True, False, False, False)),
    ]
    found = scores.score_seeds(runs, SETTINGS)
    assert found.seeds == 2
    assert found.accuracy.value == 0.5
    assert found.by_seed == (0.75, 0.25)


def test_outcomes_follow_the_problems_order() -> None:
    assert list(scores.outcomes(PROBLEMS, greedy(True, False, True, True)[::-1])) == [1, 0, 1, 1]


def test_missing_doubled_or_ungraded_traces_are_refused() -> None:
    with pytest.raises(UserError, match=PROBLEMS[3].id):
        scores.score(PROBLEMS, greedy(True, False, True), [], SETTINGS)
    with pytest.raises(UserError, match="one each"):
        scores.outcomes(PROBLEMS, greedy(True, True, True, True) * 2)
    with pytest.raises(UserError, match="not graded"):
        scores.outcomes(PROBLEMS[:1], [trace(PROBLEMS[0], "ungraded")])
    with pytest.raises(UserError, match="same number of samples"):
        scores.score(PROBLEMS, greedy(True, True, True, True), [trace(PROBLEMS[0], "correct", 1)], SETTINGS)
    runs = [scores.Generations(PROBLEMS[:n], greedy(*[True] * n)) for n in (3, 4)]
    with pytest.raises(UserError, match="equally many"):
        scores.score_seeds(runs, SETTINGS)


def test_comparison_of_an_arm() -> None:
    rng = np.random.default_rng(0)
    student, teacher, base, ceiling = ((rng.random((2, 400)) < rate).astype(float) for rate in (0.7, 0.55, 0.1, 0.85))
    found = scores.compare(student, teacher, base, ceiling, SETTINGS)
    assert found.vs_teacher is not None
    assert found.vs_teacher.difference == pytest.approx(student.mean() - teacher.mean())
    assert found.rgr_base is not None
    assert found.rgr_base.value == pytest.approx((student.mean() - base.mean()) / (ceiling.mean() - base.mean()))
    assert found.pgr is not None
    assert found.pgr.value == pytest.approx((student.mean() - teacher.mean()) / (ceiling.mean() - teacher.mean()))
    assert found.ceiling == "gold SFT"
    assert codec.decode(type(found), json.loads(json.dumps(codec.encode(found), allow_nan=False)), "file") == found


def test_comparison_with_reinforcement_and_with_the_arm_before() -> None:
    student, teacher, base, top = ([1, 1, 1, 0] * 50, [1, 0, 0, 0] * 50, [0, 0, 0, 1] * 50, [1, 1, 1, 1] * 50)
    columns = list(range(100))
    found = scores.compare(
        student, teacher[:100], base, None, Evaluation(), columns=columns, before=("correct", top), reinforced={"rl": top}
    )
    (one,) = found.reinforced
    assert one.arm == "rl"
    assert one.difference == statistics.paired(student, top, Evaluation())
    assert one.rgr_base == statistics.gap_recovered(student, base, top, Evaluation())
    assert one.rgr_base.value == pytest.approx((0.75 - 0.25) / (1 - 0.25))
    assert one.rgr_teacher is not None
    assert one.rgr_teacher.value == pytest.approx((0.75 - 0.25) / (1 - 0.25))
    assert (found.before, found.vs_before) == ("correct", one.difference)
    assert found.rgr_base is None  # gold SFT was not there
    worse = scores.compare(student, None, base, None, Evaluation(), reinforced={"rl": base})
    assert worse.reinforced[0].rgr_base is not None
    assert worse.reinforced[0].rgr_base.suppressed == "gap not distinguishable from 0"
    assert worse.reinforced[0].rgr_teacher is None


def test_comparison_with_models_that_were_not_evaluated() -> None:
    found = scores.compare(np.ones(5), None, np.zeros(5), None, SETTINGS)
    assert found.vs_teacher is None
    assert found.vs_base is not None
    assert found.rgr_base is found.pgr is found.vs_ceiling is None


def test_evaluation_needs_no_jax() -> None:
    code = "import sys, w2sr_jax.evaluation.scores, w2sr_jax.evaluation.cost; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
