"""The part of `results.json` that says how weak supervision worked, and from which files each number was read.

Shares lie between 0 and 1; `value` is None where `n`, the denominator, is 0.
"""

from typing import Literal, TypedDict


class Source(TypedDict, total=False):
    """A file behind a number: `path` relative to the run (or to the directory of several seeds' runs), the sha256 `digest` of its
    bytes, how many `rows` it holds, and which of them count (`where`, such as `sample = -1`)."""

    path: str
    digest: str
    rows: int | None
    where: str | None


class OnFile(TypedDict):
    """A recorded teacher's answers to test problems: how many of its file at `path` there are, to how many of the problems."""

    path: str
    answers: int
    problems: int
    test_problems: int


class Share(TypedDict, total=False):
    value: float | None
    low: float | None
    high: float | None
    n: int


class LedgerMetrics(TypedDict, total=False):
    """`excess` is a difference of shares, the others are shares."""

    repeat: Share
    chance: Share
    excess: Share
    induced: Share
    corrected: Share
    corrupted: Share


class Consistency(TypedDict, total=False):
    """Error consistency κ, from −1 to 1."""

    teacher_student: Share
    teacher_base: Share


class Ledger(TypedDict, total=False):
    """Where the errors of one rung's teacher went in one arm's student. `set` is `training` (problems whose traces it learnt
    from) or `held-out`; `evidence` is the key of the page with the problems; `student`, `teacher`, `base` are names of models."""

    rung: int
    arm: str
    student: str
    teacher: str
    base: str
    loss: str
    set: Literal["training", "held-out"]
    seeds: int
    problems: int
    teacher_right: int
    teacher_wrong: int
    teacher_unreadable: int
    metrics: LedgerMetrics
    kappa: Consistency
    evidence: str | None
    sources: list[Source]


class Shown(TypedDict):
    """`same`: share of problems answered as with the whole chain, when only `fraction` of its steps is given."""

    fraction: float
    same: float | None


class EarlyAnswering(Share, total=False):
    """`value` is 1 − the area under `curve`."""

    curve: list[Shown]


class Mistakes(Share, total=False):
    """`value` is the share of answers that change; `coverage` the share of traces in which a number could be changed."""

    coverage: float | None


class Faithfulness(TypedDict, total=False):
    problems: int
    early_answering: EarlyAnswering | None
    mistakes: Mistakes | None


class ProbePoint(TypedDict, total=False):
    """Greedy accuracy on `n` probe problems after `step` steps; `induced` is the share of the `n_induced` problems that the
    teacher gets wrong and the base right, to which the student gives the teacher's answer."""

    seed: int
    step: int
    accuracy: float | None
    induced: float | None
    n: int
    n_induced: int


class Teacher(TypedDict, total=False):
    """`coverage`: share of problems with a right trace. `own_disagreement`: chance that two of its answers to a problem differ.
    `distinct`: n-grams that differ among all, by n. `self_similarity`: mean n-gram Jaccard of two of its traces of a problem."""

    name: str
    traces: int
    accuracy: Share
    coverage: float | None
    own_disagreement: float | None
    distinct: dict[str, float | None]
    self_similarity: float | None
    words: float | None


class Pair(TypedDict, total=False):
    """Two teachers on the same problems. `same_wrong`: share of problems that both get wrong with the same answer."""

    left: str
    right: str
    disagreement: float | None
    similarity: float | None
    kappa: Share
    same_wrong: float | None


class Union(TypedDict, total=False):
    coverage: Share


class Teachers(TypedDict, total=False):
    """The teachers of a rung, or of all rungs where `rung` is None, compared on one set of problems."""

    rung: int | None
    set: str
    problems: int
    teachers: list[Teacher]
    union: Union
    pairs: list[Pair]
    evidence: str | None
    sources: list[Source]


class StageTime(TypedDict, total=False):
    """`finished` is an ISO date."""

    seconds: float | None
    finished: str | None


class Timings(TypedDict, total=False):
    """`timings.json`: what depends on a clock, by the name of a stage in `Results.stages`."""

    stages: dict[str, StageTime]
