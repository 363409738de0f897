"""Write a `tokenizer_config.json` that transformers 4.5x (which vLLM and lm-evaluation-harness may pin) and transformers 5 read.

Version 4 needs what version 5 does not write: a class that it has (it has no `TokenizersBackend`); special tokens without a name
in the list `additional_special_tokens` (its `extra_special_tokens` is an object of names); added tokens and the chat template in
this file too, where other programs look for them; and the names of a model's inputs, since its general class also gives token
types. Version 5 reads all of that. Both read `tokenizer.json` and `chat_template.jinja` as they are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2sr_jax.core import files

CONFIG = "tokenizer_config.json"
GENERAL = "PreTrainedTokenizerFast"
"""The class of both versions that follows `tokenizer.json`."""

_TEMPLATE, _TOKENIZER = "chat_template.jinja", "tokenizer.json"
_OWN = ("Qwen2Tokenizer", "Qwen2TokenizerFast")  # version 5 gives every qwen2 this class, whatever the file says
_ONLY_5 = ("TokenizersBackend", "PythonBackend", "SentencePieceBackend", "MistralCommonBackend")
_OF_5 = ("backend", "is_local", "local_files_only", "model_specific_special_tokens")
_LISTS = ("additional_special_tokens", "extra_special_tokens")
_INPUTS = ["input_ids", "attention_mask"]
_LONGEST = 10**9  # tokens; a larger number means no limit


def rewrite(directory: Path, context: int | None = None) -> None:
    """Rewrite a directory's `tokenizer_config.json` for both versions, from its other files. Nothing is done where it has none,
    or no `tokenizer.json`. `context`: the model's longest sequence in tokens, where that is known."""
    config, tokenizer, template = directory / CONFIG, directory / _TOKENIZER, directory / _TEMPLATE
    if config.is_file() and tokenizer.is_file():
        rules = json.loads(tokenizer.read_text(encoding="utf-8"))
        written = template.read_text(encoding="utf-8") if template.is_file() else None
        files.write_json(config, portable(files.read_json(config), rules, written, context))


def portable(
    config: Mapping[str, Any], tokenizer: Mapping[str, Any], template: str | None = None, context: int | None = None
) -> dict[str, Any]:
    """A configuration for both versions, from one of either. `tokenizer` is the content of `tokenizer.json`, `template` that of a
    chat template's own file."""
    result = {name: value for name, value in config.items() if name not in (*_OF_5, *_LISTS)}
    kind = config.get("tokenizer_class")
    if kind in _ONLY_5 or kind is None or ("backend" in config and kind not in _OWN):
        result["tokenizer_class"] = GENERAL
    result |= _specials(config)
    result["added_tokens_decoder"] = _added(tokenizer)
    if template is not None:
        result["chat_template"] = template
    result.setdefault("model_input_names", _INPUTS)
    result.setdefault("clean_up_tokenization_spaces", False)
    prefixed = tokenizer.get("pre_tokenizer") or {}
    if prefixed.get("add_prefix_space") is True:  # without it version 4 takes the space away
        result["add_prefix_space"] = True
    limit = config.get("model_max_length")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit > _LONGEST:
        result.pop("model_max_length", None)
        result |= {"model_max_length": context} if context else {}
    return result


def _specials(config: Mapping[str, Any]) -> dict[str, Any]:
    """The special tokens beyond the usual ones: unnamed ones as a list, named ones as an object."""
    extra = config.get("extra_special_tokens")
    unnamed = [*(config.get("additional_special_tokens") or []), *(extra if isinstance(extra, list) else [])]
    named = {**(config.get("model_specific_special_tokens") or {}), **(extra if isinstance(extra, dict) else {})}
    lists = {"additional_special_tokens": list(dict.fromkeys(_content(token) for token in unnamed))} if unnamed else {}
    return lists | ({"extra_special_tokens": {name: _content(one) for name, one in named.items()}} if named else {})


def _content(token: Any) -> str:
    """The text of a token, which may be stored as an object with its properties."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)


def _added(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """The added tokens of a `tokenizer.json` by id."""
    tokens = {}
    for token in tokenizer.get("added_tokens") or []:
        tokens[str(token["id"])] = {name: value for name, value in token.items() if name != "id"}
    return tokens
