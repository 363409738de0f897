"""Curation: each arm takes its verdicts, every rejection is counted, and nothing depends on the order of the traces."""

import dataclasses
import gc
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_traces import PROBLEMS, mixed, trace

from w2sr_jax.answers.equality import Equality
from w2sr_jax.core import codec
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.arms import BUILT_IN, LABELS
from w2sr_jax.curation.candidates import Candidate, candidates
from w2sr_jax.curation.funnel import Funnel
from w2sr_jax.curation.select import Selector, curate
from w2sr_jax.curation.settings import Curation
from w2sr_jax.curation.votes import vote
from w2sr_jax.problems.splits import CopyIndex
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.settings import Recorded


@pytest.mark.parametrize(
    ("arm", "verdicts"),
    [("all", {"correct", "incorrect", "unparsed"}), ("correct", {"correct"}), ("incorrect", {"incorrect"})],
)
def test_each_arm_keeps_its_verdicts_one_per_problem(arm: str, verdicts: set[str]) -> None:
    traces = mixed()
    examples, funnel, _ = curate(traces, PROBLEMS, arm, Curation())
    by_id = {t.id: t for t in traces}
    assert {e.verdict for e in examples} == verdicts
    assert max(Counter(e.problem_id for e in examples).values()) == 1
    assert {e.problem_id for e in examples} == {t.problem_id for t in traces if t.verdict in verdicts}
    assert all(e.response == by_id[e.trace_id].text and e.style == "reason" and e.weight == 1.0 for e in examples)
    assert funnel.name == LABELS[arm]


@given(st.integers(0, 999), st.sampled_from(sorted(BUILT_IN)), st.integers(1, 5), st.integers(0, 20), st.booleans())
def test_rejections_add_up_and_the_order_of_traces_does_not_matter(
    seed: int, arm: str, k: int, limit: int, unfinished: bool
) -> None:
    traces = mixed(seed)
    rng = random.Random(seed)
    traces = [dataclasses.replace(t, finish="length") if rng.random() < 0.1 else t for t in traces]
    traces += [dataclasses.replace(t, id=f"{t.id}again", sample=77) for t in traces[:7]]
    settings = Curation(per_problem=k, limit=limit, keep_unfinished=unfinished, max_characters=25, seed=seed)
    examples, funnel, _ = curate(traces, PROBLEMS[:-3], arm, settings)
    assert funnel.given == len(traces) == funnel.kept + sum(funnel.rejections.values())
    assert funnel.kept == len(examples) == funnel.steps[-1].count
    counts = [step.count for step in funnel.steps]
    assert counts == sorted(counts, reverse=True)
    assert funnel.rejections["unknown_problem"] == 12
    shuffled = list(traces)
    rng.shuffle(shuffled)
    again, other, _ = curate(shuffled, PROBLEMS[:-3], arm, settings)
    assert again == examples
    assert other == funnel
    assert codec.decode(Funnel, json.loads(json.dumps(codec.encode(funnel), allow_nan=False)), "file") == funnel


def test_the_arm_all_does_not_look_at_verdicts() -> None:
    traces = mixed()
    blind = [dataclasses.replace(t, verdict="ungraded", answer=None) for t in traces]
    chosen = [e.trace_id for e in curate(traces, PROBLEMS, "all", Curation(per_problem=2))[0]]
    assert chosen == [e.trace_id for e in curate(blind, PROBLEMS, "all", Curation(per_problem=2))[0]]


@pytest.mark.parametrize(("limit", "most"), [(0, 0), (20, 2 * 20 + 1000 + 4)])
def test_what_was_looked_at_is_not_held(limit: int, most: int) -> None:
    selector = Selector("all", Curation(per_problem=4, limit=limit))
    held = 0
    for number in range(600):
        problem = Problem.of(f"Question {number} ?", "1")
        selector.add(problem, list(candidates(trace(problem, sample, "correct") for sample in range(4))))
        if number % 100 == 99:
            held = max(held, sum(type(found) is Candidate for found in gc.get_objects()))
    assert held <= most
    assert selector.finish().funnel.kept == (limit or 2400)


def test_another_seed_draws_other_traces_and_a_limit_keeps_as_many_problems_as_it_can() -> None:
    traces = mixed()
    draws = {tuple(e.trace_id for e in curate(traces, PROBLEMS, "all", Curation(seed=seed))[0]) for seed in range(4)}
    assert len(draws) == 4
    examples, funnel, _ = curate(traces, PROBLEMS, "all", Curation(per_problem=4, limit=33))
    assert len({e.problem_id for e in examples}) == 30
    assert funnel.rejections["over_limit"] == 120 - 33


def test_unparsed_traces_are_wrong_ones_only_if_asked() -> None:
    problem = PROBLEMS[0]
    traces = [trace(problem, 0, "unparsed"), trace(problem, 1, "incorrect"), trace(problem, 2, "correct")]
    kept = [
        curate(traces, [problem], "incorrect", Curation(per_problem=9, unparsed_is_incorrect=asked))[0] for asked in (False, True)
    ]
    assert [{e.verdict for e in examples} for examples in kept] == [{"incorrect"}, {"incorrect", "unparsed"}]


def test_faulty_traces_are_rejected_by_reason() -> None:
    problem = PROBLEMS[0]
    loop = "and then we add two and three " * 5
    traces = [
        trace(problem, 0, "correct", text="good one #### 0"),
        trace(problem, 1, "correct", text="Good  one\n#### 0"),
        trace(problem, 2, "correct", finish="length"),
        trace(problem, 3, "correct", text="  "),
        trace(problem, 4, "correct", text="x" * 500),
        trace(problem, 5, "correct", text=loop),
        trace(problem, 6, "correct", text="many tokens", tokens=80),
        trace(Problem.of("elsewhere", "1"), 0, "correct"),
        trace(problem, 0, "correct", teacher="muted"),
    ]
    settings = Curation(per_problem=9, max_characters=400, max_tokens=50, keep_loops=False)
    examples, funnel, _ = curate(traces, [problem], "all", settings, weights={"muted": 0.0})
    reasons = [
        "duplicate",
        "unfinished",
        "empty",
        "over_characters",
        "looping",
        "over_tokens",
        "unknown_problem",
        "teacher_of_weight_0",
    ]
    assert funnel.rejections == dict.fromkeys(reasons, 1)
    assert len(examples) == 1
    counted, *_ = curate(
        traces, [problem], "all", Curation(per_problem=9, max_tokens=50), count_tokens=lambda t: len(t.text.split())
    )
    assert "many tokens" in {e.response for e in counted}


def voted(answers: Sequence[str | None], teachers: Sequence[str] | None = None) -> list[Trace]:
    problem = PROBLEMS[0]
    made = [trace(problem, i, "ungraded", (teachers or ["weak"] * 99)[i], f"way {i}") for i in range(len(answers))]
    return [dataclasses.replace(t, answer=answer) for t, answer in zip(made, answers)]


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        (["5", "5.0", "$5", "7"], {"5", "5.0", "$5"}),
        (["5", "5", "7", None, None], set()),  # 2 of 5 votes
        (["5", "5", None, None], {"5"}),
        (["5", "7"], set()),
        (["5", "5", "7", "7"], set()),
        (["5"], set()),
        ([None, None], set()),
    ],
)
def test_majority_keeps_what_most_agree_on(answers: list[str | None], kept: set[str]) -> None:
    traces = voted(answers)
    settings = Curation(per_problem=9)
    if not kept:
        with pytest.raises(UserError, match="curation left nothing for the arm 'majority'"):
            curate(traces, PROBLEMS, "majority", settings)
        return
    examples, funnel, _ = curate(traces, PROBLEMS, "majority", settings)
    answer = {t.id: t.answer for t in traces}
    assert {answer[e.trace_id] for e in examples} == kept
    assert funnel.teacher_accuracy is None


def test_votes_weigh_as_their_teachers() -> None:
    traces = voted(["5", "5", "7"], ["a", "a", "b"])
    ballots, exact = list(candidates(traces)), Equality(exact=True)
    assert vote(ballots, exact) == ({"5"}, pytest.approx(2 / 3))
    assert vote(ballots, exact, {"b": 3.0}) == ({"7"}, pytest.approx(3 / 5))
    assert vote(ballots, exact, {"b": 2.0}) == (frozenset(), 0.0)


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        (["50%", "50%", "50", "40", "40"], {"50%", "50"}),
        (["50%", "0.5", "40"], {"50%", "0.5"}),
        (["50", "0.5", "40", "40"], {"40"}),
        (["x=5", "5", "4"], {"x=5", "5"}),
        (["x+1", "1+x", "2x"], {"x+1", "1+x"}),
        (["\\sqrt{8}", "2\\sqrt{2}", "2.8"], {"\\sqrt{8}", "2\\sqrt{2}"}),
        (["1.0", "1", "2", "2.0", "2"], {"2", "2.0"}),
        (["x+1", "x+2", "x+3"], set()),
    ],
)
def test_answers_that_the_grader_calls_equal_are_one_vote(answers: list[str | None], kept: set[str]) -> None:
    test_majority_keeps_what_most_agree_on(answers, kept)
    if kept:
        traces = voted(answers)
        orders = [curate(order, PROBLEMS, "majority", Curation(per_problem=9)) for order in (traces, traces[::-1])]
        assert orders[0].examples == orders[1].examples


def test_traces_that_were_cut_off_do_not_vote() -> None:
    traces = voted(["5", "5", "3", "3", "3"])
    cut = [dataclasses.replace(t, finish="length") if t.answer == "3" else t for t in traces]
    for settings in (Curation(per_problem=9), Curation(per_problem=9, keep_unfinished=True)):
        examples, _, _ = curate(cut, PROBLEMS, "majority", settings)
        assert {e.trace_id for e in examples} == {t.id for t in cut if t.answer == "5"}


def test_teachers_are_mixed_by_weight_or_weighed_in_the_loss() -> None:
    many = [Problem.of(f"Q {i} ?", str(i)) for i in range(600)]
    traces = [trace(problem, 0, "correct", teacher) for problem in many for teacher in ("a", "b")]
    weights = {"a": 3.0, "b": 1.0}
    mix, funnel, _ = curate(traces, many, "all", Curation(), weights=weights)
    assert 0.70 < funnel.kept_by_teacher["a"] / 600 < 0.80
    assert {e.weight for e in mix} == {1.0}
    loss, funnel, _ = curate(traces, many, "all", Curation(weighting="loss"), weights=weights)
    assert 0.44 < funnel.kept_by_teacher["a"] / 600 < 0.56
    by_teacher = {e.teacher: e.weight for e in loss}
    assert by_teacher["a"] == pytest.approx(3 * by_teacher["b"])
    assert sum(e.weight for e in loss) / len(loss) == pytest.approx(1.0)
    with pytest.raises(UserError, match="weight of teacher 'a' is -1"):
        curate(traces, many, "all", Curation(), weights={"a": -1.0})


STORY = (
    "Tom buys 3 boxes of 12 pens each and gives 7 of the pens to his sister on Monday . How many pens does he keep for himself ?"
)


def test_test_questions_are_left_out() -> None:
    copied = Problem.of(STORY.upper(), "29")
    longer = Problem.of(f"Here is a question : {STORY} Explain .", "29")
    numbers = Problem.of(STORY.replace("12", "15"), "38")
    short = Problem.of("What is 2 + 2 ?", "4")
    other = Problem.of("Ann walks 4 km to school every day . How far does she walk in 5 days ?", "20")
    forbidden = [Problem.of(STORY, "29"), Problem.of("what is 2 + 2", "4")]
    pool = [copied, longer, numbers, short, other]
    found = {problem.id: CopyIndex(forbidden).match(problem) for problem in pool}
    assert found == {copied.id: "exact", longer.id: "overlap", short.id: "exact", numbers.id: None, other.id: None}
    traces = [trace(problem, 0, "correct") for problem in pool]
    examples, funnel, _ = curate(traces, pool, "correct", Curation(), forbidden)
    assert {e.problem_id for e in examples} == {numbers.id, other.id}
    assert funnel.rejections == {"contaminated": 3}
    assert len(curate(traces, pool, "correct", Curation(decontaminate=False), forbidden)[0]) == 5


def test_difficulty_is_told_before_and_after() -> None:
    traces = [trace(p, 0, "correct" if p.meta["operations"] == 2 else "incorrect") for p in PROBLEMS]
    _, funnel, _ = curate(traces, PROBLEMS, "correct", Curation())
    assert funnel.difficulty.before["operations"] == 3.0
    assert funnel.difficulty.after["operations"] == 2.0
    assert funnel.histogram.before == {"2": 10, "3": 10, "4": 10}
    assert funnel.histogram.after == {"2": 10}
    assert (funnel.teacher_accuracy_before, funnel.teacher_accuracy) == (pytest.approx(1 / 3), 1.0)
    plain = [dataclasses.replace(p, meta={}) for p in PROBLEMS]
    rates = curate(traces, plain, "correct", Curation())[1]
    assert rates.histogram.by == "solve rate"
    assert rates.histogram.before == {"0%": 20, "100%": 10}


def test_an_empty_selection_says_which_step_emptied_it() -> None:
    traces = [trace(PROBLEMS[0], 0, "incorrect"), trace(PROBLEMS[1], 0, "unparsed")]
    with pytest.raises(UserError, match=r"arm 'correct' \(W2SR-P\): of 2 traces the step 'arm W2SR-P' .*1 incorrect, 1 unparsed"):
        curate(traces, PROBLEMS, "correct", Curation())
    with pytest.raises(UserError, match="the step 'within the length limits'"):
        curate(traces, PROBLEMS, "all", Curation(max_characters=3))
    with pytest.raises(UserError, match="no traces to curate"):
        curate([], PROBLEMS, "all", Curation())
    with pytest.raises(UserError, match=r"the arm 'best' is unknown; arms with a name are all, correct"):
        curate(traces, PROBLEMS, "best", Curation())


def test_real_traces_and_the_gsm8k_test(shared_data: Path) -> None:
    found = recorded.load(Recorded("llama", str(shared_data / "traces" / "gair_gsm8k_llama2_7b.jsonl.gz"), limit=1500))
    lines = (shared_data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    test = [Problem.of(json.loads(line)["question"], None) for line in lines]
    funnel = curate(found.traces, found.problems, "all", Curation(per_problem=9), test)[1]
    assert "contaminated" not in funnel.rejections  # README of the data: none of these questions is in the test set
    assert funnel.kept == 1500 - funnel.rejections.get("duplicate", 0)
    leaked = [*test[:100], *found.problems[:50]]
    assert curate(found.traces, found.problems, "all", Curation(per_problem=9), leaked)[1].rejections["contaminated"] >= 50
