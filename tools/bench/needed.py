"""What devices must send each other in a training step of a decoder on a (data, fsdp, tensor) mesh, by arithmetic.

Counted is what one device sends on the wire, as rings do it: of an array of b bytes that n devices gather, add and scatter, or
transpose among themselves each sends b · (n − 1) / n, and twice that where all keep the whole sum. With d × f × t devices, A
micro-batches, N tokens of a micro-batch on each device, and layers whose matrices take P bytes in the type of products (which a
gradient has as well), of which each device of the t holds a part:

- gather over f: A · 2 · P / t, the layers' matrices for the forward and for the backward pass; the output matrix A times, since
  its gradient is computed in the forward pass;
- scatter over f: A · P / t of gradients, and the output matrix's gradient in float32. An embedding has no part in this: its
  columns stay where they are, ids and columns change places (transpose over f: twice N · D numbers);
- sum over d, of what a device of f and t keeps: once a step. In float32 where there are several micro-batches, else of layers as
  they are. An embedding that is the output matrix as well counts once;
- sum over t: of N · D numbers five times a layer (behind attention and behind the feed-forward part, behind attention again where
  the layer is rematerialised, and twice in the backward pass), once for the lookup and once behind the output matrix.

Each micro-batch gathers and scatters anew over f, for that is what fsdp is: nobody holds what belongs to others for longer than
its layer takes. A mesh that splits over data instead sends gradients once a step, and holds everything.
"""

import dataclasses
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from w2sr_jax.models import lora as adapters
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import RULES

FLOAT, INTEGER = 4, 4
STATISTICS = 6
"""Numbers of a token that the loss adds up over the parts of the vocabulary, about."""


@dataclasses.dataclass(frozen=True)
class Sent:
    """Bytes that one device sends in a step."""

    gather: float = 0.0
    scatter: float = 0.0
    total: float = 0.0
    transpose: float = 0.0

    def __add__(self, other: "Sent") -> "Sent":
        return Sent(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    @property
    def all(self) -> float:
        return self.gather + self.scatter + self.total + self.transpose


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step of `rows` × `length` tokens."""

    model: ModelConfig
    mesh: tuple[int, int, int]
    rows: int
    length: int
    accumulation: int = 1
    lora: Lora = dataclasses.field(default_factory=Lora)


def needed(step: Step) -> Sent:
    """What a step needs."""
    base, axes = transformer.shapes(step.model), transformer.logical_axes(step.model)
    whole = not step.lora.rank
    parts = [_of_layers(step, base["layers"], axes["layers"], trained=whole), _of_layers(step, base["norm"], axes["norm"], whole)]
    if step.lora.rank:
        extra, extra_axes = adapters.shapes(step.model, step.lora), adapters.logical_axes(step.model, step.lora)
        parts.append(_of_layers(step, extra["layers"], extra_axes["layers"], trained=True))
    parts += [_of_tables(step, whole or step.lora.embeddings), _of_tokens(step)]
    return sum(parts, Sent())


def _of_layers(step: Step, shapes: Any, axes: Any, trained: bool) -> Sent:
    leaves = jax.tree.leaves_with_path(shapes)
    names = jax.tree.leaves(axes, is_leaf=lambda node: isinstance(node, tuple))
    return sum((_of_leaf(step, path, leaf, axis, trained) for (path, leaf), axis in zip(leaves, names, strict=True)), Sent())


def _of_leaf(step: Step, path: Any, leaf: Any, axes: tuple[str | None, ...], trained: bool) -> Sent:
    data, fsdp, tensor = step.mesh
    split = {RULES[axis] for axis in axes if axis is not None}
    scale = "scale" in jax.tree_util.keystr(path)
    item = FLOAT if scale else jnp.dtype(step.model.dtype).itemsize
    held = prod(leaf.shape) / (tensor if "tensor" in split else 1)
    times = step.accumulation
    apart = "fsdp" in split
    gathered = times * 2 * wire(held * item, fsdp) if apart else 0.0
    if not trained:
        return Sent(gather=gathered)
    over_data = held / (fsdp if apart else 1) * (item if times == 1 else FLOAT)
    over_fsdp = times * wire(held * item, fsdp)
    total = 2 * wire(over_data, data) + (0.0 if apart else 2 * over_fsdp)
    return Sent(gathered, over_fsdp if apart else 0.0, total)


def _of_tables(step: Step, trained: bool) -> Sent:
    data, fsdp, tensor = step.mesh
    config, times = step.model, step.accumulation
    held = config.vocab_size * config.width / tensor
    gathered = times * wire(held * jnp.dtype(config.dtype).itemsize, fsdp)
    if not trained:
        return Sent(gather=gathered)
    tables = 1 if config.tied_embeddings else 2
    over_data = tables * 2 * wire(held / fsdp * FLOAT, data)
    return Sent(gathered, times * wire(held * FLOAT, fsdp), over_data)


def _of_tokens(step: Step) -> Sent:
    data, fsdp, tensor = step.mesh
    config, times = step.model, step.accumulation
    own = step.rows * step.length / (data * fsdp * times)
    stream = own * config.width * jnp.dtype(config.dtype).itemsize
    again = 0 if config.remat in ("none", "products") else 1
    sums = config.layers * (4 + again) + 2
    trained = not step.lora.rank or step.lora.embeddings
    return Sent(
        gather=times * wire(own * fsdp * INTEGER, fsdp),
        total=times * 2 * (sums * wire(stream, tensor) + wire(STATISTICS * FLOAT * own, tensor)),
        transpose=times * (2 if trained else 1) * wire(stream, fsdp),
    )


def wire(size: float, ways: int) -> float:
    """What each of so many devices sends, of an array of so many bytes in all."""
    return size * (ways - 1) / ways
