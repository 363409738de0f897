"""Parse paths of rows: files, data sets of the Hugging Face Hub or in its formats, data sets of TFDS, and their splits."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError

Kind = Literal["file", "hf", "tfds"]

SPLITS = ("train", "training", "test", "validation", "valid", "val", "dev", "eval", "auxiliary_train")
"""Names that are read as a split where they are the only part behind a data set's name; any other name is a configuration."""

_SCHEME = re.compile(r"(file|hf|tfds):(.*)", re.S)
_PART = re.compile(r"([\w.-]+)(?:\[([^\[\]]*)\])?")
_BOUND = re.compile(r"(-?\d{1,12})(%?)")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


class Bound(NamedTuple):
    """The beginning or end of a slice: a row, or a percentage of the rows; negative numbers count from the end."""

    number: int
    percent: bool = False

    def row(self, total: int) -> int:
        at = round(self.number * total / 100) if self.percent else self.number
        return max(0, min(total, at + total if self.number < 0 else at))


class Part(NamedTuple):
    """A split, or its rows from `start` to `stop`. `name` is None where the data set has a single split."""

    name: str | None
    start: Bound | None = None
    stop: Bound | None = None

    def rows(self, total: int) -> range:
        """The indices of its rows in a split of `total` rows."""
        start, stop = (bound and bound.row(total) for bound in (self.start, self.stop))
        return range(start or 0, total if stop is None else stop)


class Reference(NamedTuple):
    """A parsed path: `name` is a file's path, or a data set's name or directory, of which `configs` and `parts` are read in
    order."""

    kind: Kind
    name: str
    configs: tuple[str, ...] = ()
    parts: tuple[Part, ...] = (Part(None),)
    revision: str | None = None


def parse(path: str) -> Reference:
    """Parse `file:PATH`, `hf:NAME[@REVISION][:CONFIG][:SPLIT]`, `tfds:NAME[/CONFIG][:VERSION][:SPLIT]` or a plain path of a file.

    A NAME may be a local directory. Several configurations or splits are joined by `+`. `SPLIT[FROM:TO]` are some rows of a
    split, in numbers or, with `%`, in percentages. A single part behind the name is a split where it has the name of one
    (`SPLITS`) or brackets, otherwise a configuration; `NAME::SPLIT` is always a split. Raises UserError where a path cannot be
    parsed.
    """
    match = _SCHEME.fullmatch(path)
    if match is None or match[1] == "file":
        return Reference("file", path if match is None else match[2])
    kind: Kind = "hf" if match[1] == "hf" else "tfds"
    name, behind = _name(match[2])
    if not name:
        raise UserError(f"{sentences.value(path)} names no data set; {_usage(kind)}")
    if kind == "tfds":
        if behind and _VERSION.fullmatch(behind[0]):
            name = f"{name}/{behind.pop(0)}"
        config, split = "", behind.pop(0) if behind else ""
    elif len(behind) == 1 and (behind[0] in SPLITS or "[" in behind[0] or set(behind[0].split("+")) <= set(SPLITS)):
        config, split = "", behind.pop(0)
    else:
        config, split = (behind.pop(0) if behind else ""), (behind.pop(0) if behind else "")
    if behind:
        raise UserError(f"{sentences.value(path)} has a part too many, {sentences.value(behind[0])}; {_usage(kind)}")
    revision = None
    if kind == "hf" and "@" in name and not directory(name):
        name, _, revision = name.partition("@")
    configs = tuple(part for part in config.split("+") if part)
    return Reference(kind, name, configs, _parts(split, path) if split else (Part(None),), revision or None)


def title(reference: Reference) -> str:
    """The source's name in the `meta` of problems: printable, without the directories of its path."""
    name = reference.name if reference.kind != "file" and directory(reference.name) is None else Path(reference.name).name
    splits = "+".join(part.name for part in reference.parts if part.name)
    return sentences.printable(":".join(part for part in (name, "+".join(reference.configs), splits) if part))


def directory(name: str) -> Path | None:
    """The local directory of that name; None where there is none."""
    path = Path(name)
    try:
        path = path.expanduser()
        return path if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, or no home
        return None


def chosen(part: Part, splits: Sequence[str], source: str) -> str:
    """The name of the split that a part names, one of `splits`. Raises UserError where it is none of them, or may be several."""
    listing = ", ".join(sentences.shown(split, 40) for split in splits[:20])
    if part.name is None:
        if len(splits) == 1:
            return splits[0]
        raise UserError(
            f"{source} has the splits {listing}: say which, as in {source}:{splits[0]}" if splits else f"{source} is empty"
        )
    if part.name not in splits:
        raise UserError(f"{source} has no split {part.name!r}; it has {listing}")
    return part.name


def _name(text: str) -> tuple[str, list[str]]:
    """(data set, the parts behind it). Colons in brackets, and in the name of an existing directory, separate no parts."""
    pieces = re.split(r":(?![^\[]*\])", text)
    for count in range(len(pieces), 1, -1):
        joined = ":".join(pieces[:count])
        if directory(joined):
            return joined, pieces[count:]
    return pieces[0], pieces[1:]


def _parts(split: str, path: str) -> tuple[Part, ...]:
    return tuple(_read_parts(split, path))


def _read_parts(split: str, path: str) -> Iterator[Part]:
    for text in split.split("+"):
        match = _PART.fullmatch(text.strip())
        bounds = match[2].split(":") if match and match[2] is not None else []
        read = [_BOUND.fullmatch(bound.strip()) for bound in bounds]
        wrong = match is None or len(bounds) not in (0, 2)
        if match is None or wrong or any(bound.strip() and not one for bound, one in zip(bounds, read)):
            raise UserError(
                f"{sentences.value(path)}: {sentences.value(text)} is no split; write NAME, NAME[:1000], NAME[10%:20%], "
                "or several joined by +"
            )
        start, stop = (one and Bound(int(one[1]), bool(one[2])) for one in read) if bounds else (None, None)
        yield Part(match[1], start, stop)


def _usage(kind: Kind) -> str:
    return "write hf:NAME[@REVISION][:CONFIG][:SPLIT]" if kind == "hf" else "write tfds:NAME[/CONFIG][:SPLIT]"
