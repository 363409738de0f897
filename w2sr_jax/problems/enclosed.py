"""A data set's directory, which may come from a stranger: what lies in it may name files within it and nothing else, no class but
those of its library, and no kind of file that is more than rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from w2sr_jax.core import files, hub, sentences
from w2sr_jax.core.errors import UserError

SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"
"""What `datasets` writes beside the Arrow files of `save_to_disk`: names of files, and of splits."""
FEATURES, INFO = "features.json", "dataset_info.json"
"""What TFDS writes beside its records."""

_KINDS = ("json", "csv", "parquet", "arrow", "text")
_TFDS = "tensorflow_datasets."
_CLASS = ("pythonClassName", "type", "python_class_name")  # the fields of a feature that may name its class


def check(place: Path) -> None:
    """`UserError` where a link leads out of the directory (in the Hub's cache: of the repository's), or a pipe lies in it."""
    files.check_tree(place, hub.home(place))


def check_saved(place: Path) -> None:
    """`UserError` where what `save_to_disk` left names a file outside of the directory."""
    if (place / SAVED_SPLITS).is_file():
        for split in _list(files.read_json(place / SAVED_SPLITS), "splits"):
            check_saved(files.within(place, str(split)))
    elif (place / SAVED).is_file():
        for one in _list(files.read_json(place / SAVED), "_data_files"):
            files.within(place, str(one.get("filename")) if isinstance(one, dict) else str(one))


def check_builder(place: Path, builder: Any) -> None:
    """`UserError` where the files that a builder of `datasets` found for the directory lie elsewhere or are of a kind that is
    not read."""
    check_kind(str(place), builder)
    home = hub.home(place)
    for name in (str(name) for found in (builder.config.data_files or {}).values() for name in found):
        if "://" in name or not files.contained(home, Path(name)):
            raise UserError(f"{place} names the file {sentences.value(name)}, which lies outside of it; it is left alone")


def check_kind(source: str, builder: Any) -> None:
    """`UserError` where a builder of `datasets` reads files that are more than rows, such as archives with objects in them."""
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in (*_KINDS, "cache"):  # the cache of `datasets` holds Arrow files
        raise UserError(f"{source} holds files of the kind {sentences.value(kind)}; {', '.join(_KINDS)} are read")


def check_prepared(place: Path) -> None:
    """`UserError` where a prepared TFDS data set names files elsewhere, or a class that is not TFDS's own and that TFDS would
    import."""
    check(place)
    for name, value in _fields(files.read_json(place / FEATURES)):
        if name in _CLASS and isinstance(value, str) and "." in value and not value.startswith(_TFDS):
            raise UserError(f"{place / FEATURES} names the class {sentences.value(value)}; none but TFDS's own is executed")
    info = files.read_json(place / INFO) if (place / INFO).is_file() else {}
    for split in _list(info, "splits"):
        template = str(split.get("filepathTemplate", "")) if isinstance(split, dict) else ""
        files.within(place, template or "records")


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """All fields of a JSON value, at any depth."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, str) and one.startswith("{"):  # features keep some of their settings as JSON within JSON
            try:
                waiting.append(json.loads(one))
            except (ValueError, RecursionError):
                continue


def _list(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []
