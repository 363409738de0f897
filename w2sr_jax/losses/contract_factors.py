"""What schedules and token weights of the user's own must be, looked at before anything is computed."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from w2sr_jax.core import sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses import contract_errors, contract_trace
from w2sr_jax.losses.contract_result import dtype_fault, no_array
from w2sr_jax.losses.contract_trace import name
from w2sr_jax.losses.schedules import Schedule
from w2sr_jax.losses.weights import TokenWeights

_SCHEDULE = "a schedule maps progress, one float32 number from 0 to 1, to one floating-point number"
_WEIGHTS = "weights map span, verdict, teacher_logprob and weight, all of one shape, to new weights of that shape"
_SHAPES = ((2, 8), (3, 40))
_PROGRESS = (0.0, 0.5, 1.0)


def check_coefficient(coefficient: Any) -> None:
    """`UserError` where a coefficient is neither a finite number nor a schedule that gives such numbers all the time."""
    if isinstance(coefficient, int | float) and not isinstance(coefficient, bool):
        if not math.isfinite(coefficient):
            raise UserError(f"it is {coefficient}; a coefficient is a finite number or a schedule")
        return
    if not isinstance(coefficient, Schedule):
        raise UserError(
            f"it is {sentences.value(coefficient, 60)}; a coefficient is a number or a schedule (a subclass of "
            "w2sr_jax.losses.schedules.Schedule that is called with progress)"
        )
    if type(coefficient).__module__ == Schedule.__module__:
        return
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    returned, traced = _traced(coefficient, scalar)
    if returned.shape is None and isinstance(returned.value, int | float) and not isinstance(returned.value, bool):
        fault = None
    elif returned.shape is None:
        fault = f"{no_array(returned)}; {_SCHEDULE}"
    elif returned.shape != ():
        fault = f"returns shape {list(returned.shape)}; {_SCHEDULE}, shape []"
    else:
        fault = dtype_fault(returned)
    if fault is None and not contract_trace.same(traced, _traced(coefficient, scalar)[1]):
        fault = "gives something else each time it is looked at; it may depend on progress and its own fields alone"
    if fault is None:
        fault = _not_finite(coefficient)
    if fault is not None:
        raise UserError(f"{usercode.defined(coefficient)}: {name(coefficient)} {fault}")


def check_weights(weights: TokenWeights) -> None:
    """`UserError` where weights of a user's own class are not one for each token, or count tokens that are not supervised."""
    if type(weights) is TokenWeights:
        return
    for shape in _SHAPES:
        whole, real = jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, jnp.float32)
        returned, traced = _traced(weights, whole, whole, real, real)
        fault: str | None
        if returned.shape is None:
            fault = f"{no_array(returned)}; {_WEIGHTS}"
        elif returned.shape != shape:
            fault = f"returns shape {list(returned.shape)} for tokens of shape {list(shape)}; {_WEIGHTS}"
        else:
            fault = dtype_fault(returned)
        if fault is None and not contract_trace.same(traced, _traced(weights, whole, whole, real, real)[1]):
            fault = "gives something else each time it is looked at; it may depend on its arguments and its own fields alone"
        if fault is None:
            fault = _unsupervised(weights, shape)
        if fault is not None:
            raise UserError(f"{usercode.defined(weights)}: {name(weights)} {fault}")


def _not_finite(schedule: Schedule) -> str | None:
    with usercode.calling(schedule):
        values = [float(np.asarray(schedule(jnp.float32(progress)))) for progress in _PROGRESS]
    at = next(
        (f"{value:g} at progress {progress:g}" for progress, value in zip(_PROGRESS, values) if not math.isfinite(value)), None
    )
    return None if at is None else f"is {at}; it must be finite from progress 0 to 1"


def _unsupervised(weights: TokenWeights, shape: tuple[int, ...]) -> str | None:
    """What is wrong with the weights of a few tokens, half of which are supervised."""
    index = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    supervised = index % 2 == 1
    logprob = np.where(index % 5 == 0, np.nan, -0.1 * (index % 7)).astype(np.float32)
    arguments = (np.where(supervised, 1 + index % 3, 0), index % 3 - 1, logprob, supervised.astype(np.float32))
    with usercode.calling(weights):
        result = np.asarray(weights(*(jnp.asarray(one) for one in arguments)), np.float32)
    if not np.isfinite(result).all():
        return "gives weights that are not finite; where teacher_logprob is nan, it is unknown"
    if result[~supervised].any():
        return "gives weight to tokens that are not supervised; multiply with `weight`, which is 0 there"
    return None


def _traced(thing: Any, *arguments: Any) -> tuple[contract_trace.Returned, Any]:
    with usercode.calling(thing):
        try:
            return contract_trace.program(thing, *arguments)
        except Exception as error:
            words = contract_errors.words(error, f"tried with shapes {', '.join(str(list(one.shape)) for one in arguments)}")
            if words is None:
                raise
            raise UserError(f"{name(thing)} {words}").with_traceback(error.__traceback__) from None
