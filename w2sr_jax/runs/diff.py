"""Where two stages' outputs differ, in words for people: which file, and which record of it. What "was" is the first stage's,
what "is" the second's."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from w2sr_jax.core.differing import differing, same
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph.manifest import Manifest

MOST = 8  # files of one stage that are looked into
WIDTH = 60  # characters of a value that are shown
_BEFORE = 20  # of them, before the first character that differs
_BLOCK = 1 << 20


class Difference(NamedTuple):
    """`path` is relative to the runs; `words` say which record of it differs, and how."""

    path: str
    words: str


def differences(old_run: Path, new_run: Path, old: Manifest, new: Manifest) -> list[Difference]:
    """How what a stage made differs between two runs: its files in the order of their names, then its checkpoints; `MOST` of them
    at most. Empty where the manifests' digests agree."""
    listed = []
    for was, is_, look in ((old.outputs, new.outputs, in_files), (old.artifacts, new.artifacts, in_checkpoints)):
        for path in sorted({*was, *is_}):
            if was.get(path) == is_.get(path):
                continue
            if path not in was or path not in is_:
                words = "it is there only now" if path not in was else "it was there and is missing"
            else:
                words = look(old_run / path, new_run / path) or _unlike_manifest(was[path], is_[path])
            listed.append(Difference(path, words))
            if len(listed) == MOST:
                return listed
    return listed


def in_files(old: Path, new: Path) -> str | None:
    """The first difference between two files, by what their suffix says they are; None where their bytes agree."""
    offset = _byte_offset(old, new)
    if offset is None:
        return None
    reader = _READERS.get(old.suffix)
    if reader is None:
        return offset
    name, look = reader
    try:
        return look(old, new) or f"all {name} agree, and yet {offset}"
    except (UserError, ValueError, KeyError, OSError, EOFError, pa.ArrowException) as error:
        return f"{offset} (and one of the files cannot be read: {_line(error)})"


def in_checkpoints(old: Path, new: Path) -> str | None:
    """The first parameter, in the order of their paths, that differs between two checkpoints; None where none does."""
    import jax

    from w2sr_jax.training.checkpoints import restore_params

    trees = []
    for path in (old, new):
        try:
            leaves = jax.tree_util.tree_leaves_with_path(restore_params(path))
        except UserError as error:
            return f"the parameters cannot be compared: {error}"
        trees.append({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves})
    was, is_ = trees
    names = sorted(was.keys() | is_.keys())
    differing = [name for name in names if name not in was or name not in is_ or not _same_array(was[name], is_[name])]
    if not differing:
        return None
    name = differing[0]
    words = f"parameter {name} " + (_parameter(was[name], is_[name]) if name in was and name in is_ else _lacking(name, was))
    return f"{words}; {len(differing)} of {len(names)} parameters differ"


def in_values(old: Any, new: Any) -> str | None:
    """The path to the first value in which two JSON values differ, with both values; None where none does."""
    for path, was, now in differing(old, new):
        if was is ... or now is ...:
            return f"{path} {'is there only now' if was is ... else 'was there and is missing'}"
        return f"{path or 'the value'} {_both(was, now)}"
    return None


def _in_parquet(old: Path, new: Path) -> str | None:
    was, is_ = pq.read_table(old), pq.read_table(new)
    for name in sorted({*was.column_names, *is_.column_names}):
        if name not in was.column_names or name not in is_.column_names:
            return f"column {name!r} {_lacking(name, was.column_names)}"
        if was.schema.field(name).type != is_.schema.field(name).type:
            return f"column {name!r} held {was.schema.field(name).type} and holds {is_.schema.field(name).type}"
    unequal = [(row, name) for name in was.column_names if (row := _first_row(was[name], is_[name])) is not None]
    if unequal:
        row = min(row for row, _ in unequal)
        names = [name for other, name in unequal if other == row]
        # An id is a digest of the record, so it differs with any other column and says nothing.
        name = next((name for name in names if name != "id"), "id")
        return f"{_row(was, row)}, column {name!r} {_both(was[name][row].as_py(), is_[name][row].as_py())}"
    if was.num_rows != is_.num_rows:
        longer = was if was.num_rows > is_.num_rows else is_
        which = "is missing" if longer is was else "is there only now"
        row = min(was.num_rows, is_.num_rows)
        return f"there were {was.num_rows:,} rows and are {is_.num_rows:,}: {_row(longer, row)} {which}"
    return None


def _first_row(old: pa.ChunkedArray, new: pa.ChunkedArray) -> int | None:
    """The first row, of those that both have, in which two columns differ."""
    rows, start = min(len(old), len(new)), 0
    while start < rows:
        low, high = start, rows
        if old.slice(low, high - low).equals(new.slice(low, high - low)):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if old.slice(low, middle - low).equals(new.slice(low, middle - low)):
                low = middle
            else:
                high = middle
        if not same(old[low].as_py(), new[low].as_py()):  # Arrow finds NaN unequal to itself
            return low
        start = low + 1
    return None


def _row(table: pa.Table, row: int) -> str:
    name = "id" if "id" in table.column_names else next(iter(table.column_names), None)
    return f"row {row:,}" + (f" ({name} {_shown(table[name][row].as_py())})" if name else "")


def _in_lines(old: Path, new: Path) -> str | None:
    was, is_ = (path.read_text(encoding="utf-8").splitlines() for path in (old, new))
    for number, (left, right) in enumerate(zip(was, is_), 1):
        if left != right:
            words = in_values(json.loads(left), json.loads(right))
            if words:
                return f"line {number:,}, {words}"
    return None if len(was) == len(is_) else f"there were {len(was):,} lines and are {len(is_):,}"


def _in_json(old: Path, new: Path) -> str | None:
    was, is_ = (json.loads(path.read_text(encoding="utf-8")) for path in (old, new))
    return in_values(was, is_)


def _in_arrays(old: Path, new: Path) -> str | None:
    with np.load(old, allow_pickle=False) as was, np.load(new, allow_pickle=False) as is_:
        for name in sorted({*was.files, *is_.files}):
            if name not in was.files or name not in is_.files:
                return f"array {name!r} {_lacking(name, was.files)}"
            left, right = was[name], is_[name]
            if left.shape != right.shape or left.dtype != right.dtype:
                return f"array {name!r} was {_kind(left)} and is {_kind(right)}"
            if not _same_array(left, right):
                index = tuple(int(i) for i in np.argwhere(_unequal(left, right))[0])
                where = ", ".join(f"{word} {i}" for word, i in zip(("row", "index", *["then"] * len(index)), index))
                return f"array {name!r}, {where} {_both(left[index].item(), right[index].item())}"
    return None


def _byte_offset(old: Path, new: Path) -> str | None:
    with open(old, "rb") as was, open(new, "rb") as is_:
        for start in _starts():
            left, right = was.read(_BLOCK), is_.read(_BLOCK)
            if left != right:
                at = next((i for i, (a, b) in enumerate(zip(left, right)) if a != b), min(len(left), len(right)))
                sizes = old.stat().st_size, new.stat().st_size
                size = "" if sizes[0] == sizes[1] else f"; it had {sizes[0]:,} bytes and has {sizes[1]:,}"
                return f"byte {start + at:,} is the first that differs{size}"
            if not left:
                return None
    return None


def _starts() -> Iterator[int]:
    start = 0
    while True:
        yield start
        start += _BLOCK


def _parameter(old: np.ndarray, new: np.ndarray) -> str:
    if old.shape != new.shape or old.dtype != new.dtype:
        return f"was {_kind(old)} and is {_kind(new)}"
    unequal = _unequal(old, new)
    distance = np.abs(new[unequal].astype(np.float64) - old[unequal].astype(np.float64))
    largest = float(np.nanmax(distance)) if np.isfinite(distance).any() else math.nan
    return f"({_kind(old)}) differs in {int(unequal.sum()):,} of {old.size:,} elements, by {largest:.3g} at most"


def _unequal(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Where the bits differ; equal NaNs are equal, 0.0 and -0.0 are not."""
    raw = f"V{old.dtype.itemsize}"
    left, right = (np.atleast_1d(np.ascontiguousarray(array)).view(raw) for array in (old, new))
    return (left != right).reshape(old.shape)


def _same_array(old: np.ndarray, new: np.ndarray) -> bool:
    return old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes()


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype.name} {list(array.shape)}"


def _both(old: Any, new: Any) -> str:
    """Both values; of long texts and lists, what lies around the first difference."""
    if isinstance(old, list) and isinstance(new, list):
        at = next((i for i, (left, right) in enumerate(zip(old, new)) if not same(left, right)), None)
        if at is None:
            return f"had {len(old)} entries and has {len(new)}"
        return f"at {at} {_both(old[at], new[at])}"
    if isinstance(old, str) and isinstance(new, str):
        at = next((i for i, (left, right) in enumerate(zip(old, new)) if left != right), min(len(old), len(new)))
        return f"was {_shown(old, at)}, is {_shown(new, at)}"
    return f"was {_shown(old)}, is {_shown(new)}"


def _shown(value: Any, at: int = 0) -> str:
    """A value as JSON on one line, hidden characters escaped; of a long text, what lies around position `at`."""
    if isinstance(value, str) and len(value) > WIDTH:
        start = max(0, min(at - _BEFORE, len(value) - WIDTH))
        end = start + WIDTH
        text = json.dumps(value[start:end])
        return f"{'…' if start else ''}{text}{'…' if end < len(value) else ''}"
    text = json.dumps(value, default=str)
    return text if isinstance(value, str) or len(text) <= WIDTH else f"{text[:WIDTH]}…"


def _lacking(name: str, old: Any) -> str:
    return "was there and is missing" if name in old else "is there only now"


def _unlike_manifest(was: str, is_: str) -> str:
    """For contents that agree although their manifests do not: one of them was changed after its manifest was written."""
    return f"its digest was {was[:16]} and is {is_[:16]}, and yet the two agree on disk: one was changed after it was written"


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


_READERS: dict[str, tuple[str, Callable[[Path, Path], str | None]]] = {
    ".parquet": ("rows", _in_parquet),
    ".jsonl": ("lines", _in_lines),
    ".json": ("values", _in_json),
    ".npz": ("arrays", _in_arrays),
}
