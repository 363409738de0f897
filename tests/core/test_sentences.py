import pytest

from w2sr_jax.core import sentences


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "\u202eevil", "\u2028", "\ud800", "\x00", "é“ü”", ""])
def test_nothing_hostile_is_printed_and_nothing_honest_is_changed(text):
    safe = sentences.printable(text)
    assert safe.isprintable()
    safe.encode("utf-8")
    assert (safe == text) == text.isprintable()


def test_long_text_is_cut_before_it_is_looked_at():
    assert sentences.shown("x" * 10_000_000, 20) == "x" * 17 + "..."
    assert sentences.shown("x" * 20, 20) == "x" * 20
    assert len(sentences.shown("\u202e" * 15, 20)) == 20


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


def test_values_and_errors_that_cannot_be_written_are_named_by_type():
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    assert sentences.value(nested) == "a value of type list"
    assert sentences.value(10**5000) == "a value of type int"
    assert sentences.value("a\nb") == r"'a\nb'"
    assert sentences.cause(Unspeakable()) == "Unspeakable"
    assert sentences.cause(ValueError("one\n  two")) == "ValueError: one two"
