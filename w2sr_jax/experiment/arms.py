"""What an arm of a rung is: a named selection of traces, and the training stages that a student goes through on them."""

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol, cast

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.extendable import Extendable
from w2sr_jax.core.fieldtypes import WHERE_SET
from w2sr_jax.curation.arms import BUILT_IN, LABELS, All, Select
from w2sr_jax.evaluation.arms import Signal
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.losses.objective import Objective
from w2sr_jax.training.settings import Training

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from w2sr_jax.core.records import Problem
    from w2sr_jax.experiment.work import TrainedModel, TrainingWork
    from w2sr_jax.losses.sequences import SequenceLoss
    from w2sr_jax.teachers.teacher import Small


class LeftOpen(Protocol):
    """What training stages leave open is taken from."""

    @property
    def training(self) -> Training: ...
    @property
    def objective(self) -> Objective: ...
    @property
    def probe(self) -> Probe: ...


class TrainingStage(Extendable):
    """One training of an arm's student: from the parameters that the stage before left, and the arm's examples, to new ones.
    Extend it as a frozen dataclass and define `train`.

    Fields called `training`, `objective` and `probe` are taken from the stage's rung where they are None. A stage without a field
    `objective` or `probe` imitates with the rung's too.
    """

    must_define = ("train",)

    training: Training | None = None
    """How batches are made of the stage's examples and how the optimizer goes, where the stage trains on such."""
    objective: Objective | None = None
    """The loss on those batches, likewise."""
    probe: Probe | None = None
    """When the stage looks at the probe problems while it trains, if it does."""

    def resolved(self, rung: LeftOpen) -> "Self":
        """The stage with what it leaves open taken from its rung, or from its teacher."""
        left_open = {
            field.name: getattr(rung, field.name)
            for field in dataclasses.fields(cast(Any, self))
            if field.name in ("training", "objective", "probe") and getattr(self, field.name) is None
        }
        return cast("Self", dataclasses.replace(cast(Any, self), **left_open))

    def rehearsed(self, small: "Small") -> "Self":
        """The stage of a rehearsal: with a small `training` and few `steps`, where it has fields of these names. A stage that has
        other large numbers makes them small itself."""
        shrunk: dict[str, object] = {}
        for field in dataclasses.fields(cast(Any, self)):
            value = getattr(self, field.name)
            if field.name == "training" and value is not None:
                shrunk[field.name] = small.training(value)
            elif field.name == "steps" and type(value) is int:
                shrunk[field.name] = small.steps(value)
        return cast("Self", dataclasses.replace(cast(Any, self), **shrunk))

    @property
    def samples(self) -> bool:
        """Whether it lets a model write answers and grades them, so that it depends on the grader and on `decoding`."""
        return False

    @property
    def sequence_loss(self) -> "SequenceLoss | None":
        """Its loss, where that is one on whole sequences instead of tokens."""
        return None

    @property
    def keeps_initial(self) -> bool:
        """Whether it computes the model that it starts from in every step, even where its loss does not look at that."""
        return False

    @property
    def draws_own(self) -> bool:
        """Whether it learns from answers of its own instead of the arm's traces, so that nothing that was recorded with traces is
        there for its loss."""
        return False

    @property
    def signal(self) -> Signal:
        """What it learns from, by which a report tells arms apart: an arm whose last stage learns from anything but traces does
        not speak for imitation."""
        return "answers" if self.draws_own else "traces"

    @property
    def reused(self) -> int:
        """How many optimizer steps learn from the same answers, where it draws its own."""
        return 1

    def check(self, where: str, select: Select) -> None:
        """`UserError` where the stage cannot work in an arm that selects so; `where` names the arm."""

    def try_own_code(self, problems: "Sequence[Problem]") -> None:
        """`UserError` where code of the user's own that the stage calls, other than its loss, fails on some problems, so that
        nothing is computed for a training that would."""

    def train(self, work: "TrainingWork") -> "TrainedModel":
        raise NotImplementedError(f"{type(self).__name__} must define train(work)")


@dataclasses.dataclass(frozen=True)
class Imitation(TrainingStage):
    """Training on the arm's traces with the regularized imitation loss; in an arm of pairs, on the chosen traces of these."""

    training: Training | None = None
    """How it is trained; None: as its rung says."""
    objective: Objective | None = None
    """The loss; None: the rung's."""
    probe: Probe | None = None
    """Looks at the probe problems while it trains; None: the rung's."""

    @property
    def samples(self) -> bool:
        return self.probe is not None and self.probe.every > 0

    def check(self, where: str, select: Select) -> None:
        if not select.curates:
            raise UserError(
                f"{where} imitates traces, and {type(select).__name__}() selects none: select some, such as All(), or leave out "
                "Imitation()"
            )

    def train(self, work: "TrainingWork") -> "TrainedModel":
        assert self.training is not None
        return work.imitate(work.examples(), work.initial, self.training, self.objective, self.probe)


@dataclasses.dataclass(frozen=True)
class Arm:
    """A student of a rung: which traces it learns from, and how."""

    name: str = "all"
    """Name of the arm in tables, files and keys; on the command line the known names (all, correct, incorrect, majority) stand
    for the arms of the weak-to-strong protocol."""
    select: Select = All()
    """Which traces it keeps."""
    train: tuple[TrainingStage, ...] = (Imitation(),)
    """The training stages that its student goes through, one after the other."""
    label: str = ""
    """What it is called in tables; empty: as the protocol calls it, or by its name."""
    after: str = dataclasses.field(default="", metadata=WHERE_SET)
    """Name of an arm of the rung, stated before this one, whose student it goes on from; empty: the rung's base."""

    @property
    def title(self) -> str:
        """What the arm is called in tables."""
        return self.label or LABELS.get(self.name, self.name)


def named(arm: "Arm | str") -> Arm:
    """The arm that a name stands for. `UserError` where there is none of that name."""
    if isinstance(arm, Arm):
        return arm
    if arm not in BUILT_IN:
        raise UserError(f"the arm {arm!r} is unknown; arms with a name are {', '.join(BUILT_IN)}, others are Arm(…)")
    return Arm(arm, BUILT_IN[arm])
