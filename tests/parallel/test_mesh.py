"""Meshes over eight virtual devices, the sharding table, and one model computed both ways."""

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from w2sr_jax.core.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel import processes
from w2sr_jax.parallel.settings import Mesh, Processes

CONFIG = ModelConfig(vocab_size=20, width=16, layers=2, heads=4, kv_heads=2, mlp=32, qkv_bias=True, tied_embeddings=False)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        (Mesh(), (8, 1, 1)),
        (Mesh(fsdp=2, tensor=2), (2, 2, 2)),
        (Mesh(data=1, fsdp=8), (1, 8, 1)),
        (Mesh(data=1), (1, 1, 1)),
        (Mesh(data=3), (3, 1, 1)),
    ],
)
def test_a_mesh_has_the_sizes_asked_for_and_minus_one_takes_the_rest(settings: Mesh, sizes: tuple[int, int, int]) -> None:
    mesh = meshes.make_mesh(settings)
    assert tuple(mesh.shape.items()) == tuple(zip(("data", "fsdp", "tensor"), sizes, strict=True))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Mesh(data=4, fsdp=4), "needs 16 devices; there are 8"),
        (Mesh(tensor=3), "1 × 3 does not divide the 8"),
        (Mesh(fsdp=16), "does not divide the 8"),
        (Mesh(data=0), r"mesh\.data is 0"),
        (Mesh(fsdp=-1), r"mesh\.fsdp is -1"),
    ],
)
def test_a_mesh_that_does_not_fit_is_explained(settings: Mesh, words: str) -> None:
    with pytest.raises(UserError, match=words):
        meshes.make_mesh(settings)


@dataclass(frozen=True)
class Chip:
    """What of a device decides where it goes in a mesh."""

    id: int
    coords: tuple[int, int, int]
    slice_index: int
    platform: str = "tpu"
    device_kind: str = "TPU v6 lite"
    core_on_chip: int = 0
    process_index: int = 0


def chips(x: int, y: int, z: int = 1, slices: int = 1) -> list[Chip]:
    places = [(i, j, k) for k in range(z) for j in range(y) for i in range(x)]
    return [Chip(len(places) * part + number, place, part) for part in range(slices) for number, place in enumerate(places)]


def shapes(count: int) -> list[tuple[int, int, int]]:
    sizes = [size for size in range(1, count + 1) if count % size == 0]
    return [(count // (fsdp * tensor), fsdp, tensor) for fsdp in sizes for tensor in sizes if count % (fsdp * tensor) == 0]


@pytest.mark.parametrize("sides", [(2, 2, 1), (4, 8, 1), (4, 4, 4), (2, 4, 4)])
def test_any_shape_lies_over_any_slice(sides: tuple[int, int, int]) -> None:
    devices: Any = chips(*sides)
    for shape in shapes(len(devices)):
        laid = meshes.make_mesh(Mesh(*shape), devices).devices
        assert laid.shape == shape
        assert sorted(chip.id for chip in laid.flat) == list(range(len(devices)))
        for row in laid.reshape(-1, shape[2]):  # the devices of a tensor axis fill a box: what they exchange leaves it nowhere
            sides_of_row = np.ptp([chip.coords for chip in row], axis=0) + 1
            assert shape[2] > 4 or sides_of_row.prod() == shape[2]


@pytest.mark.parametrize(
    ("shape", "parts"),
    [((2, 16, 1), 1), ((4, 4, 2), 1), ((32, 1, 1), 1), ((1, 32, 1), 2), ((1, 16, 2), 2)],
)
def test_data_tells_slices_apart_as_far_as_it_goes_then_fsdp(shape: tuple[int, int, int], parts: int) -> None:
    devices: Any = chips(4, 4, slices=2)
    laid = meshes.make_mesh(Mesh(*shape), devices).devices
    assert sorted(chip.id for chip in laid.flat) == list(range(32))
    for copy in laid:
        assert len({chip.slice_index for chip in copy.flat}) == parts
    for row in laid.reshape(-1, shape[2]):
        assert len({chip.slice_index for chip in row}) == 1


def test_a_part_of_a_slice_and_unequal_slices_are_taken_as_they_come() -> None:
    for devices in (chips(3, 3)[:4], [*chips(2, 2), *chips(2, 2, slices=2)[4:6]]):
        laid = meshes.make_mesh(Mesh(len(devices) // 2, 2), devices).devices  # type: ignore[arg-type]
        assert list(laid.flat) == devices


def test_other_devices_keep_their_order() -> None:
    mesh = meshes.make_mesh(Mesh(2, 2, 2))
    assert list(mesh.devices.flat) == jax.devices()
    assert mesh == jax.make_mesh((2, 2, 2), meshes.AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3)


@pytest.mark.skipif(find_spec("libtpu") is None, reason="what knows real slices' shapes, libtpu, is not installed")
def test_any_shape_lies_over_a_described_slice() -> None:
    code = """
        from jax.experimental import topologies
        from w2sr_jax.parallel.mesh import make_mesh
        from w2sr_jax.parallel.settings import Mesh
        for name in ("v5e:4x4", "v6e:4x8", "v5p:4x4x4"):
            devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
            for fsdp, tensor in ((1, 1), (2, 1), (2, 2), (4, 4), (16, 1)):
                make_mesh(Mesh(fsdp=fsdp, tensor=tensor), devices)
    """
    environment = {**os.environ, "TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment, timeout=300)


def placed(config: ModelConfig, settings: Mesh) -> tuple[jax.sharding.Mesh, transformer.Params]:
    mesh = meshes.make_mesh(settings)
    return mesh, meshes.shardings(mesh, transformer.logical_axes(config), transformer.shapes(config))


def test_parameters_are_split_by_the_table() -> None:
    _, shardings = placed(CONFIG, Mesh(fsdp=2, tensor=2))
    layers = shardings["layers"]
    assert shardings["embedding"].spec == P("tensor", "fsdp")
    assert shardings["output"].spec == P("fsdp", "tensor")
    assert layers["attention"]["query"].spec == P(None, "fsdp", "tensor", None)
    assert layers["attention"]["key_bias"].spec == P(None, "tensor", None)
    assert layers["mlp"]["down"].spec == P(None, "tensor", "fsdp")
    assert jax.tree.structure(shardings) == jax.tree.structure(transformer.shapes(CONFIG))


@pytest.mark.parametrize(
    ("config", "settings", "words"),
    [
        (
            CONFIG,
            Mesh(tensor=4),
            r"layers\.attention\.key\w*: its dimension 'kv_heads' of size 2 does not divide over mesh\.tensor = 4",
        ),
        (replace(CONFIG, vocab_size=21), Mesh(tensor=2), r"embedding: its dimension 'vocab' of size 21 .* mesh\.tensor = 2"),
        (replace(CONFIG, width=18, head_dim=4), Mesh(fsdp=4), r"dimension 'embed' of size 18 .* mesh\.fsdp = 4"),
    ],
)
def test_a_dimension_that_does_not_divide_is_named(config: ModelConfig, settings: Mesh, words: str) -> None:
    with pytest.raises(UserError, match=words):
        placed(config, settings)


def test_two_axes_on_one_mesh_axis_and_unknown_names_are_refused() -> None:
    mesh = meshes.make_mesh(Mesh())
    shape = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    with pytest.raises(ValueError, match="'vocab' and 'mlp' are both split over 'tensor'"):
        meshes.shardings(mesh, {"w": ("vocab", "mlp")}, {"w": shape})
    with pytest.raises(ValueError, match="no sharding rule for the axis 'depth'"):
        meshes.shardings(mesh, {"w": ("depth", "mlp")}, {"w": shape})
    with pytest.raises(ValueError, match="2 dimensions"):
        meshes.shardings(mesh, {"w": ("mlp",)}, {"w": shape})


def test_the_plan_states_the_bytes_that_a_device_will_hold() -> None:
    _, shardings = placed(CONFIG, Mesh(fsdp=2, tensor=2))
    table = meshes.describe(transformer.shapes(CONFIG), shardings)
    lines = {line.split()[0]: line.split() for line in table.splitlines()}
    assert lines["layers.attention.query"][1:] == [
        "2×16×4×4",
        "float32",
        "–,",
        "fsdp,",
        "tensor,",
        "–",
        str(2 * 16 * 4 * 4 * 4 // 4),
    ]
    params = jax.jit(transformer.init, static_argnums=0, out_shardings=shardings)(CONFIG, jax.random.key(0))
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(params))
    assert lines["total"][-1] == f"{held:,}"


@pytest.mark.parametrize("settings", [Mesh(), Mesh(data=1, fsdp=8), Mesh(data=2, fsdp=2, tensor=2)], ids=str)
def test_a_sharded_forward_and_gradient_equal_those_of_one_device(settings: Mesh) -> None:
    mesh, shardings = placed(CONFIG, settings)
    params = transformer.init(CONFIG, jax.random.key(0))
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (8, 6)).astype(np.int32)
    positions = np.broadcast_to(np.arange(6, dtype=np.int32), tokens.shape)

    def loss(
        params: transformer.Params, tokens: jax.Array, positions: jax.Array, sharding: jax.sharding.Sharding | None
    ) -> jax.Array:
        hidden = transformer.forward(CONFIG, params, tokens, positions, sharding=sharding)
        logits = transformer.logits(CONFIG, params, hidden)
        return (jax.nn.logsumexp(logits, axis=-1) - logits[..., 3]).mean()

    step = jax.jit(jax.value_and_grad(loss), static_argnums=3)
    value, gradient = step(params, tokens, positions, None)
    rows = meshes.batch_sharding(mesh)
    apart, split = step(processes.put(params, shardings), *processes.put((tokens, positions), rows), rows)
    np.testing.assert_allclose(apart, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), processes.gather(split), processes.gather(gradient))


def test_values_survive_placing_and_gathering() -> None:
    mesh = meshes.make_mesh(Mesh(fsdp=2))
    rows = np.arange(24.0).reshape(8, 3)
    arrays = processes.put(
        {"split": rows, "whole": rows}, {"split": meshes.batch_sharding(mesh), "whole": meshes.replicated(mesh)}
    )
    assert arrays["split"].addressable_shards[0].data.shape == (1, 3)
    assert meshes.batch_divisor(mesh) == 8
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, rows), processes.gather(arrays))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Processes(count=2), "coordinator"),
        (Processes("localhost:1", count=2, index=2), r"processes\.index is 2"),
    ],
)
def test_processes_that_cannot_meet_are_explained(settings: Processes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        processes.initialize(settings)


def test_one_process_needs_no_start_up() -> None:
    processes.initialize()
    assert jax.process_count() == 1
