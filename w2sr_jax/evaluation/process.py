"""How a model reasons, as far as that shows without a judge."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from w2sr_jax.answers.equality import Equality
from w2sr_jax.answers.extract import boxes
from w2sr_jax.answers.grade import canonical
from w2sr_jax.answers.quality import loops
from w2sr_jax.answers.steps import final_consistent, validity
from w2sr_jax.core.records import Trace
from w2sr_jax.evaluation.ledger import RIGHT

_HASHES = re.compile(r"####+[ \t]*((?:(?!####|\\boxed)[^\n])*)")


@dataclasses.dataclass(frozen=True)
class Rate:
    """A share of `n` traces (or problems); None where n is 0."""

    value: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class StepValidity:
    """Of the `parsed` equations, `valid` hold exactly; `coverage` is the share of traces with at least one equation."""

    value: float | None
    valid: int
    parsed: int
    coverage: float | None


@dataclasses.dataclass(frozen=True)
class Quantiles:
    p10: float
    p50: float
    p90: float
    n: int


@dataclasses.dataclass(frozen=True)
class Length:
    """Length quantiles by correctness, in `unit` (words where no tokenizer has counted tokens)."""

    unit: str
    correct: Quantiles | None
    incorrect: Quantiles | None


@dataclasses.dataclass(frozen=True)
class Process:
    step_validity: StepValidity
    consistency: Rate
    repetition: Rate
    truncation: Rate
    overrun: Rate
    self_consistency: Rate
    length: Length


def process(traces: Sequence[Trace], samples: Sequence[Trace] = ()) -> Process:
    """Process metrics of one answer per problem; self-consistency of several `samples` per problem."""
    return Process(
        step_validity=step_validity(trace.text for trace in traces),
        consistency=_rate(final_consistent(trace.text, trace.answer) for trace in traces),
        repetition=_rate(loops(trace.text) for trace in traces),
        truncation=_rate(trace.finish == "length" for trace in traces),
        overrun=_rate(overruns(trace.text) for trace in traces),
        self_consistency=self_consistency(samples),
        length=length(traces),
    )


def step_validity(texts: Iterable[str]) -> StepValidity:
    """Exact validity of every parsed equation, over all texts."""
    counts = [validity(text) for text in texts]
    valid, parsed = sum(c[0] for c in counts), sum(c[1] for c in counts)
    return StepValidity(
        value=valid / parsed if parsed else None,
        valid=valid,
        parsed=parsed,
        coverage=sum(c[1] > 0 for c in counts) / len(counts) if counts else None,
    )


def overruns(text: str) -> bool | None:
    """Whether the first marked answer (`#### N` or `\\boxed{…}`) differs from the last; None without a marked answer."""
    marked = marked_answers(text)
    return canonical(marked[0]) != canonical(marked[-1]) if marked else None


def marked_answers(text: str) -> list[str]:
    """Every answer the text marks as final, in order."""
    marked = [(start, content) for start, _, content in boxes(text)]
    marked += [(match.start(), match.group(1)) for match in _HASHES.finditer(text)]
    return [content.strip() for _, content in sorted(marked) if content.strip()]


def self_consistency(samples: Sequence[Trace]) -> Rate:
    """Mean over problems of Σ_a (n_a/K)²: the chance that two samples give the same answer. No answer agrees with none."""
    groups: dict[str, list[Trace]] = {}
    for trace in samples:
        groups.setdefault(trace.problem_id, []).append(trace)
    shares = [sum(n * n for n in votes(group).values()) / len(group) ** 2 for group in groups.values()]
    return Rate(value=float(np.mean(shares)) if shares else None, n=len(shares))


def votes(traces: Iterable[Trace], equality: Equality | None = None) -> Counter[str]:
    """How many traces of one problem give each answer, right ones under `ledger.RIGHT`. Right answers agree by their verdict,
    however they are spelt, wrong ones where `equality` joins them (where it is not given: by value and spelling alone). A trace
    that was cut off has stated nothing and has no vote."""
    finished = [trace for trace in traces if trace.finish != "length"]
    ballot = Counter[str]({RIGHT: sum(trace.verdict == "correct" for trace in finished)})
    wrong = [trace.answer for trace in finished if trace.answer is not None and trace.verdict not in ("correct", "unparsed")]
    ballot.update("= " + bloc for bloc in (equality or Equality(exact=True)).groups(wrong))
    return +ballot


def length(traces: Sequence[Trace]) -> Length:
    unit = "tokens" if all(trace.tokens > 0 for trace in traces) else "words"
    sizes = {True: [], False: []}  # type: dict[bool, list[int]]
    for trace in traces:
        if trace.verdict != "ungraded":
            sizes[trace.verdict == "correct"].append(trace.tokens if unit == "tokens" else len(trace.text.split()))
    return Length(unit=unit, correct=_lengths(sizes[True]), incorrect=_lengths(sizes[False]))


def _lengths(sizes: list[int]) -> Quantiles | None:
    if not sizes:
        return None
    p10, p50, p90 = (float(q) for q in np.quantile(sizes, (0.1, 0.5, 0.9)))
    return Quantiles(p10=p10, p50=p50, p90=p90, n=len(sizes))


def _rate(flags: Iterable[bool | None]) -> Rate:
    decided = [flag for flag in flags if flag is not None]
    return Rate(value=sum(decided) / len(decided) if decided else None, n=len(decided))
