"""Every way to compute attention against the dense one, and that against jax.nn: values, gradients, meshes, memory."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from w2sr_jax.core.errors import UserError
from w2sr_jax.models import attention, attention_kernels, transformer
from w2sr_jax.models.attention import Seen, chosen, packed
from w2sr_jax.models.attention_blocks import blocked_attention
from w2sr_jax.models.config import ModelConfig, RematKind
from w2sr_jax.parallel.mesh import batch_sharding, here, make_mesh
from w2sr_jax.parallel.settings import Mesh

LENGTH = 300  # four whole blocks and a part of one
Arrays = tuple[jax.Array, jax.Array, jax.Array]


def inputs(rows: int = 2, length: int = LENGTH, size: int = 8, dtype: str = "float32") -> tuple[Arrays, Seen]:
    """Rows of ragged segments that end in padding, four query heads on two key heads."""
    random = np.random.default_rng(0)
    query, key, value = (jnp.asarray(random.standard_normal((rows, length, heads, size)), dtype) for heads in (4, 2, 2))
    starts = random.random((rows, length)) < 0.02
    starts[0, 40:42] = True
    segments = 1 + starts.cumsum(axis=1)
    segments[0, -10:] = 0
    return (query, key, value), Seen(jnp.asarray(segments), jnp.asarray(positions(segments)), None)


def positions(segments: np.ndarray) -> np.ndarray:
    starts = np.diff(segments, axis=1, prepend=-1) != 0
    places = np.arange(segments.shape[1])
    return places - np.maximum.accumulate(np.where(starts, places, 0), axis=1)


def check(arrays: Arrays, mine: Any, wanted: Any, close: float) -> None:
    """Values and gradients of two functions of query, key and value; the rows' padding aside."""
    weight = jnp.asarray(np.random.default_rng(1).standard_normal(arrays[0].shape), jnp.float32)

    def total(function: Any, *qkv: jax.Array) -> tuple[jax.Array, jax.Array]:
        mixed = function(*qkv)
        return (mixed.astype(jnp.float32) * weight).sum(), mixed

    gradients, right = (
        jax.jit(jax.grad(lambda *qkv, function=function: total(function, *qkv), argnums=(0, 1, 2), has_aux=True))(*arrays)
        for function in (mine, wanted)
    )
    for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(right), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one.astype("float32"), other.astype("float32"), atol=close, rtol=close)


@pytest.mark.parametrize("reach", [None, 17], ids=["all", "window"])
@pytest.mark.parametrize("cap", [None, 2.0], ids=["uncapped", "capped"])
@pytest.mark.parametrize(("dtype", "close"), [("float32", 2e-5), ("bfloat16", 8e-2)])
def test_blocks(reach: int | None, cap: float | None, dtype: str, close: float) -> None:
    arrays, seen = inputs(dtype=dtype)
    seen = seen._replace(reach=None if reach is None else jnp.int32(reach))
    blocks, dense = (lambda *qkv, how=how: packed(*qkv, seen, 0.35, cap, how) for how in ("blocks", "dense"))
    check(arrays, blocks, dense, close)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=6),
    block=st.sampled_from([8, 16, 64]),
    group=st.sampled_from([1, 2]),
    reach=st.one_of(st.none(), st.integers(1, 80)),
)
def test_blocks_of_any_size_on_rows_of_any_segments(sizes: list[int], block: int, group: int, reach: int | None) -> None:
    segments = np.stack([np.repeat(np.arange(len(sizes)), sizes), np.repeat(np.arange(len(sizes)), sizes[::-1])])
    arrays, _ = inputs(length=segments.shape[1])
    seen = Seen(jnp.asarray(segments), jnp.asarray(positions(segments)), None if reach is None else jnp.int32(reach))
    found = jax.jit(lambda *qkv: blocked_attention(*qkv, *seen, 0.35, None, block, group))(*arrays)
    wanted = jax.jit(lambda *qkv: packed(*qkv, seen, 0.35, None, "dense"))(*arrays)
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_dense_attention_is_that_of_jax_nn() -> None:
    arrays, seen = inputs()
    wanted = jax.nn.dot_product_attention(*arrays, mask=attention.mask(seen)[:, None], scale=0.35)
    np.testing.assert_allclose(packed(*arrays, seen, 0.35, None, "dense"), wanted, atol=1e-5)


@pytest.mark.parametrize("window", [None, 17], ids=["all", "window"])
def test_splash_in_its_interpreter(window: int | None) -> None:
    arrays, seen = inputs(1, 256, 128)
    seen = seen._replace(reach=None if window is None else jnp.int32(window))

    def kernel(*qkv: jax.Array) -> jax.Array:
        return attention_kernels.splash_attention(*qkv, seen.segments, 0.1, 5.0, window, interpret=True)

    check(arrays, kernel, lambda *qkv: packed(*qkv, seen, 0.1, 5.0, "dense"), 2e-4)


def test_pallas_in_its_interpreter() -> None:
    arrays, seen = inputs(1, 256, 64)

    def kernel(*qkv: jax.Array) -> jax.Array:
        return attention_kernels.pallas_attention(*qkv, seen.segments, 0.1, interpret=True)

    check(arrays, kernel, lambda *qkv: packed(*qkv, seen, 0.1, None, "dense"), 2e-4)


@pytest.mark.parametrize("shape", [{"data": 4, "tensor": 2}, {"fsdp": 2, "tensor": 4}], ids=["heads split", "heads whole"])
def test_blocks_on_a_mesh_gather_no_rows(shape: dict[str, int]) -> None:
    mesh = make_mesh(Mesh(**shape))
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp"), None, None))
    arrays, seen = inputs(4)

    def total(query: jax.Array, key: jax.Array, value: jax.Array, seen: Seen) -> jax.Array:
        return (packed(query, key, value, seen, 0.35, None, "blocks", None, sharding) ** 2).sum()

    heads = "tensor" if shape["tensor"] == 2 else None
    layout = NamedSharding(mesh, PartitionSpec(("data", "fsdp"), None, heads))
    program = jax.jit(jax.grad(total, (0, 1, 2)), in_shardings=(layout, layout, layout, None), out_shardings=layout)
    compiled = program.lower(*arrays, seen).compile()
    assert "all-gather" not in (compiled.as_text() or "")
    wanted = jax.grad(lambda *qkv: (packed(*qkv, seen, 0.35, None, "dense") ** 2).sum(), (0, 1, 2))(*arrays)
    for one, other in zip(compiled(*arrays, seen), wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("around", [False, True], ids=["alone", "inside a shard_map"])
def test_a_kernel_sees_one_device_of_the_whole_mesh(around: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of a TPU are refused in a program where an axis of the mesh, even one of one part, is left to the compiler."""
    mesh = make_mesh(Mesh(data=4, fsdp=1, tensor=1))
    taken: list[set[str]] = []

    def kernel(query: jax.Array, *_: Any) -> jax.Array:
        taken.append(set(jax.sharding.get_abstract_mesh().manual_axes))
        return query

    monkeypatch.setattr(attention, "splash_attention", kernel)
    monkeypatch.setattr(attention, "platform_of", lambda sharding: "tpu")
    arrays, seen = inputs(4, 256, 64)

    def mixed(query: jax.Array, key: jax.Array, value: jax.Array, seen: Seen) -> jax.Array:
        return packed(query, key, value, seen, 0.1, how="splash", sharding=batch_sharding(here(mesh)))

    spread = jax.shard_map(mixed, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data"), axis_names={"data"})
    jax.eval_shape(jax.jit(spread if around else mixed), *arrays, seen)
    assert taken == [set(mesh.axis_names)]


def test_blocks_keep_no_scores() -> None:
    (query, key, value), seen = inputs(length=1024)

    def memory(how: Any) -> int:
        slope = jax.grad(lambda query: packed(query, key, value, seen, 0.35, None, how).sum())
        return int(jax.jit(slope).lower(query).compile().memory_analysis().temp_size_in_bytes)

    assert memory("blocks") < 0.25 * memory("dense")


@pytest.mark.parametrize(
    ("platform", "length", "size", "window", "kind"),
    [
        ("cpu", 128, 64, None, "dense"),
        ("cpu", 512, 64, None, "blocks"),
        ("tpu", 4096, 128, 512, "splash"),
        ("tpu", 4000, 128, None, "blocks"),
        ("gpu", 4096, 128, None, "pallas"),
        ("gpu", 4096, 128, 512, "blocks"),
    ],
)
def test_attention_is_chosen_by_platform_and_shape(platform: str, length: int, size: int, window: int | None, kind: str) -> None:
    assert chosen("auto", length, size, None, window, platform) == kind


@dataclass(frozen=True)
class Elsewhere:
    """A device that is not this process's."""

    platform: str


@pytest.mark.parametrize(("platform", "name"), [("tpu", "tpu"), ("gpu", "gpu"), ("cuda", "gpu"), ("cpu", "cpu")])
def test_the_mesh_is_asked_for_its_platform(platform: str, name: str) -> None:
    mesh = jax.sharding.Mesh(np.asarray([Elsewhere(platform)]), ("data",))
    assert attention.platform_of(NamedSharding(mesh, PartitionSpec("data"))) == name
    assert attention.platform_of(None) == jax.default_backend() == "cpu"


def test_a_kernel_that_cannot_take_the_shapes_says_so() -> None:
    with pytest.raises(UserError, match=r"300 tokens.*multiples of 128"):
        chosen("splash", 300, 64, None, None, "tpu")


@pytest.mark.parametrize("how", ["splash", "pallas"])
def test_a_kernel_for_another_platform_is_refused_and_its_parameters_are_known_all_the_same(how: Any) -> None:
    config = ModelConfig(vocab_size=32, width=128, layers=1, heads=2, kv_heads=1, attention=how)
    with pytest.raises(UserError, match=f"{how}.*the devices here are cpu devices; use 'auto'"):
        attention.check(config, 256, "cpu")
    attention.check(config, 256, {"splash": "tpu", "pallas": "gpu"}[how])
    assert transformer.shapes(config) == transformer.shapes(replace(config, attention="auto"))
    tokens = jnp.zeros((1, 256), jnp.int32)
    with pytest.raises(UserError, match="use 'auto'"):
        jax.eval_shape(lambda params: transformer.forward(config, params, tokens, tokens), transformer.shapes(config))


@pytest.mark.parametrize("remat", ["none", "attention"])
def test_memory_of_a_whole_gradient_grows_as_the_length_does(remat: RematKind) -> None:
    """Neither scores nor masks of all pairs of tokens exist, nor are masks taken out of the loop over layers."""
    config = ModelConfig(vocab_size=32, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, attention="blocks", remat=remat)
    needed = []
    for length in (1024, 4096):
        row = jax.ShapeDtypeStruct((1, length), jnp.int32)
        slope = jax.jit(jax.grad(lambda params, *row: transformer.forward(config, params, *row).sum()))
        memory = slope.lower(transformer.shapes(config), row, row, row).compile().memory_analysis()
        needed.append(memory.temp_size_in_bytes)
    assert needed[1] < 5 * needed[0]
