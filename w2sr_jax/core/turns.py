"""Marks that end a turn of a dialogue, where they stand as text in what a model wrote: at its end, or in its midst."""

import re
from collections.abc import Collection
from functools import lru_cache

KNOWN = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<end_of_turn>", "<turn|>", "<|return|>"),
    *("<｜end▁of▁sentence｜>", "<|end▁of▁sentence|>", "<|end_of_sentence|>", "<|END_OF_TURN_TOKEN|>", "<|EOT|>", "<|eot|>"),
    *("<|end_of_turn|>", "<|endofturn|>", "[|endofturn|]", "<|eos|>", "<seed:eos>", "<|assistant_end|>", "<|role_end|>"),
)
"""Ends of turns, and of texts, of the families of models at hand: a text in which one stands was taken from another dialogue."""

CLOSING = ("</s>", "<eos>", "<|end|>")
"""Others that may also mean something else, so that they count at the end of a text alone."""

_HARMONY = "<|channel|>"  # in whose texts `<|end|>` ends a thought


def trimmed(text: str, own: Collection[str] = ()) -> tuple[str, str]:
    """A text without the ends of turns at its end, whitespace between and after them included, and the first that was taken off;
    as it is, and "", where there is none. `own` are the names of a tokenizer's end tokens."""
    names = tuple(name for name in (*own, *KNOWN, *CLOSING) if name != "<|end|>" or name in own or _HARMONY not in text)
    end, taken = len(text), ""
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        name = next((name for name in names if text.endswith(name, 0, end)), None)
        if name is None:
            break
        end, taken = end - len(name), name
    return (text[:end], taken) if taken else (text, "")


def first(text: str, own: Collection[str] = ()) -> str:
    """The first end of a turn that stands in a text; "" where none does."""
    found = _pattern(frozenset(own)).search(text)
    return found.group() if found else ""


@lru_cache(maxsize=64)
def _pattern(own: frozenset[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted({*KNOWN, *own}, key=len, reverse=True))))
