"""Rewriting of several tokens in a row: brackets that are punctuation, numbers in words, words that ask for a value."""

from collections.abc import Sequence
from typing import NamedTuple

from w2sr_jax.problems.copies import numerals, wordlists

OPERATORS = frozenset("+-*/^=<>≤≥≠%!|:()[]{}'")
"""Tokens for operations, relations and grouping. Two copies of a question have the same numbers and operators."""

_VALUE = (
    ["the", "exact", "value", "of"],
    ["the", "numerical", "value", "of"],
    ["the", "value", "of"],
    ["the", "values", "of"],
    ["value", "of"],
)
_FORMULA = 200  # most tokens between the brackets of a formula
_GROUPS = {"(": ")", "[": "]", "{": "}"}


class Token(NamedTuple):
    """A token in lower case; whether the text has it with a capital; and whether a sentence, a line or a clause begins with
    it."""

    text: str
    capital: bool
    begins: bool


def without_punctuation_brackets(tokens: list[Token]) -> list[Token]:
    """The tokens without brackets of any kind that are punctuation: those around words, and parentheses around a single token."""
    open_at: list[int] = []
    drop: set[int] = set()
    for index, token in enumerate(tokens):
        if token.text in _GROUPS:
            open_at.append(index)
        elif token.text in (")", "]", "}"):
            # Half-open intervals pair a bracket with a parenthesis.
            if not open_at or (token.text == "}") != (tokens[open_at[-1]].text == "{"):
                drop.add(index)
                continue
            start = open_at.pop()
            if index - start > _FORMULA:
                drop |= {start, index}
                continue
            inside = [tokens[position] for position in range(start + 1, index) if position not in drop]
            single = tokens[start].text == "(" and token.text == ")" and _whole([part.text for part in inside])
            if single or not all(_mathematical(part) for part in inside):
                drop |= {start, index}
    drop.update(open_at)
    if not drop:
        return tokens
    remaining, begins = [], False
    for index, token in enumerate(tokens):
        if index in drop:
            begins = begins or token.begins
        else:
            remaining.append(token._replace(begins=token.begins or begins) if begins else token)
            begins = False
    return remaining


def _whole(inside: Sequence[str]) -> bool:
    """Whether the tokens within parentheses are one operand without them: one token, a parenthesis, or a function of either."""
    if inside and inside[0] in wordlists.FUNCTIONS:
        inside = inside[1:]
    if len(inside) <= 1:
        return True
    depth = 0
    for index, word in enumerate(inside):
        depth += (word == "(") - (word == ")")
        if not depth and index < len(inside) - 1:
            return False
    return inside[0] == "("


def _mathematical(token: Token) -> bool:
    word = token.text
    return word[0].isdigit() or word in OPERATORS or len(word) == 1 or word in wordlists.FORMAL


def with_figures(tokens: list[Token]) -> list[Token]:
    """The tokens with figures for number words."""
    if numerals.WORDS.isdisjoint([token.text for token in tokens]):
        return tokens
    rewritten: list[Token] = []
    position = 0
    while position < len(tokens):
        end = position
        while end < len(tokens) and (tokens[end].text in numerals.WORDS or (end > position and tokens[end].text == "and")):
            end += 1
        if end == position:
            rewritten.append(tokens[position])
            position += 1
            continue
        begin = (
            position - 1
            if rewritten and rewritten[-1].text[0].isdigit() and tokens[position - 1].text == rewritten[-1].text
            else position
        )
        if begin < position:
            rewritten.pop()
        words = numerals.in_figures([token.text for token in tokens[begin:end]])
        rewritten += [Token(word, False, tokens[begin].begins and not index) for index, word in enumerate(words)]
        position = end
    return rewritten


def with_one_asking_word(tokens: Sequence[Token]) -> list[Token]:
    """The tokens with `find` for all that asks for a value: `what is the value of`, `compute`, `determine`."""
    rewritten: list[Token] = []
    position = 0
    while position < len(tokens):
        word = tokens[position].text
        after = tokens[position + 1].text if position + 1 < len(tokens) else ""
        if word in wordlists.ASKING or (word == "what" and after in ("is", "are")) or word == "whats":
            rewritten.append(tokens[position]._replace(text="find", capital=False))
            position += 2 if word == "what" else 1
            texts = [token.text for token in tokens[position : position + 4]]
            for phrase in _VALUE:
                if texts[: len(phrase)] == phrase:
                    position += len(phrase)
                    break
            continue
        rewritten.append(tokens[position])
        position += 1
    return rewritten
