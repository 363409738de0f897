"""A loss looked at without computing anything: what it returns for abstract tokens, its program, and whether its gradient is 0.

Programs are jaxprs. What is said of them is read off their structure, so a loss is called zero only where it is provably so.
"""

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from w2sr_jax.core import sentences
from w2sr_jax.losses.formulas import target_logprob
from w2sr_jax.losses.inputs import TEACHER, Distribution, Rollout, TokenLoss, Tokens

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_LOOPS = ("scan", "while")


class Sizes(NamedTuple):
    """A block of `tokens` over a `vocabulary`, with the distributions of some models, of `rollouts` or of others' texts."""

    tokens: int
    vocabulary: int
    models: tuple[str, ...]
    rollouts: bool = False


class Returned(NamedTuple):
    """What a loss returned: its type, the value of a constant, how many parts it has, and shape and dtype of an array. Nothing of
    the tracing is stored."""

    type: type
    value: Any
    parts: int | None
    shape: tuple[int, ...] | None
    dtype: Any


def name(thing: object) -> str:
    """What a user calls it."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    try:
        return sentences.shown(str(getattr(thing, "__name__", type(thing).__name__)), 60)
    except Exception:
        return sentences.shown(type(thing).__name__, 60)


def abstract(sizes: Sizes) -> Tokens:
    """Tokens without values."""
    count = sizes.tokens
    logits = jax.ShapeDtypeStruct((count, sizes.vocabulary), jnp.float32)
    whole, real = jax.ShapeDtypeStruct((count,), jnp.int32), jax.ShapeDtypeStruct((count,), jnp.float32)
    progress = jax.ShapeDtypeStruct((), jnp.float32)
    flags = jax.ShapeDtypeStruct((count,), jnp.bool_)
    models = {name: Distribution(logits, flags if name == TEACHER else None) for name in sizes.models}  # type: ignore[arg-type]
    rollout = Rollout(real, real, real) if sizes.rollouts else None  # type: ignore[arg-type]
    return Tokens(logits, whole, whole, whole, real, models, progress, rollout)  # type: ignore[arg-type]


def from_logits(loss: TokenLoss) -> TokenLoss:
    """The loss of tokens whose rollouts, where there are some, have log-probabilities of their logits, as in a training."""

    def computed(tokens: Tokens) -> Any:
        if tokens.rollout is None:
            return loss(tokens)
        return loss(tokens._replace(rollout=tokens.rollout._replace(logprob=target_logprob(tokens))))

    computed.__name__ = name(loss)
    return computed


def program(function: Callable[..., Any], *abstract_arguments: Any, leaks: bool = False) -> tuple[Returned, ClosedJaxpr]:
    """What a function returns for abstract arguments, and its program (of nothing, where it returns no array). It raises what the
    function raises and, with `leaks`, where an array of the tracing is still there afterwards."""
    seen: list[Returned] = []

    def once(*arguments: Any) -> Any:  # a new function each time, or jax would remember the last tracing
        result = function(*arguments)
        if inspect.iscoroutine(result):
            result.close()  # or Python complains that nobody awaited it
        if not isinstance(result, jax.Array):
            constant = result if isinstance(result, bool | int | float | complex) else None
            parts = len(result) if isinstance(result, tuple | list | dict) else None
            seen.append(Returned(type(result), constant, parts, None, None))
            return ()
        seen.append(Returned(type(result), None, None, tuple(result.shape), result.dtype))
        return result

    once.__name__ = name(function)  # what is said where tracing takes long
    with jax.checking_leaks() if leaks else contextlib.nullcontext():
        traced = jax.make_jaxpr(once)(*abstract_arguments)
    return seen[-1], traced


def gradient(loss: TokenLoss, sizes: Sizes) -> ClosedJaxpr:
    """The program of the gradient of the summed loss in the logits."""

    def total(logits: Any, tokens: Tokens) -> Any:
        return jnp.sum(from_logits(loss)(tokens._replace(logits=logits)).astype(jnp.float32))

    tokens = abstract(sizes)
    return program(lambda logits, tokens: jax.grad(total)(logits, tokens), tokens.logits, tokens)[1]


def ignores_availability(traced: ClosedJaxpr, tokens: Tokens) -> bool:
    """Whether the program of a loss that looks at the teacher certainly does not ask where its distribution is known."""
    flags = [number for number, leaf in enumerate(jax.tree.leaves(tokens)) if leaf.dtype == jnp.bool_]
    return any(not depends(traced, number) for number in flags)


def same(first: ClosedJaxpr, second: ClosedJaxpr) -> bool:
    """Whether two programs are one, constants included."""
    texts = [_ADDRESS.sub("", str(one)) for one in (first, second)]
    return texts[0] == texts[1] and all(map(_alike, first.consts, second.consts))


def loops(traced: ClosedJaxpr) -> bool:
    """Whether a program has loops, which take long where they are unrolled."""
    return any(equation.primitive.name in _LOOPS for equation in _equations(traced.jaxpr))


def depends(traced: ClosedJaxpr, argument: int) -> bool:
    """Whether the one result may depend on an argument, by its number among the flat ones."""
    wanted = {var for var in traced.jaxpr.outvars if not isinstance(var, Literal)}
    for equation in reversed(traced.jaxpr.eqns):
        if wanted.intersection(equation.outvars):
            wanted.update(var for var in equation.invars if not isinstance(var, Literal))
    return traced.jaxpr.invars[argument] in wanted


def zero(traced: ClosedJaxpr) -> bool:
    """Whether the one result is 0 whatever the arguments are."""
    constants = [_is_zero(value) for value in traced.consts]
    return bool(traced.jaxpr.outvars) and _zeros(traced.jaxpr, [False] * len(traced.jaxpr.invars), constants)[0]


_OF_ALL = frozenset(
    (
        *("neg", "convert_element_type", "broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims"),
        *("slice", "rev", "concatenate", "pad", "copy", "stop_gradient", "real", "imag", "abs", "sign", "sqrt"),
        *("floor", "ceil", "round", "add", "sub", "add_any", "max", "min", "reduce_sum", "reduce_max", "reduce_min"),
        "cumsum",
    )
)
"""Primitives whose result is 0 where all operands are."""
_OF_ANY = frozenset(["mul", "dot_general"])
"""Primitives whose result is 0 where any operand is."""
_OF_FIRST = frozenset(["div", "gather", "dynamic_slice"])
"""Primitives whose result is 0 where the first operand is."""


def _zeros(jaxpr: Jaxpr, arguments: list[bool], constants: list[bool]) -> list[bool]:
    """Which results are 0, from which arguments and constants are."""
    by_var = dict(zip([*jaxpr.invars, *jaxpr.constvars], [*arguments, *constants], strict=True))

    def is_zero(var: Any) -> bool:
        return _is_zero(var.val) if isinstance(var, Literal) else by_var.get(var, False)

    for equation in jaxpr.eqns:
        name, parts = equation.primitive.name, [is_zero(var) for var in equation.invars]
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        if name in _OF_ALL:
            results = [bool(parts) and all(parts)]
        elif name in _OF_ANY:
            results = [any(parts)]
        elif name in _OF_FIRST:
            results = [parts[0]]
        elif name == "select_n":
            results = [all(parts[1:])]
        elif name == "scatter-add":
            results = [parts[0] and parts[2]]
        elif isinstance(inner, ClosedJaxpr) and name not in _LOOPS and len(inner.jaxpr.invars) == len(parts):
            results = _zeros(inner.jaxpr, parts, [_is_zero(value) for value in inner.consts])
        else:
            continue
        if len(results) == len(equation.outvars):
            by_var.update(zip(equation.outvars, results, strict=True))
    return [is_zero(var) for var in jaxpr.outvars]


def _is_zero(value: Any) -> bool:
    try:
        return not np.any(np.asarray(value))
    except Exception:  # a random key has no numbers
        return False


def _alike(first: Any, second: Any) -> bool:
    try:
        return np.asarray(first).tobytes() == np.asarray(second).tobytes()
    except Exception:
        return True


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                if isinstance(part, ClosedJaxpr):
                    yield from _equations(part.jaxpr)
                elif isinstance(part, Jaxpr):
                    yield from _equations(part)
