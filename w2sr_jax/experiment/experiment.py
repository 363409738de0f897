"""What an experiment is: the folders' own settings composed into one frozen value, checked before anything is computed."""

import dataclasses
import difflib
from typing import TYPE_CHECKING, Any

from w2sr_jax.answers.grade import Grader, MathGrader
from w2sr_jax.core import sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.extendable import Extendable, misfits
from w2sr_jax.core.fieldtypes import WHERE_SET, mistyped
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment.arms import Arm, TrainingStage, named
from w2sr_jax.experiment.starts import BASE, Scratch, Start
from w2sr_jax.experiment.teachers import ModelTeacher
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.policy import needs_rollouts
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh, Meshes
from w2sr_jax.problems.settings import Files, Generated, Splits
from w2sr_jax.problems.source import ProblemSource
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.teacher import Teacher
from w2sr_jax.text.contract import TokenizerSettings
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.trackers.tracker import Tracker
from w2sr_jax.training.settings import Training

if TYPE_CHECKING:
    from collections.abc import Sequence

GOLD = "gold"
"""The arm of the ceiling, which learns worked solutions."""


class ExtraStages(Extendable):
    """Stages of a user's own that an experiment has besides its usual ones. Extend it as a frozen dataclass and define
    `stages`."""

    must_define = ("stages",)

    def stages(self, plan: Any) -> "Sequence[object]":
        """The stages to add (`graph.stage.Stage`), given those of the experiment (`stages.plan.ExperimentPlan`)."""
        raise NotImplementedError(f"{type(self).__name__} must define stages(plan)")


@dataclasses.dataclass(frozen=True)
class Rung:
    """One student, trained once per arm."""

    name: str
    """Name of the rung in tables and files."""
    model: ModelConfig
    """The student's architecture."""
    start: Start = Scratch()
    """Where the student's initial weights come from; the base that every arm starts from."""
    teachers: tuple[str, ...] = ("teacher",)
    """Names of the teachers whose traces it learns from. Their traces are there for comparison even where no arm learns from
    them; only a rung without an arm that does may name none."""
    pool: tuple[float, float] = (0.0, 1.0)
    """The part of the student pool that this rung trains on, as fractions."""
    curation: Curation = Curation()
    """How traces are selected."""
    arms: tuple[Arm | str, ...] = ("all", "correct", "incorrect")
    """Which selections of the traces a student is trained on, one student for each: arms, or names of known ones (all: W2SR,
    correct: W2SR-P, incorrect: W2SR-N, majority)."""
    gold: bool = True
    """Also train the ceiling: gold solutions of the same problems under the same budget."""
    training: Training = Training()
    """How every arm, and the ceiling, is trained."""
    objective: Objective = Objective()
    """The regularized imitation loss of the arms. The ceiling is trained with it too."""
    probe: Probe = Probe()
    """Looks at the probe problems while a student trains, and gates."""
    meshes: Meshes = Meshes()
    """How devices are arranged for each use of the rung's models, where not as the experiment's `mesh` says."""

    @property
    def selected_arms(self) -> tuple[Arm, ...]:
        """Its arms, known names resolved."""
        return tuple(map(named, self.arms))

    @property
    def curated_arms(self) -> tuple[Arm, ...]:
        """Those of its arms that learn from traces."""
        return tuple(arm for arm in self.selected_arms if arm.select.curates)

    @property
    def arm_names(self) -> tuple[str, ...]:
        return tuple(arm.name for arm in self.selected_arms)

    def arm(self, name: str) -> Arm:
        """The arm of this name; the ceiling is one."""
        return next(arm for arm in self.trained if arm.name == name)

    @property
    def trained(self) -> tuple[Arm, ...]:
        """Its arms, and the ceiling where there is one."""
        return (*self.selected_arms, *((Arm(GOLD, label="Gold"),) if self.gold else ()))

    def stages_of(self, arm: Arm) -> tuple[TrainingStage, ...]:
        """The training stages of an arm, with what they leave open taken from the rung."""
        return tuple(stage.resolved(self) for stage in arm.train)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The whole experiment. `configs/*.py` define `experiment() -> Experiment`; the command line overrides any field."""

    name: str
    """The run is written to ROOT/NAME."""
    rungs: tuple[Rung, ...]
    """Students, from small to large."""
    teachers: tuple[Teacher, ...] = (ModelTeacher(),)
    """All teachers; rungs refer to them by name."""
    seeds: tuple[int, ...] = (0,)
    """One complete run per seed (weights, order and sampling; problems stay the same); the report pools them."""
    problems: ProblemSource = Generated()
    """Where problems come from."""
    test_problems: ProblemSource | Files | None = None
    """Test problems of their own (otherwise a split of `problems`)."""
    splits: Splits = Splits()
    """How many problems each split gets."""
    tokenizer: TokenizerSettings = WordTokenizer()
    """The tokenizer that all models of the run share."""
    grader: Grader = MathGrader()
    """(texts, golds) → verdicts."""
    evaluation: Evaluation = Evaluation()
    """How every model is evaluated."""
    decoding: Decoding = Decoding(temperature=0.0)
    """How greedy answers are decoded; evaluation samples use it at `evaluation.temperature`."""
    mesh: Mesh = Mesh()
    """How devices are arranged while a model is trained. The same devices decode with a copy of the model on each, or on each
    `tensor` of them. Teachers and rungs may say otherwise for their models (`meshes`)."""
    rehearsal: bool = False
    """Only a trial of the path, whose numbers mean nothing (`--shrink` makes one): page, console and results say so."""
    extra: tuple[ExtraStages, ...] = ()
    """Stages of your own, besides those that the settings above make."""
    trackers: tuple[Tracker, ...] = dataclasses.field(default=(), metadata=WHERE_SET)
    """Who follows the trainings besides TensorBoard (Wandb, Mlflow, Trackio, your own); nothing is done again for them."""

    @property
    def untracked(self) -> "Experiment":
        """All of it that has an influence on what comes out: the same without trackers."""
        return dataclasses.replace(self, trackers=()) if self.trackers else self

    def teacher(self, name: str) -> Teacher:
        """The teacher of this name."""
        return next(teacher for teacher in self.teachers if teacher.name == name)

    def teachers_of(self, rung: int) -> list[Teacher]:
        """The teachers of a rung."""
        return [self.teacher(name) for name in self.rungs[rung].teachers]


def model_name(rung: int, experiment: Experiment, arm: str) -> str:
    """`0-small.correct`: how a rung's model is called in files and tables."""
    return f"{rung}-{experiment.rungs[rung].name}.{arm}"


def check(experiment: Experiment) -> None:
    """Refuse, in one sentence, what cannot work, before anything is computed."""
    wrong = mistyped(experiment, Experiment)
    if wrong:
        raise UserError(wrong)
    for misfit in misfits(experiment):
        defined, kind = usercode.defined(misfit.function or misfit.value), type(misfit.value).__name__
        raise UserError(f"{defined}: {misfit.where} is a {kind}, which {misfit.words}")
    names = [teacher.name for teacher in experiment.teachers]
    for name in (experiment.name, *names, *(rung.name for rung in experiment.rungs)):
        if not _names_files(name):
            raise UserError(f"name {name!r} must consist of letters, digits, '-', '_' and '.', since it names files")
    if len(set(names)) != len(names):
        raise UserError(f"teachers need distinct names, not {', '.join(names)}")
    for teacher in experiment.teachers:
        count = 0 if teacher.writer is None else len(teacher.writer.train)
        taken = {f"{teacher.name}-{number or 'base'}" for number in range(count)} & set(names)
        if taken:
            raise UserError(
                f"teachers: {min(taken)!r} is what a model of the teacher {teacher.name!r} is called before the end of its "
                "training stages; give the other teacher another name"
            )
    if not experiment.rungs:
        raise UserError("rungs is empty: an experiment needs at least one student")
    if not experiment.seeds or len(set(experiment.seeds)) != len(experiment.seeds):
        raise UserError(f"seeds must be one or more distinct integers, not {experiment.seeds}")
    experiment.decoding.check()
    for index, teacher in enumerate(experiment.teachers):
        where = f"teachers.{index} ({teacher.name})"
        teacher.check(where)
        writer = teacher.writer
        if writer is not None and writer.config is not None:
            _check_model(where, writer.config)
    for index, rung in enumerate(experiment.rungs):
        _check_rung(experiment, index, rung, {teacher.name: teacher for teacher in experiment.teachers})


def _check_model(where: str, model: ModelConfig) -> None:
    try:
        # A vocabulary of 0 stands for the tokenizer's.
        dataclasses.replace(model, vocab_size=model.vocab_size or 1).check()
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check_rung(experiment: Experiment, index: int, rung: Rung, teachers: dict[str, Teacher]) -> None:
    where = f"rungs.{index} ({rung.name})"
    if not rung.teachers and rung.curated_arms:
        raise UserError(
            f"{where}: teachers is empty, and the arm {rung.curated_arms[0].name!r} learns from their traces; name one, or let "
            "every arm have select=Nothing()"
        )
    for name in rung.teachers:
        if name not in teachers:
            raise UserError(
                f"{where}: teacher {sentences.value(name, 60)} is not among the experiment's teachers ({', '.join(teachers)})"
            )
        writer = teachers[name].writer
        if writer is not None and writer.config is None:
            _check_parent(experiment, index, writer.arm, f"{where}: teacher {sentences.value(name, 60)}")
    if rung.start.parent is not None:
        _check_parent(experiment, index, rung.start.parent, f"{where}: start")
    _check_model(where, rung.model)
    rung.start.check(where)
    if not 0.0 <= rung.pool[0] < rung.pool[1] <= 1.0:
        raise UserError(f"{where}: pool must be two fractions 0 ≤ from < to ≤ 1, not {rung.pool}")
    if not rung.arms and not rung.gold:
        raise UserError(f"{where}: arms is empty and gold is off, so nothing would be trained")
    names = [arm.name for arm in rung.selected_arms]
    for number, arm in enumerate(rung.selected_arms):
        if arm.after and arm.after not in names[:number]:
            stated = ", ".join(names[:number]) or "none"
            raise UserError(
                f"{where}: arm {arm.name!r} goes on after {sentences.value(arm.after, 60)}, which is no arm stated before it "
                f"({stated})"
            )
        if not _names_files(arm.name) or arm.name in (BASE, GOLD, f"{BASE}-direct"):
            raise UserError(
                f"{where}: an arm is called {arm.name!r}; its name must consist of letters, digits, "
                "'-', '_' and '.', and be none of "
                f"{BASE}, {BASE}-direct and {GOLD}"
            )
        if not arm.train:
            raise UserError(f"{where}: arm {arm.name!r} has no training stage; give it one, such as Imitation()")
        for stage in arm.train:
            stage.check(f"{where}: arm {arm.name!r}", arm.select)
    if len(set(names)) != len(names):
        raise UserError(f"{where}: arms need distinct names, not {', '.join(names)}")
    for arm in rung.selected_arms:
        _check_made_from(where, arm, {one.name: one for one in rung.curated_arms})
    for arm in rung.trained:
        for stage in rung.stages_of(arm):
            objective = stage.objective or rung.objective
            if not stage.draws_own and needs_rollouts(objective.loss):
                raise UserError(
                    f"{where}: arm {arm.name!r} learns from traces with {sentences.value(objective.loss, 80)}, a loss on "
                    "rollouts, which are a student's own answers; give it to a stage that draws them: Policy(loss=…)"
                )


def _check_made_from(where: str, arm: Arm, curated: dict[str, Arm]) -> None:
    of = arm.select.made_from
    if of is None:
        return
    able = [name for name, one in curated.items() if one.select.made_from is None]
    what = f"{where}: the arm {arm.name!r} is made from the arm {sentences.value(of, 60)}"
    if of in curated and of not in able:
        raise UserError(f"{what}, which is made from another one itself; name one of {', '.join(able) or 'none'}")
    if of not in able:
        near = difflib.get_close_matches(of, able, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(able) or 'none'}"
        raise UserError(f"{what}, and the rung has none of that name that learns from traces; {hint}")


def _check_parent(experiment: Experiment, index: int, arm: str, where: str) -> None:
    if index == 0:
        raise UserError(f"{where} needs a previous rung, but this is the first")
    names = experiment.rungs[index - 1].arm_names
    if arm != BASE and arm not in names:
        raise UserError(f"{where} needs arm {arm!r} of the previous rung, which trains {', '.join(names)}")


def _names_files(name: str) -> bool:
    return bool(name) and not name.startswith(".") and all(c.isalnum() or c in "-_." for c in name)
