"""The text of each single token, to show tokens to people."""

from collections.abc import Callable, Collection, Sequence

_BEFORE = 8  # tokens that decide how the next one is joined to them
_BROKEN = "�"


def pieces(
    ids: Sequence[int],
    decode: Callable[[Sequence[Sequence[int]]], list[str]],
    name: Callable[[int], str | None],
    special: Collection[int | None],
) -> list[str]:
    """The text that each of `ids` adds to those before it. A special token, and one that is only a part of a character, is its
    `name`."""
    if not ids:
        return []
    starts = [max(0, i - _BEFORE) for i in range(len(ids))]
    starts = [next((j + 1 for j in range(i - 1, start - 1, -1) if ids[j] in special), start) for i, start in enumerate(starts)]
    shorter = decode([ids[start:i] for i, start in enumerate(starts)])
    longer = decode([ids[start : i + 1] for i, start in enumerate(starts)])
    texts = []
    for token, before, after in zip(ids, shorter, longer, strict=True):
        own = after[len(before) :] if after.startswith(before) else ""
        whole = token not in special and own and _BROKEN not in own
        texts.append(own if whole else name(token) or f"⟨{token}⟩")
    return texts
