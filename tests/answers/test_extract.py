"""Finding the answer: each rule, their order, and texts that are no help."""

import os
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from w2sr_jax.answers.extract import boxes, extract, tidy
from w2sr_jax.answers.reading.scope import answer_text


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        ("He has 5.\n#### 18", "18", "####"),
        ("#### 3\nwait\n#### 1,234.50 ", "1,234.50", "####"),
        ("#### 7\n####  \n", "7", "####"),
        ("16 - 4 = 12 ; 12 * 2 = 24 #### 24", "24", "####"),
        ("#### $5.", "$5", "####"),
        ("#### 9<|im_end|>\n<|im_start|>user", "9", "####"),
        ("#### The total is 24 pounds of it", "24", "####"),
        ("#### 24 dollars", "24 dollars", "####"),
        ("#### 2 cats and 3 dogs", "2 cats and 3 dogs", "####"),
        ("so \\boxed{5} #### 6", "6", "####"),
        ("\\boxed{\\frac{1}{2}} is it. A: 7", "\\frac{1}{2}", "boxed"),
        ("\\boxed{1} no, \\boxed{\\text{a} {b{c}}}", "\\text{a} {b{c}}", "boxed"),
        ("first \\boxed{1} and then we get \\boxed{2}", "2", "boxed"),
        ("$\\boxed{1}, \\boxed{2}$ and $\\boxed{3}$", "1, 2, 3", "boxed"),
        ("\\boxed{4}, so \\boxed{4}.", "4", "boxed"),
        ("\\boxed{12} and \\boxed{unfinished", None, "none"),
        ("\\boxed{\\{1\\}}", "\\{1\\}", "boxed"),
        ("\\fbox{8}", "8", "boxed"),
        ("\\boxed 9$", "9", "boxed"),
        ("\\boxed{} The answer is 3.", "3", "answer_is"),
        ("It takes 2.\nA: 3", "3", "A:"),
        ("**Answer:** 3/4\n", "3/4", "A:"),
        ("Final answer: $x+1$", "x+1", "A:"),
        ("The answer is 12. Then it rains 5 days.", "12", "answer_is"),
        ("So the final answer is: $3.50.", "$3.50", "answer_is"),
        ("The answer to question 2 is 8 because of 3", "8", "answer_is"),
        ("the answer is $\\frac{3}{4}$. I hope it is correct.", "\\frac{3}{4}", "answer_is"),
        ("hence\n\\[ x = \\sqrt{2} \\]", "x = \\sqrt{2}", "last_math"),
        ("it is \\(a\\) or $(1,4.5)$", "(1,4.5)", "last_math"),
        ("He pays $12 and then $5 more, 17 in all", "17", "last_number"),
        ("He pays $12 and then $5", "$5", "last_number"),
        ("She has 5-3 and -2", "-2", "last_number"),
        ("She has 5-3", "3", "last_number"),
        ("about 1,200,300.25 of 4/5", "4/5", "last_number"),
        ("it is 80% done", "80%", "last_number"),
        ("so .5 remain", ".5", "last_number"),
        ("\\frac{10}{9}", "\\frac{10}{9}", "last_number"),
        ("1 000", "1 000", "last_number"),
        ("room B12 has 3 chairs", "3", "last_number"),
        ("I do not know", None, "none"),
        ("", None, "none"),
        ("####", None, "none"),
        ("\\boxed{", None, "none"),
    ],
)
def test_rules(text: str, answer: str | None, rule: str) -> None:
    assert extract(text) == (answer, rule)


@given(st.text(max_size=300))
def test_any_text_has_an_extraction(text: str) -> None:
    answer, rule = extract(text)
    assert (answer is None) == (rule == "none")
    assert rule in {"tag", "####", "boxed", "A:", "answer_is", "last_math", "last_number", "none"}


@given(
    st.lists(
        st.sampled_from(["####", "\\boxed", "{", "}", "$", "\\(", "\\)", "answer is", "A:", " ", "\n", "5", "-", ".", "a b"]),
        max_size=40,
    )
)
def test_any_mixture_of_marks_has_an_extraction(parts: list[str]) -> None:
    extract("".join(parts))


@given(st.integers(), st.text(st.characters(exclude_characters="#"), max_size=50))
def test_the_last_marked_answer_wins(value: int, before: str) -> None:
    text = f"{before}\n#### 1\n{before}\n#### {value}"
    assume(answer_text(text) == text)  # no thought, end of turn or further question begins in it
    assert extract(text) == (str(value), "####")


braced = st.recursive(
    st.text("ab1+", max_size=3), lambda inner: st.lists(inner, max_size=3).map(lambda p: "{" + "".join(p) + "}")
)


@given(braced)
def test_boxes_hold_balanced_braces_whole(content: str) -> None:
    text = f"so \\boxed{{{content}}} it is"
    assert [(text[a:b], inner) for a, b, inner in boxes(text)] == [(f"\\boxed{{{content}}}", content)]


@pytest.mark.parametrize("mark", ["####", "\\boxed{", "$", "answer is ", "{", "\\(", "1,", "-", "9/"])
def test_long_repetitions_end(mark: str) -> None:
    extract(mark * 60_000)


def test_tidy_keeps_what_means_something() -> None:
    assert tidy(" **$5!$.** ") == "5!"
    assert tidy("$a$ and $b$") == "$a$ and $b$"


def test_the_rule_does_not_depend_on_the_order_of_sets() -> None:
    program = "from w2sr_jax.answers.extract import extract; print(extract('Answer:12').rule)"
    for seed in ("0", "1", "2", "3", "4", "5"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )
        assert done.stdout == "A:\n"
