"""The most probable tokens that a server reports at each position of its answer, and which of them the run's tokenizer knows.

A server names tokens by their texts, or by their ids as `token_id:123` (vLLM does with `return_tokens_as_token_ids`). They count
as the tokenizer's own where it spells the whole answer with the very same tokens. Of a text that stands for no token, or for
several, such as a part of a character, the id is not known: where it was drawn, nothing of the answer counts; elsewhere its mass
is that of the rest.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from w2sr_jax.core.topk import TopK
from w2sr_jax.text.contract import Tokenizer

Position = tuple[str, float, tuple[tuple[str, float], ...]]
"""The token that was drawn, its log-probability, and the most probable ones with theirs."""

LEAST_REST = 1e-6
"""Mass that all tokens besides those that a server reports have at least: its figures are rounded, and no token is impossible."""

_ID = "token_id:"
_LEAST = -1000.0  # servers write -9999 for what they do not know
_BROKEN = "\ufffd"


class Drawn(NamedTuple):
    """An answer as tokens of the run's tokenizer."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top: TopK


def positions(logprobs: Any, clean: Callable[[str], str]) -> tuple[Position, ...] | None:
    """What the log-probabilities of a choice hold, of a chat completion or a completion; None where they are not complete, or
    where `clean` has anything to take out of the tokens."""
    if not isinstance(logprobs, dict):
        return None
    rows = logprobs.get("content")
    positions = _of_chat(rows) if isinstance(rows, list) else _of_completion(logprobs)
    if not positions or not any(top for _, _, top in positions):
        return None
    for text in ("".join(token for token, _, _ in positions), *("".join(name for name, _ in top) for _, _, top in positions)):
        if clean(text) != text:
            return None
    return tuple(positions)


class Vocabulary:
    """The tokens of a tokenizer by their texts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def drawn(self, answer: Sequence[Position], text: str) -> Drawn | None:
        """The tokens of an answer, whose text is given; None where they are not what the tokenizer spells the text with."""
        answer = answer[:-1] if answer and not answer[-1][0] else answer  # an end that is not written
        own = [token for name, _, _ in answer if (token := self._id(name)) is not None]
        if len(own) < len(answer):
            return None
        bare = own[:-1] if own and own[-1] in self._tokenizer.end_tokens else own
        if not bare or self._tokenizer.encode([text])[0] != bare:
            return None
        listed = [self._listed(token, position) for token, position in zip(own, answer, strict=True)]
        return Drawn(tuple(own), tuple(logprob for _, logprob, _ in answer), _joined(listed))

    def _listed(self, own: int, position: Position) -> dict[int, float]:
        """The tokens that are known at a position, with the one that was drawn."""
        _, logprob, top = position
        named = {token: value for name, value in top if (token := self._id(name)) is not None}
        return {own: logprob, **named} if named else {}

    def _id(self, name: str) -> int | None:
        if name.startswith(_ID) and name.removeprefix(_ID).isascii() and name.removeprefix(_ID).isdigit():
            token = int(name.removeprefix(_ID))
            return token if token < self._tokenizer.vocab_size else None
        return self._by_text.get(name)

    @cached_property
    def _by_text(self) -> Mapping[str, int]:
        texts = self._tokenizer.decode([[token] for token in range(self._tokenizer.vocab_size)])
        counts = Counter(texts)
        return {text: token for token, text in enumerate(texts) if text and _BROKEN not in text and counts[text] == 1}


def _joined(listed: Sequence[Mapping[int, float]]) -> TopK:
    """Positions that list different numbers of tokens."""
    most = max([1, *map(len, listed)])
    ids, logprobs = np.full((len(listed), most), -1, np.int32), np.zeros((len(listed), most), np.float32)
    rest = np.zeros(len(listed), np.float32)
    for row, tokens in enumerate(listed):
        ranked = sorted(tokens.items(), key=lambda each: (-each[1], each[0]))
        ids[row, : len(ranked)] = [token for token, _ in ranked]
        logprobs[row, : len(ranked)] = [value for _, value in ranked]
        rest[row] = math.log(max(1.0 - sum(math.exp(value) for _, value in ranked), LEAST_REST))
    return TopK(ids, logprobs, rest)


def _of_chat(rows: Sequence[Any]) -> list[Position] | None:
    positions = []
    for row in rows:
        drawn = _named(row)
        if drawn is None:
            return None
        top = row.get("top_logprobs")
        every = [_named(each) for each in top] if isinstance(top, list) else []
        positions.append((*drawn, tuple(each for each in every if each is not None)))
    return positions


def _of_completion(logprobs: Mapping[str, Any]) -> list[Position] | None:
    names, values, top = (logprobs.get(name) for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not isinstance(names, list) or not isinstance(values, list) or not isinstance(top, list):
        return None
    if not len(names) == len(values) == len(top):
        return None
    positions = []
    for name, value, others in zip(names, values, top, strict=True):
        logprob = _real(value)
        if not isinstance(name, str) or logprob is None:
            return None
        pairs = others.items() if isinstance(others, dict) else ()
        positions.append((name, logprob, tuple((key, real) for key, other in pairs if (real := _real(other)) is not None)))
    return positions


def _named(row: Any) -> tuple[str, float] | None:
    """A token and its log-probability."""
    if not isinstance(row, dict) or not isinstance(row.get("token"), str):
        return None
    value = _real(row.get("logprob"))
    return None if value is None else (row["token"], value)


def _real(value: Any) -> float | None:
    """A log-probability; None where it is none. What is rounded up to above 0 is 0."""
    if type(value) not in (int, float) or not _LEAST < value < 0.1:
        return None
    return min(float(value), 0.0)
