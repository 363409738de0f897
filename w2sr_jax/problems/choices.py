"""Multiple choice: a question with its options listed below it, in an order that depends on the question alone."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from w2sr_jax.core.keys import generator
from w2sr_jax.problems.rows import Row, Unusable, field_value, text_field

if TYPE_CHECKING:
    from w2sr_jax.problems.settings import Fields

LETTERS = string.ascii_uppercase

_REFERRING = re.compile(  # "Both A and B", "(A) or (C)", "A only", "Neither B nor C", "Options A and D"
    r"\(?\b[A-J]\)?\s*(?:,|and|or|nor|&)\s*\(?[A-J]\b\)?(?![\w'’-])|^\s*\(?[A-J]\)?\s+only\b|\boptions?\s+\(?[A-J]\b"
)
_LAST = re.compile(r"\bof (?:the )?(?:above|these|those)\b", re.I)


class Choice(NamedTuple):
    """The question with its options listed below it, the letter of the right one, the options in the order of the list, and the
    index that each of them has in the row."""

    question: str
    answer: str
    options: tuple[str, ...]
    permutation: tuple[int, ...]


def multiple_choice(row: Row, fields: Fields, question: str) -> Choice:
    """A row's question as multiple choice, as `fields` say. Raises Unusable where the options or the right one cannot be read."""
    options = _options(row, fields)
    right = _right(row, fields, options)
    if sum(option == options[right] for option in options) > 1:
        raise Unusable("two options read the same, and one of them is the right one")
    order = _order(question, options) if fields.shuffle else list(range(len(options)))
    listed = tuple(options[index] for index in order)
    lines = "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, listed))
    return Choice(f"{question}\n\n{lines}", LETTERS[order.index(right)], listed, tuple(order))


def _options(row: Row, fields: Fields) -> list[str]:
    name = fields.choices[0]
    if len(fields.choices) > 1:
        options = [text_field(row, field).strip() for field in fields.choices]
    else:
        text_field(row, name)
        values = field_value(row.values, name)
        if not isinstance(values, list):
            raise Unusable(f"field {name!r} holds {type(values).__name__}, not a list of options")
        options = [
            text_field(Row(row.line, {f"{name}.{index}": value}), f"{name}.{index}").strip() for index, value in enumerate(values)
        ]
    if not 2 <= len(options) <= len(LETTERS):
        raise Unusable(f"field {name!r} holds {len(options)} options; there must be 2 to {len(LETTERS)}")
    return options


def _right(row: Row, fields: Fields, options: Sequence[str]) -> int:
    if fields.answer_is == "value" and fields.answer in fields.choices:
        return fields.choices.index(fields.answer)
    answer = text_field(row, fields.answer).strip()
    if fields.answer_is == "value":
        matches = [index for index, option in enumerate(options) if option == answer]
        if not matches:
            raise Unusable(f"field {fields.answer!r} is none of the options")
        return matches[0]
    if fields.answer_is == "letter":
        position = LETTERS.find(answer.strip("().").upper()) if len(answer.strip("().")) == 1 else -1
    else:
        position = int(answer) if answer.isascii() and answer.isdecimal() and len(answer) < 10 else -1
    if not 0 <= position < len(options):
        what = "a letter" if fields.answer_is == "letter" else "a place from 0"
        raise Unusable(f"field {fields.answer!r} holds {answer[:40]!r}, not {what} of one of {len(options)} options")
    return position


def _order(question: str, options: Sequence[str]) -> list[int]:
    """The indices of the options in the order of the list, which depends on the question and the set of options, not on their
    order in the row. Options that refer to others by letter stay as they are, and `… of the above` stays last."""
    if any(_REFERRING.search(option) for option in options):
        return list(range(len(options)))
    by_text = sorted(range(len(options)), key=lambda index: (options[index], index))
    free = [index for index in by_text if not _LAST.search(options[index])]
    closing = [index for index in range(len(options)) if _LAST.search(options[index])]
    keys = generator(0, "choices", question, *(options[index] for index in free)).bit_generator.random_raw(len(free))
    return [free[rank] for rank in sorted(range(len(free)), key=lambda rank: int(keys[rank]))] + closing
