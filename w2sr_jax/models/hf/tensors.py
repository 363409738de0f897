"""Which tensors of a Hugging Face model make up each of our parameters, and how their axes lie."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf.names import Names

Tensor = Shaped[np.ndarray, "..."]


class Foreign(NamedTuple):
    """The tensors there that make up one parameter of ours: one tensor, or one for each layer of our stack."""

    path: str
    """Of the parameter in our tree, with dots."""
    names: tuple[str, ...]
    inputs: int | None
    """See `names.Name`."""
    shape: tuple[int, ...]
    """Of one layer, as it is here."""
    layered: bool

    @property
    def foreign_shape(self) -> tuple[int, ...]:
        """Of each of the tensors."""
        if self.inputs is None:
            return self.shape
        inputs, outputs = prod(self.shape[: self.inputs]), prod(self.shape[self.inputs :])
        return (outputs, inputs) if self.inputs else (outputs,)

    def inward(self, value: Tensor) -> Tensor:
        """A view of the foreign tensor with our axes."""
        return value if self.inputs is None else value.T.reshape(self.shape)

    def outward(self, value: Tensor) -> Tensor:
        """Our tensor (of one layer) with the foreign axes."""
        return value if self.inputs is None else value.reshape(self.foreign_shape[::-1]).T


def foreign(config: ModelConfig, names: Names) -> dict[str, Foreign]:
    """For each parameter of a model, by its path with dots, the tensors of a family that make it up."""
    tensors = {}
    for path, struct in flat(transformer.shapes(config)):
        name = names.parameter(path)
        if path.startswith("layers."):
            each = tuple(names.layer.format(number) + name.foreign for number in range(config.layers))
            tensors[path] = Foreign(path, each, name.inputs, tuple(struct.shape[1:]), True)
        else:
            tensors[path] = Foreign(path, (name.foreign,), name.inputs, tuple(struct.shape), False)
    return tensors


def flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping with their paths, such as `layers.mlp.gate`."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def insert(tree: dict[str, Any], path: str, value: Any) -> None:
    """Put a leaf into a nested dict at its path with dots."""
    *above, name = path.split(".")
    for part in above:
        tree = tree.setdefault(part, {})
    tree[name] = value
