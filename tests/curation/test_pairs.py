"""Pairs of traces: sides by gold or by votes, no trace repeated without need, every trace accounted for, whatever the limit."""

import dataclasses
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_traces import PROBLEMS, mixed, trace

from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.core.records import Example, Pair, Problem, Trace
from w2sr_jax.curation.candidates import candidates
from w2sr_jax.curation.dispositions import REJECTED_SIDE, Disposition
from w2sr_jax.curation.pairs import Pairs, drawn
from w2sr_jax.curation.select import Selection, Selector, examples, pairs
from w2sr_jax.curation.settings import Curation

ONE = PROBLEMS[0]
PAIRS, CURATION = Pairs(), Curation()


@dataclasses.dataclass(frozen=True)
class Paired:
    selection: Selection
    ends: list[Disposition]
    chosen: list[Example]
    rejected: list[Example]
    pairs: list[Pair]

    def reasons(self) -> dict[str, str]:
        return {row.trace_id: row.reason for row in self.ends}


def paired(traces: list[Trace], select: Pairs = PAIRS, curation: Curation = CURATION) -> Paired:
    groups: dict[str, list[Trace]] = defaultdict(list)
    for one in traces:
        groups[one.problem_id].append(one)
    ours = [(problem, groups[problem.id]) for problem in PROBLEMS if problem.id in groups]
    selector = Selector("dpo", curation, select=select, label="Pairs")
    rows = [row for problem, group in ours for row in selector.add(problem, list(candidates(group)))]
    selection = selector.selection()
    ends = [selection.disposition(row) for row in rows]
    sides = (list(examples(selector, selection, ours, ends, reason)) for reason in ("kept", REJECTED_SIDE))
    return Paired(selection, ends, *sides, list(pairs(selector, selection, ours, ends)))


def voted(answers: str, problem: Problem = ONE, teacher: str = "weak") -> list[Trace]:
    """Traces of a problem without gold, one for each letter, which is its answer."""
    return [trace(problem, i, "ungraded", teacher, f"trace {i} {teacher} {a}", answer=a) for i, a in enumerate(answers)]


def answers(made: Paired, traces: list[Trace]) -> list[tuple[str | None, str | None]]:
    by_id = {one.id: one.answer for one in traces}
    return [(by_id[pair.chosen_trace], by_id[pair.rejected_trace]) for pair in made.pairs]


def test_a_correct_trace_is_chosen_over_an_incorrect_one_and_every_trace_has_its_reason() -> None:
    traces = mixed(samples=6)
    made = paired(traces, Pairs(per_problem=2))
    verdict = {one.id: one.verdict for one in traces}
    assert len(made.pairs) > len(PROBLEMS)
    assert {(verdict[pair.chosen_trace], verdict[pair.rejected_trace]) for pair in made.pairs} == {("correct", "incorrect")}
    by_problem: dict[str, Counter[str]] = defaultdict(Counter)
    for one in traces:
        by_problem[one.problem_id][one.verdict] += 1
    wanted = {key: min(2, counts["correct"] * counts["incorrect"]) for key, counts in by_problem.items()}
    assert Counter(pair.problem_id for pair in made.pairs) == {key: count for key, count in wanted.items() if count}
    assert made.selection.funnel.pairs == len(made.pairs)
    lacking = Counter(
        "nothing_to_reject" if counts["correct"] else "nothing_to_choose"
        for key, counts in by_problem.items()
        if not wanted[key] and counts["correct"] + counts["incorrect"]
    )
    assert lacking
    assert made.selection.lacking == lacking
    check_accounts(made, traces)


def check_accounts(made: Paired, traces: list[Trace]) -> None:
    """Every trace has one disposition, the funnel counts them, and pairs refer to the examples of their two tables."""
    funnel, reasons = made.selection.funnel, made.reasons()
    assert len(made.ends) == len(traces) == funnel.given
    counts = Counter(reasons.values())
    assert funnel.kept == counts.pop("kept", 0) == len(made.chosen)
    assert {name: count for name, count in funnel.rejections.items() if count} == counts
    assert [step.count for step in funnel.steps] == sorted((step.count for step in funnel.steps), reverse=True)
    assert not traces or funnel.steps[-1].count == funnel.kept
    assert len({pair.id for pair in made.pairs}) == len(made.pairs)
    for side, rows in (("chosen", made.chosen), ("rejected", made.rejected)):
        assert len({row.id for row in rows}) == len(rows)
        assert {getattr(pair, side) for pair in made.pairs} == {row.id for row in rows}
        assert {getattr(pair, f"{side}_trace") for pair in made.pairs} == {row.trace_id for row in rows}
        wanted = "kept" if side == "chosen" else REJECTED_SIDE
        assert all(reasons[row.trace_id] == wanted for row in rows)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 90), st.integers(0, 90))
def test_no_trace_is_in_two_pairs_before_all_of_its_side_are_in_one(chosen: int, rejected: int, most: int, some: int) -> None:
    made = drawn(chosen, rejected, most)
    assert len(set(made)) == len(made) == min(most, chosen * rejected)
    for side, there in ((0, chosen), (1, rejected)):
        used = Counter(pair[side] for pair in made)
        assert set(used) == set(range(min(there, len(made))))
        assert not used or max(used.values()) - min(used.values()) <= 1
    first = min(some, len(made))
    assert made[:first] == drawn(min(chosen, first), min(rejected, first), most)[:first]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_is_drawn_every_trace_is_accounted_for_in_any_order(data: st.DataObject) -> None:
    verdicts = st.lists(st.sampled_from(["correct", "incorrect", "unparsed"]), max_size=6)
    traces = [
        trace(problem, sample, verdict)
        for problem in PROBLEMS[:5]
        for sample, verdict in enumerate(data.draw(verdicts, label=problem.id))
    ]
    select = Pairs(per_problem=data.draw(st.integers(1, 5)))
    curation = Curation(limit=data.draw(st.integers(0, 8)), seed=data.draw(st.integers(0, 3)))
    made = paired(traces, select, curation)
    check_accounts(made, traces)
    free = paired(traces, select, dataclasses.replace(curation, limit=0))
    assert len(made.pairs) == min(curation.limit or len(free.pairs), len(free.pairs))
    assert {pair.id for pair in made.pairs} <= {pair.id for pair in free.pairs}
    assert paired(data.draw(st.permutations(traces)), select, curation).pairs == made.pairs


@pytest.mark.parametrize(
    ("letters", "expected", "reason"),
    [
        ("aaaaaaabbc", ("a", "bc"), ""),  # 0.7: agreeing over a minority
        ("aaaaaabbbb", ("a", "b"), ""),  # 0.6 is enough
        ("aaaaabbbcc", None, "low_confidence"),  # 0.5 is not
        ("aaaaabbbbb", None, "no_majority"),
        ("aaaaaaaaaa", None, "nothing_to_reject"),
    ],
)
def test_without_gold_an_agreeing_trace_is_chosen_over_a_minority_one(
    letters: str, expected: tuple[str, str] | None, reason: str
) -> None:
    traces = voted(letters)
    made = paired(traces, Pairs(per_problem=3))
    if expected is None:
        assert made.pairs == []
        assert set(made.reasons().values()) == {reason}
    else:
        assert len(made.pairs) == 3
        assert all(one == expected[0] and str(other) in expected[1] for one, other in answers(made, traces))
    check_accounts(made, traces)


@pytest.mark.parametrize(
    ("votes", "weak", "expected"),
    [
        ("aaaaaaabbb", "a", {("a", "b")}),  # the weak trace agrees: it may be chosen, a minority sample is rejected
        ("aaaaaaaabb", "c", {("a", "b"), ("a", "c")}),  # 0.8: a weak trace that disagrees is rejected
        ("aaaaaaaaaa", "c", {("a", "c")}),
        ("aaaaaaabbb", "c", {("a", "b")}),  # 0.7: it is not
        ("aaaaabbbcc", "a", set()),
    ],
)
def test_a_trace_that_has_no_vote_is_rejected_where_the_votes_are_sure(
    votes: str, weak: str, expected: set[tuple[str, str]]
) -> None:
    traces = [*voted(votes, teacher="own"), *voted(weak)]
    made = paired(traces, Pairs(per_problem=99, voters=("own",)))
    assert set(answers(made, traces)) == expected
    if weak == "c" and ("a", "c") not in expected:
        assert made.reasons()[traces[-1].id] == "low_confidence"
    if weak == "a" and expected:
        assert traces[-1].id in {pair.chosen_trace for pair in made.pairs}


def test_unfinished_and_copied_traces_are_in_no_pair() -> None:
    right, wrong = trace(ONE, 0, "correct"), trace(ONE, 1, "incorrect", finish="length")
    twin = trace(ONE, 2, "incorrect", text="STEP 3 of weak #### 999")
    made = paired([right, wrong, twin, trace(ONE, 3, "incorrect")], Pairs(per_problem=9))
    assert len(made.pairs) == 1
    assert Counter(made.reasons().values()) == {"kept": 1, "unfinished": 1, "duplicate": 1, REJECTED_SIDE: 1}
    unread = [right, trace(ONE, 4, "unparsed")]
    assert not paired(unread).pairs
    assert len(paired(unread, curation=Curation(unparsed_is_incorrect=True)).pairs) == 1


def test_where_one_side_is_missing_everywhere_one_sentence_says_so() -> None:
    selector = Selector("dpo", Curation(), select=Pairs(), label="Pairs")
    selector.add(ONE, list(candidates([trace(ONE, 0, "correct"), trace(ONE, 1, "correct"), trace(ONE, 2, "unparsed")])))
    sentence = (
        r"curation left nothing for the arm 'dpo' \(Pairs\): of 3 traces the step 'both sides of a pair' took the last ones "
        r"\(rejected: 2 nothing_to_reject, 1 unparsed\)"
    )
    with pytest.raises(NothingToTrain, match=sentence):
        selector.finish()
    assert Pairs().emptied(1, Curation()) == "1 trace a problem makes no pair"
    for field, value in (("per_problem", 0), ("confidence", 1.5), ("rejection", -0.1)):
        with pytest.raises(UserError, match=rf"Pairs\.{field} is {value}"):
            Pairs(**{field: value})  # type: ignore[arg-type]
