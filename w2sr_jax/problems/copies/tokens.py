"""The words, numbers and operators of a plain text, as questions are compared by them."""

import re
from collections.abc import Iterable

import regex

from w2sr_jax.problems.copies import numerals, wordlists
from w2sr_jax.problems.copies.phrases import OPERATORS, Token, with_figures, with_one_asking_word, without_punctuation_brackets
from w2sr_jax.problems.copies.signs import is_mathematical

_SYLLABLES = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_TOKEN = regex.compile(
    rf"(?P<number>\d+(?:\.\d+)?|(?<![\d\w])\.\d+)|(?P<syllable>[{_SYLLABLES}]\p{{M}}*)"
    rf"|(?P<word>(?:(?![{_SYLLABLES}])\p{{L}}\p{{M}}*)+(?:'(?:(?![{_SYLLABLES}])\p{{L}}\p{{M}}*)+)*)|(?P<sign><=|>=|!=|--+|->|[^\s\p{{L}}\p{{N}}\p{{M}}])"
)
_SAME = {"<=": "≤", ">=": "≥", "!=": "≠"}
_ENDS = frozenset(".:;?!")
_DROPPED = wordlists.CURRENCY | wordlists.POLITE
_RENAMED = {**dict.fromkeys(wordlists.PERCENT, "percent"), "degree": "degrees"}
_PLAIN = re.compile(r"(?![^\0]*per cent\b)[A-Za-z0-9\s.,;?]*")
_PIECE = re.compile(r"\d+(?:\.\d+)?|(?<![\dA-Za-z])\.\d+|[A-Za-z]+|[.;?\n]")


def tokens(text: str) -> list[Token]:
    """The tokens of one of the `numerals.readings` of a plain text. Punctuation is left out, also hyphens, bars and parentheses
    that are not part of a formula."""
    if _PLAIN.fullmatch(text):
        return with_one_asking_word(with_figures(_of_words(text)))
    text = numerals.han(text)
    marks = list(_TOKEN.finditer(text))
    result: list[Token] = []
    begins = True
    last = 0
    for index, match in enumerate(marks):
        kind, word = match.lastgroup, match.group()
        begins = begins or "\n" in text[last : match.start()]
        last = match.end()
        if kind == "sign":
            sign = _SAME.get(word, word)
            if is_mathematical(sign, marks, index):
                result.append(Token("percent" if sign == "%" else sign, False, begins))
                begins = False
            elif sign in _ENDS:
                begins = True
            continue
        if kind == "number":
            result.append(Token(numerals.digits(word), False, begins))
        else:
            small = word.casefold().replace("'", "")
            if small in _DROPPED:
                continue
            small = _RENAMED.get(small, small)
            if small == "cent" and result and result[-1].text == "per":
                result[-1] = result[-1]._replace(text="percent")
                continue
            result.append(Token(small, word[:1].isupper(), begins))
        begins = False
    return with_one_asking_word(with_figures(without_punctuation_brackets(result)))


def _of_words(text: str) -> list[Token]:
    """The tokens of a text of words and numbers alone."""
    result: list[Token] = []
    begins = True
    for word in _PIECE.findall(text):
        small = word.lower()
        if word in ".;?\n":
            begins = True
        elif small not in _DROPPED:
            result.append(
                Token(
                    _RENAMED.get(small) or (numerals.digits(word) if "." in word else small),
                    small != word and word[0] < "a",
                    begins,
                )
            )
            begins = False
    return result


def key(words: Iterable[str]) -> str:
    """All words without spaces between them, numbers and operators with spaces: equal for texts that differ in spaces and
    hyphens."""
    return "".join(f" {word} " if word[0].isdigit() or word in OPERATORS else word for word in words)
