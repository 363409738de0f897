"""What a training is made of, as `fit` sees it: a program (what is trained, and how) and a source (what each step reads).

Whoever has a training of another kind, such as a policy that learns from its own samples, writes these two and calls `fit`.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from w2sr_jax.training.keeping import KEPT_HERE, Keeping
from w2sr_jax.training.probe import Probing
from w2sr_jax.training.scalars import Scalars
from w2sr_jax.training.state import Metrics, TrainState
from w2sr_jax.training.watchdog import LossLevel

log = logging.getLogger(__name__)

OnEvent = Callable[[Mapping[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What the caller of `fit` wants to be told, and how it steers a training that runs."""

    on_event: OnEvent | None = None
    """Gets `step`, `total`, `loss`, `tokens_per_second`, `eta` (seconds) and `waiting` (the share of the time in which this
    process waited for batches) at every logged step."""
    on_warning: Callable[[str], None] | None = None
    """Gets sentences, perhaps from another thread; default: the log."""
    stop: Callable[[], bool] | None = None
    """Polled before every step; once it is true, the state is saved and `Stopped` raised. With several processes, all give it or
    none, and they ask it together, every `log_every` steps."""
    probe: Probing | None = None
    """Evaluates the student while it learns."""
    scalars: Scalars | None = None
    """Gets what is written down of steps, at the process that writes."""
    began: float | None = None
    """When the work on this training began, of `time.monotonic`; None: with `fit`."""
    keeping: Keeping = KEPT_HERE
    """Where checkpoints are written, and what is done beside every save."""

    def warn(self, words: str) -> None:
        (self.on_warning or log.warning)(words)


NO_HOOKS = Hooks()


class Program(Protocol):
    """What is trained: the state, the jitted step, and everything that stays the same while it runs (model, loss, optimizer,
    frozen parameters, mesh).

    An object serves one call of `fit`, which calls `begin` once, then `step` and `whole`. With several processes all call every
    method alike.
    """

    @property
    def state(self) -> TrainState:
        """The state's shapes, dtypes and shardings, as `jax.ShapeDtypeStruct`s; nothing is allocated for them."""

    def initial_digest(self, like: str = "") -> str:
        """`params_digest(parameters, like)` of the parameters from which the training starts. A checkpoint that started from
        others is refused, and so is a training that ends with these. Called before `begin`."""

    @property
    def lineage(self) -> Mapping[str, Any]:
        """What the lineage of every checkpoint is to say of the program, such as the model's settings; values of JSON."""

    @property
    def loss_level(self) -> LossLevel | None:
        """What the loss and the mean NLL are compared with to tell an explosion; None: they may have any value."""

    def begin(self, restored: TrainState | None, hooks: Hooks) -> TrainState:
        """The state before the next step: `restored` from a checkpoint, or the one before step 1. Puts on the mesh what stays
        frozen."""

    def step(self, state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        """One optimizer step on what the source gave; it may donate `state`, and need not wait for the result.

        Metrics are float32 scalars, the same names at every step: `loss`, `gradient_norm`, `sound` (a bool), and whatever else is
        to be logged. Where loss and gradient are finite, `sound` is what it was; otherwise it turns False, in state and metrics,
        stays so, and nothing else of the state changes (`state.advance` does that). A step in which there was nothing to learn
        has the metric `weight` 0: it is not held against the training that its gradient is 0.
        """

    def whole(self, params: Any) -> Any:
        """A state's parameters as those of the whole student: the same, unless only a part of it is trained, as adapters are."""


class Source(Protocol):
    """What the steps read: any pytree of arrays for each step, addressed by the step's number, so that a training that was
    interrupted goes on exactly.

    A source that does not need the state is read ahead, in a thread of its own; `batch_at` must be a pure function of the step.

    A source that needs the state (`needs_state`), to draw from the student as it is, is asked between two steps, in the thread
    of `fit`. It derives its random keys from the step, and writes what it drew to disk before it returns. When it is asked for a
    step again, it reads that instead of drawing. So a training that was killed goes on from its last checkpoint through the same
    batches to the same bits. It may take its time, and may raise `Stopped` where `hooks.stop` asks for it.

    With several processes all ask alike; each must get the same values.
    """

    @property
    def digest(self) -> str:
        """Digest of all that determines the batches besides the state: data, seeds, settings. A checkpoint of other data is
        refused."""

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""

    @property
    def needs_state(self) -> bool:
        """Whether `batch_at` needs the state."""

    def prepare(self, directory: Path, start: int, hooks: Hooks) -> Mapping[str, float]:
        """Called once, before anything is asked: steps from `start` on will be, none if that is `steps`. `directory` is the
        training's; the source may keep files of its own there. What it measured is saved with the checkpoints of a training that
        begins here."""

    def batch_at(self, step: int, state: TrainState | None) -> Any:
        """What the step reads that follows `step` finished ones, so 0 for the first.

        `state` is the state after `step` steps, None where `needs_state` is False. The next step may donate its arrays: nothing
        of it may be used after this returns.
        """

    def tokens(self, batch: Any) -> int:
        """How many positions the student reads in a batch, for rates and costs."""
