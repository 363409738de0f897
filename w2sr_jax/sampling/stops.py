"""Stop strings: where a completion ends because its text contains one, and the text before it."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

Decode = Callable[[list[int]], str]

HEAD = 32
"""Rows are told apart by this many first tokens, then by all that were seen of them."""
GROUPS, ROWS = 512, 256
"""How many heads are remembered, and how many rows of each."""


def stopper(stop: Sequence[str], decode: Decode) -> Callable[[list[int]], int | None] | None:
    """A function of a completion's tokens: the fewest of them whose decoded text contains one of `stop`, None where none does.
    None where there is nothing to stop at.

    What it gives depends on the tokens alone. It remembers which beginnings hold no stop string, so that asked again about a row
    that has grown, it decodes the row's tail.
    """
    return _Stopper(tuple(stop), decode) if stop else None


def before(text: str, stop: Sequence[str]) -> str:
    """The text before the first of `stop` that it contains."""
    starts = [start for string in stop if (start := text.find(string)) >= 0]
    return text[: min(starts)] if starts else text


class _Stopper:
    def __init__(self, stop: tuple[str, ...], decode: Decode) -> None:
        self._stop, self._decode = stop, decode
        self._reach = 2 * max(map(len, stop)) + 8  # the first characters of a tail may differ from the whole text's
        self._clear: OrderedDict[tuple[int, ...], list[list[int]]] = OrderedDict()

    def __call__(self, tokens: list[int]) -> int | None:
        clear = self._clear_tokens(tokens)
        start = self._tail(tokens, clear)
        if self._has(tokens[start:]):
            for end in range(clear + 1, len(tokens) + 1):
                if self._has(tokens[start:end]) and self._has(tokens[:end]):
                    return end
        self._remember(tokens, clear)
        return None

    def _has(self, tokens: list[int]) -> bool:
        text = self._decode(tokens)
        return any(string in text for string in self._stop)

    def _tail(self, tokens: list[int], clear: int) -> int:
        """Where to begin, so that a stop string that ends after token `clear` lies well inside."""
        width = self._reach
        while width < clear and len(self._decode(tokens[clear - width : clear])) < self._reach:
            width *= 2  # tokens without text, as special ones
        return max(0, clear - width)

    def _clear_tokens(self, tokens: list[int]) -> int:
        """How many first tokens hold no stop string for sure."""
        rows = self._clear.get(tuple(tokens[:HEAD]), ())
        return max((len(row) for row in rows if len(row) <= len(tokens) and tokens[: len(row)] == row), default=0)

    def _remember(self, tokens: list[int], clear: int) -> None:
        if len(tokens) < HEAD:
            return
        head = tuple(tokens[:HEAD])
        rows = self._clear.setdefault(head, [])
        rows[:] = [row for row in rows if len(row) != clear or tokens[:clear] != row]
        rows.append(list(tokens))
        del rows[:-ROWS]
        self._clear.move_to_end(head)
        while len(self._clear) > GROUPS:
            self._clear.popitem(last=False)
