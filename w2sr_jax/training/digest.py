"""A digest of parameters: what "the same model, bit for bit" means here. Of which kind a digest is, it says itself.

`sha256` is that of one process: 64 hexadecimal digits, over every leaf's path, type, shape and little-endian bytes, in the order
of the paths. `checksum`, with that word and a colon before the digits, is that of several processes: the same over every leaf's
path, type, shape and sum, which is computed on the devices that hold it (see `checksum`). Neither depends on the mesh. Arrays are
compared with a digest in its own kind, so that what one process saved, several can verify, and the other way round.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from w2sr_jax.parallel.processes import gather
from w2sr_jax.training import checksum

Kind = Literal["sha256", "checksum"]

LARGE = 1 << 26
"""Bytes of an array that are brought to the host together, or laid side by side there."""
_CHECKSUM = "checksum:"


class _Leaf(NamedTuple):
    header: str
    array: Any


def kind_of(digest: str) -> Kind:
    """Of which kind a digest is."""
    return "checksum" if digest.startswith(_CHECKSUM) else "sha256"


def comparable(digest: str, other: str) -> bool:
    """Whether two digests are of one kind, so that they are equal where the arrays are."""
    return kind_of(digest) == kind_of(other)


def params_digest(tree: Any, like: str = "") -> str:
    """The digest of a pytree of arrays, of the kind of the digest `like`; without one, sha256 in a process that is alone, and
    checksum in one of several. Of several processes all must call it, and all get the same.

    A sha256 that several processes ask for, of what one process saved, brings the arrays to every host, `LARGE` bytes at a time.
    """
    if _kind(like) == "checksum":
        return digest_later(tree, like)()
    return _sha256(_leaves(tree))


def agrees(tree: Any, digest: str, other: str) -> bool:
    """Whether `other` is a digest of the arrays whose digest is `digest`; they are read only where it is of another kind."""
    return (digest if comparable(digest, other) else params_digest(tree, other)) == other


def digest_later(tree: Any, like: str = "") -> Callable[[], str]:
    """What computes `params_digest` of the arrays as they are now: to be called once, in any thread, when they may be donated
    already.

    With kind `checksum` the sums are under way on the devices when this returns (on CPUs they are done). With sha256 the arrays
    must lie on this process's devices, and it holds on to them in the host's memory, each until it is read: on a CPU to the
    arrays themselves, so that a program which they are donated to makes its own copy; on accelerators to a copy, the one that
    Orbax makes as well where it writes whole shards.
    """
    leaves = _leaves(tree)
    if _kind(like) == "checksum":
        headers = [leaf.header for leaf in leaves]
        sums = checksum.sums(headers, [leaf.array for leaf in leaves])
        return lambda: _checksum(headers, sums)
    arrays = [leaf.array for leaf in leaves]
    for shard in (shard for array in arrays if isinstance(array, jax.Array) for shard in _shards(array)):
        shard.data.copy_to_host_async()  # of all, before the first is waited for
    held = [_Leaf(leaf.header, _held(leaf.array)) for leaf in reversed(leaves)]
    return lambda: _sha256(held.pop() for _ in range(len(held)))


def _kind(like: str) -> Kind:
    if like:
        return kind_of(like)
    return "sha256" if jax.process_count() == 1 else "checksum"


def _leaves(tree: Any) -> list[_Leaf]:
    named = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]
    return [
        _Leaf(f"{path}\n{np.dtype(leaf.dtype).name}\n{tuple(leaf.shape)}\n", leaf)
        for path, leaf in sorted(named, key=lambda item: item[0])
    ]


def _checksum(headers: Sequence[str], sums: Sequence[jax.Array]) -> str:
    whole = hashlib.sha256()
    for header, words in zip(headers, sums, strict=True):
        whole.update(header.encode())
        whole.update(np.asarray(words.addressable_data(0)).astype("<u4").tobytes())
    return _CHECKSUM + whole.hexdigest()


def _sha256(leaves: Iterable[_Leaf]) -> str:
    whole = hashlib.sha256()
    for leaf in leaves:
        whole.update(leaf.header.encode())
        for part in _parts(leaf.array):
            array = np.ascontiguousarray(part.astype(part.dtype.newbyteorder("<"), copy=False))
            whole.update(array.reshape(-1).view(np.uint8).data)  # types of JAX's own, such as bfloat16, are no buffers
    return whole.hexdigest()


class _Split(NamedTuple):
    """An array in this process's memory, in the parts that lay on different devices."""

    shape: tuple[int, ...]
    dtype: Any
    shards: list[tuple[tuple[slice, ...], np.ndarray]]

    def rows(self, start: int, stop: int) -> np.ndarray:
        whole = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for index, values in self.shards:
            low, high, _ = index[0].indices(self.shape[0])
            first, last = max(low, start), min(high, stop)
            if first < last:
                whole[(slice(first - start, last - start), *index[1:])] = values[first - low : last - low]
        return whole


def _shards(array: jax.Array) -> list[Any]:
    """The parts of an array, each once."""
    if not array.is_fully_addressable:
        raise ValueError("other processes hold a part of an array whose sha256 is to be computed later")
    return [shard for shard in array.addressable_shards if shard.replica_id == 0]


def _held(array: Any) -> Any:
    """An array in the host's memory that nothing changes any more; where the devices' memory is the host's, it is not copied."""
    if not isinstance(array, jax.Array):
        return np.asarray(array)
    shards = [(shard.index, np.asarray(shard.data)) for shard in _shards(array)]
    return shards[0][1] if len(shards) == 1 else _Split(array.shape, np.dtype(array.dtype), shards)


def _parts(array: Any) -> Iterator[np.ndarray]:
    """An array in parts whose bytes follow each other, so that the host never has a second copy of a large one."""
    if isinstance(array, jax.Array) and array.is_fully_addressable and _in_host_memory(array):
        array = _held(array)
    if isinstance(array, np.ndarray):
        yield array
        return
    rows = array.shape[0] if array.shape else 1
    size = int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize
    if not isinstance(array, _Split) and (size <= LARGE or not array.shape):
        yield gather(array)
        return
    step = max(1, LARGE * rows // size) if size else rows
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        yield array.rows(start, stop) if isinstance(array, _Split) else gather(array[start:stop])


def _in_host_memory(array: jax.Array) -> bool:
    return all(device.platform == "cpu" for device in array.devices())
