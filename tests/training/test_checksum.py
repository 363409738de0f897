"""The checksum that devices compute of arrays: the same wherever they lie, and another one for every other array."""

import functools
import hashlib
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from w2sr_jax.training import checksum
from w2sr_jax.training.digest import comparable, digest_later, kind_of, params_digest

LIKE = "checksum:"
RNG = np.random.default_rng(0)
ARRAYS = {
    "matrix": RNG.standard_normal((3, 16, 8)).astype(np.float32),
    "half": RNG.standard_normal((16, 8)).astype(jnp.bfloat16),
    "bytes": RNG.integers(-128, 128, (8, 8)).astype(np.int8),
    "flags": RNG.integers(0, 2, 16).astype(np.bool_),
    "count": np.int32(7),
    "empty": np.zeros((0, 8), np.float32),
}
ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))


def threefry(key: list[int], counter: list[int]) -> list[int]:
    """Threefry-4×32 with 13 rounds, after the paper, on Python's integers."""
    schedule = [*key, functools.reduce(operator.xor, key, 0x1BD11BDA)]
    x = [(a + b) % 2**32 for a, b in zip(counter, key)]
    for turn in range(13):
        for first, second, bits in zip((0, 2), ((1, 3), (3, 1))[turn % 2], ROTATIONS[turn % 8]):
            x[first] = (x[first] + x[second]) % 2**32
            x[second] = ((x[second] << bits | x[second] >> (32 - bits)) % 2**32) ^ x[first]
        if turn % 4 == 3:
            count = turn // 4 + 1
            x = [(word + schedule[(count + lane) % 5] + (count if lane == 3 else 0)) % 2**32 for lane, word in enumerate(x)]
    return x


@functools.cache
def reference() -> str:
    """The digest of `ARRAYS`, element by element."""
    whole = hashlib.sha256()
    for name in sorted(ARRAYS):
        array = np.asarray(ARRAYS[name])
        header = f"['{name}']\n{array.dtype.name}\n{array.shape}\n"
        key = np.frombuffer(hashlib.sha256(header.encode()).digest()[:16], "<u4").tolist()
        words = array.reshape(-1).view(f"u{array.dtype.itemsize}").reshape(-1, array.shape[-1] if array.ndim else 1)
        total = [0, 0, 0, 0]
        for row, column in np.ndindex(words.shape):
            total = [(a + b) % 2**32 for a, b in zip(total, threefry(key, [column, row, int(words[row, column]), 0]))]
        whole.update(header.encode() + np.array(total, "<u4").tobytes())
    return LIKE + whole.hexdigest()


def test_threefry_gives_the_published_answers() -> None:
    """Of the authors' own test vectors, 13 rounds."""
    assert threefry([0] * 4, [0] * 4) == [0x531C7E4F, 0x39491EE5, 0x2C855A92, 0x3D6ABF9A]
    assert threefry([2**32 - 1] * 4, [2**32 - 1] * 4) == [0xC4189358, 0x1C9CC83A, 0xD5881C67, 0x6A0A89E0]
    zeros = [np.zeros(1, np.uint32)] * 4
    assert [int(word[0]) for word in checksum.threefry(zeros, zeros)] == threefry([0] * 4, [0] * 4)


def laid_out(devices: int, *axes: str | None) -> dict[str, jax.Array]:
    """The arrays, whose last axes lie over `axes` where they divide."""
    mesh = jax.make_mesh((devices // 2 or 1, min(devices, 2)), ("x", "y"), devices=jax.devices()[:devices])

    def put(array: np.ndarray) -> jax.Array:
        names = axes[-array.ndim :] if array.ndim and array.size else ()
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*[None] * (array.ndim - len(names)), *names)))

    return {name: put(np.asarray(array)) for name, array in ARRAYS.items()}


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_every_mesh_gives_the_sum_of_the_reference(devices: int) -> None:
    wanted = reference()
    for axes in [(None, None), ("x", "y"), ("y", None), (None, ("x", "y"))]:
        arrays = laid_out(devices, *axes)
        assert params_digest(arrays, LIKE) == wanted, axes
        if devices == 8:
            assert params_digest(arrays) == params_digest(ARRAYS), axes
    assert params_digest(ARRAYS, LIKE) == wanted  # of arrays that no device holds


def test_no_device_gets_more_than_sums_of_what_another_holds() -> None:
    mesh = jax.make_mesh((2, 4), ("x", "y"))
    shape = jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("x", "y")))
    program = jax.jit(checksum._array_sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
    compiled = program.lower(shape, jax.ShapeDtypeStruct((4,), jnp.uint32)).compile()
    exchanged = [line.split(" = ")[1] for line in compiled.as_text().splitlines() if " all-" in line.split("(")[0]]
    assert exchanged
    for line in exchanged:
        sizes = line.split("[")[1].split("]")[0]
        assert np.prod([int(size) for size in sizes.split(",") if size]) <= 8, line
    memory = compiled.memory_analysis()
    assert memory is None or memory.temp_size_in_bytes < 64 * 128  # a quarter of a device's words would be as many bytes


def test_every_bit_every_place_and_every_name_counts() -> None:
    array = ARRAYS["matrix"][0]
    digests = {params_digest({"a": array}, LIKE), params_digest({"b": array}, LIKE), params_digest({"a": array.T}, LIKE)}
    digests.add(params_digest({"a": array.reshape(8, 16)}, LIKE))
    digests.add(params_digest({"a": array.view(np.int32)}, LIKE))
    flips = [(bit, RNG.integers(16), RNG.integers(8)) for bit in range(32)]
    for bit, row, column in flips:
        flipped = array.copy()
        flipped.view(np.uint32)[row, column] ^= np.uint32(1 << bit)
        digests.add(params_digest({"a": flipped}, LIKE))
    for pair in [((0, 0), (0, 1)), ((0, 0), (1, 0)), ((3, 4), (4, 3))]:
        swapped = array.copy()
        swapped[pair[0]], swapped[pair[1]] = array[pair[1]], array[pair[0]]
        digests.add(params_digest({"a": swapped}, LIKE))
    moved = array.copy()  # a sum of the elements, or of their words, is the same
    moved.view(np.uint32)[2, 2] += np.uint32(1)
    moved.view(np.uint32)[2, 3] -= np.uint32(1)
    digests.add(params_digest({"a": moved}, LIKE))
    assert len(digests) == 5 + 32 + 3 + 1


def test_a_digest_says_of_which_kind_it_is() -> None:
    sha256, summed = params_digest(ARRAYS), params_digest(ARRAYS, LIKE)
    assert (kind_of(sha256), kind_of(summed)) == ("sha256", "checksum")
    assert not comparable(sha256, summed)
    assert params_digest(ARRAYS, summed) == summed
    assert params_digest(ARRAYS, sha256) == sha256 == plain()


def plain() -> str:
    """The sha256 of `ARRAYS`, from their bytes."""
    whole = hashlib.sha256()
    for name in sorted(ARRAYS):
        array = np.asarray(ARRAYS[name])
        whole.update(f"['{name}']\n{array.dtype.name}\n{array.shape}\n".encode() + array.tobytes())
    return whole.hexdigest()


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("like", ["", LIKE])
def test_a_digest_for_later_is_of_the_arrays_as_they_were(devices: int, like: str) -> None:
    """The train step is given the arrays to write over, before anything has been read."""
    arrays = laid_out(devices, "x", "y")
    wanted = params_digest(ARRAYS, like)
    assert wanted == (reference() if like else plain())
    digest = digest_later(arrays, like)
    changed = jax.jit(
        lambda tree: jax.tree.map(lambda leaf: leaf ^ leaf if leaf.dtype == bool else leaf * 0, tree), donate_argnums=0
    )
    jax.block_until_ready(changed(arrays))
    assert digest() == wanted
