"""Checks of a data set's directory, which may come from a stranger: its files may refer only to files within it, to classes of
the library that reads it, and to kinds of files that hold nothing but rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from w2sr_jax.core import files, hub, sentences
from w2sr_jax.core.errors import UserError

SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"
"""Files that `save_to_disk` of `datasets` writes beside the Arrow files: with the names of these, and of the splits."""
FEATURES, INFO = "features.json", "dataset_info.json"
"""Files that TFDS writes beside its records."""

_KINDS = ("json", "csv", "parquet", "arrow", "text")
_TFDS = "tensorflow_datasets."
_CLASS = ("pythonClassName", "type", "python_class_name")  # the fields of a feature that may name its class


def check(directory: Path) -> None:
    """Raises UserError where the directory holds a link that leads out of it (in the Hub's cache: out of the repository's), or a
    pipe."""
    files.check_tree(directory, hub.home(directory))


def check_saved(directory: Path) -> None:
    """Raises UserError where a data set written by `save_to_disk` refers to a file outside of its directory."""
    if (directory / SAVED_SPLITS).is_file():
        for split in _list(files.read_json(directory / SAVED_SPLITS), "splits"):
            check_saved(files.within(directory, str(split)))
    elif (directory / SAVED).is_file():
        for entry in _list(files.read_json(directory / SAVED), "_data_files"):
            files.within(directory, str(entry.get("filename")) if isinstance(entry, dict) else str(entry))


def check_builder(directory: Path, builder: Any) -> None:
    """Raises UserError where a builder of `datasets` would read files outside of the directory, or of a kind that is not read."""
    check_kind(str(directory), builder)
    home = hub.home(directory)
    for name in (str(name) for names in (builder.config.data_files or {}).values() for name in names):
        if "://" in name or not files.contained(home, Path(name)):
            raise UserError(f"{directory} names the file {sentences.value(name)}, which lies outside of it; it is left alone")


def check_kind(source: str, builder: Any) -> None:
    """Raises UserError where a builder of `datasets` reads files that hold more than rows, such as archives with objects in
    them."""
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in (*_KINDS, "cache"):  # the cache of `datasets` holds Arrow files
        raise UserError(f"{source} holds files of the kind {sentences.value(kind)}; {', '.join(_KINDS)} are read")


def check_prepared(directory: Path) -> None:
    """Raises UserError where a prepared TFDS data set refers to files outside of its directory, or to a class that TFDS would
    import and that is not its own."""
    check(directory)
    for name, value in _fields(files.read_json(directory / FEATURES)):
        if name in _CLASS and isinstance(value, str) and "." in value and not value.startswith(_TFDS):
            raise UserError(f"{directory / FEATURES} names the class {sentences.value(value)}; none but TFDS's own is executed")
    info = files.read_json(directory / INFO) if (directory / INFO).is_file() else {}
    for split in _list(info, "splits"):
        template = str(split.get("filepathTemplate", "")) if isinstance(split, dict) else ""
        files.within(directory, template or "records")


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """All (name, value) of the objects in a JSON value, at any depth."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield from part.items()
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, str) and part.startswith("{"):  # features keep some of their settings as JSON within JSON
            try:
                waiting.append(json.loads(part))
            except (ValueError, RecursionError):
                continue


def _list(value: Any, name: str) -> list[Any]:
    entries = value.get(name) if isinstance(value, dict) else None
    return entries if isinstance(entries, list) else []
