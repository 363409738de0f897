"""Training of teachers, bases and students: a start or a training stage does its work, and a checkpoint comes out."""

import dataclasses
from typing import TYPE_CHECKING, Literal, NamedTuple

from w2sr_jax.answers.grade import Grader
from w2sr_jax.core.code import returned, usercode
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.experiment import BASE, Start, TrainingStage
from w2sr_jax.experiment.work import TrainedModel
from w2sr_jax.graph import results
from w2sr_jax.graph.stage import NOT_READ, WHERE_SET, Context, Stage, StageResult
from w2sr_jax.losses.objective import Objective
from w2sr_jax.parallel.placement import Placement
from w2sr_jax.problems.source import ProblemSource
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages.external import Weights
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.problems import Problems
from w2sr_jax.stages.tokenizer import Tokenizer

if TYPE_CHECKING:
    from w2sr_jax.stages.curate import Curate

_RIGHT = "return a TrainedModel (w2sr_jax.experiment.work), such as work.imitate, work.finish and work.keep give"


class TracesRead(NamedTuple):
    """The traces of a teacher that looks at the probe problems compare with: the teacher's name and the rung."""

    teacher: str
    rung: int


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a model writes and how that is graded, for training stages that sample. `style` is how its base is asked."""

    grader: Grader
    decoding: Decoding
    style: str = "reason"


@dataclasses.dataclass(frozen=True)
class Train(Stage):
    """Make one model. Writes checkpoints, packed batches and journals into the model's directory.

    `recipe` says how: a start makes a base or a teacher's own model, a training stage goes on from the model of `source` with the
    examples that `curation` chose for the model's arm. `sampling` and `traces` are there where the recipe samples. `others` are
    the trainings of the models that its loss looks at, besides its own initial parameters, under the names in `other_names`;
    `untaught` says that nobody wrote the examples, so that a loss on the teacher looks at none.
    `objective` and `probe` are the rung's, where the recipe has none of its own: what it imitates with unless it says otherwise.
    Where a mesh of its own is not given, distributions are stored, and a probe looks, on `mesh`.
    """

    model: Model
    recipe: Start | TrainingStage
    problems: Problems
    tokenizer: Tokenizer
    mesh: Placement = dataclasses.field(metadata=NOT_READ)
    seed: int
    pool: tuple[float, float] = (0.0, 1.0)
    source: "Train | None" = None
    curation: "Curate | None" = None
    sampling: Sampling | None = None
    traces: tuple[Stage, ...] = ()
    others: "tuple[Train, ...]" = ()
    other_names: tuple[str, ...] = ()
    untaught: bool = False
    facts_of: ProblemSource | None = None
    objective: Objective | None = dataclasses.field(default=None, metadata=WHERE_SET)
    probe: Probe | None = dataclasses.field(default=None, metadata=WHERE_SET)
    weights: tuple[Weights, ...] = ()
    reference_mesh: Placement | None = dataclasses.field(default=None, metadata=NOT_READ)
    probe_mesh: Placement | None = dataclasses.field(default=None, metadata=NOT_READ)
    parents: tuple[Stage, ...] = dataclasses.field(default=(), metadata=NOT_READ)

    kind = "train"

    @property
    def hosts(self) -> Literal["one", "all"]:
        return "all"

    @property
    def serves(self) -> int | None:
        return self.model.rung

    @property
    def after(self) -> tuple[Stage, ...]:
        return self.parents

    @property
    def may_skip(self) -> bool:
        return self.model.rung is not None and self.model.arm != BASE

    @property
    def computes_on(self) -> Placement:
        return self.mesh

    def run(self, context: Context) -> StageResult:
        from w2sr_jax.stages.training_work import Work

        work = Work(self, context)
        with usercode.guarded(self.recipe):
            member = "make" if isinstance(self.recipe, Start) else "train"
            made = self.recipe.make(work) if isinstance(self.recipe, Start) else self.recipe.train(work)
            trained = returned.fitting(made, TrainedModel, self.recipe, member, _RIGHT)
            context.store.bring_seal(trained.checkpoint)
            result = StageResult(trained.outputs, {trained.checkpoint: trained.digest}, trained.measures, trained.note)
            # The first process seals the checkpoint, perhaps after another one is through.
            return results.sound(result, context.store, self.recipe, member) if context.first else result
