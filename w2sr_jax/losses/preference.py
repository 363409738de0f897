"""Losses on pairs of a right and a wrong text of one problem. Importing this module does not import jax.

Δ is log π(text) - log π_ref(text), summed over its tokens, π_ref the student before training; + marks the right text, - the wrong
one, σ is the logistic function. Each loss is the mean over the pairs of a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.extendable import Extendable
from w2sr_jax.losses.sequences import Sequences

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class PreferenceLoss(Extendable):
    """Base of the losses on pairs. One of your own is a subclass that defines `of_margin`, and perhaps `margin`, or anything that
    satisfies `losses.sequences.SequenceLoss`."""

    uses_reference: ClassVar[bool] = True
    pairs: ClassVar[bool] = True

    def margin(self, sequences: Sequences) -> Float[Array, "R P"]:
        """How much the student prefers the right text to the wrong one: the order of a pair is learned where it is above 0."""
        return right_minus_wrong(sequences.logprob - sequences.reference)

    def of_margin(self, margin: Float[Array, "R P"]) -> Float[Array, "R P"]:
        """The loss of pairs from their margins."""
        raise NotImplementedError

    def __call__(self, sequences: Sequences) -> Float[Array, "R P"]:
        return self.of_margin(self.margin(sequences))


def right_minus_wrong(values: Float[Array, "R S"]) -> Float[Array, "R P"]:
    """The difference between the two of each pair: sequences 0, 2, … of a row less its sequences 1, 3, …"""
    return values[:, 0::2] - values[:, 1::2]


@dataclass(frozen=True)
class Dpo(PreferenceLoss):
    """-log σ(β (Δ⁺ - Δ⁻)) (Rafailov et al. 2023, arXiv 2305.18290).

    With a label smoothing ε, -(1 - ε) log σ(β (Δ⁺ - Δ⁻)) - ε log σ(-β (Δ⁺ - Δ⁻)): some pairs may be the wrong way round.
    """

    beta: float = 0.1
    """β, the price of leaving the reference. Above 0."""
    label_smoothing: float = 0.0
    """ε, the share of pairs that are the wrong way round, at least 0 and below 0.5."""

    def __post_init__(self) -> None:
        _check(self.beta > 0.0, "Dpo.beta", self.beta, "above 0")
        _check(0.0 <= self.label_smoothing < 0.5, "Dpo.label_smoothing", self.label_smoothing, "at least 0 and below 0.5")

    def of_margin(self, margin: Float[Array, "R P"]) -> Float[Array, "R P"]:
        right, wrong = _log_sigmoids(self.beta * margin)
        return -(1.0 - self.label_smoothing) * right - self.label_smoothing * wrong


@dataclass(frozen=True)
class RobustDpo(PreferenceLoss):
    """(-(1 - ε) log σ(β (Δ⁺ - Δ⁻)) + ε log σ(-β (Δ⁺ - Δ⁻))) / (1 - 2 ε): in expectation the DPO loss of the true order, where a
    share ε of the pairs is the wrong way round (Chowdhury et al. 2024, arXiv 2403.00409). It may be negative."""

    beta: float = 0.1
    """β, the price of leaving the reference. Above 0."""
    flip: float = 0.1
    """ε, the share of pairs that are the wrong way round, at least 0 and below 0.5."""

    def __post_init__(self) -> None:
        _check(self.beta > 0.0, "RobustDpo.beta", self.beta, "above 0")
        _check(0.0 <= self.flip < 0.5, "RobustDpo.flip", self.flip, "at least 0 and below 0.5")

    def of_margin(self, margin: Float[Array, "R P"]) -> Float[Array, "R P"]:
        right, wrong = _log_sigmoids(self.beta * margin)
        return (-(1.0 - self.flip) * right + self.flip * wrong) / (1.0 - 2.0 * self.flip)


@dataclass(frozen=True)
class Ipo(PreferenceLoss):
    """(Δ⁺/n⁺ - Δ⁻/n⁻ - 1 / (2 β))² with n the numbers of tokens: the margin has a finite aim, so certain pairs do not push for
    ever (Azar et al. 2023, arXiv 2310.12036). The paper's β is called τ; dividing by the lengths is TRL's reading of it."""

    beta: float = 0.1
    """β, half the inverse of the margin that is aimed at. Above 0."""

    def __post_init__(self) -> None:
        _check(self.beta > 0.0, "Ipo.beta", self.beta, "above 0")

    def margin(self, sequences: Sequences) -> Float[Array, "R P"]:
        return right_minus_wrong((sequences.logprob - sequences.reference) / sequences.lengths)

    def of_margin(self, margin: Float[Array, "R P"]) -> Float[Array, "R P"]:
        return (margin - 1.0 / (2.0 * self.beta)) ** 2


@dataclass(frozen=True)
class SimPo(PreferenceLoss):
    """-log σ(β (log π(+)/n⁺ - log π(-)/n⁻) - γ) with n the numbers of tokens, without a reference (Meng et al. 2024, arXiv
    2405.14734)."""

    beta: float = 2.0
    """β, the scale of the mean log-probabilities. Above 0."""
    gamma: float = 1.0
    """γ, by how much the right text is to lead. At least 0."""

    uses_reference: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self.beta > 0.0, "SimPo.beta", self.beta, "above 0")
        _check(self.gamma >= 0.0, "SimPo.gamma", self.gamma, "at least 0")

    def margin(self, sequences: Sequences) -> Float[Array, "R P"]:
        return right_minus_wrong(sequences.mean_logprob)

    def of_margin(self, margin: Float[Array, "R P"]) -> Float[Array, "R P"]:
        return -_log_sigmoids(self.beta * margin - self.gamma)[0]


def _log_sigmoids(x: Float[Array, "R P"]) -> tuple[Float[Array, "R P"], Float[Array, "R P"]]:
    """log σ(x) and log σ(-x)."""
    import jax

    return jax.nn.log_sigmoid(x), jax.nn.log_sigmoid(-x)


def _check(holds: bool, field: str, value: float, right: str) -> None:
    if not holds:
        raise UserError(f"{field} is {value}; it must be {right}")
