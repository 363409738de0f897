"""What stages cost. Floating-point operations are counted from parameters N and tokens (2N per sampled token, 6N per trained one,
4N where adapters alone are trained), since compilers count a scanned layer once. Attention's share, small for short contexts, is
left out."""

import dataclasses
from collections.abc import Mapping

from w2sr_jax.core.codec import LeftOut


@dataclasses.dataclass(frozen=True)
class StageCost:
    """A stage's tokens and operations, None where it has none of its own, and the device that it ran on. `kind` groups stages
    (prepare, train, sample, curate, evaluate). `cost` is what servers asked for their answers, at the prices that the teacher's
    settings state."""

    name: str
    kind: str
    tokens: int | None
    flops: float | None
    device: str
    cost: LeftOut[float | None] = None


GOODPUT = "goodput"
"""The measure of a training that holds a `Sittings`."""


@dataclasses.dataclass(frozen=True)
class Sittings:
    """Where a training's time went over all its sittings, which interruptions divide: `wall` seconds in all, without the pauses
    between them; `stepping` seconds in steps that count; `lost_steps` that had to be computed again, and `lost_seconds` in
    them."""

    wall: float
    stepping: float
    lost_steps: int
    lost_seconds: float
    sittings: int

    @property
    def goodput(self) -> float | None:
        """The share of the time in steps that count."""
        return self.stepping / self.wall if self.wall > 0 else None


@dataclasses.dataclass(frozen=True)
class StageTime:
    """How long the command took that finished a stage, and when it finished, as an ISO date; of a training, also where its time
    went over all its sittings. `devices` is how many it computed on, None where that is not known."""

    seconds: float | None
    finished: str | None
    training: LeftOut[Sittings | None] = None
    devices: LeftOut[int | None] = None

    @property
    def device_seconds(self) -> float | None:
        """The time that it took of all its devices together, as if one after the other; of a training that was interrupted, that
        of all sittings, since the command that finishes it counts only its own. One device where their number is not known."""
        if self.seconds is None:
            return None
        return max(self.seconds, 0.0 if self.training is None else self.training.wall) * (self.devices or 1)


@dataclasses.dataclass(frozen=True)
class Timings:
    """`timings.json`: what depends on a clock, by the names of stages."""

    stages: Mapping[str, StageTime]


def sampling_flops(parameters: int, tokens: int) -> float:
    """One forward pass per token, prompt tokens included."""
    return 2.0 * parameters * tokens


def training_flops(
    parameters: int, tokens: int, rematerialised: bool = False, reference_parameters: int = 0, trained: int | None = None
) -> float:
    """Forward and backward over `tokens` (epochs counted) of a model of `parameters`, adapters included, of which `trained` have
    gradients (None: all). Rematerialisation adds a forward pass, and so does a frozen reference of `reference_parameters`."""
    passes = (6.0 if rematerialised else 4.0) * parameters + 2.0 * (parameters if trained is None else trained)
    return (passes + 2.0 * reference_parameters) * tokens
