"""The marks around the thoughts of reasoning models, and the text outside of them.

One list for the whole package: grading must not read an answer inside a thought, rendering must not open a thought twice.
"""

import re
from typing import NamedTuple

PAIRS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|think|>", "<|/think|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|thought_start|>", "<|thought_end|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<unused94>thought", "<unused95>"),
    ("[unused16]", "[unused17]"),
)
"""(opening, closing) marks as models write them: Qwen3, DeepSeek-R1 and most others; Anthropic-style and GRPO prompts; Seed-OSS;
LongCat; Magistral; Kimi-VL; Solar; Sky-T1 and OpenThinker; MiniCPM; Apertus; Command A; Gemma 4; gpt-oss (harmony); MedGemma;
openPangu."""

_OPENINGS = {opening.casefold(): closing.casefold() for opening, closing in PAIRS}
_CLOSINGS = frozenset(_OPENINGS.values()) - {"<|end|>", "<channel|>"}  # these two end other things as well


def _any_of(marks: tuple[str, ...] | frozenset[str]) -> str:
    return "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))


OPENING = re.compile(_any_of(tuple(_OPENINGS)), re.I | re.A)
CLOSING = re.compile(_any_of(_CLOSINGS), re.I | re.A)
_MARK = re.compile(_any_of(tuple({*_OPENINGS, *_OPENINGS.values()})), re.I | re.A)
_HINTS = ("think", "thought", "reasoning", "analysis", "unused", "inner_", "<channel|>")


class Thinking(NamedTuple):
    """`outside`: the text without its thoughts. `opened` and `closed` count the marks of thoughts; `cut`: whether the last one
    that was opened is never closed, so that the text ends inside it."""

    outside: str
    opened: int
    closed: int
    cut: bool

    @property
    def balanced(self) -> bool:
        """Whether each thought that is opened is closed and each that is closed was opened."""
        return self.opened == self.closed and not self.cut


def closing(opening: str) -> str:
    """The mark that ends what an opening mark begins."""
    return next(end for begin, end in PAIRS if begin.casefold() == opening.casefold())


def marked(text: str) -> bool:
    """Whether a text has any mark of a thought: a quick look that saves `read`."""
    folded = text.casefold()
    return any(hint in folded for hint in _HINTS) and _MARK.search(text) is not None


def read(text: str) -> Thinking:
    """What stands outside of a text's thoughts.

    A closing mark without an opening one ends a thought that the prompt has opened: what stands before it is thought. An opening
    mark without a closing one begins a thought that lasts to the end. A thought ends at its own kind of closing mark; another
    opening mark inside it opens nothing.
    """
    outside: list[str] = []
    opened = closed = start = 0
    awaited: str | None = None
    for match in _MARK.finditer(text):
        mark = match.group().casefold()
        if awaited is None and mark in _OPENINGS:
            outside.append(text[start : match.start()])
            opened, awaited = opened + 1, _OPENINGS[mark]
        elif mark == awaited:
            closed, start, awaited = closed + 1, match.end(), None
        elif awaited is None and mark in _CLOSINGS:
            outside = []
            closed, start = closed + 1, match.end()
    if awaited is None:
        outside.append(text[start:])
    return Thinking("\n".join(outside), opened, closed, awaited is not None)
