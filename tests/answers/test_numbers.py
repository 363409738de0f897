"""Numbers as written, against Python's own exact arithmetic."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2sr_jax.answers.numbers import number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        ("-7", -7),
        ("−7", -7),
        ("+3", 3),
        ("1,234,567.50", Fraction("1234567.5")),
        ("$1,234", 1234),
        ("\\$ 12.50", Fraction("12.5")),
        ("-$5", -5),
        ("$-5$".strip("$"), -5),
        ("3/4", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("\\dfrac34", Fraction(3, 4)),
        ("-\\tfrac{1}{2}", Fraction(-1, 2)),
        ("\\frac{-1}{2}", Fraction(-1, 2)),
        ("2 1/2", Fraction(5, 2)),
        ("2\\frac{1}{2}", Fraction(5, 2)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("0.50", Fraction(1, 2)),
        ("15%", 15),
        ("15\\%", 15),
        ("1.5e3", 1500),
        ("10{,}000", 10000),
        ("16,\\!386.20", Fraction("16386.2")),
        ("1 000", 1000),
        ("90^\\circ", 90),
        ("24 dollars", 24),
        ("24 square feet", 24),
        ("10\\text{ units}", 10),
        ("5cm", 5),
        ("5\\text{ cm}^2", 5),
        ("{7}", 7),
        ("3 million", 3_000_000),
        ("$2.5bn", 2_500_000_000),
        ("3.5万", 35_000),
        ("0.\\overline{3}", Fraction(1, 3)),
        ("0.1(6)", Fraction(1, 6)),
        ("0.2727...", Fraction(3, 11)),
        ("1.6 \\times 10^{-19}", Fraction(16, 10**20)),
        ("６.０２e２３", 602 * 10**21),
        ("negative 5", -5),
        ("minus forty-two", -42),
        ("about 15", 15),
        ("USD 35", 35),
        ("₹3500", 3500),
        ("15 (fifteen)", 15),
        ("two and a half", Fraction(5, 2)),
        ("three quarters", Fraction(3, 4)),
        ("one hundred and five apples", 105),
        ("12个苹果", 12),
        ("25입니다", 25),
        ("2½", Fraction(5, 2)),
        ("32 dollars and 50 cents", Fraction(65, 2)),
        ("$5 and 10 cents", Fraction(51, 10)),
    ],
)
def test_written_numbers(text: str, value: Fraction | int) -> None:
    read = number(text)
    assert read is not None
    assert read.value == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "5x", "10xy", "3i", "2 pi", "5:40", "1/0", "8_9", "10!", "1,2", "5 and 6", "2^3", "1.2.3", "--5"),
        *(
            "1e999",
            "half",
            "12 - J",
            "17 33",
            "9\\pi",
            "9 pi square units",
            "15 (sixteen)",
            "seven eight",
            "1 2 3",
            "12个半",
            "5 and 10 cents",
            ", and 5 cents",
            "5 mıllion",
            "9" * 2000,
        ),
    ],
)
def test_other_texts_are_no_numbers(text: str) -> None:
    assert number(text) is None


@given(st.text(max_size=60))
def test_no_text_makes_it_fail(text: str) -> None:
    number(text)


@given(st.text("0123456789.,/-+%$\\{} efrac", max_size=40))
def test_no_mixture_of_marks_makes_it_fail(text: str) -> None:
    number(text)


@given(
    st.integers(-(10**12), 10**12),
    st.integers(0, 6),
    st.booleans(),
    st.sampled_from(["{}", "${}", " {} ", "{} apples", "{}%", "{}."]),
)
def test_decimals_are_exact(digits: int, decimals: int, commas: bool, form: str) -> None:
    value = Fraction(digits, 10**decimals)
    whole, part = divmod(abs(digits), 10**decimals)
    text = f"{whole:,}" if commas else str(whole)
    text = ("-" if digits < 0 else "") + text + (f".{part:0{decimals}d}" if decimals else "")
    read = number(form.format(text))
    assert read is not None
    assert (read.value, read.percent) == (value, "%" in form)


@given(st.fractions(max_denominator=10**6))
def test_fractions_are_exact(value: Fraction) -> None:
    over, under = value.numerator, value.denominator
    for text in (f"{over}/{under}", f"\\frac{{{over}}}{{{under}}}"):
        read = number(text)
        assert read is not None
        assert read.value == value
