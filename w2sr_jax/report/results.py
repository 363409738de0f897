"""Everything that a run has found: what the report shows, and what `results.json` holds.

`Results` is the whole; its parts are the results of `evaluation` and `curation`, with the names of what they are of and the files
that they were read from. Shares and accuracies lie between 0 and 1. Order carries no meaning except in lists. Nothing here
depends on a clock, so that equal runs have equal results; times are in `timings.json` (`evaluation.cost.Timings`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from w2sr_jax.answers.extract import MOST_GUESSED
from w2sr_jax.core.codec import Inline, LeftOut
from w2sr_jax.core.records import Finish, VerdictName
from w2sr_jax.curation.funnel import Funnel
from w2sr_jax.evaluation.arms import ArmTraining, Signal
from w2sr_jax.evaluation.cost import StageCost
from w2sr_jax.evaluation.faithfulness import Faithfulness
from w2sr_jax.evaluation.grading import Doubts, Readings
from w2sr_jax.evaluation.ledger import Ledger
from w2sr_jax.evaluation.probe import ProbePoint
from w2sr_jax.evaluation.scores import Comparison, HeldOut, Scores
from w2sr_jax.evaluation.statistics import Difference
from w2sr_jax.evaluation.teachers import Teachers

FORMAT = 2
"""The version of `results.json`: another layout has another number."""

Answer = Literal["yes", "no", "not shown", "unknown"]
ANSWERS: tuple[Answer, ...] = ("yes", "no", "not shown", "unknown")


@dataclasses.dataclass(frozen=True)
class Source:
    """A file behind a number: `path` relative to the run (or to the directory of several seeds' runs), the sha256 `digest` of its
    bytes, how many `rows` it holds, and which of them count (`where`, such as `sample = -1`)."""

    path: str
    digest: str
    rows: int | None
    where: str | None


@dataclasses.dataclass(frozen=True)
class RungVerdict:
    """Whether the student that speaks for a rung outgrew its teacher. `arm` and `student`, its name in `Results.models`, are None
    where no student learnt from a teacher; `teacher` is None where no single one is known."""

    rung: int
    name: str
    arm: str | None
    student: str | None
    teacher: str | None
    verdict: Answer


@dataclasses.dataclass(frozen=True)
class Verdict:
    """`overall` is the answer on which all rungs agree, else `not shown`; `rule` says in words how both came about."""

    overall: Answer
    rungs: tuple[RungVerdict, ...]
    rule: str


@dataclasses.dataclass(frozen=True)
class Climb:
    """From end to end: the last rung's student against the first rung's teacher, names in `Results.models`."""

    student: str
    teacher: str
    difference: Difference


@dataclasses.dataclass(frozen=True)
class Student:
    """The size of a rung's student."""

    parameters: int
    width: int
    layers: int


@dataclasses.dataclass(frozen=True)
class TeacherTraces:
    """What a teacher wrote for a rung; `accuracy` is None where nothing could be graded."""

    teacher: str
    traces: int
    graded: int
    correct: int
    accuracy: float | None


@dataclasses.dataclass(frozen=True)
class Rung:
    """`models` maps an arm (all, correct, incorrect, majority, gold, base, base-direct) to a name in `Results.models`; `teachers`
    are such names too, where the teacher was evaluated; `traces` is parallel to `teachers`; `curation_evidence` maps an arm to
    the key of the page that says what became of each trace; `labels` maps an arm to what its user calls it in tables, where that
    is another name than the usual one; `arms` says how each arm was trained."""

    index: int
    name: str
    student: Student
    teachers: tuple[str, ...]
    parent: str | None
    models: Mapping[str, str]
    comparisons: Mapping[str, Comparison]
    curation: Mapping[str, Funnel]
    curation_evidence: Mapping[str, str]
    traces: tuple[TeacherTraces, ...]
    sources: tuple[Source, ...]
    labels: LeftOut[Mapping[str, str] | None] = None
    arms: LeftOut[Mapping[str, ArmTraining] | None] = None


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """A logged step of training: its loss, the mean negative log-likelihood in nats per token, and the learning rate; None where
    a training has none. `watched` has what else is watched where a student learns from its own answers or from pairs."""

    seed: int
    step: int
    loss: float | None
    nll: float | None
    learning_rate: float | None
    watched: LeftOut[Mapping[str, float] | None] = None


@dataclasses.dataclass(frozen=True)
class SeedProbe:
    """What the probe saw of the model of one seed."""

    seed: int
    point: Inline[ProbePoint]


@dataclasses.dataclass(frozen=True)
class TrainingLog:
    """`tokens` are those trained on, over all seeds. `stage` is the kind of the training stage (not of a start), `signal` what it
    learns from; `largest` are the largest values over all steps and seeds of what is watched for that; `probe` is what was seen
    in a stage that is not the last (see `Model.probe`)."""

    curve: tuple[CurvePoint, ...]
    tokens: int
    stage: LeftOut[str] = ""
    signal: LeftOut[Signal | None] = None
    largest: LeftOut[Mapping[str, float] | None] = None
    probe: LeftOut[tuple[SeedProbe, ...] | None] = None


@dataclasses.dataclass(frozen=True)
class OnFile:
    """A recorded teacher's answers to test problems: how many of its file at `path` there are, to how many of the problems."""

    path: str
    answers: int
    problems: int
    test_problems: int


@dataclasses.dataclass(frozen=True)
class Model:
    """`role` is teacher, teacher-base (a teacher before its own training stages), base, base-direct (the base asked for the
    answer alone), student or gold; `arm` is its key in `Rung.models`; `rung` is None for teachers of the whole run; `evidence` is
    the key of the page with its answers. `training` is the last training of its arm, or of its teacher, `earlier` are those
    before it, and `probe` belongs to the last. `vs_before` holds a teacher against the model `before` its own stages. `on_file`
    is there for a recorded teacher: it is scored on the problems that its file answers, and students are held against it on
    these."""

    role: str
    rung: int | None
    arm: str | None
    scores: Scores
    training: TrainingLog | None
    held_out: HeldOut | None
    faithfulness: Faithfulness | None
    probe: tuple[SeedProbe, ...] | None
    evidence: str | None
    sources: tuple[Source, ...]
    parameters: LeftOut[int | None] = None
    on_file: LeftOut[OnFile | None] = None
    earlier: LeftOut[tuple[TrainingLog, ...]] = ()
    before: LeftOut[str | None] = None
    vs_before: LeftOut[Difference | None] = None


@dataclasses.dataclass(frozen=True)
class LedgerEntry:
    """Where the errors of a rung's teacher went in one arm's student; `student`, `teacher` and `base` are names of models,
    `evidence` is the key of the page with the problems."""

    rung: int
    arm: str
    student: str
    teacher: str
    base: str
    loss: str
    ledger: Inline[Ledger]
    evidence: str | None
    sources: tuple[Source, ...]


@dataclasses.dataclass(frozen=True)
class TeachersEntry:
    """The teachers of a rung, or of all rungs, compared on one set of problems."""

    comparison: Inline[Teachers]
    evidence: str | None
    sources: tuple[Source, ...]


@dataclasses.dataclass(frozen=True)
class ReadingsEntry:
    """How the answers were read in what `name` wrote: a teacher's traces for a rung, or a model's greedy answers to the test
    problems (`rung` is then None). `evidence` is the key of the page with the texts."""

    what: Literal["traces", "answers"]
    name: str
    rung: int | None
    readings: Inline[Readings]
    evidence: str | None
    sources: tuple[Source, ...]


@dataclasses.dataclass(frozen=True)
class DoubtsEntry:
    """A second opinion on the wrong traces that an arm of a rung is trained on."""

    rung: int
    arm: str
    doubts: Inline[Doubts]
    evidence: str | None
    sources: tuple[Source, ...]


@dataclasses.dataclass(frozen=True)
class Grading:
    """How verdicts came about. `most_guessed` is the share of texts with guessed answers above which the page warns."""

    readings: tuple[ReadingsEntry, ...] = ()
    wrong: tuple[DoubtsEntry, ...] = ()
    most_guessed: float = MOST_GUESSED


@dataclasses.dataclass(frozen=True)
class SampleStep:
    """Characters `start:end` of a trace are an equation; does it hold?"""

    start: int
    end: int
    valid: bool


@dataclasses.dataclass(frozen=True)
class SampleTrace:
    model: str
    role: str
    text: str
    verdict: VerdictName
    rule: str
    finish: Finish
    steps: tuple[SampleStep, ...]


@dataclasses.dataclass(frozen=True)
class SampleProblem:
    id: str
    question: str
    answer: str | None


@dataclasses.dataclass(frozen=True)
class Sample:
    """A test problem, and what models wrote to it."""

    problem: SampleProblem
    traces: tuple[SampleTrace, ...]


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row of a file that was left out, and why."""

    file: str
    line: int | None
    reason: str


@dataclasses.dataclass(frozen=True)
class Problems:
    """`splits` maps a split to its number of problems, `removed` to the near-duplicates that it lost, by reason."""

    splits: Mapping[str, int]
    removed_near_duplicates: int
    removed: Mapping[str, Mapping[str, int]]
    quarantined: int
    quarantine: tuple[BadRow, ...]


@dataclasses.dataclass(frozen=True)
class Device:
    """`mesh` is that on which the last rung's students are trained: its axes with their sizes."""

    kind: str
    count: int
    mesh: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A model that the run has skipped, with all that needs it: why, with which model it began (`origin`), and in which seeds."""

    model: str
    rung: int | None
    arm: str | None
    reason: str
    origin: str
    seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Results:
    """The results of a run, of one seed or several pooled.

    `rehearsal` marks a run whose models are tiny and random (`--shrink`): its numbers mean nothing. `experiment` holds the
    settings as `configuration.encoding` writes them. `climb` is None with a single rung, or where one of the two was not
    evaluated. Each of the `warnings` begins with the name of the model or rung that it is about, and a colon. `skipped` is there
    where models were left out since there was nothing to train them on: nothing else speaks of them. `verdict` is made of the
    other numbers when the file is written.
    """

    name: str
    rehearsal: bool
    experiment: Mapping[str, object]
    config_hash: str
    versions: Mapping[str, str]
    device: Device
    seeds: tuple[int, ...]
    test_problems: int
    problems: Problems
    rungs: tuple[Rung, ...]
    models: Mapping[str, Model]
    climb: Climb | None = None
    ledgers: tuple[LedgerEntry, ...] = ()
    teachers: tuple[TeachersEntry, ...] = ()
    grading: Grading = Grading()
    warnings: tuple[str, ...] = ()
    stages: tuple[StageCost, ...] = ()
    samples: tuple[Sample, ...] = ()
    skipped: LeftOut[tuple[Skipped, ...]] = ()
    verdict: Verdict | None = None
