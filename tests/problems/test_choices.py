"""Multiple choice: options are shuffled the same way wherever they come from, and the gold letter moves along."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2sr_jax.core.errors import UserError
from w2sr_jax.problems.choices import multiple_choice
from w2sr_jax.problems.files import load
from w2sr_jax.problems.rows import Row
from w2sr_jax.problems.settings import Fields, Files

INDEX = Fields(choices=("choices",), answer_is="index")
words = st.text(st.characters(categories=("Ll",)), min_size=4, max_size=12)


def row(options: list[str], answer: object) -> Row:
    return Row(1, {"choices": options, "answer": answer})


@given(words, st.lists(words, min_size=2, max_size=26, unique=True), st.data())
def test_the_gold_letter_follows_its_option(question: str, options: list[str], data: st.DataObject) -> None:
    right = data.draw(st.integers(0, len(options) - 1))
    item = multiple_choice(row(options, right), INDEX, question)
    assert sorted(item.options) == sorted(options)
    assert [options[index] for index in item.permutation] == list(item.options)
    assert item.options[ord(item.answer) - ord("A")] == options[right]
    assert item.question == question + "\n" + "".join(f"\n{chr(65 + n)}) {option}" for n, option in enumerate(item.options))
    order = data.draw(st.permutations(range(len(options))))
    again = multiple_choice(row([options[index] for index in order], order.index(right)), INDEX, question)
    assert (again.question, again.answer) == (item.question, item.answer)  # whatever order a copy has them in


def test_all_orders_occur_equally_often() -> None:
    counts = Counter(multiple_choice(row(["w", "x", "y"], 0), INDEX, f"question {number}").options for number in range(1200))
    assert len(counts) == 6
    assert 140 < min(counts.values()) < max(counts.values()) < 260


def test_the_order_never_changes() -> None:
    """Problem ids, and so splits and keys, hang on it."""
    item = multiple_choice(row(["red", "green", "blue", "white"], 2), INDEX, "Which colour?")
    assert (item.options, item.answer) == (("white", "blue", "red", "green"), "B")


@pytest.mark.parametrize("option", ["Both A and B", "A and C only", "Neither B nor C", "(A) or (D)", "A only", "A, B and C"])
def test_options_that_name_letters_keep_all_in_place(option: str) -> None:
    for number in range(20):
        item = multiple_choice(row(["red", "green", "blue", option], 0), INDEX, f"{number}?")
        assert item.options == ("red", "green", "blue", option)


def test_of_the_above_stays_last() -> None:
    items = [multiple_choice(row(["red", "None of the above", "green"], 1), INDEX, f"{number}?") for number in range(20)]
    assert {each.options[-1] for each in items} == {"None of the above"}
    assert {each.answer for each in items} == {"C"}
    assert len({each.options for each in items}) == 2


def test_shuffling_can_be_left_out() -> None:
    fields = Fields(choices=("choices",), answer_is="index", shuffle=False)
    item = multiple_choice(row(["d", "c", "b", "a"], 1), fields, "q")
    assert (item.options, item.answer, item.permutation) == (("d", "c", "b", "a"), "B", (0, 1, 2, 3))


@pytest.mark.parametrize(
    ("fields", "values", "answer"),
    [
        (Fields(choices=("options.text",), answer_is="letter"), {"options": {"text": ["x", "y"]}, "answer": "(b)"}, "y"),
        (Fields(choices=("a", "b"), answer="right"), {"a": "x", "b": "y", "right": "y"}, "y"),
        (Fields(choices=("answer", "b")), {"answer": "x", "b": "y"}, "x"),
        (Fields(choices=("c",), answer_is="index"), {"c": [1, 2.0, 3], "answer": "1"}, "2"),
    ],
)
def test_ways_to_say_which_is_right(tmp_path: Path, fields: Fields, values: dict, answer: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"question": "q", **values}))
    ((problem,), _) = load(Files(str(path), fields))
    assert problem.meta["options"][ord(str(problem.answer)) - 65] == answer
    assert sorted(problem.meta["permutation"]) == list(range(len(problem.meta["options"])))


def test_unusable_choices_are_set_aside(tmp_path: Path) -> None:
    rows = [
        {"choices": ["x", "y"], "answer": 0},
        {"choices": ["x", "y"], "answer": 2},
        {"choices": ["x", "y"], "answer": "B"},
        {"choices": ["x"], "answer": 0},
        {"choices": "xy", "answer": 0},
        {"choices": ["x", None], "answer": 0},
        {"choices": ["x", "x", "y"], "answer": 0},
        {"choices": ["x", "x", "y"], "answer": 2},
        {"answer": 0},
    ]
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps({"question": "q", **values}) for values in rows))
    problems, quarantine = load(Files(str(path), INDEX))
    assert [problem.meta["line"] for problem in problems] == [1, 8]
    assert [bad.reason for bad in quarantine.rows] == [
        "field 'answer' holds '2', not a place from 0 of one of 2 options",
        "field 'answer' holds 'B', not a place from 0 of one of 2 options",
        "field 'choices' holds 1 options; there must be 2 to 26",
        "field 'choices' holds str, not a list of options",
        "field 'choices.1' is empty",
        "two options read the same, and one of them is the right one",
        "field 'choices' is missing",
    ]
    path.write_text(json.dumps({"question": "q", "answer": "z", "choices": ["x", "y"]}))
    with pytest.raises(UserError, match="field 'answer' is none of the options"):
        load(Files(str(path), Fields(choices=("choices",))))
