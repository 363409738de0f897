"""The sums that a token loss is reduced to, and how those of blocks, micro-batches and devices become one."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from w2sr_jax.losses.inputs import Tokens

NONE: Mapping[str, Any] = {}


class Watch(Protocol):
    """Diagnostics of the tokens of a loss, which have no influence on the training: a hashable callable, from a block of T tokens
    to named values [T]. It may look at other models, which it names as losses do, by an attribute `models`.

    Values are looked at for supervised tokens alone, each once whatever its weight. A name may be among `sums` and `peaks`.
    """

    @property
    def sums(self) -> tuple[str, ...]:
        """Names of the values that are added up over tokens."""

    @property
    def peaks(self) -> tuple[str, ...]:
        """Names of the values whose largest is wanted."""

    def __call__(self, tokens: Tokens) -> Mapping[str, Any]:
        """A value [T], float32, for every name."""


class LossSum(NamedTuple):
    """Sums over tokens, float32 scalars; `merge` joins those of micro-batches and devices. Only `loss_sum` has a gradient.

    `loss_sum / weight_sum` is the weighted mean loss. The next three count each supervised token (weight not 0) once, whatever
    its weight: `nll_sum / token_sum` is the mean NLL, `correct_sum / token_sum` the greedy accuracy per token (ties shared).
    """

    loss_sum: Float[Array, ""]
    weight_sum: Float[Array, ""]
    nll_sum: Float[Array, ""]
    correct_sum: Float[Array, ""]
    token_sum: Float[Array, ""]
    sums: Mapping[str, Float[Array, ""]] = NONE
    """Of a watch, over supervised tokens; `sums[name] / token_sum` is a mean. Empty without a watch."""
    peaks: Mapping[str, Float[Array, ""]] = NONE
    """Largest values of a watch; -inf where there is no supervised token."""


def no_tokens(watch: Watch | None = None) -> LossSum:
    """The sums over no tokens."""
    zero = jnp.zeros((), jnp.float32)
    sums = () if watch is None else watch.sums
    peaks = () if watch is None else watch.peaks
    return LossSum(
        *(zero, zero, zero, zero, zero),
        sums=dict.fromkeys(sums, zero),
        peaks={name: jnp.full((), -jnp.inf, jnp.float32) for name in peaks},
    )


def merge(one: Any, other: Any) -> Any:
    """Two `LossSum`s as one, or two pytrees of one structure that hold some: peaks take the larger value, all else adds up."""
    return jax.tree.map(_merged, one, other, is_leaf=_is_sum)


def over_axes(tree: Any, axes: tuple[str, ...]) -> Any:
    """What `merge` makes of the parts of all devices along mesh axes, inside a `jax.shard_map`; without axes the tree itself."""
    if not axes:
        return tree
    plain = jax.tree.map(lambda leaf: leaf._replace(peaks={}) if _is_sum(leaf) else leaf, tree, is_leaf=_is_sum)
    added = jax.lax.psum(plain, axes)  # one reduction of all that adds up: each has its price in time

    def peaks(total: Any, part: Any) -> Any:
        return total._replace(peaks=jax.lax.pmax(part.peaks, axes)) if _is_sum(part) and part.peaks else total

    return jax.tree.map(peaks, added, tree, is_leaf=_is_sum)


def _is_sum(tree: Any) -> bool:
    return isinstance(tree, LossSum)


def _merged(one: Any, other: Any) -> Any:
    if not _is_sum(one):
        return jnp.add(one, other)
    added = jax.tree.map(jnp.add, one._replace(peaks={}), other._replace(peaks={}))
    return added._replace(peaks=jax.tree.map(jnp.maximum, one.peaks, other.peaks))
