"""Rows of prepared TFDS data sets, read from their directories without TensorFlow and without running the code of a builder."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.problems import containment
from w2sr_jax.problems.reference import Reference, chosen, directory
from w2sr_jax.problems.rows import Row, Unreadable

FORMAT = "array_record"

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_NAME = re.compile(r"[A-Za-z]\w*(?:/[\w.+-]+)*")


def rows(reference: Reference) -> Iterator[Row]:
    """The rows that a reference names, numbered from 1; bytes are read as text. Raises UserError where they cannot be read."""
    location = prepared(reference.name)
    number = 0
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(str(location))
        stored = builder.info.file_format
        if stored is not None and stored.value != FORMAT:
            raise UserError(_needs_tensorflow(reference, location, f"its files are in the format {stored.value}"))
        for part in reference.parts:
            source = builder.as_data_source(chosen(part, list(builder.info.splits), f"tfds:{reference.name}"))
            for position in part.rows(len(source)):
                number += 1
                yield Row(number, {str(name): _plain(value) for name, value in source[position].items()})
    except UserError:
        raise
    except ImportError as error:
        raise UserError(_needs_tensorflow(reference, location, f"reading it asks for {error.name}")) from None
    except Exception as error:
        past = f" past row {number}" if number else ""
        raise UserError(f"tfds:{reference.name} ({location}) cannot be read{past}: {sentences.cause(error)}") from None


def source_files(reference: Reference) -> tuple[Path, ...]:
    """The files of the prepared data set."""
    return tuple(sorted(path for path in prepared(reference.name).iterdir() if path.is_file() and not path.name.startswith(".")))


def prepared(name: str) -> Path:
    """The directory of a prepared data set. `name` is that directory, one above it, or NAME[/CONFIG][/VERSION] below
    TFDS_DATA_DIR or ~/tensorflow_datasets. Of several versions it is the newest. Raises UserError where there is none, or several
    configurations."""
    local, shown = directory(name), f"tfds:{sentences.shown(name)}"
    home = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if local is None and not _NAME.fullmatch(name):
        raise UserError(f"{shown} is no directory and no data set's name; write tfds:NAME[/CONFIG][:SPLIT]")
    start = local or directory(str(home / name))
    versions = _descend(start) if start is not None else []
    if len(versions) == 1:
        containment.check_prepared(versions[0])
        return versions[0]
    if start is not None and versions:
        several = ", ".join(sentences.shown(path.relative_to(start).parts[0], 40) for path in versions[:20])
        raise UserError(f"{shown} has several configurations, {several}: say which, as in {shown}/{versions[0].parent.name}")
    where = f"{start} holds none" if start is not None else f"there is no {sentences.shown(str(home / name), 240)}"
    raise UserError(
        f"{shown} is not prepared here: {where} (TFDS_DATA_DIR says where to look); prepare it where TensorFlow is installed, "
        f"with `tfds build {local.name if local else sentences.shown(name)} --file_format={FORMAT}`, and give that directory"
    )


def _descend(start: Path, depth: int = 3) -> list[Path]:
    """The directories of prepared data sets in or below a directory, the newest version of each."""
    if (start / containment.FEATURES).is_file():
        return [start]
    if depth == 0:
        return []
    children = sorted(child for child in start.iterdir() if child.is_dir() and not child.name.startswith("."))
    versions = [child for child in children if _VERSION.fullmatch(child.name) and (child / containment.FEATURES).is_file()]
    if versions:
        return [max(versions, key=lambda child: tuple(map(int, child.name.split("."))))]
    return [path for child in children for path in _descend(child, depth - 1)]


def _needs_tensorflow(reference: Reference, location: Path, why: str) -> str:
    name = reference.name if _NAME.fullmatch(reference.name) else "NAME"
    return (
        f"tfds:{reference.name} ({location}) can be read with TensorFlow alone: {why}; prepare it again, where TensorFlow is "
        f"installed, with `tfds build {name} --file_format={FORMAT}`"
    )


def _plain(value: Any) -> Any:
    """A value as the JSON of a row would hold it."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            return Unreadable(type(error).__name__)
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
