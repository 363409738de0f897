"""Encode text as text: a special token that is spelled out in it stays the characters that it is."""

import functools
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import tokenizers

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError


class Written(NamedTuple):
    """A text, with the texts that a template writes before and after it."""

    before: str
    text: str
    after: str


class Encoded(NamedTuple):
    """Token ids, and the index of the token that holds the character asked for; None where none was asked for, or none holds
    it."""

    ids: list[int]
    mark: int | None


class Literal:
    """Encodes with a tokenizer that neither pads nor truncates. `controls` are the names of tokens that only a template may
    write.

    A text that spells out a control is encoded by a copy of the tokenizer in which the controls have random names, with the
    template's own controls renamed alike. All other texts are encoded by the tokenizer itself.
    """

    def __init__(self, inner: tokenizers.Tokenizer, controls: Iterable[str]) -> None:
        self._inner = inner
        self._aliases = {name: f"\ue000{secrets.token_hex(8)}\ue001" for name in controls}
        self._control = re.compile("|".join(map(re.escape, sorted(self._aliases, key=len, reverse=True))))

    def encode(self, written: Sequence[Written], marks: Sequence[int | None]) -> list[Encoded]:
        """Each text with its template parts as ids, without added special tokens; `marks[i]` is the character of text i whose
        token is asked for. Raises UserError where this tokenizer cannot encode a spelled-out control as text."""
        spelt = [bool(self._aliases and self._control.search(one.text)) for one in written]
        plain = ["".join(one) for one, odd in zip(written, spelt, strict=True) if not odd]
        # Without the characters of each token it is faster.
        batch = self._inner.encode_batch_fast if all(mark is None for mark in marks) else self._inner.encode_batch
        encoded = iter(batch(plain, add_special_tokens=False))
        results = []
        for one, odd, mark in zip(written, spelt, marks, strict=True):
            before = self._renamed(one.before) if odd else one.before
            encoding = (
                self._copy.encode(before + one.text + self._renamed(one.after), add_special_tokens=False)
                if odd
                else next(encoded)
            )
            results.append(Encoded(list(encoding.ids), _token(encoding, mark, len(before), len(one.text))))
        return results

    @functools.cached_property
    def _copy(self) -> tokenizers.Tokenizer:
        raw = json.loads(self._inner.to_str())
        for token in raw["added_tokens"]:
            token["content"] = self._aliases.get(token["content"], token["content"])
        model = raw["model"]
        vocabulary = model.get("vocab", {})
        model["vocab"] = (
            {self._aliases.get(token, token): number for token, number in vocabulary.items()}
            if isinstance(vocabulary, dict)
            else [[self._aliases.get(token, token), score] for token, score in vocabulary]
        )
        if model.get("unk_token") in self._aliases:
            model["unk_token"] = self._aliases[model["unk_token"]]
        raw["post_processor"] = None
        try:
            copy = tokenizers.Tokenizer.from_str(json.dumps(raw))
        except Exception as error:  # the library raises plain Exception
            raise UserError(
                f"a text spells out a special token, which this tokenizer cannot encode as text: {sentences.cause(error)}"
            ) from None
        return copy

    def _renamed(self, text: str) -> str:
        return self._control.sub(lambda match: self._aliases[match.group()], text)


def _token(encoding: tokenizers.Encoding, mark: int | None, start: int, length: int) -> int | None:
    """The index of the token that holds character `mark` of the text at `start`, or of the next token within that text."""
    if mark is None:
        return None
    # A character may belong to no token, as a space that a tokenizer drops.
    tokens = (encoding.char_to_token(character) for character in range(start + mark, start + length))
    return next((token for token in tokens if token is not None), None)
