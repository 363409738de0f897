"""Safetensors files, tensor by tensor: what a file holds, views of it that cost no memory, and writing without holding it whole.

The format: 8 bytes with the header's length (little-endian), the header in JSON (for each tensor its type, shape and offsets in
the data), the data without gaps (https://github.com/huggingface/safetensors#format).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import UserError

Tensor = Shaped[np.ndarray, "..."]
DTYPES: Mapping[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
"""The types that are read and written; others are only listed."""
_PREFIX = 8
_LONGEST_HEADER = 2**25
_MOST_DIMENSIONS = 32
_LFS = b"version https://git-lfs"


class Stored(NamedTuple):
    """A tensor in a file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Of its first byte in the file."""

    def view(self) -> Tensor:
        """The tensor, read from the file as it is touched. It must be one of DTYPES and not empty."""
        return np.memmap(self.path, DTYPES[self.dtype], "r", self.offset, self.shape)


class Entry(NamedTuple):
    """A tensor to be written."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * self.dtype.itemsize


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a file by name. Raises UserError for a file that is cut off, or not what its header says."""
    if not path.is_file():
        raise UserError(f"{path} is not a file; give the weights themselves")
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(_PREFIX + len(_LFS))
        if start.startswith(_LFS):
            raise UserError(f"{path} is a Git LFS pointer, not the weights; fetch them (git lfs pull)")
        length = int.from_bytes(start[:_PREFIX], "little")
        if size < _PREFIX or length > _LONGEST_HEADER or start[_PREFIX : _PREFIX + 1] not in (b"{", b""):
            raise _unsound(path, "it does not begin with a header")
        if size < _PREFIX + length:
            raise UserError(f"{path} is truncated: it ends within its header, after {size:,} bytes; fetch it again")
        file.seek(_PREFIX)
        header = file.read(length)
    data = _PREFIX + length
    try:
        raw = json.loads(header, object_pairs_hook=_unique)
        tensors = {name: _stored(path, name, value, data) for name, value in raw.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _unsound(path, f"its header is damaged ({error})") from None
    end = data
    for stored, stop in sorted(tensors.values(), key=lambda item: (item[0].offset, item[1])):
        if stored.offset != end:
            raise _unsound(path, f"its tensors overlap or leave a gap at byte {end:,}")
        end = stop
    if size < end:
        raise UserError(f"{path} is truncated: by its header it should have {end:,} bytes, it has {size:,}; fetch it again")
    if size > end:
        raise _unsound(path, f"it has {size:,} bytes, by its header it should have {end:,}")
    return {name: stored for name, (stored, _) in tensors.items()}


def write_file(path: Path, entries: Sequence[Entry], values: Iterable[Tensor]) -> None:
    """Write a file of `entries`, whose `values` are taken one after the other. It appears under its name when it is whole."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        kind = next(name for name, dtype in DTYPES.items() if dtype == entry.dtype)
        header[entry.name] = {"dtype": kind, "shape": list(entry.shape), "data_offsets": [end, end + entry.size]}
        end += entry.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _PREFIX)
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(_PREFIX, "little") + text)
        for entry, value in zip(entries, values, strict=True):
            if value.shape != entry.shape or value.dtype != entry.dtype:
                raise ValueError(f"{entry.name} is {value.dtype}{value.shape}, not {entry.dtype}{entry.shape}")
            file.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def _stored(path: Path, name: str, value: Any, data: int) -> tuple[Stored, int]:
    """A tensor and the offset of its end in the file."""
    begin, end = value["data_offsets"]
    dtype, shape = value["dtype"], tuple(value["shape"])
    whole = all(type(size) is int and size >= 0 for size in (begin, end, *shape))
    fits = whole and len(shape) <= _MOST_DIMENSIONS
    fits = fits and (dtype not in DTYPES or end - begin == prod(shape) * DTYPES[dtype].itemsize)
    if not fits or end < begin:
        words = f"{sentences.shown(str(dtype))} of shape {sentences.value(list(shape))} in the bytes {begin} to {end}"
        raise ValueError(f"{sentences.shown(name)} is said to be {words}")
    return Stored(path, str(dtype), shape, data + begin), data + end


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{sentences.shown(Counter(names).most_common(1)[0][0])} is listed twice")
    return unique


def _unsound(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is not a sound safetensors file: {reason}")
