"""How a tokenizer is built from settings, and opened from the directory that it was saved to."""

import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from w2sr_jax.core import files, sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.text import trained
from w2sr_jax.text.contract import Tokenizer, TokenizerSettings
from w2sr_jax.text.settings import PretrainedTokenizer

MANIFEST = "w2sr_tokenizer.json"


def build(settings: TokenizerSettings, texts: Iterable[str] = ()) -> Tokenizer:
    """The tokenizer of `settings`. `texts` are what a vocabulary is made of; a pretrained tokenizer ignores them. Settings of a
    user's own that raise are a UserError with file and line."""
    if usercode.is_ours(settings):
        return settings.build(texts)
    with usercode.calling(settings):
        return settings.build(texts)


def load(directory: Path) -> Tokenizer:
    """The tokenizer that `Tokenizer.save` wrote to a directory. Raises UserError where there is none, or it is damaged."""
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

        return pretrained.Pretrained.load(directory, PretrainedTokenizer(**_settings(manifest, kind.get("settings"))))
    raise UserError(f"{manifest} names the kind {sentences.value(kind.get('kind'))}; known are 'trained' and 'pretrained'")


def _settings(manifest: Path, stated: Any) -> dict[str, Any]:
    """The settings that a saved tokenizer states, checked for names and types."""
    kinds = typing.get_type_hints(PretrainedTokenizer)
    if not isinstance(stated, dict) or not stated.keys() <= kinds.keys():
        raise UserError(f"{manifest} does not hold the settings of a tokenizer; build the run's tokenizer again")
    wrong = next((words for name, value in stated.items() if (words := mistyped(value, kinds[name], name))), None)
    if wrong is not None:
        raise UserError(f"{manifest}: {wrong}")
    return stated
