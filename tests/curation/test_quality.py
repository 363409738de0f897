"""Flags that need no answer."""

import pytest

from w2sr_jax.curation.quality import answer_key, loops


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("so we add two and three . " * 4, True),
        ("so we add two and three . " * 3, False),
        (" ".join(f"word{i}" for i in range(400)), False),
        ("yes no " * 10, True),
        (" ".join(f"w{i % 50} x{i % 7}" for i in range(250)), True),
        ("16 - 4 = 12 ; 12 * 2 = 24 #### 24", False),
        ("", False),
    ],
)
def test_loops(text: str, looping: bool) -> None:
    assert loops(text) is looping


def test_equal_answers_have_one_key() -> None:
    assert answer_key("24") == answer_key("24.0") == answer_key("$24") == answer_key("024")
    assert answer_key("1/2") == answer_key("0.5")
    assert answer_key("5%") != answer_key("5")
    assert answer_key("x  + 1") == answer_key("X + 1")
    assert answer_key("9" * 5000) == "9" * 5000
