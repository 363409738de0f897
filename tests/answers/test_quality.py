"""Loops, on texts made for it and against the definition spelled out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2sr_jax.answers.quality import loops


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("16 - 4 = 12 ; 12 * 2 = 24 #### 24", False),
        ("first " + "so we add two and three . " * 4, True),
        ("first " + "so we add two and three . " * 3, False),
        ("yes no " * 10, True),
        ("we go round and round here now " * 4 + " ".join(f"word{i}" for i in range(200)), False),
        (" ".join(f"word{i}" for i in range(400)), False),
        (" ".join("abcdefgh"[(i * i + i // 7) % 8] for i in range(260)), True),
        (" ".join(f"w{i % 50} x{i % 7}" for i in range(250)), True),
        ("", False),
    ],
)
def test_loops(text: str, looping: bool) -> None:
    assert loops(text) is looping


@given(st.lists(st.sampled_from(["a", "b", "A"]), max_size=60), st.integers(0, 5))
def test_sequences_of_six_eight_or_ten_words_count_each_occurrence(words: list[str], copies: int) -> None:
    words = words + words[-9:] * copies
    tail = words[-200:]
    grams = [tuple(tail[i : i + size]) for size in (6, 8, 10) for i in range(len(tail) - size + 1)]
    assert loops(" ".join(words)) is any(grams.count(gram) >= 4 for gram in set(grams))
