"""A training stage on pairs: of two traces of one problem, the student learns to prefer one."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.arms import Select
from w2sr_jax.evaluation.arms import Signal
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.experiment.arms import TrainingStage
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.preference import Dpo
from w2sr_jax.losses.sequences import SequenceLoss
from w2sr_jax.training.settings import Training

if TYPE_CHECKING:
    from w2sr_jax.experiment.work import TrainedModel, TrainingWork


@dataclasses.dataclass(frozen=True)
class Preference(TrainingStage):
    """Training on the arm's pairs, which `select=Pairs()` makes, with a loss on whole sequences. An `Imitation()` stage of such
    an arm learns from the chosen traces of the pairs, so that `Arm(…, select=Pairs(), train=(Imitation(), Preference()))`
    imitates first and prefers then.

    The reference of the loss is the student as the stage before left it; what it makes of every trace is computed once and
    stored. Such losses take far smaller learning rates than imitation: give the stage a `training` of its own.
    """

    loss: SequenceLoss = Dpo()
    """A loss on pairs (`losses.preference`), or one of your own."""
    training: Training | None = None
    """How it is trained; None: as its rung says. `batching.length` must hold both traces of a pair and the question twice."""
    probe: Probe | None = None
    """Looks at the probe problems while it trains; None: the rung's."""

    objective: ClassVar[Objective] = Objective()  # type: ignore[misc]
    """The rung's is none of its own: no model is looked at in its steps."""

    @property
    def signal(self) -> Signal:
        return "pairs"

    @property
    def sequence_loss(self) -> SequenceLoss:
        return self.loss

    @property
    def samples(self) -> bool:
        return self.probe is not None and self.probe.every > 0

    def check(self, where: str, select: Select) -> None:
        if not select.pairs:
            raise UserError(
                f"{where} has a Preference() stage, which learns from pairs, and {type(select).__name__}() makes none: give the "
                "arm select=Pairs()"
            )
        if not self.loss.pairs:
            raise UserError(f"{where}: the loss {type(self.loss).__name__} is not one on pairs; take one such as Dpo()")
        if self.training is not None and self.training.reference_top:
            raise UserError(
                f"{where}: Preference.training.reference_top is {self.training.reference_top}; it must be 0, since the "
                "one number for each trace that the loss looks at is always stored"
            )

    def train(self, work: "TrainingWork") -> "TrainedModel":
        assert self.training is not None
        # The rung's may store distributions for its other stages.
        training = dataclasses.replace(self.training, reference_top=0)
        return work.prefer(work.initial, training, self.loss, self.probe)
