"""What a tokenizer is to the rest of the package, and what settings must be that a tokenizer is built from."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

LIKELY_VOCABULARY = 1024
"""Tokens that are assumed of a vocabulary that is not made yet and whose settings do not say."""


class Tokenizer(Protocol):
    """Text to token ids and back, with prompts in its own format.

    `pad` never equals `end_of_turn`. `end_tokens` are all tokens that end a turn when sampled; the first is `end_of_turn`, which
    training appends. `unknown` is the id for text outside the vocabulary; None where there is none. `digest` changes with
    anything that changes an encoding or a prompt.
    """

    @property
    def pad(self) -> int: ...
    @property
    def end_of_turn(self) -> int: ...
    @property
    def end_tokens(self) -> tuple[int, ...]: ...
    @property
    def unknown(self) -> int | None: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def embedding_rows(self) -> int:
        """The least number of rows of a model's embedding. It may be less than `vocab_size`: added tokens that no text and no
        prompt is encoded with may have larger ids."""

    @property
    def digest(self) -> str: ...

    @property
    def end_texts(self) -> tuple[str, ...]:
        """The end tokens and the pad token as texts spell them."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without added special tokens."""

    def encode_marked(self, texts: Sequence[str], marks: Sequence[int | None]) -> list[tuple[list[int], int | None]]:
        """The ids of each text, and the index of the token that holds the character `marks[i]` of it (None where that is
        None)."""

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids."""

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text that each token adds to those before it; a special token is its name."""

    def prompts(self, questions: Sequence[str], style: str) -> list[list[int]]:
        """The ids of each question's prompt, up to where the response begins, for the style `reason` or `direct`."""

    def without_prefix(self, response: str, style: str) -> str:
        """The response without the beginning that the prompt of that style has already, such as an opened `<think>`."""

    def response_prefix(self, style: str) -> str:
        """The beginning of the response that the prompt of that style ends with: an opened `<think>`, which the response must
        close, or a closed one; "" where it ends with neither."""

    def save(self, directory: Path) -> None:
        """Write the files that `tokenizer.load` opens, with a chat template and a generation config that lists all end tokens.
        Hugging Face's AutoTokenizer can open the directory too."""


@runtime_checkable
class TokenizerSettings(Protocol):
    """Which tokenizer a run has: `WordTokenizer`, `BpeTokenizer`, `PretrainedTokenizer`, or a frozen dataclass of one's own that
    extends this class and defines `build`; everything else has a default."""

    @abstractmethod
    def build(self, texts: Iterable[str]) -> Tokenizer:
        """The tokenizer; equal settings and texts give equal ones. `texts` are what its vocabulary is made of, where it is made
        of texts. Its `save` must write what `tokenizer.load` opens. Raises UserError where none can be built."""

    def opened_from(self) -> str | None:
        """The directory or Hub id that the tokenizer is opened from; None where its vocabulary is made of the run's own texts."""
        return None

    def needs_questions(self) -> bool:
        """Whether `texts` must also hold the questions that are only asked and never trained on, of the probe and test splits."""
        return False

    def largest_number(self) -> int | None:
        """The largest whole number that the texts are expected to hold; None where there is no such limit."""
        return None

    def least_vocabulary(self) -> int:
        """A number of tokens below which no vocabulary of this kind can be."""
        return 0

    def likely_vocabulary(self) -> int:
        """How many tokens to count on before the tokenizer is built."""
        return LIKELY_VOCABULARY

    def stand_in(self, path: str) -> Self:
        """The settings for a rehearsal: with the tokenizer in the directory `path` in place of one that would be downloaded."""
        return self
