"""Kinds of gold answers, on which the quality of grading depends more than on anything else."""

import re

from w2sr_jax.answers.equal import bare
from w2sr_jax.answers.numbers import number

KINDS = (
    "integer",
    "decimal",
    "fraction",
    "percentage",
    "scientific",
    "number with a unit",
    "number in words",
    "expression",
    "equation",
    "inequality",
    "interval",
    "tuple",
    "set",
    "list",
    "matrix",
    "choice letter",
    "text",
    "none",
)
"""All kinds, in the order of the tables."""

LONGEST = 500  # characters of a gold answer that are read
_TEX_WORDS = re.compile(r"\\(?:text|mbox|mathrm|textbf|mathbf|textrm|textit|operatorname)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\[,;:! ]|\\(?:left|right|displaystyle)(?![a-zA-Z])|\{,\}")
_SCIENTIFIC = re.compile(r"\d\s*[eE][-+]?\d|(?<!\d)10\s*(?:\^(?!\s*\{?\s*\\circ)|\*\*|[⁰¹²³⁴-⁹⁻])|\d\s*(?:\\times|×)\s*10")
_LETTER = re.compile(r"[(\[]?\s*[A-J]\s*[)\]]?[.:]?")
_CURRENCY = re.compile(r"[$€£¥₹]|\\\$|\b(?:USD|EUR|GBP)\b")
_INTERVAL = re.compile(r"[(\[].*[,;].*[)\]]", re.S)
_ENDLESS = re.compile(r"\\infty|∞|\\cup|∪")
_RELATION = re.compile(r"[<>≤≥≠]|\\(?:leq?|geq?|neq?|lt|gt)(?![a-zA-Z])|\\in(?![a-zA-Z])")
_MATRIX = re.compile(r"\\begin\s*\{(?:[bpvBV]?matrix|array|smallmatrix)\}")
_SYMBOL = re.compile(r"\\[a-zA-Z]+|[\^_√π∞+*/=]|\d\s*[a-zA-Z](?![a-zA-Z])|(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])\s*(?:[-(]|$)")
_WORDS = re.compile(r"(?<!\\)\b[^\W\d_]{2,}\b")
_PROSE = 4  # words; a gold answer with as many is a sentence


def kind(gold: str | None) -> str:
    """The kind of a gold answer, one of `KINDS`."""
    if gold is None or not gold.strip():
        return "none"
    plain = bare(gold)[:LONGEST].strip()
    if len(plain) > 2 and plain.startswith("$") and plain.endswith("$"):
        plain = plain[1:-1].strip()
    if _LETTER.fullmatch(_TEX_WORDS.sub(r"\1", plain).strip()):
        return "choice letter"
    return _of_number(plain) or _of_formula(_SPACING.sub("", plain))


def _of_number(plain: str) -> str | None:
    value = number(plain)
    if value is None:
        return None
    if value.percent:
        return "percentage"
    if not any(char.isdigit() for char in plain):
        return "number in words"
    if _SCIENTIFIC.search(plain):
        return "scientific"
    if _CURRENCY.search(plain.strip("$")) or value.unit.strip():
        return "number with a unit"
    if "frac" in plain or "/" in plain:
        return "fraction"
    return "decimal" if value.decimals or value.value.denominator > 1 or "." in plain.rstrip(".") else "integer"


def _of_formula(plain: str) -> str:
    if _MATRIX.search(plain):
        return "matrix"
    if plain.startswith("\\{") or (plain.startswith("{") and plain.endswith("}") and "," in plain):
        return "set"
    if _INTERVAL.fullmatch(plain) or _ENDLESS.search(plain):
        mixed = plain[:1] + plain[-1:] in ("[)", "(]", "[]")
        return "interval" if mixed or _ENDLESS.search(plain) else "tuple"
    bare_words = _TEX_WORDS.sub(" ", plain)
    words = len(_WORDS.findall(bare_words))
    if words >= _PROSE:
        return "text"
    if _RELATION.search(bare_words):
        return "inequality"
    if "=" in bare_words:
        return "equation"
    parts = [part.strip() for part in re.split(r"[,;]|\b(?:and|or)\b", bare_words)]
    if len(parts) > 1 and all(number(part) is not None or _SYMBOL.search(part) for part in parts if part):
        return "list"
    symbols = _SYMBOL.search(bare_words)
    digits = any(char.isdigit() for char in bare_words)
    return "expression" if (symbols or digits) and words < 2 else "text"
