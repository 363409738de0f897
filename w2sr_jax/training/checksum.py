"""A checksum of arrays that are spread over devices, computed where they lie: of an array only 16 bytes leave its devices.

Every element counts with four pseudo-random words of 32 bits, a function of its bits, its index and the array that it belongs to;
the words are added up, each modulo 2³². Integer sums do not depend on their order, so that any mesh, any split and any number of
processes give the same 128 bits for an array. The function is Threefry-4×32 with 13 rounds (Salmon, Moraes, Dror, Shaw: "Parallel
random numbers: as easy as 1, 2, 3", SC 2011), a bijection of 128 bits: its key is the digest of the array's path, type and shape,
its input an element's column, row and bits. So a difference in one element always changes the sum, and any other difference, such
as two elements that change places, goes unnoticed with a probability of 2⁻¹²⁸, as far as Threefry's words are random. This is a
guard against accidents: whoever wants to construct two arrays of one checksum can.
"""

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, UInt32

LANES = 4
ROUNDS = 13
_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
_PARITY = 0x1BD11BDA
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint32}
"""How the elements of a type of so many bytes are read: as one word each, those of eight bytes as two, the lower one first."""


def sums(headers: Sequence[str], arrays: Sequence[Any]) -> list[UInt32[Array, "4"]]:
    """The sums of arrays, each of which has a header of its own that says what it is. On accelerators they are still being
    computed when this returns. Each lies on every device of its array. With several processes all call this alike.

    An array has fewer than 2³² rows (all axes but the last taken together) and columns.
    """
    return [_sum(header, array) for header, array in zip(headers, arrays, strict=True)]


def _sum(header: str, array: Any) -> UInt32[Array, "4"]:
    # One program for all arrays of a shape and sharding: the moments of an optimizer share that of the parameters.
    key = np.array(_key(header), np.uint32)
    if not isinstance(array, jax.Array):
        return _program(None)(_host_words(np.asarray(array)), key)
    total = _program(_everywhere(array))(array, key)
    if len(array.devices()) > 1 and next(iter(array.devices())).platform == "cpu":
        # CPUs do not run programs in the order in which they were started; two that exchange something can wait for each other.
        total.block_until_ready()
    return total


def threefry(key: Sequence[Any], counter: Sequence[Any]) -> list[Any]:
    """Threefry-4×32 of four words (uint32 arrays, of JAX or NumPy) under a key of four words."""
    schedule = [*key, key[0] ^ key[1] ^ key[2] ^ key[3] ^ np.uint32(_PARITY)]
    state = [word + part for word, part in zip(counter, schedule)]
    for number in range(ROUNDS):
        first, second = (1, 3) if number % 2 == 0 else (3, 1)
        left, right = _ROTATIONS[number % len(_ROTATIONS)]
        state[0] = state[0] + state[first]
        state[first] = _rotated(state[first], left) ^ state[0]
        state[2] = state[2] + state[second]
        state[second] = _rotated(state[second], right) ^ state[2]
        if number % 4 == 3:
            turn = number // 4 + 1
            state = [word + schedule[(turn + lane) % 5] for lane, word in enumerate(state)]
            state[3] = state[3] + np.uint32(turn)
    return state


def _rotated(word: Any, bits: int) -> Any:
    return (word << np.uint32(bits)) | (word >> np.uint32(32 - bits))


def _key(header: str) -> list[int]:
    digest = hashlib.sha256(header.encode()).digest()
    return [int.from_bytes(digest[4 * lane : 4 * lane + 4], "little") for lane in range(LANES)]


@functools.cache
def _program(everywhere: Sharding | None) -> Any:
    return jax.jit(_array_sum, out_shardings=everywhere)


def _array_sum(array: Any, key: UInt32[Array, "4"]) -> UInt32[Array, "4"]:
    words = jnp.atleast_1d(_device_words(array))
    row, stride = jnp.zeros(words.shape, jnp.uint32), 1
    for axis in range(words.ndim - 2, -1, -1):
        row = row + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= words.shape[axis]
    column = jax.lax.broadcasted_iota(jnp.uint32, words.shape, words.ndim - 1)
    lanes = threefry([key[lane] for lane in range(LANES)], [column, row, words, jnp.zeros_like(words)])
    zero = jnp.uint32(0)
    # One reduction of four operands: four of one operand each would compute the words four times.
    total = jax.lax.reduce(tuple(lanes), (zero,) * LANES, _added, tuple(range(words.ndim)))
    return jnp.stack(total)


def _added(left: Sequence[Any], right: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _device_words(array: Any) -> UInt32[Array, "..."]:
    if array.dtype == jnp.bool_:
        return array.astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(array, _WORDS[array.dtype.itemsize]).astype(jnp.uint32)


def _host_words(array: np.ndarray) -> UInt32[np.ndarray, "..."]:
    """The same of an array in this process's memory, whose type the devices may lack."""
    size = array.dtype.itemsize
    words = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).reshape(-1).view(_WORDS[size])
    return words.reshape((*array.shape, 2) if size == 8 else array.shape).astype(np.uint32)


def _everywhere(array: jax.Array) -> Sharding | None:
    """The sharding under which every device of an array has its sum."""
    sharding = array.sharding
    return NamedSharding(sharding.mesh, PartitionSpec()) if isinstance(sharding, NamedSharding) else None
