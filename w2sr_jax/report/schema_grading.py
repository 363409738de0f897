"""The part of `results.json` that says how verdicts came about."""

from typing import Literal, TypedDict

from w2sr_jax.report.schema_evidence import Source


class RuleCount(TypedDict, total=False):
    """Of the `n` answers that a rule found: how many were `guessed` (taken because they stand last in a text that states none),
    and how many are `correct`."""

    rule: str
    n: int
    guessed: int
    correct: int


class Readings(TypedDict, total=False):
    """How answers were read in the `texts` that `name` wrote: a teacher's traces for a rung, or a model's greedy answers to the
    test problems (`rung` is then None). `graders` counts what compared them with gold, or why nothing did; `evidence` is the key
    of the page with the texts."""

    what: Literal["traces", "answers"]
    name: str
    rung: int | None
    texts: int
    guessed: int
    rules: list[RuleCount]
    graders: dict[str, int]
    evidence: str | None
    sources: list[Source]


class Wrong(TypedDict, total=False):
    """The wrong traces that an arm of a rung is trained on, and a second opinion on them: incorrect for it too (`agreed`),
    correct for it (`doubted`), or none (`silent`). `problems` are those of the first doubted traces."""

    rung: int
    arm: str
    traces: int
    agreed: int
    doubted: int
    silent: int
    problems: list[str]
    evidence: str | None
    sources: list[Source]


class Grading(TypedDict, total=False):
    """`most_guessed` is the share of texts with guessed answers above which the page warns."""

    readings: list[Readings]
    wrong: list[Wrong]
    most_guessed: float
