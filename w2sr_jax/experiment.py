"""What an experiment is: the folders' own settings composed into one frozen value, checked before anything is computed."""

import dataclasses
from typing import Literal

from w2sr_jax.answers.grade import Grader, MathGrader
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.curation.settings import Arm, Curation
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.settings import Files, Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.settings import Recorded, Served
from w2sr_jax.text.settings import BpeTokenizer, PretrainedTokenizer, WordTokenizer
from w2sr_jax.training.settings import Training

GOLD = "gold"
BASE = "base"


@dataclasses.dataclass(frozen=True)
class ModelTeacher:
    """A model of ours as teacher: trained in the run on gold solutions of the teacher split, or taken from a checkpoint."""

    name: str = "teacher"
    """Name of the teacher in tables, files and keys."""
    model: ModelConfig = ModelConfig(width=64, layers=2, heads=2, kv_heads=2)
    """Its architecture."""
    training: Training = Training()
    """How it is trained (unused with a checkpoint)."""
    checkpoint: str | None = None
    """A parameter checkpoint to use instead of training."""
    samples: int = 4
    """Traces per problem."""
    decoding: Decoding = Decoding(temperature=0.7)
    """How its traces are drawn."""
    token_budget: int | None = None
    """Most tokens of all its traces for a rung; the problems that it does not reach get none."""
    weight: float = 1.0
    """How much its traces count in the mix."""


@dataclasses.dataclass(frozen=True)
class Graduate:
    """The previous rung's student as teacher."""

    name: str = "graduate"
    """Name of the teacher in tables, files and keys."""
    arm: Arm = "correct"
    """Which of the previous rung's students."""
    samples: int = 4
    """Traces per problem."""
    decoding: Decoding = Decoding(temperature=0.7)
    """How its traces are drawn."""
    token_budget: int | None = None
    """Most tokens of all its traces for a rung; the problems that it does not reach get none."""
    weight: float = 1.0
    """How much its traces count in the mix."""


Teacher = ModelTeacher | Graduate | Recorded | Served


@dataclasses.dataclass(frozen=True)
class Scratch:
    """The student starts from random weights."""


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """The student's base is pretrained in the run, on arithmetic facts and on the questions of the pretrain split with their
    answers, every token of them, without reasoning. It has never seen a chain of thought."""

    training: Training = Training()
    """How the base is pretrained."""
    facts: int = 2000
    """Lines of arithmetic facts."""


@dataclasses.dataclass(frozen=True)
class FromParent:
    """The student starts from the previous rung's checkpoint; a larger one is grown from it without changing its function."""

    arm: Arm | Literal["base"] = "correct"
    """Which of the previous rung's models."""


@dataclasses.dataclass(frozen=True)
class FromCheckpoint:
    """The student starts from a parameter checkpoint, or a local Hugging Face directory, of the same architecture."""

    path: str = ""
    """Directory of the checkpoint."""


Start = Scratch | Pretraining | FromParent | FromCheckpoint


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
    """Names of the teachers whose traces it learns from."""
    pool: tuple[float, float] = (0.0, 1.0)
    """The part of the student pool that this rung trains on, as fractions."""
    curation: Curation = Curation()
    """How traces are selected."""
    arms: tuple[Arm, ...] = ("all", "correct", "incorrect")
    """Which selections of the traces a student is trained on (W2SR, W2SR-P, W2SR-N, majority)."""
    gold: bool = True
    """Also train the ceiling: gold solutions of the same problems under the same budget."""
    training: Training = Training()
    """How every arm, and the ceiling, is trained."""
    objective: Objective = Objective()
    """The regularized imitation loss of the arms. The ceiling is trained with it too."""
    probe: Probe = Probe()
    """Looks at the probe problems while a student trains, and gates."""


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
    problems: Generated | Files = Generated()
    """Where problems come from."""
    test_problems: Files | None = None
    """Test problems of their own (otherwise a split of `problems`)."""
    splits: Splits = Splits()
    """How many problems each split gets."""
    tokenizer: WordTokenizer | BpeTokenizer | PretrainedTokenizer = WordTokenizer()
    """The tokenizer that all models of the run share."""
    grader: Grader = MathGrader()
    """(texts, golds) → verdicts."""
    evaluation: Evaluation = Evaluation()
    """How every model is evaluated."""
    decoding: Decoding = Decoding(temperature=0.0)
    """How greedy answers are decoded; evaluation samples use it at `evaluation.temperature`."""
    mesh: Mesh = Mesh()
    """How devices are arranged."""
    rehearsal: bool = False
    """Only a trial of the path, whose numbers mean nothing (`--shrink` makes one): page, console and results say so."""


def model_name(rung: int, experiment: Experiment, arm: str) -> str:
    """`0-small.correct`: how a rung's model is called in files and tables."""
    return f"{rung}-{experiment.rungs[rung].name}.{arm}"


def check(experiment: Experiment) -> None:
    """Refuse, in one sentence, what cannot work, before anything is computed."""
    wrong = mistyped(experiment, Experiment)
    if wrong:
        raise UserError(wrong)
    names = [teacher.name for teacher in experiment.teachers]
    for name in (experiment.name, *names, *(rung.name for rung in experiment.rungs)):
        if not name or name.startswith(".") or not all(c.isalnum() or c in "-_." for c in name):
            raise UserError(f"name {name!r} must consist of letters, digits, '-', '_' and '.', since it names files")
    if len(set(names)) != len(names):
        raise UserError(f"teachers need distinct names, not {', '.join(names)}")
    if not experiment.rungs:
        raise UserError("rungs is empty: an experiment needs at least one student")
    if not experiment.seeds or len(set(experiment.seeds)) != len(experiment.seeds):
        raise UserError(f"seeds must be one or more distinct integers, not {experiment.seeds}")
    experiment.decoding.check()
    for index, teacher in enumerate(experiment.teachers):
        _check_teacher(f"teachers.{index} ({teacher.name})", teacher)
    for index, rung in enumerate(experiment.rungs):
        _check_rung(experiment, index, rung, dict(zip(names, experiment.teachers)))


def _check_teacher(where: str, teacher: Teacher) -> None:
    if isinstance(teacher, Recorded | Served):  # they checked themselves
        return
    teacher.decoding.check()
    if teacher.samples < 1:
        raise UserError(f"{where}: samples is {teacher.samples}; it must be at least 1 trace per problem")
    if teacher.token_budget is not None and teacher.token_budget < 1:
        raise UserError(f"{where}: token_budget is {teacher.token_budget}; it must be at least 1 token, or None for no limit")
    if teacher.weight < 0:
        raise UserError(f"{where}: weight is {teacher.weight}; it must be 0 or more")
    if isinstance(teacher, ModelTeacher):
        _check_model(where, teacher.model)
        _check_whole(f"{where}: training", teacher.training)


def _check_model(where: str, model: ModelConfig) -> None:
    try:
        # A vocabulary of 0 stands for the tokenizer's.
        dataclasses.replace(model, vocab_size=model.vocab_size or 1).check()
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check_whole(where: str, training: Training) -> None:
    if training.lora.rank:
        raise UserError(f"{where}.lora.rank is {training.lora.rank}; it must be 0, since adapters need a pretrained model")


def _check_rung(experiment: Experiment, index: int, rung: Rung, teachers: dict[str, Teacher]) -> None:
    where = f"rungs.{index} ({rung.name})"
    if not rung.teachers:
        raise UserError(f"{where}: teachers is empty")
    for name in rung.teachers:
        if name not in teachers:
            raise UserError(f"{where}: teacher {name!r} is not among the experiment's teachers ({', '.join(teachers)})")
        teacher = teachers[name]
        if isinstance(teacher, Graduate):
            _check_parent(experiment, index, teacher.arm, f"{where}: teacher {name!r}")
    if isinstance(rung.start, FromParent):
        _check_parent(experiment, index, rung.start.arm, f"{where}: start")
    _check_model(where, rung.model)
    if isinstance(rung.start, Pretraining) and rung.start.facts < 0:
        raise UserError(f"{where}: start.facts is {rung.start.facts}; it must be 0 or more lines")
    if isinstance(rung.start, Pretraining):
        _check_whole(f"{where}: start.training", rung.start.training)
    if not 0.0 <= rung.pool[0] < rung.pool[1] <= 1.0:
        raise UserError(f"{where}: pool must be two fractions 0 ≤ from < to ≤ 1, not {rung.pool}")
    if not rung.arms and not rung.gold:
        raise UserError(f"{where}: arms is empty and gold is off, so nothing would be trained")


def _check_parent(experiment: Experiment, index: int, arm: str, where: str) -> None:
    if index == 0:
        raise UserError(f"{where} needs a previous rung, but this is the first")
    if arm != BASE and arm not in experiment.rungs[index - 1].arms:
        raise UserError(
            f"{where} needs arm {arm!r} of the previous rung, which trains {', '.join(experiment.rungs[index - 1].arms)}"
        )
