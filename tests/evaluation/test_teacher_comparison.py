"""Teachers compared, against brute force over pairs and n-grams, and on real traces."""

import gzip
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.answers.extract import extract
from w2sr_jax.core import codec
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace, VerdictName
from w2sr_jax.evaluation import diversity
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.teachers import compare

SETTINGS = Evaluation(resamples=50)
PROBLEMS = [Problem.of(f"question {i}", "24") for i in range(4)]


def trace(problem: Problem, given: str | None, sample: int = 0, text: str = "one two three", teacher: str = "m") -> Trace:
    verdict: VerdictName = "unparsed" if given is None else "correct" if given == "24" else "incorrect"
    return Trace(f"{problem.id}{sample}", problem.id, teacher, sample, text, given, verdict, "stop", 7, None, "")


GIVEN = st.sampled_from(["24", "5", "5.0", "6", None])
TEXT = st.text("ab ", max_size=14)
WRITTEN = st.lists(st.lists(st.tuples(GIVEN, TEXT), max_size=3), min_size=4, max_size=4)


def same(left: str | None, right: str | None) -> bool:
    return left is not None and right is not None and float(left) == float(right)


def word_grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)] if len(words) >= n else [tuple(words)]


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


@settings(max_examples=60, deadline=None)
@given(WRITTEN, WRITTEN)
def test_every_number_is_what_going_through_all_pairs_gives(
    left: list[list[tuple[str | None, str]]], right: list[list[tuple[str | None, str]]]
) -> None:
    written = {"left": left, "right": right}
    traces = {
        name: [trace(p, g, k, text) for p, row in zip(PROBLEMS, rows) for k, (g, text) in enumerate(row)][::-1]
        for name, rows in written.items()
    }
    found = compare(traces, PROBLEMS, SETTINGS, 1)
    assert codec.decode(type(found), json.loads(json.dumps(codec.encode(found), allow_nan=False)), "file") == found
    assert (found.rung, found.set, found.problems) == (1, "probe", 4)
    for row, (name, rows) in zip(found.teachers, written.items()):
        every = [pair for samples in rows for pair in samples]
        assert (row.name, row.traces, row.accuracy.n) == (name, len(every), len(every))
        assert row.accuracy.value == pytest.approx(mean([given == "24" for given, _ in every]))
        assert row.coverage == pytest.approx(sum(any(g == "24" for g, _ in samples) for samples in rows) / 4)
        several = [samples for samples in rows if len(samples) > 1]
        disagreement = [
            1 - sum(same(a, b) for (a, _), (b, _) in itertools.product(samples, samples)) / len(samples) ** 2
            for samples in several
        ]
        assert row.own_disagreement == pytest.approx(mean(disagreement))
        alike = [[jaccard(a, b) for (_, a), (_, b) in itertools.combinations(samples, 2)] for samples in several]
        assert row.self_similarity == pytest.approx(mean([sum(a) / len(a) for a in alike]))
        for n in (1, 2, 3):
            grams = [gram for _, text in every for gram in word_grams(text, n)]
            assert row.distinct[str(n)] == pytest.approx(len(set(grams)) / len(grams) if grams else None)
        assert row.words == pytest.approx(mean([len(text.split()) for _, text in every]))
    assert found.union.coverage.value == pytest.approx(sum(any(g == "24" for g, _ in [*a, *b]) for a, b in zip(left, right)) / 4)
    (pair,) = found.pairs
    both = [(a, b) for a, b in zip(left, right) if a and b]
    crossed = [list(itertools.product(a, b)) for a, b in both]
    assert pair.disagreement == pytest.approx(
        mean([mean([not same(a, b) for (a, _), (b, _) in pairs]) or 0.0 for pairs in crossed])
    )
    assert pair.same_wrong == pytest.approx(
        mean([mean([same(a, b) and a != "24" for (a, _), (b, _) in pairs]) or 0.0 for pairs in crossed])
    )
    assert pair.similarity == pytest.approx(mean([mean([jaccard(a, b) for (_, a), (_, b) in pairs]) or 0.0 for pairs in crossed]))
    first = [(a[0][0] == "24", b[0][0] == "24") for a, b in both]
    assert pair.kappa.n == len(first)
    assert pair.kappa.value == pytest.approx(cohen(first))


def jaccard(left: str, right: str) -> float:
    a, b = set(word_grams(left, 3)), set(word_grams(right, 3))
    return len(a & b) / len(a | b)


def cohen(pairs: list[tuple[bool, bool]]) -> float | None:
    """Cohen's κ of the two-by-two table."""
    n = len(pairs)
    table = {key: pairs.count(key) for key in itertools.product((True, False), repeat=2)}
    chance = sum((table[x, True] + table[x, False]) * (table[True, x] + table[False, x]) for x in (True, False))
    if not n or chance == n * n:
        return None
    return (n * (table[True, True] + table[False, False]) - chance) / (n * n - chance)


def test_right_answers_agree_however_they_are_spelt() -> None:
    spelt = [Trace(s, PROBLEMS[0].id, s, 0, s, s, "correct", "stop", 1, None, "") for s in ("24", "four and twenty")]
    (pair,) = compare({"a": spelt[:1], "b": spelt[1:]}, PROBLEMS, SETTINGS).pairs
    assert pair.disagreement == pair.same_wrong == 0


def test_problems_without_gold_count_for_texts_and_answers_alone() -> None:
    extra = Problem.of("open question", None)
    opened = Trace("x", extra.id, "a", 0, "one two three", "7", "ungraded", "stop", 1, None, "")
    found = compare({"a": [trace(PROBLEMS[0], "5"), opened], "b": [opened]}, [*PROBLEMS[:1], extra], SETTINGS)
    assert (found.problems, found.union.coverage.n) == (2, 1)
    assert [row.accuracy.n for row in found.teachers] == [1, 0]
    assert [row.traces for row in found.teachers] == [2, 1]
    (pair,) = found.pairs
    assert (pair.disagreement, pair.similarity) == (0, 1)
    assert pair.same_wrong is pair.kappa.value is None
    with pytest.raises(UserError, match="not graded"):
        compare({"a": [Trace("x", PROBLEMS[0].id, "a", 0, "", "7", "ungraded", "stop", 1, None, "")]}, PROBLEMS, SETTINGS)


def test_traces_of_other_problems_and_teachers_without_traces() -> None:
    found = compare({"a": [trace(PROBLEMS[3], "24")], "b": []}, PROBLEMS[:3], SETTINGS)
    assert [row.traces for row in found.teachers] == [0, 0]
    assert found.teachers[0].accuracy.value is None
    assert found.teachers[0].coverage == 0
    assert found.pairs[0].disagreement is None
    assert compare({}, [], SETTINGS).union.coverage.value is None


@pytest.mark.parametrize(("left", "right"), [(1, 1), (2, 3), (3, 2), (4, 4), (5, 40), (64, 64)])
def test_pairs_are_capped_and_use_every_text_about_as_often(left: int, right: int) -> None:
    found = diversity.pairs(left, right)
    assert len(found) == len(set(found)) == min(left * right, diversity.PAIRS)
    assert all(i < left and j < right for i, j in found)
    for side, size in ((0, left), (1, right)):
        uses = [sum(pair[side] == i for pair in found) for i in range(size)]
        assert max(uses) - min(uses) <= 1
    own = diversity.own_pairs(right)
    assert len(own) == len(set(own)) == min(right * (right - 1) // 2, diversity.PAIRS)
    assert all(i < j < right for i, j in own)


def test_words_are_compared_without_case_and_by_their_order() -> None:
    words = diversity.Words()
    one, two, three = (set(diversity.grams(words.read(text), 3).tolist()) for text in ("A b c d", "a B c e", "d c b a"))
    assert diversity.jaccard(one, two) == pytest.approx(1 / 3)
    assert diversity.jaccard(one, three) == 0


def test_real_teachers(shared_data: Path) -> None:
    """Four models' answers to GSM8K test questions: the accuracies in the data's description, and its own labels."""
    with gzip.open(shared_data / "traces" / "openai_gsm8k_test.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    problems = {row["problem_id"]: Problem.of(row["question"], row["gold"]) for row in rows}
    traces: dict[str, list[Trace]] = {}
    for number, row in enumerate(rows):
        verdict: VerdictName = "correct" if row["is_correct"] else "incorrect"
        made = Trace(
            str(number), problems[row["problem_id"]].id, row["teacher"], 0, row["trace"], extract(row["trace"]).answer, verdict,
            "stop", 0, None, "",
        )  # fmt: skip
        traces.setdefault(row["teacher"], []).append(made)
    found = compare(traces, list(problems.values()), SETTINGS)
    accuracy = {row.name.removeprefix("openai_"): round(100 * (row.accuracy.value or 0), 2) for row in found.teachers}
    assert accuracy == {
        "6b_finetuning": 22.18, "6b_verification": 40.28, "175b_finetuning": 35.55, "175b_verification": 56.78,
    }  # fmt: skip
    solved = {row["problem_id"] for row in rows if row["is_correct"]}
    assert found.union.coverage.value == pytest.approx(len(solved) / len(problems))
    right = {(row["problem_id"], row["teacher"]): row["is_correct"] for row in rows}
    assert len(found.pairs) == 6
    for pair in found.pairs:
        pairs = [(right[problem, pair.left], right[problem, pair.right]) for problem in problems]
        assert pair.kappa.value == pytest.approx(cohen(pairs))
        assert 0 < (pair.same_wrong or 0) < (1 - (pair.disagreement or 0)) < 0.6
        assert 0 < (pair.similarity or 0) < 0.5
