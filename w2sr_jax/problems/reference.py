"""What a path of rows names: a file, a data set of the Hugging Face Hub or in its formats, or one of TFDS; and its splits."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError

Kind = Literal["file", "hf", "tfds"]

SPLITS = ("train", "training", "test", "validation", "valid", "val", "dev", "eval", "auxiliary_train")
"""Names that, as the only part behind a data set's name, are read as a split; any other one is a configuration."""

_SCHEME = re.compile(r"(file|hf|tfds):(.*)", re.S)
_PART = re.compile(r"([\w.-]+)(?:\[([^\[\]]*)\])?")
_BOUND = re.compile(r"(-?\d{1,12})(%?)")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


class Bound(NamedTuple):
    """Where a slice begins or ends: a row, or a percentage of the rows; negative ones count from the end."""

    number: int
    percent: bool = False

    def row(self, total: int) -> int:
        at = round(self.number * total / 100) if self.percent else self.number
        return max(0, min(total, at + total if self.number < 0 else at))


class Part(NamedTuple):
    """A split, or the rows of it from `start` to `stop`. `name` is None for the only split there is."""

    name: str | None
    start: Bound | None = None
    stop: Bound | None = None

    def rows(self, total: int) -> range:
        """Positions of its rows in a split of `total`."""
        start, stop = (bound and bound.row(total) for bound in (self.start, self.stop))
        return range(start or 0, total if stop is None else stop)


class Reference(NamedTuple):
    """`name` is a path, a data set's name, or its directory; `configs` and `parts` say what of it is read, in order."""

    kind: Kind
    name: str
    configs: tuple[str, ...] = ()
    parts: tuple[Part, ...] = (Part(None),)
    revision: str | None = None


def parse(path: str) -> Reference:
    """Take `file:PATH`, `hf:NAME[@REVISION][:CONFIG][:SPLIT]`, `tfds:NAME[/CONFIG][:VERSION][:SPLIT]` or a plain path apart.

    A NAME may be a local directory. Configurations and splits are joined by `+`; of a split `[FROM:TO]` takes rows or, with `%`,
    percentages. A single part behind the name is a split where it is called like one (`SPLITS`) or has brackets, otherwise a
    configuration; `NAME::SPLIT` leaves no doubt. `UserError` where it cannot be read.
    """
    found = _SCHEME.fullmatch(path)
    if found is None or found[1] == "file":
        return Reference("file", path if found is None else found[2])
    kind: Kind = "hf" if found[1] == "hf" else "tfds"
    name, behind = _name(found[2])
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
    """What the source is called in a problem's `meta`: printable, without the directories that lead to it."""
    name = reference.name if reference.kind != "file" and directory(reference.name) is None else Path(reference.name).name
    splits = "+".join(part.name for part in reference.parts if part.name)
    return sentences.printable(":".join(part for part in (name, "+".join(reference.configs), splits) if part))


def directory(name: str) -> Path | None:
    """The local directory that a name means, if there is one."""
    path = Path(name)
    try:
        path = path.expanduser()
        return path if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, or no home
        return None


def chosen(part: Part, splits: Sequence[str], source: str) -> str:
    """The split that a part means, among those that there are. `UserError` where that is none, or not certain."""
    known = ", ".join(sentences.shown(split, 40) for split in splits[:20])
    if part.name is None:
        if len(splits) == 1:
            return splits[0]
        raise UserError(
            f"{source} has the splits {known}: say which, as in {source}:{splits[0]}" if splits else f"{source} is empty"
        )
    if part.name not in splits:
        raise UserError(f"{source} has no split {part.name!r}; it has {known}")
    return part.name


def _name(text: str) -> tuple[str, list[str]]:
    """The data set and the parts behind it; colons in brackets, or in the name of a directory that exists, divide nothing."""
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
        found = _PART.fullmatch(text.strip())
        bounds = found[2].split(":") if found and found[2] is not None else []
        read = [_BOUND.fullmatch(bound.strip()) for bound in bounds]
        wrong = found is None or len(bounds) not in (0, 2)
        if found is None or wrong or any(bound.strip() and not one for bound, one in zip(bounds, read)):
            raise UserError(
                f"{sentences.value(path)}: {sentences.value(text)} is no split; write NAME, NAME[:1000], NAME[10%:20%], "
                "or several joined by +"
            )
        start, stop = (one and Bound(int(one[1]), bool(one[2])) for one in read) if bounds else (None, None)
        yield Part(found[1], start, stop)


def _usage(kind: Kind) -> str:
    return "write hf:NAME[@REVISION][:CONFIG][:SPLIT]" if kind == "hf" else "write tfds:NAME[/CONFIG][:SPLIT]"
