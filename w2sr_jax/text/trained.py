"""Tokenizers made from the experiment's own texts, with the `tokenizers` library.

A prompt is `<q> question <think>` where a chain of thought is asked for, and `<q> question <answer>` where the answer alone is.
Special tokens have ids above the vocabulary of words and are never read from text: a question with the characters `<end>` in it
does not end a turn.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.text import pieces

if TYPE_CHECKING:
    from w2sr_jax.text.settings import BpeTokenizer, WordTokenizer

PAD, QUESTION, REASON, DIRECT, END, UNKNOWN = "<pad>", "<q>", "<think>", "<answer>", "<end>", "<unk>"
SPECIALS = (PAD, QUESTION, REASON, DIRECT, END)
MARKERS = {"reason": REASON, "direct": DIRECT}
TEMPLATE = (
    "{%- for message in messages if message['role'] == 'user' -%}"
    f"{QUESTION}{{{{ message['content'] }}}}"
    f"{{{{ '{REASON}' if enable_thinking is not defined or enable_thinking else '{DIRECT}' }}}}"
    "{%- endfor -%}"
)
"""The prompt as a chat template, for other programs that open a saved tokenizer. It is never run here."""

# Marks a digit that continues a number. `##`, the usual mark, would collide with the answer marker `####`.
TIE = "⁀"
_WORD_CHARACTERS = 10_000


@dataclasses.dataclass(frozen=True)
class Trained:
    """A `Tokenizer` over a `tokenizers.Tokenizer` that has the five special tokens."""

    inner: tokenizers.Tokenizer

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        vocabulary: dict[str, int] = self.inner.get_vocab(with_added_tokens=True)
        return {name: vocabulary[name] for name in SPECIALS}

    @property
    def pad(self) -> int:
        return self.ids[PAD]

    @property
    def end_of_turn(self) -> int:
        return self.ids[END]

    @property
    def end_tokens(self) -> tuple[int, ...]:
        return (self.ids[END],)

    @functools.cached_property
    def unknown(self) -> int | None:
        token: int | None = self.inner.token_to_id(UNKNOWN)
        return token

    @property
    def vocab_size(self) -> int:
        return int(self.inner.get_vocab_size())

    @property
    def embedding_rows(self) -> int:
        return self.vocab_size

    @functools.cached_property
    def digest(self) -> str:
        return files.digest_bytes(self.inner.to_str().encode())

    @property
    def end_texts(self) -> tuple[str, ...]:
        return (END, PAD)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.inner.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_marked(self, texts: Sequence[str], marks: Sequence[int | None]) -> list[tuple[list[int], int | None]]:
        encodings = self.inner.encode_batch(list(texts), add_special_tokens=False)
        return [
            (encoding.ids, None if mark is None else encoding.char_to_token(mark))
            for encoding, mark in zip(encodings, marks, strict=True)
        ]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        unknown = self.unknown
        readable = [[i for i in row if i != unknown] for row in rows]
        return [text.removeprefix(TIE) for text in self.inner.decode_batch(readable, skip_special_tokens=True)]

    def prompts(self, questions: Sequence[str], style: str) -> list[list[int]]:
        first, last = self.ids[QUESTION], self.ids[MARKERS[style]]
        return [[first, *row, last] for row in self.encode(questions)]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return pieces.pieces(ids, self.decode, self.inner.id_to_token, {*self.ids.values(), self.unknown})

    def without_prefix(self, response: str, style: str) -> str:
        return response

    def response_prefix(self, style: str) -> str:
        return ""

    def save(self, directory: Path) -> None:
        files.write_text(directory / "tokenizer.json", self.inner.to_str(pretty=True))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": END, "chat_template": TEMPLATE}
        files.write_json(directory / "tokenizer_config.json", config)
        files.write_json(directory / "generation_config.json", {"eos_token_id": list(self.end_tokens), "pad_token_id": self.pad})
        files.write_json(directory / "w2sr_tokenizer.json", {"kind": "trained"})

    @classmethod
    def load(cls, directory: Path) -> Trained:
        path = directory / "tokenizer.json"
        try:
            inner = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} does not exist") from None
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{path} is not a tokenizer: {error}") from None
        if any(inner.token_to_id(name) is None for name in SPECIALS):
            raise UserError(f"{path} lacks one of the special tokens {', '.join(SPECIALS)}")
        return cls(_closed(inner))


def from_words(settings: WordTokenizer, texts: Iterable[str]) -> Trained:
    """A vocabulary of the whitespace-separated words of `texts`; equal settings and texts give equal tokenizers. Raises UserError
    where there are more words than `settings.limit`."""
    return with_specials(_words(settings, texts))


def from_bytes(settings: BpeTokenizer, texts: Iterable[str]) -> Trained:
    """A vocabulary of byte-pair encoding trained on `texts`; equal settings and texts give equal tokenizers. Raises UserError
    where `settings.vocab_size` is below `LEAST_BPE`."""
    return with_specials(_bpe(settings, texts))


def with_specials(inner: tokenizers.Tokenizer) -> Trained:
    """A `Tokenizer` from one of the `tokenizers` library, which gets the five special tokens above its vocabulary."""
    inner.add_special_tokens(list(SPECIALS))
    return Trained(_closed(inner))


def _closed(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer, set to read special tokens in text as the characters that they are, which is not part of its saved form."""
    inner.encode_special_tokens = True
    return inner


def _words(settings: WordTokenizer, texts: Iterable[str]) -> tokenizers.Tokenizer:
    counts = Counter(word for text in texts for word in text.split())
    numbers = [str(n) for n in range(settings.largest + 1 if settings.numbers else 10)]
    own = {*numbers, UNKNOWN, *SPECIALS}
    words = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if word not in own]
    words = [word for word in words if not (word.isascii() and word.isdigit())]
    vocabulary = [UNKNOWN, *numbers, *(f"{TIE}{digit}" for digit in range(10)), *words]
    if len(vocabulary) + len(SPECIALS) > settings.limit:
        raise UserError(
            f"the texts have {len(words)} distinct words, which needs a vocabulary of {len(vocabulary) + len(SPECIALS)} tokens "
            f"but the word tokenizer's limit is {settings.limit}: raise the limit, or use a BPE tokenizer for free text"
        )
    # Greedy longest match over whole words is WordPiece; with digits as its only continuations it is a word-level tokenizer
    # that falls back to digits.
    model = models.WordPiece(
        {token: index for index, token in enumerate(vocabulary)},
        unk_token=UNKNOWN,
        continuing_subword_prefix=TIE,
        max_input_chars_per_word=_WORD_CHARACTERS,
    )
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.decoder = decoders.WordPiece(prefix=TIE, cleanup=False)
    return inner


def _bpe(settings: BpeTokenizer, texts: Iterable[str]) -> tokenizers.Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if settings.vocab_size < len(alphabet) + len(SPECIALS):
        raise UserError(f"a BPE vocabulary needs at least {len(alphabet) + len(SPECIALS)} tokens, not {settings.vocab_size}")
    inner = tokenizers.Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if settings.digits else []
    inner.pre_tokenizer = pre_tokenizers.Sequence([*digits, byte_level])
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size - len(SPECIALS), initial_alphabet=alphabet, min_frequency=2, show_progress=False
    )
    inner.train_from_iterator(texts, trainer=trainer)
    return inner
