"""Stop strings against the naive search, for tokens that come in any portions."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from w2sr_jax.sampling import stops
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.text.tokenizer import build

PIECES = [b"a", b"b", b"ab", b"aab", b" ", b"\n", b"", b"\xc3", b"\xa9", b"\xc3\xa9", b"ba\n", b"\xf0\x9f\x98", b"\x80"]


def joined(tokens: Sequence[int]) -> str:
    """Bytes, as a byte-level tokenizer has them: characters may be cut in two, a token may have no text."""
    return b"".join(PIECES[token] for token in tokens).decode(errors="replace")


def stripped(tokens: Sequence[int]) -> str:
    """As tokenizers of the SentencePiece kind: no space at the beginning."""
    return joined(tokens).removeprefix(" ")


def naive(tokens: Sequence[int], stop: Sequence[str], decode: stops.Decode) -> int | None:
    ends = range(1, len(tokens) + 1)
    return next((end for end in ends if any(string in decode(list(tokens[:end])) for string in stop)), None)


rows = st.lists(st.integers(0, len(PIECES) - 1), max_size=60)
strings = st.lists(st.sampled_from(["ab", "\n", "aaaa", "é", "b b", "ba\nab", "\n\n", "😀", " a"]), min_size=1, max_size=3)
portions = st.lists(st.integers(1, 20), min_size=1)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(rows, min_size=1, max_size=3), strings, st.lists(st.integers(1, 20), min_size=1), st.sampled_from([joined, stripped])
)
@example([[6] * 50 + [0] + [6] * 40 + [1]], ["ab"], [1], joined)
def test_the_fewest_tokens_are_kept_however_they_come(
    many: list[list[int]], stop: list[str], sizes: list[int], decode: stops.Decode
) -> None:
    ask = stops.stopper(stop, decode)
    assert ask is not None
    for row in [*many, many[0] + many[-1]]:
        found, end = None, 0
        for number in range(len(row) + 1):
            end += sizes[number % len(sizes)]
            found = ask(row[:end])
            if found is not None or end >= len(row):
                break
        assert found == naive(row, stop, decode)


def test_only_the_tail_of_a_long_row_is_decoded() -> None:
    decoded = 0

    def decode(tokens: list[int]) -> str:
        nonlocal decoded
        decoded += len(tokens)
        return joined(tokens)

    ask = stops.stopper(["\n"], decode)
    assert ask is not None
    row = [0, 1, 2, 3] * 500
    for end in range(20, len(row) + 1, 20):
        assert ask(row[:end]) is None
    assert decoded < 4 * len(row)
    assert ask([*row, 5]) == len(row) + 1


@pytest.mark.parametrize(
    ("text", "stop", "kept"),
    [("one. Q: two Q:", ("Q:",), "one. "), ("one", ("Q:",), "one"), ("ab", ("b", "ab"), ""), ("a\n\nb", ("b", "\n"), "a")],
)
def test_the_text_ends_before_the_first_stop_string(text: str, stop: tuple[str, ...], kept: str) -> None:
    assert stops.before(text, stop) == kept


def test_nothing_to_stop_at_is_no_stopper() -> None:
    assert stops.stopper((), joined) is None


def test_a_word_tokenizer_stops_at_words() -> None:
    tokenizer = build(WordTokenizer(largest=3), ["so the answer is two ."])
    (ids,) = tokenizer.encode(["so the answer is two . 3"])
    ask = stops.stopper(("answer is",), lambda tokens: tokenizer.decode([tokens])[0])
    assert ask is not None
    kept = ask(ids)
    assert kept is not None
    assert tokenizer.decode([ids[:kept]])[0].split()[-2:] == ["answer", "is"]
    assert tokenizer.decode([ids[: kept - 1]])[0].split()[-1] == "answer"
