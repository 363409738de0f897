"""The second opinion: right and wrong numbers, silence where a rule set for numbers has nothing to say, and independence."""

import ast
import gzip
import inspect
import json
from pathlib import Path

import pytest

from w2sr_jax.answers import second, second_value
from w2sr_jax.answers.grade import grade
from w2sr_jax.answers.second import second_opinion
from w2sr_jax.core import thinking

CORRECT = [
    ("6 + 5 = 11\n#### 11", "11"),
    ("#### 1,250", "1250"),
    ("#### $1,250.00", "1,250"),
    ("A: 40", "40"),
    ("So it is \\boxed{\\frac{3}{4}}.", "0.75"),
    ("So it is $\\boxed{2\\dfrac{1}{2}}$.", "5/2"),
    ("She needs 2 1/2 cups", "2.5"),
    ("So it is \\boxed{x = -8}.", "-8"),
    ("So it is \\boxed{12\\text{ km/h}}.", "12"),
    ("So it is \\boxed{40\\%}.", "40%"),
    ("So it is \\boxed{40\\%}.", "0.4"),
    ("The answer is 0.4", "40\\%"),
    ("The answer is $6.02 \\times 10^{23}$.", "6.02e23"),
    ("Answer: 1.6×10⁻¹⁹ J", "1.6e-19"),
    ("The answer is 3.5 million.", "3,500,000"),
    ("The final answer is:\n\\[\n18\n\\]", "18"),
    ("**Answer:** 18 dollars", "18"),
    ("The answer is 7 + 8 = 15.", "15"),
    ("<answer>15 apples</answer>", "15"),
    ("<think>#### 12, or \\boxed{14}</think>\n#### 15", "15"),
    ("#### Step 1\n3 + 4 = 7\n#### Step 2\n7 + 8 = 15", "15"),
    ("7 + 8 = 15. This answer is plausible.", "15"),
    ("The answer is 14. Wait, no: the answer is 15.", "15"),
    ("7 + 8 = 15\n#### 15\n\nQuestion: What is 3 + 3?\nAnswer: 6\n#### 6", "15"),
    ("所以答案是15。", "15"),
    ("答えは１５です。", "15"),
    ("정답은 15입니다.", "15"),
    ("Ответ: −15", "-15"),
    ("The answer is 15.<|im_end|>\n<|im_start|>user\nWhat is 3 + 3?<|im_end|>\n<|im_start|>assistant\nThe answer is 6.", "15"),
    ("Let me check whether the answer is 12. No: 7 + 8 = 15.", "15"),
    ("In all that makes 15", "#### 15"),
    ("In all that makes 15", "7 + 8 = 15, so \\boxed{15}."),
]
WRONG = [
    ("#### 12", "11"),
    ("#### 1,250", "125"),
    ("#### 1.250", "1250"),
    ("So it is \\boxed{\\frac{3}{4}}.", "\\frac{4}{3}"),
    ("So it is \\boxed{-8}.", "8"),
    ("So it is \\boxed{10^{3}}.", "10"),
    ("So it is \\boxed{40\\%}.", "4"),
    ("The answer is 6.02e22", "6.02e23"),
    ("The answer is 0.333", "1/3"),
    ("<think>The answer is 15</think>\nThe answer is 16.", "15"),
    ("The answer is 15. Wait, no: the answer is 16.", "15"),
    ("7 + 8 = 15 \\boxed{15} and later \n\\boxed{16}", "15"),
    ("7 + 9 = 16\n#### 16\n\nQuestion: What is 7 + 8?\nAnswer: 15\n#### 15", "15"),
    ("The answer is 3.5 million.", "3.5"),
    ("The answer is 16.</s> The answer is 15.", "15"),
    ("Let me check whether the answer is 15. No: 8 + 8 = 16.", "15"),
    ("So it is \\boxed{3.14}.", "3.14159"),
    ("So it is \\boxed{1000001}.", "1000000"),
]
SILENT = [
    ("So it is \\boxed{9\\pi}.", "9"),
    ("So it is \\boxed{3\\sqrt{2}}.", "3"),
    ("So it is $\\sqrt{15}", "15"),
    ("So it is \\boxed{5x}.", "5"),
    ("So it is \\boxed{3^{2}}.", "3"),
    ("So it is \\boxed{(3, 5)}.", "5"),
    ("So it is \\boxed{3} or \\boxed{5}.", "5"),
    ("So it is \\boxed{15", "15"),
    ("The answer is 3,5", "5"),
    ("The answer is 10:30", "30"),
    ("The answer is negative 5.", "5"),
    ("She has 42 and not 15", "15"),
    ("There are 15 ways to choose 2 of 6 books.", "6"),
    ("One would guess that the answer is 15, which is incorrect.", "15"),
    ("So it is \\boxed{0.2727...}.", "0.2727"),
    ("So it is \\boxed{0.333333}.", "1/3"),
    ("So it is \\boxed{5 \\text{ km}}.", "5 \\text{ m}"),
    ("#### 16\n\nTom has 16 pears and eats 1. How many are left?\n#### 15", "15"),
    ("8 + 8 = 16\n\nQ: What is 7 + 8?\nA: 15", "15"),
    ("#### Part 15", "15"),
    ("Answer: 10–15", "10"),
    ("The answer is 5 apples and 3 pears", "3"),
    ("<think>The answer is 15", "15"),
    ("I cannot solve this.", "15"),
    ("", "15"),
    ("#### 15", "9\\pi"),
    ("#### 15", "x"),
    ("#### 15", "(B)"),
    ("#### 15", "(1, 15)"),
    ("#### 15", "x + y = 15"),
    ("#### 15", "more than 15 people or 15"),
    ("#### 15", ""),
    ("#### 15", None),
    ("#### 1/0", "0"),
]


@pytest.mark.parametrize(("text", "gold"), CORRECT)
def test_a_number_that_is_stated_last_and_is_gold_is_correct(text, gold):
    assert second_opinion(text, gold).verdict == "correct"


@pytest.mark.parametrize(("text", "gold"), WRONG)
def test_another_number_is_incorrect(text, gold):
    assert second_opinion(text, gold).verdict == "incorrect"


@pytest.mark.parametrize(("text", "gold"), SILENT)
def test_where_one_side_is_no_number_there_is_no_opinion(text, gold):
    assert second_opinion(text, gold).verdict is None


def test_it_says_what_it_read():
    assert second_opinion("It costs $1,234.50 now", "5").answer == "1,234.50"
    assert second_opinion("I do not know", "5").answer is None


def test_it_shares_no_code_with_what_it_is_held_against():
    """Of the package it may use the list of thinking marks, and its own two modules."""
    for module in (second, second_value):
        tree = ast.parse(inspect.getsource(module))
        imports = [
            node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and str(node.module).startswith("w2sr_jax")
        ]
        used = {(node.module, alias.name) for node in imports for alias in node.names}
        assert {name for name in used if name[0] != "w2sr_jax.answers.second_value"} <= {("w2sr_jax.core", "thinking")}
    assert second.thinking is thinking


HOSTILE = [
    "1" * 300_000,
    "1.1." * 100_000,
    "\\frac" * 100_000,
    "\\boxed{" * 50_000,
    "answer is " + "5 " * 100_000,
    "-" * 300_000,
    "#### " * 100_000,
    "\\boxed{1e999999999}",
    "\\boxed{10^{999}}",
    "2^" * 100_000,
    "\nQ:" * 100_000,
    "<answer>" * 50_000,
    "\\boxed{5 aa" + "aa" * 200 + "!}",
    "\\boxed{" + "1=" * 200 + "x}",
    "answer" + " " * 300_000 + "5",
    "½" * 100_000,
    "\x00\ud800 5",
    "\\boxed{\\frac{1}{0}}",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_input_never_raises_nor_counts_as_correct(text):
    """Nor does a regular expression explode: it would take years."""
    assert second_opinion(text, "7").verdict != "correct"
    assert second_opinion("7", text).verdict != "correct"


def _rows(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_on_real_traces_it_agrees_with_the_labels_and_with_the_grader(shared_data):
    rows = _rows(shared_data / "traces" / "openai_gsm8k_test.jsonl.gz")
    opinions = [second_opinion(row["trace"], row["gold"]).verdict for row in rows]
    held = [(verdict == "correct", row["is_correct"]) for verdict, row in zip(opinions, rows) if verdict is not None]
    assert len(held) > 0.99 * len(rows)
    assert sum(one == other for one, other in held) >= 0.999 * len(held)

    rows = _rows(shared_data / "traces" / "gair_gsm8k_llama2_7b.jsonl.gz")[:2000]
    verdicts = grade([(row["trace"], row["gold"]) for row in rows], workers=1)
    opinions = [second_opinion(row["trace"], row["gold"]).verdict for row in rows]
    differ = [row for row, one, two in zip(rows, verdicts, opinions) if two is not None and one.verdict != two]
    assert len(differ) <= 0.005 * len(rows)
    assert sum(verdict is None for verdict in opinions) < 0.02 * len(rows)


def test_gold_solutions_state_their_own_answers(shared_data):
    with open(shared_data / "gsm8k" / "test.jsonl", encoding="utf-8") as lines:
        answers = [json.loads(line)["answer"] for line in lines]
    assert {second_opinion(answer, answer).verdict for answer in answers} == {"correct"}
