"""Checks of a downloaded tokenizer's directory before any library opens it: its files lie within it, have sensible sizes, and
hold rules that come to an end. This module imports neither Jinja nor transformers; see `template` for the bounds of a chat
template."""

import contextlib
import functools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from w2sr_jax.core import files, hub, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.text import trial

PATIENCE = 120.0
"""Seconds on the clock that a tokenizer's trial may take, including its start on a busy machine."""
MOST_TOKENS = 2**24
"""Tokens of a vocabulary; the largest in use have a sixtieth of that."""
MOST_ADDED = 20_000
"""Tokens that may be added to a vocabulary one by one; Gemma has 6,400."""
MOST_LAYERS = 10_000
LONGEST_TEMPLATE = 1_000_000

_TEXTS = (
    "Hi",
    "How many apples are left? 12 - 3 = 9, so \\boxed{9}.\n",
    "a" * 2000,
    " " * 2000,
    "1" * 2000,
    "xY9 .,-\t\n" * 200,
    "word " * 400 + "!",
)


def check(directory: Path) -> None:
    """Raises UserError where a link leads out of the directory, where an entry is no file, where settings are absurd, and where a
    rule of tokenizer.json exceeds its time or memory, or makes thousands of tokens of a word."""
    hub.check_files(directory)
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if (directory / name).is_file():
            _check_settings(directory / name, files.read_json(directory / name))
    for path in directory.glob("*.jinja"):
        if path.stat().st_size > LONGEST_TEMPLATE:
            raise UserError(f"{path} has more than {LONGEST_TEMPLATE:,} bytes, which no chat template needs")
    path = directory / "tokenizer.json"
    if path.is_file():
        status = path.stat()
        words = _fault(path, status.st_size, status.st_mtime_ns)
        if words is not None:
            raise UserError(f"{path} {words}")


@contextlib.contextmanager
def working(name: object) -> Iterator[None]:
    """Turns a panic of the tokenizers library, which is written in Rust, into a UserError. `name` is the tokenizer's."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise UserError(f"the tokenizer {name} fails at a text: {sentences.shown(str(error))}; use another tokenizer") from None


def _check_settings(path: Path, value: Any) -> None:
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object")
    for name, part in _numbers(value):
        most = MOST_LAYERS if "layer" in name else MOST_TOKENS if "vocab" in name else None
        if most is not None and part > most:
            raise UserError(f"{path}: {sentences.value(name)} is {sentences.value(part)}; no model has more than {most:,}")
    for name, part in value.items():
        if isinstance(part, list | dict) and len(part) > MOST_ADDED:
            raise UserError(
                f"{path}: {sentences.value(name)} has {len(part):,} entries; no tokenizer has more than {MOST_ADDED:,}"
            )


def _numbers(value: Mapping[str, Any], depth: int = 3) -> Iterator[tuple[str, int | float]]:
    """(name, value) of the numbers in an object and in objects within it."""
    for name, part in value.items():
        if isinstance(part, int | float) and not isinstance(part, bool):
            yield name, part
        elif isinstance(part, dict) and depth:
            yield from _numbers(part, depth - 1)


@functools.lru_cache(maxsize=16)
def _fault(path: Path, size: int, modified: int) -> str | None:
    """What is wrong with a tokenizer.json, in words; None where nothing is. Size and time of the file are part of the cache's
    key."""
    raw = files.read_json(path)
    added = raw.get("added_tokens") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(added, list | None) or not isinstance(raw.get("model"), dict):
        return "is not a tokenizer: it holds no model"
    if added is not None and len(added) > MOST_ADDED:
        return f"adds {len(added):,} tokens to its vocabulary; no tokenizer adds more than {MOST_ADDED:,}"
    vocab = raw["model"].get("vocab")
    own = vocab.values() if isinstance(vocab, dict) else ()
    ids = [*own, *(token.get("id") for token in added or [] if isinstance(token, dict))]
    far = next((number for number in ids if type(number) is not int or not 0 <= number < MOST_TOKENS), None)
    if far is not None:
        return f"has a token of the id {sentences.value(far)}; ids are whole numbers below {MOST_TOKENS:,}"
    return _tried(path)


def _tried(path: Path) -> str | None:
    """What goes wrong when the tokenizer encodes a few texts in a process of its own (`text.trial`); None where nothing does."""
    job = json.dumps({"path": str(path), "texts": _TEXTS})
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(Path(trial.__file__))], input=job.encode(), capture_output=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return f"is not done with a few short texts within {PATIENCE:.0f} seconds"
    if done.returncode:
        limits = f"{trial.SECONDS} seconds of processor time and {trial.MEMORY >> 30} GiB of memory"
        return f"is not done with a few short texts within {limits}"
    words = json.loads(done.stdout)
    return None if words is None else f"is not a sound tokenizer: {sentences.shown(str(words))}"
