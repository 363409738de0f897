"""What a user's loss on whole sequences must be, looked at before anything is computed: one real number for each sequence, or
each pair, that has a gradient in the log-probabilities.

It is traced on abstract sequences, as `contract` traces token losses.
"""

import contextlib
import dataclasses
import inspect
import io
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from w2sr_jax.core import sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses import contract_errors, contract_mixing, contract_trace
from w2sr_jax.losses.contract_learning import check_learning
from w2sr_jax.losses.contract_result import dtype_fault, no_array
from w2sr_jax.losses.contract_trace import name
from w2sr_jax.losses.inputs import attribute
from w2sr_jax.losses.policy import needs_rollouts
from w2sr_jax.losses.sequences import SequenceLoss, Sequences

SIZES = ((3, 4), (2, 6))
"""Rows and sequences of a row that a loss is tried with."""

R = TypeVar("R")


def check_sequence_loss(loss: SequenceLoss, *, where: str = "loss") -> list[str]:
    """Remarks on a loss on sequences, which stands at `where` in the experiment. `UserError` where a training with it would
    fail or learn nothing.

    It says by the attributes `pairs` and `uses_reference` what its losses are of and what it looks at, by `needs_rollouts` that
    it is one on the student's own texts. It must map `Sequences` of any number of rows to float32 losses, by the same program
    each time, and have a gradient in `logprob`. It is remarked upon where the losses of a row depend on other rows.
    """
    try:
        _check_attributes(loss)
        check_learning(loss)
        if usercode.is_ours(loss):
            return []
        return _check_own(loss)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check_attributes(loss: SequenceLoss) -> None:
    if isinstance(loss, type):
        raise UserError(f"it is the class {loss.__name__}; it must be a loss: write {loss.__name__}()")
    if not callable(loss):
        raise UserError(f"it is {sentences.value(loss)}; it must be a loss: a function from sequences to losses")
    for field, meaning in (
        ("pairs", "whether its losses are of pairs"),
        ("uses_reference", "whether it looks at sequences.reference"),
    ):
        value = attribute(loss, field)
        if not isinstance(value, bool):
            said = "is missing" if value is None else f"is {sentences.value(value, 40)}"
            raise UserError(f"{usercode.defined(loss)}: {name(loss)}.{field} {said}; it must be True or False: {meaning}")
    try:
        inspect.signature(loss).bind(None)
    except TypeError:
        takes = f"({', '.join(inspect.signature(loss).parameters)})"
        raise UserError(
            f"{usercode.defined(loss)}: {name(loss)}{takes} cannot be called as a loss is, with one argument: the Sequences of a "
            "step"
        ) from None
    except ValueError:  # Python does not know
        pass


def _check_own(loss: SequenceLoss) -> list[str]:
    before = _written(loss)
    for size in SIZES:
        returned, traced = _tried(loss, size, lambda at: contract_trace.program(loss, _abstract(at), leaks=True))
        fault = _fault(loss, returned, size)
        if fault is not None:
            raise UserError(f"{usercode.defined(loss)}: {name(loss)} {fault}")
    with contextlib.redirect_stdout(io.StringIO()):  # the first tracings have said what it prints
        again = _tried(loss, size, lambda at: contract_trace.program(loss, _abstract(at))[1])
        slope = _tried(loss, size, lambda at: _gradient(loss, at))
    if not contract_trace.same(traced, again):
        raise UserError(
            f"{usercode.defined(loss)}: {name(loss)} computes something else each time it is looked at, so that a training could "
            "not be repeated"
        )
    if _written(loss) != before:
        raise UserError(f"{usercode.defined(loss)}: {name(loss)} changes its own fields when it is called; it must stay as it is")
    if contract_trace.zero(slope):
        raise UserError(
            f"{usercode.defined(loss)}: {name(loss)} has no gradient in sequences.logprob, so that nothing is learned from it"
        )
    for field, asked, said in (
        ("reference", attribute(loss, "uses_reference"), "uses_reference"),
        ("advantage", needs_rollouts(loss), "needs_rollouts"),
        ("sampled", needs_rollouts(loss), "needs_rollouts"),
    ):
        if not asked and contract_trace.depends(traced, Sequences._fields.index(field)):
            raise UserError(
                f"{usercode.defined(loss)}: {name(loss)} looks at sequences.{field}, which is 0 unless the loss has the "
                f"attribute {said} = True"
            )
    if contract_mixing.mixes(traced, [0] * len(Sequences._fields)):
        return [
            f"{name(loss)} ({usercode.defined(loss)}) lets the losses of one row depend on other rows, so that results change "
            "with micro-batches and the number of devices"
        ]
    return []


def _abstract(size: tuple[int, int]) -> Sequences:
    real = jax.ShapeDtypeStruct(size, jnp.float32)
    return Sequences(real, real, real, real, real, jax.ShapeDtypeStruct(size, jnp.bool_))  # type: ignore[arg-type]


def _gradient(loss: SequenceLoss, size: tuple[int, int]) -> Any:
    def total(logprob: Any, given: Sequences) -> Any:
        return jnp.sum(loss(given._replace(logprob=logprob)).astype(jnp.float32))

    abstract = _abstract(size)
    return contract_trace.program(lambda logprob, given: jax.grad(total)(logprob, given), abstract.logprob, abstract)[1]


def _fault(loss: SequenceLoss, returned: contract_trace.Returned, size: tuple[int, int]) -> str | None:
    rows, each = size
    right = (rows, each // 2 if attribute(loss, "pairs") else each)
    wanted = f"it must map {rows} rows of {each} sequences to losses of shape {list(right)}"
    of = "each pair" if attribute(loss, "pairs") else "each sequence"
    if returned.shape is None:
        return f"{no_array(returned)}; {wanted}, one for {of}"
    if returned.shape != right:
        return f"returns shape {list(returned.shape)}; {wanted}, one for {of}"
    return dtype_fault(returned)


def _tried(loss: SequenceLoss, size: tuple[int, int], work: Callable[[tuple[int, int]], R]) -> R:
    """What `work` gives; whatever the user's code raises is a sentence."""
    with usercode.calling(loss):
        try:
            return work(size)
        except Exception as error:
            words = contract_errors.words(error, f"tried with {size[0]} rows of {size[1]} sequences; every number must do")
            if words is None:
                raise
            raise UserError(f"{name(loss)} {words}").with_traceback(error.__traceback__) from None


def _written(loss: SequenceLoss) -> str:
    return sentences.value(loss, 10_000) if dataclasses.is_dataclass(loss) else ""
