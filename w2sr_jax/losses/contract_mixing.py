"""Whether one token's loss depends on another token: read off a program by the axis of each array that the tokens lie along.

A loss may do so, but what it gives then depends on how the tokens are split into blocks. Only what is certain is said: an
operation that is not known here leaves the question open.
"""

import math
from typing import Any, Final

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

_NONE: Final = "none"  # knows nothing of tokens
_MIXED: Final = "mixed"  # each value depends on several tokens
_OPEN: Final = "open"

_REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin")
_ALONG = {"cumsum": "axis", "cumprod": "axis", "cummax": "axis", "cummin": "axis", "cumlogsumexp": "axis", "sort": "dimension"}
_OTHERWISE = ("scan", "while", "cond", "fft", "scatter-add", "scatter", "custom_call", "pure_callback", "io_callback", "rev")

TokenAxis = int | str
"""The axis of an array along which the tokens lie, or one of the words above."""


def mixes(traced: ClosedJaxpr, per_token: list[int | None]) -> bool:
    """Whether the one result certainly depends, at a token, on other tokens. `per_token` has the axis of the tokens for each
    argument, None where it has none."""
    arguments: list[TokenAxis] = [_NONE if axis is None else axis for axis in per_token]
    return _through(traced.jaxpr, arguments)[0] == _MIXED


def _through(jaxpr: Jaxpr, arguments: list[TokenAxis]) -> list[TokenAxis]:
    by_var: dict[Any, TokenAxis] = dict(zip(jaxpr.invars, arguments, strict=True))

    def axis_of(var: Any) -> TokenAxis:
        return _NONE if isinstance(var, Literal) else by_var.get(var, _NONE)

    for equation in jaxpr.eqns:
        axes = [axis_of(var) for var in equation.invars]
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr") or equation.params.get("fun_jaxpr")
        name = equation.primitive.name
        if isinstance(inner, ClosedJaxpr) and name not in _OTHERWISE and len(inner.jaxpr.invars) == len(axes):
            results = _through(inner.jaxpr, axes)
        elif not equation.outvars:  # it is there for what it does, as jax.debug.print
            continue
        else:
            results = [_after(equation, name, axes)] * len(equation.outvars)
        by_var.update(zip(equation.outvars, results, strict=True))
    return [axis_of(var) for var in jaxpr.outvars]


def _after(equation: Any, name: str, axes: list[TokenAxis]) -> TokenAxis:
    """Where the tokens are in what an operation gives."""
    if all(axis == _NONE for axis in axes):
        return _NONE
    if _MIXED in axes:
        return _MIXED
    if _OPEN in axes or name in _OTHERWISE:
        return _OPEN
    shapes = [tuple(var.aval.shape) for var in equation.invars]
    shape = tuple(equation.outvars[0].aval.shape)
    first, params = axes[0], equation.params
    if name == "dot_general":
        return _product(params["dimension_numbers"], axes, [len(one) for one in shapes])
    if name == "gather":
        return _gathered(params["dimension_numbers"], axes, len(shape))
    if isinstance(first, int):
        if name in _REDUCTIONS:
            return _MIXED if first in params["axes"] else _without(first, params["axes"])
        if name in _ALONG:
            return _MIXED if first == params[_ALONG[name]] else first
        if name in ("slice", "dynamic_slice", "pad"):
            return first if shape[first] == shapes[0][first] else _OPEN
        if name == "broadcast_in_dim":
            return int(params["broadcast_dimensions"][first])
        if name == "transpose":
            return tuple(params["permutation"]).index(first)
        if name == "squeeze":
            return _without(first, params["dimensions"])
        if name == "reshape":
            return _reshaped(first, shapes[0], shape)
    own = {axis for axis in axes if isinstance(axis, int)}
    alike = all(one == () or (len(one) == len(shape) and all(map(_fits, one, shape))) for one in shapes)
    return own.pop() if len(own) == 1 and alike else _OPEN


def _fits(size: int, whole: int) -> bool:
    return size in (whole, 1)


def _without(axis: int, removed: Any) -> int:
    return axis - sum(other < axis for other in removed)


def _reshaped(axis: int, before: tuple[int, ...], after: tuple[int, ...]) -> TokenAxis:
    ahead = math.prod(before[:axis])
    alike = (at for at, size in enumerate(after) if size == before[axis] and math.prod(after[:at]) == ahead)
    return next(alike, _OPEN)


def _product(numbers: Any, axes: list[TokenAxis], ranks: list[int]) -> TokenAxis:
    contracted, batched = numbers
    results_along: list[TokenAxis] = []
    free = len(batched[0])
    for side, along in enumerate(axes):
        rest = [axis for axis in range(ranks[side]) if axis not in (*contracted[side], *batched[side])]
        if isinstance(along, int):
            if along in contracted[side]:
                return _MIXED
            results_along.append(tuple(batched[side]).index(along) if along in batched[side] else free + rest.index(along))
        free += len(rest)
    return results_along[0] if len(set(results_along)) == 1 else _OPEN


def _gathered(numbers: Any, axes: list[TokenAxis], rank: int) -> TokenAxis:
    """Rows of a table for each token, or each token's own entry of its own row."""
    operand, indices = axes[0], axes[1]
    batch = [axis for axis in range(rank) if axis not in numbers.offset_dims]
    if not isinstance(indices, int) or indices >= len(batch):
        return _OPEN
    pairs = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims)
    return batch[indices] if operand == _NONE or (operand, indices) in pairs else _OPEN
