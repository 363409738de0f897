"""Numbers that change over training: continuous functions of progress, 0 at the first step and 1 at the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.extendable import Extendable

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Schedule(Extendable):
    """Base of the schedules: `schedule(progress)` with a float32 scalar gives a float32 scalar."""

    def __call__(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value throughout."""

    value: float = 1.0
    """The value."""

    def __call__(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        import jax.numpy as jnp

        return jnp.full_like(progress, self.value)


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from `start` at progress 0 to `end` at progress `until`, then `end`."""

    start: float = 0.0
    """Value at the first step."""
    end: float = 1.0
    """Value from `until` on."""
    until: float = 1.0
    """Fraction of training at which `end` is reached (above 0, at most 1)."""

    def __post_init__(self) -> None:
        _check_until(self.until, "Linear")

    def __call__(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        return self.start + (self.end - self.start) * _fraction(progress, self.until)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine wave from `start` at progress 0 to `end` at progress `until`, then `end`."""

    start: float = 1.0
    """Value at the first step."""
    end: float = 0.0
    """Value from `until` on."""
    until: float = 1.0
    """Fraction of training at which `end` is reached (above 0, at most 1)."""

    def __post_init__(self) -> None:
        _check_until(self.until, "Cosine")

    def __call__(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        import jax.numpy as jnp

        return self.end + (self.start - self.end) * 0.5 * (1.0 + jnp.cos(jnp.pi * _fraction(progress, self.until)))


@dataclass(frozen=True)
class WarmUp(Schedule):
    """From 0 to `value` in a straight line over the first part of training, then `value`."""

    value: float = 1.0
    """Value from `until` on."""
    until: float = 0.2
    """Fraction of training that the warm-up takes (0: none)."""

    def __post_init__(self) -> None:
        if self.until != 0.0:
            _check_until(self.until, "WarmUp")

    def __call__(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        return (Constant(self.value) if self.until == 0.0 else Linear(0.0, self.value, self.until))(progress)


if TYPE_CHECKING:
    Scheduled = float | Schedule
else:
    Scheduled = Any  # lets the command line offer the fields of whichever schedule an experiment holds


def never(value: Scheduled) -> bool:
    """Whether a coefficient is 0 throughout training; of a schedule of a user's own that is not known, so False."""
    if type(value) is Constant or type(value) is WarmUp:
        return value.value == 0.0
    if type(value) is Linear or type(value) is Cosine:
        return value.start == value.end == 0.0
    return isinstance(value, int | float) and value == 0.0


def at(value: Scheduled, progress: Float[Array, ""]) -> float | Float[Array, ""]:
    """A number as it is, a schedule's value at `progress`."""
    return value(progress) if isinstance(value, Schedule) else value


def _fraction(progress: Float[Array, ""], until: float) -> Float[Array, ""]:
    import jax.numpy as jnp

    return jnp.clip(progress / until, 0.0, 1.0)


def _check_until(until: float, name: str) -> None:
    if not 0.0 < until <= 1.0:
        raise UserError(f"{name}.until is {until}; it is a fraction of training, above 0 and at most 1")
