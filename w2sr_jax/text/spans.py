"""The spans of a rendered example, one of which each token belongs to, and where the answer begins in a response."""

import re

PROMPT = 0
REASONING = 1
ANSWER = 2
END = 3
NAMES = ("prompt", "reasoning", "answer", "end")

# In order of preference; the last occurrence of the first kind that occurs at all counts.
_MARKERS = (
    re.compile(r"####"),
    re.compile(r"\\boxed\b|\\fbox\b"),
    re.compile(r"^[^\S\n]*(?=(?:ANSWER|Answer|A)\s*:)", re.MULTILINE),
    re.compile(r"\b(?:the\s+)?(?:final\s+)?answer\s+is\b", re.IGNORECASE),
)


def answer_start(response: str) -> int | None:
    """The index of the character at which the stated answer begins, with its marker; None where there is no marker."""
    for marker in _MARKERS:
        matches = list(marker.finditer(response))
        if matches:
            return matches[-1].end() if matches[-1].re is _MARKERS[2] else matches[-1].start()
    return None
