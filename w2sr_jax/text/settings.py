"""Settings of tokenizers."""

import dataclasses
from collections.abc import Iterable
from typing import Self

from w2sr_jax.core.errors import UserError
from w2sr_jax.text.contract import Tokenizer, TokenizerSettings


@dataclasses.dataclass(frozen=True)
class WordTokenizer(TokenizerSettings):
    """One token per whitespace-separated word: for generated problems, whose text is written with single spaces."""

    numbers: bool = True
    """Give every whole number from 0 to `largest` a token of its own; otherwise numbers are spelled in digits."""
    largest: int = 99
    """The largest number with its own token; larger ones are spelled with continuation digits, never lost."""
    limit: int = 4096
    """The most tokens the vocabulary may have; texts with more distinct words are refused."""

    def __post_init__(self) -> None:
        if self.largest < 0 or self.limit < 1:
            raise UserError(f"tokenizer.largest is {self.largest} and tokenizer.limit {self.limit}; at least 0 and 1 are needed")

    def build(self, texts: Iterable[str]) -> Tokenizer:
        from w2sr_jax.text import trained

        return trained.from_words(self, texts)

    def needs_questions(self) -> bool:
        return True

    def largest_number(self) -> int | None:
        return self.largest


LEAST_BPE = 261
"""The least vocabulary of byte-pair encoding: a token for each byte, and five special ones."""


@dataclasses.dataclass(frozen=True)
class BpeTokenizer(TokenizerSettings):
    """Byte-level byte-pair encoding trained on the experiment's own texts: any text survives it unchanged."""

    vocab_size: int = 4096
    """Tokens in the vocabulary, special tokens included (at least 261)."""
    digits: bool = True
    """Make every digit a token of its own, which helps small models to calculate."""

    def build(self, texts: Iterable[str]) -> Tokenizer:
        from w2sr_jax.text import trained

        return trained.from_bytes(self, texts)

    def least_vocabulary(self) -> int:
        return LEAST_BPE

    def likely_vocabulary(self) -> int:
        return self.vocab_size


@dataclasses.dataclass(frozen=True)
class PretrainedTokenizer(TokenizerSettings):
    """A Hugging Face tokenizer, with its chat template where it has one."""

    path: str = ""
    """A local directory (tokenizer.json, tokenizer_config.json, …) or a Hub id, OWNER/NAME[@REVISION]; no code in it is run."""
    reason: str = "{question}\nPlease reason step by step, and put your final answer within \\boxed{}."
    """The user's turn when a chain of thought is asked for; {question} stands for the question."""
    direct: str = "{question}\nPlease give the final answer only, within \\boxed{}."
    """The user's turn when the answer alone is asked for."""
    system: str | None = None
    """A system message put before the user's turn; None leaves that to the chat template."""
    thinking: bool = True
    """Ask the template for a turn with thinking when a chain of thought is wanted (`enable_thinking`, as Qwen3's template knows
    it). False where traces have no <think>: the prompt then closes the thinking before they begin, if the template can."""
    pad: str | None = None
    """A token to pad with, where the tokenizer names none or one that also ends turns."""

    def __post_init__(self) -> None:
        for name in ("reason", "direct"):
            if "{question}" not in str(getattr(self, name)):
                raise UserError(f"tokenizer.{name} must contain {{question}}, which stands for the question")

    def build(self, texts: Iterable[str] = ()) -> Tokenizer:
        from w2sr_jax.text import pretrained  # transformers takes seconds to import

        return pretrained.Pretrained.open(self)

    def opened_from(self) -> str | None:
        return self.path

    def stand_in(self, path: str) -> Self:
        return dataclasses.replace(self, path=path, pad=None)
