"""The numbers in `results.json`: values with their intervals. Shares and accuracies lie between 0 and 1."""

from typing import TypedDict


class Interval(TypedDict, total=False):
    value: float | None
    low: float | None
    high: float | None
    n: int


class AtK(Interval, total=False):
    k: int


class Rate(TypedDict, total=False):
    """A share of `n`; None where n is 0."""

    value: float | None
    n: int


class Difference(TypedDict, total=False):
    """Student minus other, on the same problems; `left` and `right` are their accuracies."""

    difference: float
    low: float
    high: float
    n: int
    left: float
    right: float
    both: int | None
    only_left: int | None
    only_right: int | None
    neither: int | None
    mcnemar_p: float | None
    permutation_p: float | None
    by_seed: list["Difference"]


class Gap(TypedDict, total=False):
    """(student − anchor) / (ceiling − anchor). `suppressed` says why value, low and high are None; `raw` holds the triple
    {student, anchor, ceiling}, `gap` the ceiling − anchor interval."""

    value: float | None
    low: float | None
    high: float | None
    suppressed: str | None
    raw: dict[str, float]
    gap: Interval
