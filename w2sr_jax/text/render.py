"""The one renderer for sampling, training and evaluation.

A training text is the prompt (for a chat model, the user's turn with the generation prompt), the raw response, and the
end-of-turn token. Only the response and the end-of-turn token are supervised, the latter exactly once. A response never goes
through a chat template. All of it is kept, except a `<think>` that the prompt has written already, and end-of-turn tokens that
are spelled out at its end; a response that spells one out elsewhere is refused. Pretraining supervises all of a text: style
`plain` is a response without a prompt, style `document` a question with its answer, rendered as in style `direct`.
"""

import dataclasses
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from w2sr_jax.core import sentences, thinking, turns
from w2sr_jax.core.errors import UserError
from w2sr_jax.text import chat, spans
from w2sr_jax.text.contract import Tokenizer

Style = Literal["reason", "direct", "plain", "document"]
STYLES: tuple[str, ...] = get_args(Style)

_CHUNK = 4096
_CUT = "opens a thinking that it never closes"
_STRAY = "closes a thinking that nothing opened"
_SHARED = (("<|channel>", "<channel|>"), ("<|channel|>", "<|end|>"))  # marks that also enclose channels other than thoughts


class Rendered(NamedTuple):
    """One example: token ids, the span that each token belongs to (see `spans`), and whether it is supervised. Three equally long
    lists."""

    tokens: list[int]
    span: list[int]
    supervised: list[bool]


@dataclasses.dataclass(frozen=True)
class Renderer:
    """Renders with one tokenizer. Raises UserError with the name of the row where the tokenizer would lose text."""

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

    def check_vocabulary(self, model_vocab: int) -> None:
        """Raises UserError where a model's embedding has fewer rows than the tokenizer needs. Unused added tokens may have larger
        ids, as where a text model shares its tokenizer with one that sees images; `check_ids` refuses texts that use them."""
        size = self.tokenizer.embedding_rows
        if size > model_vocab:
            first = self.tokenizer.pieces([model_vocab])[0]
            raise UserError(
                f"the tokenizer has {size:,} tokens but the model's embedding only {model_vocab:,} rows: the first token beyond "
                f"is {sentences.value(first)} (id {model_vocab}); use the model's own tokenizer"
            )

    def check_ids(self, largest: int, model_vocab: int) -> None:
        """Raises UserError where the `largest` token id of some texts has no row in a model's embedding."""
        if largest >= model_vocab:
            raise UserError(
                f"the texts hold the token {sentences.value(self.tokenizer.pieces([largest])[0])} (id {largest}), which is "
                f"beyond the {model_vocab:,} rows of the model's embedding; take the model's own tokenizer, or leave them out"
            )

    def refusal(self, response: str) -> str:
        """The reason for which a response cannot be rendered, whatever its question; "" where it can."""
        bare, taken = turns.trimmed(response, self.tokenizer.end_texts)
        if taken and not bare:
            return f"is nothing but {sentences.value(taken)}, an end of turn, spelt out"
        spelt = turns.first(bare, self.tokenizer.end_texts)
        return f"spells out {sentences.value(spelt)}, an end of turn, in its midst" if spelt else ""

    def remarks(self, response: str, style: str) -> list[str]:
        """What is odd about a response that is rendered nevertheless, each in words that are equal for similar responses."""
        bare, taken = turns.trimmed(response, self.tokenizer.end_texts)
        thoughts = self._thoughts(bare, style)
        return [*([f"ends with {taken!r} spelt out, which is taken off"] if taken else []), *([thoughts] if thoughts else [])]

    def unclosed(self, rows: Iterable[tuple[str, str]]) -> int:
        """How many of the (response, style) have unbalanced thoughts: not closed, not opened, or begun although the prompt has
        closed its thought. They are rendered as they are, and teach a student to answer inside of its thoughts, where programs
        that strip these find no answer, or to think outside of them."""
        return sum(bool(self._thoughts(turns.trimmed(text, self.tokenizer.end_texts)[0], style)) for text, style in rows)

    def _thoughts(self, response: str, style: str) -> str:
        """What is wrong with the marks of thoughts in a response behind its prompt; "" where nothing is."""
        asked = self._asked(style)
        begun = self.tokenizer.response_prefix(asked) if asked else ""
        rest = self.tokenizer.without_prefix(response, asked) if asked else response
        if any((begun + rest).count(end) > (begun + rest).count(start) for start, end in _SHARED):
            return _STRAY
        if not begun and not thinking.marked(response):
            return ""
        if chat.opens(begun):
            reading = thinking.read(begun + rest)
            if reading.cut:
                return "never closes the thinking that the prompt opens" if reading.opened == 1 else _CUT
            return "" if reading.balanced else _STRAY
        reading = thinking.read(rest)
        if begun and reading.opened:
            return "thinks although the prompt has closed its thinking"
        return _CUT if reading.cut else "" if reading.balanced else _STRAY

    def prompt(self, question: str, style: str = "reason") -> list[int]:
        """The token ids of a prompt, up to where the response begins."""
        return self.prompts([question], style)[0]

    def prompts(self, questions: Sequence[str], style: str = "reason") -> list[list[int]]:
        """`prompt` for many questions at once."""
        asked = self._asked(style)
        rows = self.tokenizer.prompts(questions, asked) if asked else [[] for _ in questions]
        for row, question in zip(rows, questions, strict=True):
            self._check_known(row, question, f"the question {question[:60]!r}")
        return rows

    def encode(self, question: str, response: str, style: str = "reason") -> Rendered:
        """Prompt, response and end-of-turn token of one example."""
        return next(self.encode_all([(question, response, style)], [f"the row with the question {question[:60]!r}"]))

    def encode_all(self, rows: Sequence[tuple[str, str, str]], names: Sequence[str] | None = None) -> Iterator[Rendered]:
        """`encode` for many (question, response, style). `names` are the rows' names in messages of errors."""
        names = names or [f"row {index}" for index in range(len(rows))]
        for start in range(0, len(rows), _CHUNK):
            yield from self._chunk(rows[start : start + _CHUNK], names[start : start + _CHUNK])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of sampled ids, up to the first end token."""
        return self.decode_all([ids])[0]

    def decode_all(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """`decode` for many rows."""
        ends = frozenset(self.end_tokens)
        cut_rows = []
        for row in rows:
            end = next((i for i, token in enumerate(row) if token in ends), len(row))
            cut_rows.append([int(token) for token in row[:end]])
        return self.tokenizer.decode(cut_rows)

    def _chunk(self, rows: Sequence[tuple[str, str, str]], names: Sequence[str]) -> Iterator[Rendered]:
        prompts: list[list[int]] = [[] for _ in rows]
        for style in sorted({row[2] for row in rows}):
            of_style = [i for i, row in enumerate(rows) if row[2] == style]
            for i, prompt in zip(of_style, self.prompts([rows[i][0] for i in of_style], style), strict=True):
                prompts[i] = prompt
        asked = [self._asked(row[2]) for row in rows]
        trimmed = [turns.trimmed(row[1], self.tokenizer.end_texts)[0] for row in rows]
        responses = [
            self.tokenizer.without_prefix(text, style) if style else text for text, style in zip(trimmed, asked, strict=True)
        ]
        marks = [0 if style == "direct" else spans.answer_start(text) for style, text in zip(asked, responses, strict=True)]
        encoded = self.tokenizer.encode_marked(responses, marks)
        decoded = self.tokenizer.decode([ids for ids, _ in encoded])
        end, ends = self.tokenizer.end_of_turn, frozenset(self.end_tokens)
        for row, response, prompt, (ids, mark), text, name in zip(rows, responses, prompts, encoded, decoded, names, strict=True):
            refused = self.refusal(row[1])
            if refused:
                raise UserError(f"{name}: the response {refused}; leave it out, or cut it there")
            self._check_known(ids, response, name)
            if not ends.isdisjoint(ids):
                raise UserError(f"{name}: the response contains an end-of-turn token as text, so that it would end early")
            if not response.strip() or not _same(text, response):
                raise UserError(
                    f"{name}: the response is not contained in the rendered text (it {_difference(response, text)}); the "
                    f"tokenizer must keep it"
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

    @staticmethod
    def _asked(style: str) -> str:
        """The style of the prompt for a style of rendering; "" where that has no prompt. Raises UserError for an unknown
        style."""
        if style not in STYLES:
            raise UserError(f"the prompt style {style!r} is unknown; styles are {', '.join(STYLES)}")
        return {"plain": "", "document": "direct"}.get(style, style)

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


def _same(a: str, b: str) -> bool:
    """Whether two texts are equal up to canonical Unicode form and amounts of whitespace, which some tokenizers normalise."""
    return a == b or _normal(a) == _normal(b)


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _difference(response: str, rendered: str) -> str:
    """The first difference between a response and its rendering, in words."""
    if not response.strip():
        return "is empty"
    a, b = _normal(response), _normal(rendered)
    at = max(0, chat.shared(a, b) - 20)
    return f"reads {sentences.value(a[at:], 60)}, rendered {sentences.value(b[at:], 60)}"
