"""Splits: disjoint, stable, free of near-duplicates, and honest about what was left out."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.problems.generated import generate
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.problems.splits import check_disjoint, lcs, normalised, split

LONG = (
    "A farmer walks to the market with a basket of {n} eggs and on the way back he finds that {m} of them "
    "have been eaten by a fox , how many eggs does the farmer bring {end}"
)


def question(text: str) -> Problem:
    return Problem.of(text, "1")


@given(st.lists(st.integers(0, 6), min_size=5, max_size=5), st.integers(0, 3), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_sizes_are_met_and_order_does_not_matter(counts: list[int], seed: int, shuffler: random.Random) -> None:
    problems = [question(f"What is {i} plus {i + 1} ?") for i in range(30)]
    shuffled = list(problems)
    shuffler.shuffle(shuffled)
    first, report = split(problems, Splits(*counts), seed)
    second, _ = split(shuffled, Splits(*counts), seed)
    assert first == second
    assert list(first) == ["pretrain", "teacher", "pool", "probe", "test"]
    assert [len(rows) for rows in first.values()] == counts
    ids = [p.id for rows in first.values() for p in rows]
    assert len(ids) == len(set(ids)) == sum(report.sizes.values())
    assert report.unused == 30 - len(ids)


def test_seed_changes_the_split() -> None:
    problems = generate(Generated(), 60)
    one, two = (split(problems, Splits(test=20), seed)[0]["test"] for seed in (0, 1))
    assert {p.id for p in one} != {p.id for p in two}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("text", "apart"),
    [
        (LONG.format(n=30, m=4, end="home ?").upper().replace(" ,", ","), False),
        (LONG.format(n=30, m=4, end="back to the house ?"), False),
        (LONG.format(n=31, m=4, end="home ?"), True),
    ],
)
def test_near_duplicates_do_not_cross_splits(text: str, apart: bool, seed: int) -> None:
    original = LONG.format(n=30, m=4, end="home ?")
    splits, report = split([question(original), question(text), *map(question, "abcd")], Splits(pool=2, test=2), seed)
    owners = {name for name, rows in splits.items() for p in rows if p.question in (original, text)}
    if apart:
        assert not any(report.removed.values())
    else:
        assert len(owners) <= 1


def test_a_test_set_of_its_own_is_kept_whole_and_apart() -> None:
    own = [question("a"), question(LONG.format(n=30, m=4, end="home ?"))]
    problems = [question("A?"), question(LONG.format(n=30, m=4, end="back to the house ?")), *map(question, "bcdef")]
    splits, report = split(problems, Splits(probe=2, pool=-1), 0, test=own)
    assert splits["test"] == own
    assert {p.question for name in ("probe", "pool") for p in splits[name]} == set("bcdef")
    assert (len(splits["probe"]), len(splits["pool"])) == (2, 3)
    assert sum(n for counts in report.removed.values() for n in counts.values()) == 2
    with pytest.raises(UserError, match="split test must be 0"):
        split(problems, Splits(test=1), 0, test=own)
    with pytest.raises(UserError, match="nothing is left for pretrain"):
        split(problems, Splits(pool=-1, pretrain=1), 0)


@pytest.mark.parametrize("end", ["home ?", "back to the house ?"])
def test_a_near_duplicate_leaves_too_few(end: str) -> None:
    pair = [question(LONG.format(n=30, m=4, end="home ?")), question(LONG.format(n=30, m=4, end=end) + " ")]
    with pytest.raises(UserError, match=r"2 asked for, 2 given, 1 of them left out .*; pool gets 0 of 1"):
        split(pair, Splits(pool=1, test=1), 0)
    both, _ = split(pair, Splits(pool=2), 0)  # within one split they may stay
    assert len(both["pool"]) == 2


def test_operators_make_another_problem() -> None:
    pair = [question("Compute $2 + 3$."), question("Compute $2 - 3$.")]
    _, report = split(pair, Splits(pool=1, test=1), 0)
    assert report.sizes["pool"] == report.sizes["test"] == 1
    assert normalised("Compute  $2+3$.") == normalised("compute 2 + 3")


def test_renamed_generated_problems_count_as_one() -> None:
    (problem,) = generate(Generated(), 1)
    renamed = Problem.of(problem.question.replace("e", "u"), problem.answer, None, problem.task, problem.meta)
    with pytest.raises(UserError, match="1 of them left out"):
        split([problem, renamed], Splits(pool=1, test=1), 0)


def test_generated_problems_are_never_taken_for_each_other() -> None:
    _, report = split(generate(Generated(), 400), Splits(pretrain=100, teacher=100, pool=100, probe=50, test=50), 0)
    assert all(counts == {} for counts in report.removed.values())


def test_repeated_problems_count_once() -> None:
    problems = [question("a b"), question("a b"), question("c d")]
    splits, report = split(problems, Splits(pool=2), 0)
    assert report.repeated == 1
    assert len(splits["pool"]) == 2


def test_too_few_and_negative_counts_are_said() -> None:
    with pytest.raises(UserError, match="5 asked for, 1 given, 0 of them"):
        split([question("a")], Splits(test=5), 0)
    with pytest.raises(UserError, match="split teacher: -1"):
        split([question("a")], Splits(teacher=-1), 0)
    with pytest.raises(UserError, match="split pool: -2"):
        split([question("a")], Splits(pool=-2), 0)


def test_check_disjoint_names_the_shared_problem() -> None:
    a = question("a")
    check_disjoint({"pool": [a], "test": [question("b")]})
    with pytest.raises(UserError, match=f"{a.id} is in both split pool and split test"):
        check_disjoint({"pool": [a], "test": [a]})


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_lcs_matches_the_textbook(a: list[str], b: list[str]) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert lcs(a, b) == table[-1][-1]
