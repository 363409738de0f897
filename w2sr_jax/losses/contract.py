"""What a user's loss must be, looked at before anything is computed: one real number per token that has a gradient in the logits.

Losses are traced on abstract tokens, as the training step traces them; nothing is allocated or compiled. What is wrong is one
sentence with the file and line of the user's code.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from w2sr_jax.core import sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK
from w2sr_jax.losses import blocks, contract_errors, contract_mixing, contract_trace
from w2sr_jax.losses.contract_factors import check_coefficient, check_weights
from w2sr_jax.losses.contract_learning import check_learning
from w2sr_jax.losses.contract_result import loss_fault
from w2sr_jax.losses.contract_trace import Sizes, name
from w2sr_jax.losses.inputs import INITIAL, TEACHER, TokenLoss, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.policy import needs_rollouts
from w2sr_jax.losses.schedules import never
from w2sr_jax.losses.token import OnCorrect, OnIncorrect, OnSpans, Sum, Weighted

TOKENS = (8, 24, 40)
"""Sizes of the blocks that a loss is tried with; one that is the vocabulary's is left out."""
VOCABULARY = 1016
"""Tried where the vocabulary is not known yet. A loss that was written for another size is tried with that one."""
WIDTH = 16
_LARGEST = 4096

R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class _Term:
    """A loss within an objective, where it stands in the experiment, and whether its coefficient is 0."""

    loss: TokenLoss
    where: str
    idle: bool

    @property
    def ours(self) -> bool:
        return type(self.loss).__module__.split(".")[0] == usercode.OURS


def check_objective(
    objective: Objective, *, vocab_size: int | None = None, where: str = "objective", rollouts: bool | None = None
) -> list[str]:
    """Remarks on an objective. `UserError` where a training with it would fail, or would learn nothing from a part of it.

    Every loss of the user's own, wherever it stands in sums and selectors, is tried by itself: it must map the `Tokens` of blocks
    of any size to one floating-point number per token, by the same program each time, and have a gradient in the logits. A term
    without one is let pass beside others where its value is 0 or `trim` looks at it. Schedules and weights of the user's own are
    tried too, and at last the whole objective as the training step evaluates it. It is remarked upon where a token's loss depends
    on other tokens. `vocab_size` None: not known yet. `where` says where the objective stands in the experiment.

    `rollouts` says whether the training is on the student's own texts; None: where the loss looks at such. What makes advantages
    of rewards is tried as well.
    """
    own = needs_rollouts(objective.loss)
    if own and rollouts is False:
        raise UserError(
            f"{where}.loss looks at rollouts, which are the student's own texts, and this training has none; use it in a "
            "training stage that draws them, or another loss here"
        )
    own = own if rollouts is None else rollouts
    with _at(f"{where}.weights"):
        check_weights(objective.weights)
    terms = list(_terms(objective.loss, f"{where}.loss"))
    for term in terms:
        with _at(term.where):
            _check_models(term.loss)
    vocabulary = vocab_size
    learning = []
    for term in terms:
        with _at(term.where):
            _check_arguments(term.loss)
            models = models_of(term.loss)
            vocabulary = vocabulary or _vocabulary(term, models, own)
            alone = objective.trim == 0.0 and len(terms) == 1
            learned = term.ours or _learns(term, Sizes(0, vocabulary or VOCABULARY, models, own), objective.trim > 0.0, alone)
            learning.append(learned and not term.idle)
    if not any(learning):
        raise UserError(f"{where}.loss is 0 on every token: nothing would be trained; give a term a coefficient other than 0")
    with _at(f"{where}.loss"):
        check_learning(objective.loss)
        # A whole block, since a loss may refuse only from some size on.
        every = models_of(objective.loss)
        sizes = Sizes(max(TOKENS[2], min(objective.block, _LARGEST)), vocabulary or VOCABULARY, every, own)
        _check_whole(objective, terms, sizes)
    return [_mixing(term.loss, objective.block) for term in terms if not term.ours and _mixes(term.loss, sizes)]


def _terms(loss: TokenLoss, where: str, idle: bool = False) -> Iterator[_Term]:
    """The losses that sums, coefficients and selectors of ours hold."""
    if isinstance(loss, type):
        raise UserError(f"{where} is the class {loss.__name__}; it must be a loss: write {loss.__name__}()")
    if not callable(loss):
        raise UserError(f"{where} is {sentences.value(loss)}; it must be a loss: a function from a block of tokens to losses")
    if type(loss) is Sum:
        if not loss.terms:
            raise UserError(f"{where} is a sum of nothing; give it a term")
        for index, term in enumerate(loss.terms):
            yield from _terms(term, f"{where}.terms.{index}", idle)
    elif type(loss) is Weighted:
        with _at(f"{where}.coefficient"):
            check_coefficient(loss.coefficient)
        yield from _terms(loss.loss, f"{where}.loss", idle or never(loss.coefficient))
    elif type(loss) is OnCorrect or type(loss) is OnIncorrect:
        yield from _terms(loss.loss, f"{where}.loss", idle)
    elif type(loss) is OnSpans:
        yield from _terms(loss.loss, f"{where}.loss", idle or not (loss.reasoning or loss.answer or loss.end))
    else:
        yield _Term(loss, where, idle)


def _check_models(loss: TokenLoss) -> None:
    with usercode.calling(loss):
        models_of(loss)
        old = getattr(loss, "needs_reference", None)
    if old is not None:
        raise UserError(
            f"{usercode.defined(loss)}: {name(loss)}.needs_reference is not read; a loss names the models that it looks at, here "
            f"{name(loss)}.models = ({INITIAL!r},), and reads them by tokens.logprobs_of({INITIAL!r})"
        )


def _learns(term: _Term, sizes: Sizes, trimmed: bool, alone: bool) -> bool:
    """Whether a loss of the user's own has a gradient. `UserError` where it is none, or has none and should."""
    loss, before = term.loss, _written(term.loss)
    counts = [count for count in TOKENS if count != sizes.vocabulary][:2]
    for count in counts:
        sizes = sizes._replace(tokens=count)
        returned, traced = _tried(loss, sizes, functools.partial(_leaking, loss))
        fault = loss_fault(returned, sizes)
        if fault is not None:
            raise UserError(f"{usercode.defined(loss)}: {name(loss)} {fault}")
    with contextlib.redirect_stdout(io.StringIO()):  # the first tracings have said what it prints
        _check_pure(loss, sizes, traced)
        slope = _tried(loss, sizes, lambda at: contract_trace.gradient(loss, at))
    if contract_trace.ignores_availability(traced, contract_trace.abstract(sizes)):
        raise UserError(
            f"{usercode.defined(loss)}: {name(loss)} looks at the teacher and does not ask where its distribution is known, as "
            f"on texts of others it is not; return jnp.where(tokens.available({TEACHER!r}), losses, 0.0)"
        )
    if _written(loss) != before:
        raise UserError(
            f"{usercode.defined(loss)}: {name(loss)} changes its own fields when it is called; a loss is a setting of the run "
            "and stays as it is"
        )
    if not contract_trace.zero(slope):
        return True
    if not trimmed and (alone or not contract_trace.zero(traced)):
        raise UserError(f"{usercode.defined(loss)}: {name(loss)} {_no_gradient(contract_trace.depends(traced, 0))}")
    return False


def _mixes(loss: TokenLoss, sizes: Sizes) -> bool:
    tokens = contract_trace.abstract(sizes)
    with contextlib.redirect_stdout(io.StringIO()), usercode.calling(loss):
        traced = contract_trace.program(contract_trace.from_logits(loss), tokens)[1]
    return contract_mixing.mixes(traced, [0 if leaf.shape else None for leaf in jax.tree.leaves(tokens)])


def _mixing(loss: TokenLoss, block: int) -> str:
    return (
        f"{name(loss)} ({usercode.defined(loss)}) lets the loss of one token depend on the others of its block, so that results "
        f"change with objective.block ({block}), the rows of a batch and the number of devices"
    )


def _leaking(loss: TokenLoss, sizes: Sizes) -> tuple[contract_trace.Returned, Any]:
    """A first tracing, which shows whether an array of it is stored; a later one may not."""
    return contract_trace.program(contract_trace.from_logits(loss), contract_trace.abstract(sizes), leaks=True)


def _written(loss: TokenLoss) -> str:
    """A loss object's fields in words."""
    return sentences.value(loss, 10_000) if dataclasses.is_dataclass(loss) else ""


def _no_gradient(depends: bool) -> str:
    if not depends:
        return (
            "does not depend on tokens.logits, so that nothing is learned from it; a loss is computed from the student's logits"
        )
    return (
        "has a gradient of 0 in tokens.logits whatever they are, so that nothing is learned from it; jax.lax.stop_gradient, "
        "argmax, comparisons, rounding and whole numbers have none"
    )


def _check_arguments(loss: TokenLoss) -> None:
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):  # Python does not know
        return
    try:
        signature.bind(None)
    except TypeError:
        takes = f"({', '.join(signature.parameters)})"
        raise UserError(
            f"{usercode.defined(loss)}: {name(loss)}{takes} cannot be called as a loss is, with one argument: the block's Tokens"
        ) from None


def _check_pure(loss: TokenLoss, sizes: Sizes, traced: Any) -> None:
    """Two tracings must give the same program. Loops are not unrolled for it."""
    inlined = contextlib.nullcontext if contract_trace.loops(traced) else jax.disable_jit

    def program(at: Sizes) -> Any:
        with inlined():
            return contract_trace.program(contract_trace.from_logits(loss), contract_trace.abstract(at))[1]

    first, second = (_tried(loss, sizes, program) for _ in range(2))
    if not contract_trace.same(first, second):
        raise UserError(
            f"{usercode.defined(loss)}: {name(loss)} computes something else each time it is looked at; random numbers, times, "
            "counters and globals that change are read once, when it is compiled, so that a training could not be repeated; what "
            "changes over training comes from tokens.progress"
        )


def _vocabulary(term: _Term, models: tuple[str, ...], rollouts: bool) -> int | None:
    """The size of the vocabulary that a loss was written for, where it does not run with the one that is tried. `UserError` where
    it runs with none."""
    if term.ours:
        return None
    raised: list[Exception] = []

    def run(vocabulary: int) -> None:
        sizes = Sizes(TOKENS[0], vocabulary, models, rollouts)
        _tried(term.loss, sizes, functools.partial(_leaking, term.loss), raised)

    with contextlib.redirect_stdout(io.StringIO()):
        try:
            run(VOCABULARY)
        except UserError:
            for size in contract_errors.sizes(raised[0]) if raised else ():
                if size not in (*TOKENS, VOCABULARY):
                    with contextlib.suppress(UserError):
                        run(size)
                        return size
            raise
    return None


def _tried(loss: TokenLoss, sizes: Sizes, work: Callable[[Sizes], R], raised: list[Exception] | None = None) -> R:
    """What `work` gives; whatever the user's code raises is a sentence, and is put into `raised`."""
    with usercode.calling(loss):
        try:
            return work(sizes)
        except Exception as error:
            if raised is not None:
                raised.append(error)
            words = contract_errors.words(error, _shapes(sizes))
            if words is None:
                raise
            raise UserError(f"{name(loss)} {words}").with_traceback(error.__traceback__) from None


def _shapes(sizes: Sizes) -> str:
    return (
        f"tried with T = {sizes.tokens} tokens and a vocabulary of V = {sizes.vocabulary}, where logits are [T, V] and all else "
        "[T]; every number of tokens must do"
    )


def _check_whole(objective: Objective, terms: list[_Term], sizes: Sizes) -> None:
    """The objective as the training step evaluates it, with its gradient."""
    count, real = sizes.tokens, functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    hidden, output = real((count, WIDTH)), real((WIDTH, sizes.vocabulary))
    whole = jax.ShapeDtypeStruct((count,), jnp.int32)
    of_rollouts = (real((count,)), real((count,))) if sizes.rollouts else ()
    data = blocks.TokenData(whole, whole, whole, real((count,)), real((count,)), *of_rollouts)  # type: ignore[arg-type]
    listed = jax.ShapeDtypeStruct((count, 1), jnp.int32)
    top = TopK(listed, real((count, 1)), real((count,)), jax.ShapeDtypeStruct((count,), jnp.bool_))
    frozen = blocks.Frozen(hidden, output)  # type: ignore[arg-type]
    models = {name: top if name == TEACHER else frozen for name in sizes.models}

    users = next((term.loss for term in terms if not term.ours), objective.loss)

    def work(_: Sizes) -> None:
        def losses(hidden: Any, output: Any, data: Any, progress: Any, models: Any) -> Any:
            return blocks.token_losses(objective.loss, hidden, output, data, progress, models, objective.block)

        def total(hidden: Any, output: Any, data: Any, progress: Any, models: Any) -> Any:
            return blocks.blocked(objective.loss, hidden, output, data, progress, models, objective.block).loss_sum

        with jax.checking_leaks():
            jax.eval_shape(jax.grad(total, argnums=(0, 1)), hidden, output, data, real(()), models)
            if objective.trim > 0.0:
                jax.eval_shape(losses, hidden, output, data, real(()), models)

    with contextlib.redirect_stdout(io.StringIO()):
        _tried(users, sizes, work)


@contextlib.contextmanager
def _at(where: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
