"""What a tokenizer is to the rest of the package, and how one is built, saved and loaded."""

import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.text import trained
from w2sr_jax.text.settings import PretrainedTokenizer, TokenizerSettings

MANIFEST = "w2sr_tokenizer.json"


class Tokenizer(Protocol):
    """Text to token ids and back, with the prompts in its own format.

    `pad` never equals `end_of_turn`. `end_tokens` are all tokens that end a turn when sampled, `end_of_turn` (the one that
    training appends) first. `unknown` is the id that stands for text outside the vocabulary, if there is one. `digest` changes
    with anything that changes an encoding or a prompt.
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
    def needed(self) -> int:
        """How many rows a model's embedding needs: tokens that were added and that nothing here writes may lie beyond."""

    @property
    def digest(self) -> str: ...

    @property
    def ends(self) -> tuple[str, ...]:
        """End and pad tokens as they look when a text spells them out."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without any special token being added."""

    def encode_marked(self, texts: Sequence[str], marks: Sequence[int | None]) -> list[tuple[list[int], int | None]]:
        """Ids of each text, and the index of the token that holds the character `marks[i]`."""

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Text of each row of ids."""

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What each token adds to the text, special ones by name."""

    def prompts(self, questions: Sequence[str], style: str) -> list[list[int]]:
        """Ids up to where the response begins, for the style `reason` or `direct`."""

    def rest(self, response: str, style: str) -> str:
        """The response without what the prompt of that style has begun of it already, as an opened `<think>`."""

    def begun(self, style: str) -> str:
        """With what the prompt of that style has begun the response: an opened thinking that the response has to close, or one
        that is closed already; "" with nothing."""

    def save(self, directory: Path) -> None:
        """Write what `load` needs, with a chat template and a generation config that lists all end tokens; the directory can be
        opened by Hugging Face's AutoTokenizer too."""


def build(settings: TokenizerSettings, texts: Iterable[str] = ()) -> Tokenizer:
    """The tokenizer of `settings`. `texts` are what a vocabulary is made from; a pretrained tokenizer ignores them."""
    if isinstance(settings, PretrainedTokenizer):
        from w2sr_jax.text import pretrained  # transformers takes seconds to import

        return pretrained.Pretrained.open(settings)
    return trained.build(settings, texts)


def load(directory: Path) -> Tokenizer:
    """Open what `Tokenizer.save` wrote."""
    manifest = directory / MANIFEST
    if not manifest.exists():
        raise UserError(f"{directory} is not a saved tokenizer: it has no {MANIFEST}")
    kind = files.read_json(manifest)
    if not isinstance(kind, dict):
        raise UserError(f"{manifest} is not a JSON object")
    if kind.get("kind") == "trained":
        return trained.Trained.load(directory)
    if kind.get("kind") == "pretrained":
        from w2sr_jax.text import pretrained

        return pretrained.Pretrained.load(directory, _settings(manifest, kind.get("settings")))
    raise UserError(f"{manifest} names the kind {sentences.value(kind.get('kind'))}; known are 'trained' and 'pretrained'")


def _settings(manifest: Path, given: Any) -> dict[str, Any]:
    """The settings that a saved tokenizer states, of the types that they have."""
    kinds = typing.get_type_hints(PretrainedTokenizer)
    if not isinstance(given, dict) or not given.keys() <= kinds.keys():
        raise UserError(f"{manifest} does not hold the settings of a tokenizer; build the run's tokenizer again")
    wrong = next((words for name, value in given.items() if (words := mistyped(value, kinds[name], name))), None)
    if wrong is not None:
        raise UserError(f"{manifest}: {wrong}")
    return given
