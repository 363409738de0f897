"""One spelling for the characters of numbers: digits of all scripts, full-width forms, minus signs, raised and lowered digits."""

import re
import unicodedata

UPRIGHT = re.compile(r"\\(?:text|mbox|hbox|mathrm|mathbf|mathit|textbf|textit|textrm|textsf|operatorname|rm|bf)\s*\{([^{}]*)\}")
"""LaTeX's commands for text; the words are group 1."""

_CLAUSE_MARKS = "，；：！？"
"""Full-width punctuation that is not replaced: it ends or introduces a clause, while `,` may be part of a number."""

_PLAIN = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code) not in _CLAUSE_MARKS},
    **dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u202f\u205f\u3000"), " "),
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f"), ""),
    **dict.fromkeys(map(ord, "−﹣‐‑"), "-"),
    **dict.fromkeys(map(ord, "⁄∕"), "/"),
    ord("￥"): "¥",
    ord("﹪"): "%",
    ord("٫"): ".",
    ord("٬"): ",",
}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_EXPONENT = re.compile(r"(?<=[\w)}\]])[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_THOUSANDS = re.compile(r"(?<=\d)，(?=\d{3}(?!\d))")
_INDEX = re.compile(r"[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile(r"(\d?)\s?([¼½¾⅐-⅞])")
_BAR = re.compile(r"((?:\d\u0305)+)")


def plain(text: str) -> str:
    """The text with ASCII digits, signs and letters in place of full-width and other ones, and without invisible characters."""
    if text.isascii():
        return text
    text = text.translate(_PLAIN)
    if text.isascii():
        return text
    text = "".join(str(unicodedata.decimal(char)) if char > "\x7f" and char.isdecimal() else char for char in text)
    return _THOUSANDS.sub(",", text)


def mathematical(text: str) -> str:
    """`plain`, with `10³³` as `10^{33}`, `101₂` as `101_{2}`, `2½` as `2 1/2`, an en dash as a minus."""
    text = plain(text)
    if text.isascii():
        return text
    text = text.replace("–", "-")
    text = _BAR.sub(lambda match: "\\overline{" + match[1].replace("\u0305", "") + "}", text)
    text = _VULGAR.sub(_fraction, text)
    text = _EXPONENT.sub(lambda match: "^{" + match.group().translate(_RAISED) + "}", text)
    return _INDEX.sub(lambda match: "_{" + match.group().translate(_LOWERED) + "}", text)


def _fraction(match: re.Match[str]) -> str:
    over, _, under = unicodedata.normalize("NFKC", match[2]).partition("⁄")
    return f"{match[1]} {over}/{under} "
