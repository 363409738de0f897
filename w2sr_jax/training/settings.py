"""How one student is trained. Free of jax."""

import dataclasses
import math
from typing import Literal

from w2sr_jax.batches.settings import Batching
from w2sr_jax.core.errors import UserError
from w2sr_jax.models.lora_settings import Lora

LEAST = 1e-30
"""The least learning rate; float32 ends soon below it."""


@dataclasses.dataclass(frozen=True)
class Watchdog:
    """When a training is stopped, or warned about, because something is wrong with it."""

    explosion: float = 3.0
    """Stop where the loss or the mean NLL is above this many times the larger of ln(vocabulary) and its value at step 1; 0:
    never."""
    stall: float = 600.0
    """Stop after this many seconds without a batch, warn at half of it; 0: never."""
    memory: float = 0.92
    """Warn where the host's or a device's memory is fuller than this fraction of its limit; 0: never."""

    def __post_init__(self) -> None:
        _require(self.explosion == 0 or self.explosion >= 1, "watchdog.explosion", self.explosion, "0 (off) or at least 1")
        _require(self.stall >= 0, "watchdog.stall", self.stall, "0 (off) or a number of seconds")
        _require(0 <= self.memory <= 1, "watchdog.memory", self.memory, "0 (off) or a fraction of the memory, up to 1")


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """What `fit` has to know of any training, whatever is trained: when it writes and saves, what it keeps, when it gives up.
    The fields are those of `Training`."""

    save_every: int = 0
    log_every: int = 10
    keep: int = 2
    keep_optimizer: bool = False
    watchdog: Watchdog = dataclasses.field(default_factory=Watchdog)

    def __post_init__(self) -> None:
        _require(self.save_every >= 0, "save_every", self.save_every, "0 (only the last step) or more")
        _require(self.log_every >= 1, "log_every", self.log_every, "at least 1")
        _require(self.keep >= 1, "keep", self.keep, "at least 1")

    def logs(self, step: int, total: int) -> bool:
        """Whether a step (from 1) has a line in metrics.jsonl."""
        return step in (1, total) or step % self.log_every == 0

    def saves(self, step: int, total: int) -> bool:
        """Whether there is a checkpoint after a step (from 1)."""
        return step == total or (self.save_every > 0 and step % self.save_every == 0)


@dataclasses.dataclass(frozen=True)
class Training:
    steps: int = 500
    """Optimizer steps."""
    epochs: float | None = None
    """Passes over the packed rows; if given, it overrides `steps`."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    warmup: float = 0.1
    """Fraction of the steps over which the learning rate rises linearly."""
    final_fraction: float = 0.1
    """Learning rate at the end of the cosine, as a fraction of the peak."""
    weight_decay: float = 0.0
    """Decoupled weight decay of matrices and embeddings (never of norms and biases)."""
    b1: float = 0.9
    """AdamW: decay of the first moment."""
    b2: float = 0.95
    """AdamW: decay of the second moment."""
    epsilon: float = 1e-8
    """AdamW: added to the root of the second moment."""
    moments: Literal["float32", "bfloat16"] = "float32"
    """AdamW: type in which both moments are kept between steps; they are computed in float32. bfloat16 halves them, and needs b1
    and b2 of at most 0.99: above, what a step adds to a moment would be rounded away."""
    clip: float = 1.0
    """Largest global norm of the gradient; 0: no clipping."""
    accumulation: int = 1
    """Micro-batches per step: less memory, the same gradient."""
    batching: Batching = dataclasses.field(default_factory=Batching)
    """Row length and rows per step."""
    save_every: int = 0
    """Steps between checkpoints; 0: only the last step is saved."""
    log_every: int = 10
    """Steps between lines in metrics.jsonl."""
    keep: int = 2
    """Checkpoints kept while training (the newest); after its end, the last one is."""
    keep_optimizer: bool = False
    """Keep the optimizer's state of a finished training, which takes twice the room of the parameters."""
    seed: int = 0
    """Order of the batches, and the adapters' first values."""
    reference_top: int = 0
    """Store, once per data set, this many of the most probable next tokens of every frozen model that the loss looks at, at every
    supervised token, and spread the rest of its mass evenly: no step has to compute or hold it. 0: every step computes all."""
    lora: Lora = dataclasses.field(default_factory=Lora)
    """Train adapters beside the frozen parameters instead of these."""
    watchdog: Watchdog = dataclasses.field(default_factory=Watchdog)
    """What stops a training that goes wrong."""

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "steps", self.steps, "at least 1")
        _require(self.epochs is None or self.epochs > 0, "epochs", self.epochs, "above 0")
        right = f"a number of at least {LEAST:g}: with less, every step would leave the parameters as they are"
        _require(LEAST <= self.learning_rate < math.inf, "learning_rate", self.learning_rate, right)
        _require(0 <= self.warmup <= 1, "warmup", self.warmup, "a fraction of the steps, from 0 to 1")
        _require(0 <= self.final_fraction <= 1, "final_fraction", self.final_fraction, "a fraction of the peak, from 0 to 1")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(0 <= self.b1 < 1, "b1", self.b1, "at least 0 and below 1")
        _require(0 <= self.b2 < 1, "b2", self.b2, "at least 0 and below 1")
        _require(self.epsilon > 0, "epsilon", self.epsilon, "above 0")
        if self.moments == "bfloat16":
            for name, value in (("b1", self.b1), ("b2", self.b2)):
                _require(value <= 0.99, name, value, "at most 0.99 with moments in bfloat16, which keeps 8 bits")
        _require(self.clip >= 0, "clip", self.clip, "0 (no clipping) or more")
        _require(self.accumulation >= 1, "accumulation", self.accumulation, "at least 1")
        _require(self.reference_top >= 0, "reference_top", self.reference_top, "0 (nothing is kept) or a number of tokens")
        _ = self.loop

    @property
    def loop(self) -> LoopSettings:
        """The part that is `fit`'s. `UserError` where a setting makes no sense."""
        return LoopSettings(self.save_every, self.log_every, self.keep, self.keep_optimizer, self.watchdog)

    def total_steps(self, steps_per_epoch: float) -> int:
        """Optimizer steps, `epochs` resolved against the size of the data."""
        return self.steps if self.epochs is None else max(1, math.ceil(self.epochs * steps_per_epoch))


def _require(sound: bool, field: str, value: object, right: str) -> None:
    if not sound:
        raise UserError(f"training.{field} is {value}; it must be {right}")
