"""What each single token adds to a text, for people who look at tokens."""

from collections.abc import Callable, Collection, Sequence

_BEFORE = 8  # tokens that are enough to know how the next one is joined to them
_BROKEN = "�"


def pieces(
    ids: Sequence[int],
    decode: Callable[[Sequence[Sequence[int]]], list[str]],
    name: Callable[[int], str | None],
    special: Collection[int | None],
) -> list[str]:
    """The text that each of `ids` adds to what is before it. A special token is its name; so is one that is no text by itself, as
    a part of a character."""
    if not ids:
        return []
    starts = [max(0, i - _BEFORE) for i in range(len(ids))]
    starts = [next((j + 1 for j in range(i - 1, start - 1, -1) if ids[j] in special), start) for i, start in enumerate(starts)]
    shorter = decode([ids[start:i] for i, start in enumerate(starts)])
    longer = decode([ids[start : i + 1] for i, start in enumerate(starts)])
    found = []
    for token, before, after in zip(ids, shorter, longer, strict=True):
        own = after[len(before) :] if after.startswith(before) else ""
        whole = token not in special and own and _BROKEN not in own
        found.append(own if whole else name(token) or f"⟨{token}⟩")
    return found
