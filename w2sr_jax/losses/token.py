"""Per-token losses. Anything that maps `Tokens` to one loss per token is one: an object from here, or a function of your own.

Losses are added and scaled: `Nll() + 0.05 * ReverseKL()`, `Nll() - 0.1 * Entropy()`, `OnCorrect(Nll()) + 0.1 * Unlikelihood()`,
`Weighted(WarmUp(0.1), my_function) + Nll()`. They know nothing of masks, weights or averages; `blocks` does. Importing this
module does not import jax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.extendable import Extendable
from w2sr_jax.losses.inputs import INITIAL, TEACHER, TokenLoss, Tokens, models_of
from w2sr_jax.losses.schedules import Schedule, Scheduled, WarmUp, at

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Loss(Extendable):
    """Base of the loss objects: adds `+`, `-` and `number *`. Subclass it as a frozen dataclass, or use a plain function."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that the loss looks at (`models_of`)."""
        return ()

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        raise NotImplementedError

    def __add__(self, other: TokenLoss) -> Sum:
        return Sum((*_terms(self), *_terms(other))) if callable(other) else NotImplemented

    def __radd__(self, other: TokenLoss) -> Sum:
        return Sum((*_terms(other), *_terms(self))) if callable(other) else NotImplemented

    def __sub__(self, other: TokenLoss) -> Sum:
        return self + Weighted(-1.0, other) if callable(other) else NotImplemented

    def __rsub__(self, other: TokenLoss) -> Sum:
        return other + Weighted(-1.0, self) if callable(other) else NotImplemented

    def __mul__(self, coefficient: Scheduled) -> Weighted:
        return Weighted(coefficient, self) if isinstance(coefficient, (int, float, Schedule)) else NotImplemented

    __rmul__ = __mul__

    def __neg__(self) -> Weighted:
        return Weighted(-1.0, self)


def _terms(loss: TokenLoss) -> tuple[TokenLoss, ...]:
    return loss.terms if isinstance(loss, Sum) else (loss,)


@dataclass(frozen=True)
class Sum(Loss):
    """The sum of its terms."""

    terms: tuple[TokenLoss, ...]
    """The losses that are added."""

    @property
    def models(self) -> tuple[str, ...]:
        return models_of(*self.terms)

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        first, *rest = (term(tokens) for term in self.terms)
        return sum(rest, start=first)


@dataclass(frozen=True)
class Weighted(Loss):
    """A loss times a coefficient."""

    coefficient: Scheduled
    """A number, or a schedule over training."""
    loss: TokenLoss
    """The loss that is scaled."""

    @property
    def models(self) -> tuple[str, ...]:
        return models_of(self.loss)

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        return at(self.coefficient, tokens.progress) * self.loss(tokens)


@dataclass(frozen=True)
class OnCorrect(Loss):
    """A loss on the tokens of correct traces; 0 on those of incorrect and ungraded ones."""

    loss: TokenLoss
    """The loss that counts there."""

    @property
    def models(self) -> tuple[str, ...]:
        return models_of(self.loss)

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        return _select(tokens.verdict > 0, self.loss(tokens))


@dataclass(frozen=True)
class OnIncorrect(Loss):
    """A loss on the tokens of incorrect traces; 0 on those of correct and ungraded ones."""

    loss: TokenLoss
    """The loss that counts there."""

    @property
    def models(self) -> tuple[str, ...]:
        return models_of(self.loss)

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        return _select(tokens.verdict < 0, self.loss(tokens))


@dataclass(frozen=True)
class OnSpans(Loss):
    """A loss on the tokens of some spans; 0 on the others."""

    loss: TokenLoss
    """The loss that counts there."""
    reasoning: bool = True
    """Count it on reasoning tokens."""
    answer: bool = True
    """Count it on answer tokens."""
    end: bool = True
    """Count it on the end-of-turn token."""

    @property
    def models(self) -> tuple[str, ...]:
        return models_of(self.loss)

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return _select(formulas.in_spans(tokens.span, self.reasoning, self.answer, self.end), self.loss(tokens))


@dataclass(frozen=True)
class Nll(Loss):
    """Negative log-likelihood of the target, -log p."""

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return -formulas.target_logprob(tokens)


@dataclass(frozen=True)
class LabelSmoothing(Loss):
    """(1 - e) NLL - (e / V) sum over the vocabulary of log p_v (Szegedy et al. 2016)."""

    epsilon: float = 0.1
    """Mass moved from the target to the whole vocabulary, 0 to 1."""

    def __post_init__(self) -> None:
        _check(0.0 <= self.epsilon <= 1.0, "LabelSmoothing.epsilon", self.epsilon, "between 0 and 1")

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return formulas.label_smoothing(tokens, self.epsilon)


@dataclass(frozen=True)
class GeneralizedCrossEntropy(Loss):
    """(1 - p^q) / q: between NLL (q to 0) and the mean absolute error (q = 1) (Zhang & Sabuncu 2018, arXiv 1805.07836).

    Its gradient vanishes on tokens that start improbable: begin with NLL and fade over.
    """

    q: float = 0.7
    """Robustness, 0 (NLL) to 1 (absolute error)."""

    def __post_init__(self) -> None:
        _check(0.0 <= self.q <= 1.0, "GeneralizedCrossEntropy.q", self.q, "between 0 and 1")

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return formulas.generalized_cross_entropy(tokens, self.q)


@dataclass(frozen=True)
class SymmetricCrossEntropy(Loss):
    """a NLL + b (-A) (1 - p), where A stands for log 0 in the reverse cross entropy (Wang et al. 2019, arXiv 1908.06112)."""

    a: float = 0.1
    """Coefficient of the NLL."""
    b: float = 1.0
    """Coefficient of the reverse cross entropy."""
    log_zero: float = -4.0
    """A, the finite value that stands for log 0 (negative)."""

    def __post_init__(self) -> None:
        _check(self.log_zero < 0.0, "SymmetricCrossEntropy.log_zero", self.log_zero, "negative")

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return formulas.symmetric_cross_entropy(tokens, self.a, self.b, self.log_zero)


@dataclass(frozen=True)
class Dft(Loss):
    """p NLL with p held constant: the gradient of generalized cross entropy at q = 1 (Wu et al. 2025, arXiv 2508.05629)."""

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return formulas.dft(tokens)


@dataclass(frozen=True)
class Confidence(Loss):
    """Cross entropy with (1 - c) target + c the student's own hardened prediction (Burns et al. 2023, arXiv 2312.09390).

    c rises continuously from 0 to `coefficient` over the warm-up.
    """

    coefficient: float = 0.5
    """c after the warm-up, 0 to 1."""
    warm_up: float = 0.2
    """Fraction of training over which c rises (0: none)."""

    def __post_init__(self) -> None:
        _check(0.0 <= self.coefficient <= 1.0, "Confidence.coefficient", self.coefficient, "between 0 and 1")
        _check(0.0 <= self.warm_up <= 1.0, "Confidence.warm_up", self.warm_up, "a fraction of training, 0 to 1")

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return formulas.confidence(tokens, WarmUp(self.coefficient, self.warm_up)(tokens.progress))


@dataclass(frozen=True)
class Divergence(Loss):
    """Base of the divergences from another model. They are 0 at tokens where its distribution is unknown, as the teacher's is on
    texts that it did not write."""

    model: str = INITIAL
    """Whose distribution: `initial` (the student before training), `teacher` (whoever wrote the trace), or a model's name."""

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            share = ", and the share is written Jsd(beta=0.5)" if isinstance(self, Jsd) else ""
            raise UserError(
                f"{type(self).__name__}.model is {sentences.value(self.model, 60)}; it must be the name of a model: '{INITIAL}', "
                f"'{TEACHER}' or one of the experiment{share}"
            )

    @property
    def models(self) -> tuple[str, ...]:
        return (self.model,)


@dataclass(frozen=True)
class ForwardKL(Divergence):
    """KL(model || student) over the vocabulary: keeps the student where the model has mass."""

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return formulas.forward_kl(tokens, self.model)


@dataclass(frozen=True)
class ReverseKL(Divergence):
    """KL(student || model) over the vocabulary: keeps the student out of where the model has no mass."""

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return formulas.reverse_kl(tokens, self.model)


@dataclass(frozen=True)
class Jsd(Divergence):
    """beta KL(P || M) + (1 - beta) KL(Q || M), M = beta P + (1 - beta) Q, P the model, Q the student (arXiv 2306.13649)."""

    beta: float = 0.5
    """Share of the model in the mixture, strictly between 0 and 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(0.0 < self.beta < 1.0, "Jsd.beta", self.beta, "strictly between 0 and 1")

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return formulas.jsd(tokens, self.model, self.beta)


@dataclass(frozen=True)
class Entropy(Loss):
    """The entropy of the student's distribution, in nats. `Nll() - 0.1 * Entropy()` rewards it, `+` punishes it."""

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return formulas.entropy(tokens)


@dataclass(frozen=True)
class ZLoss(Loss):
    """(logsumexp of the logits)^2, usually times 1e-4: keeps the normaliser near 1."""

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return formulas.z_loss(tokens)


@dataclass(frozen=True)
class Unlikelihood(Loss):
    """-log(1 - p) on the tokens of incorrect traces, 0 elsewhere; usually times at most 0.1 (Welleck et al. 2020).

    It is a term of its own: the NLL of those tokens is only left out where you say so, `OnCorrect(Nll()) + 0.1 * Unlikelihood()`.
    """

    floor: float = 1e-4
    """Smallest 1 - p that is told apart from 0; beyond it the loss is constant. Above 0."""

    def __post_init__(self) -> None:
        _check(0.0 < self.floor < 1.0, "Unlikelihood.floor", self.floor, "strictly between 0 and 1")

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import formulas

        return _select(tokens.verdict < 0, formulas.unlikelihood(tokens, self.floor))


def _select(chosen: Any, losses: Float[Array, " T"]) -> Float[Array, " T"]:
    import jax.numpy as jnp

    return jnp.where(chosen, losses, jnp.zeros((), losses.dtype))


def _check(holds: bool, field: str, value: float, right: str) -> None:
    if not holds:
        raise UserError(f"{field} is {value}; it must be {right}")
