"""What to take of an answer field, by name: a closed set, so that a mapping of fields is data and needs no code."""

from collections.abc import Sequence

from w2sr_jax.answers.extract import extract, tidy
from w2sr_jax.answers.reading.boxes import filled
from w2sr_jax.problems.rows import Unusable
from w2sr_jax.problems.settings import Transform


def taken(text: str, by: Sequence[Transform], field: str) -> str:
    """The answer that named steps, one after another, take of a field's text. Raises Unusable where one finds nothing."""
    for step in by:
        found = _take(text, step)
        if found is None or not found.strip():
            raise Unusable(f"field {field!r} {_LACKS[step]}")
        text = found.strip()
    return text


_LACKS: dict[Transform, str] = {
    "hashes": "has no answer after a ####",
    "boxed": "has no answer in a \\boxed{}",
    "last_line": "has no line",
    "extract": "has nothing that reads as a final answer",
    "tidy": "holds delimiters and nothing else",
}


def _take(text: str, step: Transform) -> str | None:
    match step:
        case "hashes":
            return text.rpartition("####")[2] if "####" in text else None
        case "boxed":
            found = filled(text)
            return found[-1].content if found else None
        case "last_line":
            return text.strip().splitlines()[-1] if text.strip() else None
        case "extract":
            return extract(text).answer
        case "tidy":
            return tidy(text)
