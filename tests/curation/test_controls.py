"""Controls of an arm: the same problems, numbers, tokens as they say, every trace accounted for, whatever the order of traces."""

import dataclasses
import itertools
from collections import Counter

import pytest
from controlled import CURATION, Made, control
from hypothesis import given, settings
from hypothesis import strategies as st
from written_traces import PROBLEMS, mixed, trace

from w2sr_jax.answers.second import second_opinion
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace, Verdict
from w2sr_jax.curation.altering import AnswerOnly, Audited, StepErrors, statement
from w2sr_jax.curation.arms import ProblemTraces
from w2sr_jax.curation.controls import Control, RandomSubset, Shuffled
from w2sr_jax.curation.matching import Corrupted, DifficultyMatched, GoldMatched
from w2sr_jax.curation.settings import Curation

SOLVED = [dataclasses.replace(problem, solution=f"{i} + 0 = {i} #### {i}") for i, problem in enumerate(PROBLEMS)]
EVERY = (
    GoldMatched(),
    RandomSubset(),
    DifficultyMatched(),
    DifficultyMatched(among="others"),
    DifficultyMatched(among="gold"),
    Shuffled(),
    AnswerOnly(),
    Corrupted(wrong=0.25),
    StepErrors(),
    Audited(of="incorrect"),
)


def verdicts(rows: dict[int, str], tokens: dict[tuple[int, int], int] | None = None) -> list[Trace]:
    """Traces of problems by number: c correct, i incorrect, u unparsed; 9 tokens where `tokens` says no other."""
    word = {"c": "correct", "i": "incorrect", "u": "unparsed"}
    return [
        trace(PROBLEMS[number], sample, word[letter], tokens=(tokens or {}).get((number, sample), 9))
        for number, letters in rows.items()
        for sample, letter in enumerate(letters)
    ]


def number(example_problem: str) -> int:
    return next(place for place, problem in enumerate(PROBLEMS) if problem.id == example_problem)


@pytest.mark.parametrize("select", EVERY, ids=lambda one: f"{type(one).__name__}-{getattr(one, 'among', '')}")
@pytest.mark.parametrize("curation", [Curation(limit=10), Curation(per_problem=2, limit=14)], ids=["one", "two"])
def test_every_trace_is_accounted_for_and_the_order_of_traces_does_not_matter(select: Control, curation: Curation) -> None:
    traces = [*mixed(), *(trace(one, 7, "incorrect", "other", "2 + 2 = 4 #### 999") for one in PROBLEMS[::2])]
    made = control(select, SOLVED, traces, curation)
    assert made.examples
    assert Counter(row.trace_id for row in made.dispositions) == Counter(one.id for one in traces)
    kept = {row.trace_id for row in made.dispositions if row.reason == "kept"}
    assert {example.trace_id for example in made.examples} - {""} == kept
    assert made.funnel.given == len(traces) == made.funnel.kept + sum(made.funnel.rejections.values())
    assert made.funnel.steps[-1].count == made.funnel.kept == len(kept)
    about = made.funnel.control
    assert about is not None
    assert (about.of, about.examples, about.wanted) == (select.of, len(made.examples), len(made.arm))
    assert about.correct == sum(example.verdict == "correct" for example in made.examples)
    assert len({example.id for example in made.examples}) == len(made.examples)
    again = control(select, SOLVED, traces[::-1], curation)
    assert sorted(again.examples, key=str) == sorted(made.examples, key=str)
    assert again.funnel == made.funnel


def test_gold_is_that_of_the_arms_problems_each_as_often_as_it_has_traces() -> None:
    traces = verdicts({0: "cci", 1: "iii", 2: "cuu", 3: "ccc", 4: "c"})
    problems = [dataclasses.replace(problem, solution=None) if i == 4 else problem for i, problem in enumerate(SOLVED)]
    made = control(GoldMatched(), problems, traces, Curation(per_problem=2))
    assert Counter(number(example.problem_id) for example in made.examples) == {0: 2, 2: 1, 3: 2}
    for example in made.examples:
        solved = SOLVED[number(example.problem_id)]
        assert (example.response, example.question) == (solved.solution, solved.question)
        assert (example.trace_id, example.teacher, example.verdict, example.weight) == ("", "gold", "correct", 1.0)
    assert made.counts == {"no_solution": 1}
    assert Counter(made.reasons().values()) == {"gold_instead": 5, "no_solution": 1, "not_drawn": 7}
    assert GoldMatched().untaught


def test_a_random_subset_has_the_arms_numbers_and_no_regard_to_verdicts() -> None:
    traces = mixed(samples=6)
    made = control(RandomSubset(), PROBLEMS, traces, Curation(per_problem=2, limit=20))
    of_arm, own = (Counter(Counter(one.problem_id for one in rows).values()) for rows in (made.arm, made.examples))
    assert of_arm == own
    assert len(made.examples) == 20
    assert {example.verdict for example in made.examples} == {"correct", "incorrect", "unparsed"}
    other = control(RandomSubset(), PROBLEMS, traces, Curation(per_problem=2, limit=20, seed=1))
    assert other.traces != made.traces


@given(st.dictionaries(st.integers(0, 29), st.text("ciu", min_size=1, max_size=5), min_size=1), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_random_subset_always_reaches_the_arms_size(rows: dict[int, str], per_problem: int) -> None:
    rows[0] = "c" + rows.get(0, "")
    made = control(RandomSubset(), PROBLEMS, verdicts(rows), Curation(per_problem=per_problem))
    sizes = (Counter(Counter(one.problem_id for one in some).values()) for some in (made.arm, made.examples))
    assert next(sizes) == next(sizes)


def test_difficulty_is_matched_in_strata_and_by_length_within() -> None:
    # The arm takes one problem by its limit; which one is drawn by key, so each is looked at as if it were the target.
    rows = {0: "ci", 1: "ci", 2: "ci", 3: "cc", 4: "ii"}
    tokens = {(0, 0): 10, (0, 1): 10, (1, 0): 12, (1, 1): 12, (2, 0): 40, (2, 1): 40}
    nearest = {0: 1, 1: 0, 2: 1}
    for seed in range(8):
        made = control(DifficultyMatched(among="others"), SOLVED, verdicts(rows, tokens), Curation(limit=1, seed=seed))
        target = number(made.arm[0].problem_id)
        if target == 3:  # the only problem of its stratum
            assert made.counts == {"unmatched": 1, "problems_of_the_arm": 0, "mean_length_apart": 0.0}
            assert made.emptied.startswith("curation left nothing for the arm 'control'")
            continue
        assert [number(one.problem_id) for one in made.examples] == [nearest[target]]
        assert made.counts["mean_length_apart"] == {0: 2.0, 1: 2.0, 2: 28.0}[target]
        gold = control(DifficultyMatched(among="gold"), SOLVED, verdicts(rows, tokens), Curation(limit=1, seed=seed))
        assert [one.response for one in gold.examples] == [SOLVED[nearest[target]].solution]
        own = control(DifficultyMatched(), SOLVED, verdicts(rows, tokens), Curation(limit=1, seed=seed))
        assert [number(one.problem_id) for one in own.examples] == [target]


@given(st.dictionaries(st.integers(0, 29), st.text("ci", min_size=3, max_size=3), min_size=4), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_matched_problems_are_others_of_the_same_stratum(rows: dict[int, str], limit: int) -> None:
    rows[0] = "cci"
    made = control(DifficultyMatched(among="others"), SOLVED, verdicts(rows), Curation(limit=limit))
    strata = {place: letters.count("c") for place, letters in rows.items()}
    arm, own = ([number(one.problem_id) for one in some] for some in (made.arm, made.examples))
    assert not set(arm) & set(own)
    wanted, free = Counter(strata[one] for one in arm), Counter(strata[one] for one in rows if one not in arm)
    assert Counter(strata[one] for one in own) == wanted & free
    assert made.counts["unmatched"] == (wanted - free).total()


@given(st.dictionaries(st.integers(0, 29), st.integers(1, 4), min_size=1), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_shuffled_traces_go_to_another_problem_each_question_as_often(rows: dict[int, int], per_problem: int) -> None:
    traces = verdicts({place: "c" * count for place, count in rows.items()})
    made = control(Shuffled(), PROBLEMS, traces, Curation(per_problem=per_problem))
    home = {one.id: one.problem_id for one in traces}
    assert all(home[example.trace_id] != example.problem_id for example in made.examples)
    sizes = Counter(one.problem_id for one in made.arm)
    largest = max(sizes.values())
    excess = max(0, largest - (sizes.total() - largest))
    assert made.counts == {"no_other_problem": excess}
    assert len(made.examples) == len(made.arm) - excess
    assert len({example.trace_id for example in made.examples}) == len(made.examples)
    asked, sources = (
        (Counter(ids) for ids in zip(*((one.problem_id, home[one.trace_id]) for one in made.examples), strict=True))
        if (made.examples)
        else (Counter[str](), Counter[str]())
    )
    assert asked == sources


def test_a_shuffled_trace_keeps_text_and_answer_and_is_graded_for_its_new_problem() -> None:
    same = dataclasses.replace(PROBLEMS[5], answer=PROBLEMS[4].answer)
    problems = [*PROBLEMS[:5], same, *PROBLEMS[6:]]
    traces = [trace(problem, 0, "correct") for problem in problems]
    made = control(Shuffled(), problems, traces)
    texts, golds = {one.id: one.text for one in traces}, {one.id: one.answer for one in problems}
    for example in made.examples:
        assert example.response == texts[example.trace_id]
        right = example.response.split("#### ")[1] == golds[example.problem_id]
        assert example.verdict == ("correct" if right else "incorrect")
        assert (example.token_ids, example.logprobs, example.top) == ((), (), None)
    about = made.funnel.control
    assert about is not None
    assert about.tokens == about.tokens_wanted == 9 * len(problems)


def test_only_the_answer_is_left_as_the_trace_states_it() -> None:
    texts = {
        0: ("3 + 4 = 7 #### 7", "#### 7"),
        1: ("We add. The answer is 7.", "The answer is 7."),
        2: ("so it is 7", "#### 7"),
        3: ("<think>3 + 4 is 7</think>It is \\boxed{7}.", "<think>\n\n</think>\n\n\\boxed{7}."),
        4: ("3 + 4 is 7 </think> #### 7", "</think>\n\n#### 7"),
    }
    traces = [trace(PROBLEMS[i], 0, "correct", text=text, answer="7") for i, (text, _) in texts.items()]
    made = control(AnswerOnly(of="all"), PROBLEMS, [*traces, trace(PROBLEMS[9], 0, "unparsed")])
    assert {number(one.problem_id): one.response for one in made.examples} == {i: left for i, (_, left) in texts.items()}
    assert {one.verdict for one in made.examples} == {"correct"}
    assert made.counts == {"unparsed": 1}
    assert statement("", "5") == "#### 5"


def corrupted(wrong: float, traces: list[Trace], curation: Curation = CURATION) -> Made:
    return control(Corrupted(wrong=wrong), PROBLEMS, traces, curation)


def test_wrong_traces_stand_for_right_ones_of_the_same_problems() -> None:
    rows = {0: "ci", 1: "cci", 2: "cc", 3: "ii", 4: "cu", 5: "ic", 6: "cii"}
    tokens = {(6, 0): 20, (6, 1): 9, (6, 2): 18}
    traces = verdicts(rows, tokens)
    right, half, none = (corrupted(wrong, traces) for wrong in (0.0, 0.5, 1.0))
    for made in (right, half, none):
        assert sorted(number(one.problem_id) for one in made.examples) == [0, 1, 5, 6]
        assert made.counts["no_wrong_trace"] == 2  # problems 2 and 4
        assert made.counts["tokens_if_right"] == 9 * 3 + 20
        assert made.counts["tokens_if_wrong"] == 9 * 3 + 18
    assert [one.verdict for one in right.examples] == ["correct"] * 4
    arm = {one.trace_id for one in right.arm}
    assert set(right.traces) == {one.trace_id for one in right.arm if number(one.problem_id) not in (2, 4)} <= arm
    assert [one.verdict for one in none.examples] == ["incorrect"] * 4
    assert Counter(one.verdict for one in half.examples) == {"correct": 2, "incorrect": 2}
    six = next(one for one in none.examples if number(one.problem_id) == 6)
    assert six.trace_id == next(one.id for one in traces if one.problem_id == PROBLEMS[6].id and one.sample == 2)
    assert Counter(none.reasons().values())["replaced"] == 4
    unparsed = corrupted(1.0, traces, Curation(unparsed_is_incorrect=True))
    assert sorted(number(one.problem_id) for one in unparsed.examples) == [0, 1, 4, 5, 6]
    assert (Corrupted(wrong=0.0).verdicts, Corrupted(wrong=1.0).verdicts) == ((1,), (-1,))


@given(st.integers(1, 3), st.lists(st.floats(0, 1), min_size=2, max_size=4), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_higher_shares_of_wrong_traces_contain_lower_ones(per_problem: int, shares: list[float], seed: int) -> None:
    traces, curation = mixed(seed, 5), Curation(per_problem=per_problem)
    sets = [corrupted(share, traces, curation) for share in sorted(shares)]
    problems = [Counter(one.problem_id for one in made.examples) for made in sets]
    assert all(one == problems[0] for one in problems)
    wrong = [{one.trace_id for one in made.examples if one.verdict == "incorrect"} for made in sets]
    assert all(low <= high for low, high in itertools.pairwise(wrong))
    assert [len(ids) for ids in wrong] == [int(share * problems[0].total() + 0.5) for share in sorted(shares)]


def steps(count: int) -> list[Trace]:
    return [
        trace(problem, 0, "correct", text=f"{i} + 1 = {i + 1} ; {i + 1} - 1 = {i} #### {i}")
        for i, problem in enumerate(PROBLEMS[:count])
    ]


@pytest.mark.parametrize("carry", [False, True])
def test_steps_are_altered_in_a_share_of_traces_and_the_texts_graded_again(carry: bool) -> None:
    traces = [*steps(12), *(trace(problem, 0, "correct", text=f"it is #### {problem.answer}") for problem in PROBLEMS[12:16])]
    made = control(StepErrors(share=0.5, carry=carry), PROBLEMS, traces)
    assert len(made.examples) == 16
    assert made.counts == {"altered": 8, "alterable": 12, "short_of_share": 0}
    texts = {one.id: one.text for one in traces}
    other = [one for one in made.examples if one.response != texts[one.trace_id]]
    assert len(other) == 8
    assert {one.verdict for one in other} == {"incorrect" if carry else "correct"}
    assert {one.verdict for one in made.examples if one not in other} == {"correct"}
    every = control(StepErrors(share=1.0, carry=carry), PROBLEMS, traces)
    assert every.counts == {"altered": 12, "alterable": 12, "short_of_share": 4}
    assert {(one.trace_id, one.response) for one in other} <= {(one.trace_id, one.response) for one in every.examples}


@dataclasses.dataclass(frozen=True)
class Lenient:
    """Finds right whatever ends with the gold answer or with 999."""

    def __call__(self, text: str, problem: Problem) -> Verdict:
        right = text.endswith(("999", str(problem.answer)))
        return Verdict("correct" if right else "incorrect", text.split()[-1], "last", "lenient")


def test_wrong_traces_that_a_second_grader_finds_right_are_counted_and_left_out() -> None:
    texts = {
        0: ("#### 77", "agreed"),
        1: ("the answer is 1", "false_negative"),  # graded incorrect, and it is the gold answer
        2: ("#### x", "no_opinion"),
        3: ("#### 999", "agreed"),
    }
    traces = [trace(PROBLEMS[i], 0, "incorrect", text=text) for i, (text, _) in texts.items()]
    said = {"incorrect": "agreed", "correct": "false_negative", None: "no_opinion"}
    assert {i: said[second_opinion(text, PROBLEMS[i].answer).verdict] for i, (text, _) in texts.items()} == {
        i: word for i, (_, word) in texts.items()
    }
    made = control(Audited(), PROBLEMS, traces)
    assert made.counts == {"not_wrong": 0, "false_negative": 1, "no_opinion": 1, "agreed": 2}
    assert sorted(number(one.problem_id) for one in made.examples) == [0, 2, 3]
    assert made.reasons()[traces[1].id] == "false_negative"
    lenient = control(Audited(grader=Lenient()), PROBLEMS, traces)
    assert lenient.counts == {"not_wrong": 0, "false_negative": 2, "no_opinion": 0, "agreed": 2}


def test_weights_of_teachers_are_those_of_the_examples() -> None:
    traces = [trace(problem, 0, "correct", teacher) for problem in PROBLEMS for teacher in ("weak", "other")]
    curation, weights = Curation(per_problem=2, weighting="loss"), {"weak": 1.0, "other": 3.0}
    made = control(RandomSubset(), PROBLEMS, traces, curation, weights)
    assert {(one.teacher, one.weight) for one in made.examples} == {("weak", 0.5), ("other", 1.5)}


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    for make, words in (
        (lambda: Corrupted(wrong=1.5), "Corrupted.wrong is 1.5; it is a share from 0 to 1"),
        (lambda: StepErrors(share=-0.1), "StepErrors.share is -0.1; it is a share from 0 to 1"),
        (lambda: DifficultyMatched(among="none"), "DifficultyMatched.among is 'none'"),  # type: ignore[arg-type]
        (lambda: RandomSubset().reason(ProblemTraces([], Curation(), {}, None)), "is made from what the arm 'correct'"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UserError, match=words.replace("(", r"\(")):
            make()
