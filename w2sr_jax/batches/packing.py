"""Which examples share a row: planned once per data set, no token lost, none seen by a neighbour."""

import contextlib
import hashlib
import math
import mmap
import os
import shutil
import struct
import tempfile
import zipfile
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from w2sr_jax.batches.encode import Encoded
from w2sr_jax.batches.stored import listed, sizes
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK

TOGETHER = 1024
"""Rows that are in memory at one time when they are written, or gone through."""

_ARRAYS = ("tokens", "target", "positions", "segments", "span", "verdict", "teacher_logprob", "weight")
_TOP = ("top_ids", "top_logprobs", "top_rest")
_MEASURED = ("teacher_logprob", *_TOP)
"""Arrays of what a teacher computed with each token: sums, whose last bits depend on how many devices it was spread over."""


@dataclass(frozen=True)
class Packed:
    """All rows of a data set; see `batch.Batch` for what the arrays mean. `segments` 0 marks positions that hold nothing. `top`
    is the distribution that the teacher drew each target from, [N, L, …], where any was recorded; ids are all -1 where it is not
    known."""

    tokens: Int[np.ndarray, "N L"]
    target: Int[np.ndarray, "N L"]
    positions: Int[np.ndarray, "N L"]
    segments: Int[np.ndarray, "N L"]
    span: Int[np.ndarray, "N L"]
    verdict: Int[np.ndarray, "N L"]
    teacher_logprob: Float[np.ndarray, "N L"]
    weight: Float[np.ndarray, "N L"]
    top: TopK | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, in their order in a file."""
        recorded = {} if self.top is None else dict(zip(_TOP, self.top, strict=False))
        return {name: getattr(self, name) for name in _ARRAYS} | recorded

    @property
    def digest(self) -> str:
        """A digest of all values, whatever file they were read from."""
        return self._digest(self.arrays)

    @property
    def exact_digest(self) -> str:
        """A digest of all that is the same bit for bit wherever the teachers drew the same tokens: without log-probabilities and
        recorded distributions."""
        return self._digest({name: values for name, values in self.arrays.items() if name not in _MEASURED})

    def _digest(self, arrays: Mapping[str, np.ndarray]) -> str:
        hashed = hashlib.sha256()
        for name, values in arrays.items():
            hashed.update(f"{name} {values.dtype.str} {values.shape}".encode())
            for start in range(0, len(values), TOGETHER):
                hashed.update(np.ascontiguousarray(values[start : start + TOGETHER]).reshape(-1).view(np.uint8).data)
                release(self)
        return hashed.hexdigest()

    def save(self, path: Path) -> None:
        """Write an `.npz`; equal data gives equal bytes."""
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **self.arrays)

    @classmethod
    def load(cls, path: Path) -> "Packed":
        """What `save` wrote, left on the disk: the arrays are mapped, and their bytes are only known to be right by `digest`."""
        try:
            stored = _mapped(path)
            top = TopK(*(stored[name] for name in _TOP)) if _TOP[0] in stored else None
            return cls(**{name: stored[name] for name in _ARRAYS}, top=top)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist") from None
        except Exception as error:  # a damaged archive surfaces as one of many kinds
            raise UserError(f"{path} is not a packed data set: {error}") from None


def release(packed: Packed) -> None:
    """Give the memory back that mapped arrays have taken while they were looked at; what is looked at again is read again."""
    for values in packed.arrays.values():
        base: object = values
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
            base.madvise(mmap.MADV_DONTNEED)


def _mapped(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an uncompressed `.npz`."""
    arrays = {}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} is compressed")
            file.seek(member.header_offset + 26)  # in the member's own header: the lengths of its name and of what follows that
            start = file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
            np.lib.format.read_magic(file)
            shape, fortran, kind = np.lib.format.read_array_header_1_0(file)
            if kind.hasobject or file.tell() + math.prod(shape) * kind.itemsize != start + member.file_size:
                raise ValueError(f"{member.filename} is not an array of numbers")
            mapped = np.memmap(path, kind, "r", file.tell(), shape, "F" if fortran else "C")
            arrays[member.filename.removesuffix(".npy")] = mapped.view(np.ndarray)
    return arrays


def plan(lengths: Sequence[int], capacity: int) -> "list[array[int]]":
    """Best-fit-decreasing bin packing: rows of indices into `lengths`, each index once, no row above `capacity`.

    Longest first (ties by index), each into the fullest row that still holds it. Deterministic; O(n) steps.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    rows: list[array[int]] = []  # four bytes for an index, where a list has a pointer to an object
    by_room: dict[int, list[int]] = {}
    rooms = 0  # bit r is set where some row has room for exactly r more
    for index in map(int, order):
        length = lengths[index]
        if not 0 < length <= capacity:
            raise UserError(f"item {index} needs {length} positions but a row has {capacity}")
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms &= ~(1 << room)
        else:
            room, row = capacity, len(rows)
            rows.append(array("i"))
        rows[row].append(index)
        left = room - length
        if left:
            by_room.setdefault(left, []).append(row)
            rooms |= 1 << left
    return rows


def positions(example: Encoded) -> int:
    """How much of a row an example takes: one position less than it has tokens, since the last is only predicted."""
    return len(example.tokens) - 1


def layout(encoded: Sequence[Encoded], capacity: int, share: bool = True, together: int = 1) -> "list[array[int]]":
    """Which examples (by index) lie in which row of `pack`, in their order within the row; `share=False` gives each its own.

    So many neighbours as `together` says, counted from the first example, lie side by side in one row; the number of examples is
    a multiple of it.
    """
    lengths = array("i", (size - 1 for size in sizes(encoded)))
    if together > 1:
        lengths = array("i", (sum(lengths[first : first + together]) for first in range(0, len(lengths), together)))
    rows = plan(lengths, capacity) if share else [array("i", [index]) for index in range(len(lengths))]
    if together == 1:
        return rows
    return [array("i", (index * together + own for index in row for own in range(together))) for row in rows]


def pack(encoded: Sequence[Encoded], capacity: int, pad: int = 0, share: bool = True) -> Packed:
    """Lay examples out in rows of `capacity` positions, as `layout` says.

    Token i of an example is read where token i + 1 is predicted, so no target crosses examples.
    """
    return _rows(encoded, _laid_out(encoded, capacity, share), capacity, pad, listed(encoded))


def write(path: Path, encoded: Sequence[Encoded], capacity: int, pad: int = 0, share: bool = True, together: int = 1) -> Packed:
    """What `pack` makes, written as `Packed.save` writes it and left on the disk: some rows are in memory at a time. `together`
    is as in `layout`."""
    rows = _laid_out(encoded, capacity, share, together)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as open_files:
        count = listed(encoded)
        names = (*_ARRAYS, *(_TOP if count else ()))
        parts = {name: open_files.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in names}
        kinds: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        for start in range(0, len(rows), TOGETHER):
            for name, values in _rows(encoded, rows[start : start + TOGETHER], capacity, pad, count).arrays.items():
                kinds[name] = values.dtype, (len(rows), *values.shape[1:])
                parts[name].write(values.data)
        with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, file in parts.items():
                header = {"descr": kinds[name][0].str, "fortran_order": False, "shape": kinds[name][1]}
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    file.seek(0)
                    shutil.copyfileobj(file, member, 1 << 20)
    return Packed.load(path)


def _laid_out(encoded: Sequence[Encoded], capacity: int, share: bool, together: int = 1) -> "list[array[int]]":
    if not encoded:
        raise UserError("there is no example to train on: the set is empty, or every example is longer than a row")
    return layout(encoded, capacity, share, together)


def _rows(encoded: Sequence[Encoded], rows: Sequence[Sequence[int]], capacity: int, pad: int, count: int) -> Packed:
    """`count` tokens are listed at every position, as far as they were recorded."""
    shape = (len(rows), capacity)
    top = None
    if count:
        real = np.zeros((*shape, count), np.float32)
        top = TopK(np.full(real.shape, -1, np.int32), real, np.zeros(shape, np.float32))
    packed = Packed(
        tokens=np.full(shape, pad, np.int32),
        target=np.full(shape, pad, np.int32),
        positions=np.zeros(shape, np.int32),
        segments=np.zeros(shape, np.int32),
        span=np.zeros(shape, np.int8),
        verdict=np.zeros(shape, np.int8),
        teacher_logprob=np.full(shape, np.nan, np.float32),
        weight=np.zeros(shape, np.float32),
        top=top,
    )
    for row, members in enumerate(rows):
        start = 0
        for segment, index in enumerate(members, 1):
            example = encoded[index]
            length = positions(example)
            at = slice(start, start + length)
            packed.tokens[row, at] = example.tokens[:-1]
            packed.target[row, at] = example.tokens[1:]
            packed.positions[row, at] = np.arange(length)
            packed.segments[row, at] = segment
            packed.span[row, at] = example.span[1:]
            packed.verdict[row, at] = example.verdict
            packed.teacher_logprob[row, at] = example.teacher_logprob[1:]
            packed.weight[row, at] = np.where(example.supervised[1:], np.float32(example.weight), np.float32(0))
            if top is not None and example.top is not None:
                first = slice(example.top.ids.shape[1])
                top.ids[row, at, first], top.logprobs[row, at, first] = example.top.ids[1:], example.top.logprobs[1:]
                top.rest[row, at] = example.top.rest[1:]
            start += length
    return packed
