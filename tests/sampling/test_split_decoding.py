"""A model that is split over devices decodes without a whole copy of it anywhere: on no device, and not on the host."""

import re
from collections import Counter
from math import prod
from typing import Any

import jax
import numpy as np
import pytest

from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.sampling.engine import Completion, generate
from w2sr_jax.sampling.programs import programs
from w2sr_jax.sampling.settings import Decoding

CONFIG = ModelConfig(vocab_size=256, width=128, layers=4, heads=8, kv_heads=8, mlp=512, tied_embeddings=False)
GREEDY = Decoding(temperature=0.0, max_tokens=12, batch=8)
PROMPTS = [[1 + (7 * row + 3 * at) % 250 for at in range(4 + row % 3)] for row in range(10)]
WHOLE = 4 * CONFIG.parameters()
CACHE = 4 * 2 * CONFIG.layers * CONFIG.width * (8 * 128 + 8 * 64)
"""Keys and values of the batch's 8 rows, and of the 8 prompts that are read together."""


def drawn(params: Any, mesh: jax.sharding.Mesh | None, look: Any = None) -> list[Completion]:
    keys = jax.random.split(jax.random.key(5), len(PROMPTS))
    return generate(CONFIG, params, PROMPTS, keys, GREEDY, (0,), 0, look, mesh)


@pytest.fixture(scope="module")
def alone() -> list[Completion]:
    return drawn(transformer.init(CONFIG, jax.random.key(0)), None)


def resting(mesh: jax.sharding.Mesh) -> Any:
    places = meshes.resting(mesh, transformer.logical_axes(CONFIG), transformer.shapes(CONFIG))
    return jax.jit(transformer.init, static_argnums=0, out_shardings=places)(CONFIG, jax.random.key(0))


@pytest.mark.parametrize("shape", [(1, 8, 1), (1, 1, 8), (2, 2, 2)], ids=str)
def test_no_device_and_no_host_holds_the_whole_model(
    shape: tuple[int, int, int], alone: list[Completion], monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh, ways = make_mesh(Mesh(*shape)), shape[1] * shape[2]
    params = resting(mesh)
    before = {id(array) for array in jax.live_arrays()} - {id(leaf) for leaf in jax.tree.leaves(params)}
    most: Counter[int] = Counter()
    fetched: list[int] = []

    def look(*_: int) -> None:
        held: Counter[int] = Counter()
        for array in jax.live_arrays():
            if id(array) not in before:
                size = prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize
                held.update({device.id: size for device in array.sharding.device_set})
        for device, size in held.items():
            most[device] = max(most[device], size)

    kind = type(jax.tree.leaves(params)[0])
    convert = kind.__array__

    def counted(self: Any, *args: Any, **named: Any) -> Any:
        fetched.append(self.nbytes)
        return convert(self, *args, **named)

    monkeypatch.setattr(kind, "__array__", counted)
    completions = drawn(params, mesh, look)
    assert [one.tokens for one in completions] == [one.tokens for one in alone]
    # Parameters at rest lie over all devices, weights over fsdp × tensor.
    assert most
    assert max(most.values()) < WHOLE / 8 + WHOLE / ways + CACHE / 8 + WHOLE / 40 < WHOLE
    assert fetched
    assert max(fetched) < WHOLE / 1000  # tokens, log-probabilities, lengths


@pytest.mark.parametrize("shape", [(1, 8, 1), (1, 1, 8)], ids=str)
def test_a_step_gathers_a_matrix_when_it_is_its_turn(shape: tuple[int, int, int]) -> None:
    mesh = make_mesh(Mesh(*shape))
    made: Any = programs(CONFIG, GREEDY, (0,), mesh)
    weights = made.weights(resting(mesh), 128)
    assert sum(leaf.addressable_data(0).nbytes for leaf in jax.tree.leaves(weights)) < WHOLE / 8 + WHOLE / 16
    text = made.decode.lower(weights, made.empty(128), np.int32(1)).compile().as_text()
    entry = text[text.index("\nENTRY") :]
    inside, before = (re.findall(r" = \w+\[([\d,]*)\]\S* all-gather\(", part) for part in (text, entry))
    largest = max(CONFIG.width * CONFIG.mlp_size, CONFIG.width * CONFIG.vocab_size)
    assert all(prod(map(int, sizes.split(","))) <= largest for sizes in inside)
    # What the program gathers before the tokens it would hold for all of them.
    assert all(prod(map(int, sizes.split(","))) < CONFIG.width**2 for sizes in before)
    assert (len(inside) > 7 * CONFIG.layers) == (shape[1] > 1)
