"""What a report is made from: the shape of `results.json`.

Everything is plain JSON. Shares and accuracies lie between 0 and 1. Whatever a run does not have is left out or None: the page
then says so or leaves the section out. Order carries no meaning except in lists. Nothing in it depends on a clock: equal runs
have equal results; times are in `timings.json` (schema_evidence.Timings).
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypedDict

from w2sr_jax.core import codec
from w2sr_jax.report.schema_evidence import Faithfulness, Ledger, OnFile, ProbePoint, Source, Teachers
from w2sr_jax.report.schema_grading import Grading
from w2sr_jax.report.schema_numbers import AtK, Difference, Gap, Interval, Rate
from w2sr_jax.report.schema_verdict import Climb, Verdict

VERSION = 2


class StepValidity(TypedDict, total=False):
    """Share of parsed equations that hold; `coverage`: share of traces with at least one."""

    value: float | None
    valid: int
    parsed: int
    coverage: float | None


class Quantiles(TypedDict, total=False):
    p10: float
    p50: float
    p90: float
    n: int


class Length(TypedDict, total=False):
    """`unit` is tokens or words."""

    unit: str
    correct: Quantiles | None
    incorrect: Quantiles | None


class Process(TypedDict, total=False):
    step_validity: StepValidity
    consistency: Rate
    repetition: Rate
    truncation: Rate
    overrun: Rate
    self_consistency: Rate
    length: Length


class Scores(TypedDict, total=False):
    """`scores.json` of an evaluation."""

    problems: int
    ungraded: int
    seeds: int
    accuracy: Interval
    by_seed: list[float]
    avg_at_k: AtK | None
    pass_at_k: list[AtK]
    maj_at_k: list[AtK]
    unparsed: Rate
    process: Process
    mean_tokens: float | None
    confidence: float


class Comparison(TypedDict, total=False):
    """One arm's student. `teacher` names the model it is held against: of several teachers the best one."""

    vs_teacher: Difference | None
    vs_base: Difference | None
    vs_ceiling: Difference | None
    rgr_base: Gap | None
    pgr: Gap | None
    ceiling: str
    teacher: str
    confidence: float


class Step(TypedDict):
    name: str
    count: int


class Funnel(TypedDict, total=False):
    """Curation of one arm: traces left after each step, rejections by reason, and what the selection did to the problems.

    `difficulty` maps `before` and `after` to measures (name → mean); `teacher_accuracy` is the share of right traces kept.
    """

    steps: list[Step]
    rejections: dict[str, int]
    difficulty: dict[str, dict[str, float | None]]
    teacher_accuracy: float | None
    teacher_accuracy_before: float | None
    kept_by_teacher: dict[str, int]
    problems: int
    problems_before: int
    tokens: int


class Traces(TypedDict, total=False):
    """What a teacher wrote for a rung; `accuracy` is None where nothing could be graded."""

    teacher: str
    traces: int
    graded: int
    correct: int
    accuracy: float | None


class Rung(TypedDict, total=False):
    """`models` maps an arm (all, correct, incorrect, majority, gold, base, base-direct) to a name in `Results.models`; `teachers`
    are such names too, where the teacher was evaluated; `traces` is parallel to `teachers`; `curation_evidence` maps an arm to
    the key of the page that says what became of each trace."""

    index: int
    name: str
    student: dict[str, Any]
    teachers: list[str]
    parent: str | None
    models: dict[str, str]
    comparisons: dict[str, Comparison]
    curation: dict[str, Funnel]
    curation_evidence: dict[str, str]
    traces: list[Traces]
    sources: list[Source]


class CurvePoint(TypedDict, total=False):
    step: int
    loss: float
    nll: float
    learning_rate: float
    seed: int


class TrainingLog(TypedDict, total=False):
    curve: list[CurvePoint]
    tokens: int


class HeldOut(TypedDict, total=False):
    """Nats per token on the teachers' held-out traces, and what a unigram model needs for them."""

    nll: float | None
    unigram: float | None
    traces: int
    tokens: int


class Model(TypedDict, total=False):
    """`role` is teacher, base, base-direct (the base asked for the answer alone), student or gold; `arm` is its key in
    `Rung.models`; `rung` is None for teachers of the whole run; `evidence` is the key of the page with its answers.
    `on_file` is there for a recorded teacher, whose answers lie in a file: it is scored on the problems that these answer, and
    students are held against it on them."""

    role: str
    rung: int | None
    arm: str | None
    parameters: int | None
    on_file: OnFile
    scores: Scores
    training: TrainingLog | None
    held_out: HeldOut | None
    faithfulness: Faithfulness | None
    probe: list[ProbePoint] | None
    evidence: str | None
    sources: list[Source]


class StageCost(TypedDict, total=False):
    """`kind` groups stages in the table (prepare, train, sample, curate, evaluate); by default the stage stands for itself. Its
    time is in `timings.json` under the same name."""

    name: str
    kind: str
    tokens: int | None
    flops: float | None
    cost: float
    """What servers ask for their answers, at the prices that the teacher's settings state."""
    device: str


class SampleStep(TypedDict):
    """Characters `start:end` of a trace are an equation; does it hold?"""

    start: int
    end: int
    valid: bool


class SampleTrace(TypedDict, total=False):
    model: str
    role: str
    text: str
    verdict: str
    rule: str
    finish: str
    steps: list[SampleStep]


class SampleProblem(TypedDict, total=False):
    id: str
    question: str
    answer: str | None


class Sample(TypedDict, total=False):
    problem: SampleProblem
    traces: list[SampleTrace]


class Problems(TypedDict, total=False):
    """`splits` maps a split to its number of problems."""

    splits: dict[str, int]
    removed_near_duplicates: int
    quarantined: int


class Skipped(TypedDict):
    """A model that the run has skipped, with all that needs it: why, with which model it began (`origin`), and in which seeds."""

    model: str
    rung: int | None
    arm: str | None
    reason: str
    origin: str
    seeds: list[int]


class Results(TypedDict, total=False):
    """`rehearsal` marks a run whose models are tiny and random (`--shrink`): its numbers mean nothing. `verdict` is made of the
    other numbers when the file is written; `climb` is None with a single rung, or where one of the two was not evaluated. Each of
    the `warnings` begins with the name of the model or rung that it is about, and a colon. `skipped` is there where models were
    left out since there was nothing to train them on: nothing else in the file speaks of them."""

    name: str
    rehearsal: bool
    verdict: Verdict
    climb: Climb | None
    experiment: dict[str, Any]
    config_hash: str
    versions: dict[str, str]
    device: dict[str, Any]
    seeds: list[int]
    test_problems: int
    problems: Problems
    rungs: list[Rung]
    models: dict[str, Model]
    ledgers: list[Ledger]
    teachers: list[Teachers]
    grading: Grading
    warnings: list[str]
    skipped: list[Skipped]
    stages: list[StageCost]
    samples: list[Sample]


def plain(value: Any) -> Any:
    """The value as JSON would give it back: string keys, lists, Python numbers; numbers that are not finite become None."""
    if value is None or isinstance(value, bool | str):
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if dataclasses.is_dataclass(value):
        return codec.encode(value)
    if hasattr(value, "item"):
        return plain(value.item())
    return str(value)
