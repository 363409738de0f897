"""The one renderer for sampling, training and evaluation.

A training text is the prompt (for a chat model: the user's turn with the generation prompt), the raw response, and the
end-of-turn token. Only response and end-of-turn are supervised, the latter exactly once. Pretraining supervises all of a text:
style `plain` is a response without a prompt, style `document` a question with its answer, rendered as in style `direct`.
"""

import dataclasses
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from w2sr_jax.errors import UserError
from w2sr_jax.text import spans
from w2sr_jax.text.tokenizer import Tokenizer

Style = Literal["reason", "direct", "plain", "document"]
STYLES: tuple[str, ...] = get_args(Style)

_CHUNK = 4096


class Rendered(NamedTuple):
    """One example as tokens: ids, the span each belongs to (`spans`), and whether it is imitated. All of one length."""

    tokens: list[int]
    span: list[int]
    supervised: list[bool]


@dataclasses.dataclass(frozen=True)
class Renderer:
    """Renders with one tokenizer. Text that the tokenizer would lose is a `UserError` that names the row."""

    tokenizer: Tokenizer

    @property
    def pad(self) -> int:
        return self.tokenizer.pad

    @property
    def end_tokens(self) -> tuple[int, ...]:
        return self.tokenizer.end_tokens

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    @property
    def digest(self) -> str:
        return self.tokenizer.digest

    def prompt(self, question: str, style: str = "reason") -> list[int]:
        """Token ids up to where the response begins."""
        return self.prompts([question], style)[0]

    def prompts(self, questions: Sequence[str], style: str = "reason") -> list[list[int]]:
        """`prompt` for many questions at once."""
        _check_style(style)
        asked = "direct" if style == "document" else style
        rows = [[] for _ in questions] if style == "plain" else self.tokenizer.prompts(questions, asked)
        for row, question in zip(rows, questions, strict=True):
            self._check_known(row, question, f"the question {question[:60]!r}")
        return rows

    def encode(self, question: str, response: str, style: str = "reason") -> Rendered:
        """Prompt, response and end-of-turn of one example."""
        return next(self.encode_all([(question, response, style)], [f"the row with the question {question[:60]!r}"]))

    def encode_all(self, rows: Sequence[tuple[str, str, str]], names: Sequence[str] | None = None) -> Iterator[Rendered]:
        """`encode` for many (question, response, style); `names` say in a refusal which row it is about."""
        names = names or [f"row {index}" for index in range(len(rows))]
        for start in range(0, len(rows), _CHUNK):
            yield from self._chunk(rows[start : start + _CHUNK], names[start : start + _CHUNK])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled ids, up to the first end token."""
        return self.decode_all([ids])[0]

    def decode_all(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """`decode` for many rows."""
        ends = frozenset(self.end_tokens)
        kept = []
        for row in rows:
            end = next((i for i, token in enumerate(row) if token in ends), len(row))
            kept.append([int(token) for token in row[:end]])
        return self.tokenizer.decode(kept)

    def _chunk(self, rows: Sequence[tuple[str, str, str]], names: Sequence[str]) -> Iterator[Rendered]:
        prompts: list[list[int]] = [[] for _ in rows]
        for style in sorted({row[2] for row in rows}):
            of_style = [i for i, row in enumerate(rows) if row[2] == style]
            for i, prompt in zip(of_style, self.prompts([rows[i][0] for i in of_style], style), strict=True):
                prompts[i] = prompt
        responses = [row[1] for row in rows]
        marks = [0 if row[2] in ("direct", "document") else spans.answer_start(row[1]) for row in rows]
        encoded = self.tokenizer.encode_marked(responses, marks)
        decoded = self.tokenizer.decode([ids for ids, _ in encoded])
        end, ends = self.tokenizer.end_of_turn, frozenset(self.end_tokens)
        for row, prompt, (ids, mark), text, name in zip(rows, prompts, encoded, decoded, names, strict=True):
            response = row[1]
            self._check_known(ids, response, name)
            if not ends.isdisjoint(ids):
                raise UserError(f"{name}: the response contains an end-of-turn token as text, so that it would end early")
            if not response.strip() or not _same(text, response):
                raise UserError(
                    f"{name}: the response is not contained in the rendered text (it begins {response[:60]!r}, the rendered one "
                    f"{text[:60]!r}); the tokenizer must keep it"
                )
            reasoning = len(ids) if mark is None else mark
            yield Rendered(
                [*prompt, *ids, end],
                [spans.PROMPT] * len(prompt)
                + [spans.REASONING] * reasoning
                + [spans.ANSWER] * (len(ids) - reasoning)
                + [spans.END],
                [row[2] == "document"] * len(prompt) + [True] * (len(ids) + 1),
            )

    def _check_known(self, ids: Sequence[int], text: str, name: str) -> None:
        unknown = self.tokenizer.unknown
        if unknown is None or unknown not in ids:
            return
        words = list(dict.fromkeys(text.split()))
        lost = [word for word, row in zip(words, self.tokenizer.encode(words), strict=True) if unknown in row]
        raise UserError(
            f"{name}: the tokenizer does not know {', '.join(map(repr, lost[:5])) or 'a part of the text'}; "
            f"build it from these texts too, or use a BPE tokenizer"
        )


def _check_style(style: str) -> None:
    if style not in STYLES:
        raise UserError(f"the prompt style {style!r} is unknown; styles are {', '.join(STYLES)}")


def _same(a: str, b: str) -> bool:
    """Equal but for Unicode form and the amount of whitespace, which some tokenizers normalise."""
    return a == b or _normal(a) == _normal(b)


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())
