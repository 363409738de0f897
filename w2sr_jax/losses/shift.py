"""On-policy distillation and weak-to-strong shifts as one formula. Importing this module does not import jax.

The student's own texts are moved, token by token, towards log π* = log π_anchor + λ (log π₊ - log π₋) - log Z.

| method | anchor | π₊ | π₋ | λ |
|---|---|---|---|---|
| on-policy distillation (OPD) | = π₋ | teacher | any | 1 |
| ExOPD (Yang et al. 2026, arXiv 2602.12125) | = π₋ | teacher | reference, as the teacher's own base | above 1 |
| Direct-OPD (arXiv 2607.05394), W2S-OPD (arXiv 2607.26246) | the student's start | weak model, trained | weak model, before | 1 |
| after WMSS (arXiv 2602.08222) | the student | the student | an old checkpoint of the student | 0.45 |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.inputs import INITIAL, TEACHER, Tokens
from w2sr_jax.losses.policy import Reinforce
from w2sr_jax.losses.token import Loss

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

STUDENT = "student"
"""The student as it is at this step, held constant; no model that has to be computed or kept."""


@dataclass(frozen=True)
class Power:
    """(π₊^α - π₋^α) / α for the log-ratio, to which it tends as α tends to 0: it has its sign and lies between -1/α and 1/α
    (PowerOPD, Zhao et al. 2026, arXiv 2606.17199, where it is the reward of single tokens, with α up to 5)."""

    alpha: float = 1.0
    """α, above 0; 1: the difference between the probabilities."""

    def __post_init__(self) -> None:
        _check(self.alpha > 0.0 and math.isfinite(self.alpha), "Power.alpha", self.alpha, "above 0")

    def __call__(self, positive: Float[Array, "T V"], negative: Float[Array, "T V"]) -> Float[Array, "T V"]:
        from w2sr_jax.losses import shift_formulas

        return shift_formulas.power_ratio(positive, negative, self.alpha)


@dataclass(frozen=True)
class Clip:
    """The log-ratio, cut off at -limit and limit."""

    limit: float = 5.0
    """Largest log-ratio, above 0."""

    def __post_init__(self) -> None:
        _check(self.limit > 0.0, "Clip.limit", self.limit, "above 0")

    def __call__(self, positive: Float[Array, "T V"], negative: Float[Array, "T V"]) -> Float[Array, "T V"]:
        import jax.numpy as jnp

        from w2sr_jax.losses import shift_formulas

        return jnp.clip(shift_formulas.log_ratio(positive, negative), -self.limit, self.limit)


@dataclass(frozen=True)
class Shift(Loss):
    """KL(π ‖ π*) at each token, exact over the vocabulary, with π* as this module says; 0 where one of the models is unknown.

    With λ 0 it is the divergence from the anchor; with the anchor as π₋ and λ 1 that from π₊, and no other model is computed. Its
    two controls are `shuffle`, and `losses.advantages.Fixed` for a step without any teacher.
    """

    anchor: str = INITIAL
    """From where the shift is counted: a model's name, `initial`, or `student` (the student as it is now)."""
    positive: str = TEACHER
    """The model that is moved towards, π₊; also `student`."""
    negative: str = INITIAL
    """The model that is moved away from, π₋; also `student`."""
    strength: float = 1.0
    """λ: how far. 0: not at all."""
    direction: Literal["reverse", "forward"] = "reverse"
    """Reverse, KL(π ‖ π*), keeps the student where π* has mass; forward, KL(π* ‖ π), brings it wherever π* has some."""
    top: int = 0
    """Most probable tokens of π* that are compared, both distributions renormalised over them; 0: the whole vocabulary."""
    bound: Power | Clip | None = None
    """What stands for the log-ratio, so that tokens which one model all but rules out do not decide; None: nothing."""
    shuffle: bool = False
    """Control: each token has the shift of another, always the same one."""

    def __post_init__(self) -> None:
        for name in ("anchor", "positive", "negative"):
            _check_name(f"Shift.{name}", getattr(self, name))
        _check(math.isfinite(self.strength), "Shift.strength", self.strength, "a finite number")
        if self.direction not in ("reverse", "forward"):
            raise UserError(f"Shift.direction is {sentences.value(self.direction, 40)}; it must be 'reverse' or 'forward'")
        if not isinstance(self.top, int) or self.top < 0 or self.top == 1:
            raise UserError(f"Shift.top is {self.top}; it must be 0 (the whole vocabulary) or a number of tokens, at least 2")
        if not self.models and not self._to_positive:
            raise UserError(f"Shift looks at no model but the student, so nothing is learned from it; {self._remedy}")
        if self._to_positive and self.positive == STUDENT:
            raise UserError(f"Shift moves the student towards itself, so nothing is learned from it; {self._remedy}")

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name in self._needed if name != STUDENT))

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        import jax.numpy as jnp

        from w2sr_jax.losses import shift_formulas

        if self._to_positive:
            target = _logprobs(tokens, self.positive)
        elif self.strength == 0.0:
            target = _logprobs(tokens, self.anchor)
        else:
            ratio: shift_formulas.Ratio = self.bound or shift_formulas.log_ratio
            shift = ratio(_logprobs(tokens, self.positive), _logprobs(tokens, self.negative))
            target = shift_formulas.tilted(_logprobs(tokens, self.anchor), shift, self.strength, self.shuffle)
        losses = shift_formulas.divergence(target, tokens.logits, self.direction, self.top)
        return jnp.where(shift_formulas.all_available(tokens, self.models), losses, 0.0)

    @property
    def _to_positive(self) -> bool:
        """Whether π* is π₊ itself."""
        return self.anchor == self.negative and self.strength == 1.0 and self.bound is None and not self.shuffle

    @property
    def _needed(self) -> tuple[str, ...]:
        if self._to_positive:
            return (self.positive,)
        return (self.anchor,) if self.strength == 0.0 else (self.anchor, self.positive, self.negative)

    @property
    def _remedy(self) -> str:
        return f"name another model as Shift.positive, as '{TEACHER}', or as Shift.negative"


@dataclass(frozen=True)
class Verified(Reinforce):
    """-A w log p with w = 2 σ(± λ (log π₊ - log π₋)) at the drawn token, the sign that of A: only rewards say what is learned,
    and a shift only where in a text. Tokens on which it agrees with the reward count up to twice, those on which it does not
    down to nothing; with λ 0 it is `Reinforce`. 1 where one of the models is unknown.

    The idea is that of OPRD (arXiv 2609.08798): a shift that rescales gradients which a verifier supports. The weight is our
    own.
    """

    positive: str = TEACHER
    """The model whose tokens count more in right texts, π₊."""
    negative: str = INITIAL
    """The model that it is compared with, π₋."""
    strength: float = 1.0
    """λ: how much the shift decides, at least 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("positive", "negative"):
            _check_name(f"Verified.{name}", getattr(self, name))
        holds = math.isfinite(self.strength) and self.strength >= 0.0
        _check(holds, "Verified.strength", self.strength, "a finite number, at least 0")

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name in (self.positive, self.negative) if name != STUDENT))

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        return self._weights(tokens) * super().__call__(tokens)

    def _weights(self, tokens: Tokens) -> Float[Array, " T"]:
        import jax
        import jax.numpy as jnp

        from w2sr_jax.losses import shift_formulas

        shift = shift_formulas.log_ratio(_logprobs(tokens, self.positive), _logprobs(tokens, self.negative))
        agreed = jnp.sign(tokens.drawn().advantage) * shift_formulas.at_target(tokens, shift)
        available: Bool[Array, " T"] = shift_formulas.all_available(tokens, self.models)
        return jnp.where(available, 2.0 * jax.nn.sigmoid(self.strength * agreed), 1.0)


def _logprobs(tokens: Tokens, model: str) -> Float[Array, "T V"]:
    """A model's log-probabilities, or those of the student as it is now, without gradient."""
    import jax

    if model != STUDENT:
        return tokens.logprobs_of(model)
    return jax.lax.stop_gradient(jax.nn.log_softmax(tokens.logits, axis=-1))


def _check_name(field: str, name: object) -> None:
    if not isinstance(name, str) or not name:
        raise UserError(
            f"{field} is {sentences.value(name, 60)}; it must be the name of a model: '{INITIAL}', '{TEACHER}', '{STUDENT}' or "
            "one of the experiment"
        )


def _check(holds: bool, field: str, value: float, right: str) -> None:
    if not holds:
        raise UserError(f"{field} is {value}; it must be {right}")
