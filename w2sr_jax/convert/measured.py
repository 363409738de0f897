"""Measured results of a model, for its card: from evaluations and report of its run."""

import dataclasses
from typing import TypeVar

from w2sr_jax.convert.exported import RunModel, all_models
from w2sr_jax.convert.markdown import Raw, plain
from w2sr_jax.core import codec
from w2sr_jax.evaluation.scores import AtK, HeldOut, Scores
from w2sr_jax.evaluation.statistics import Difference, Gap
from w2sr_jax.graph.store import RunStore
from w2sr_jax.report import wording, write
from w2sr_jax.stages import layout, models

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ScoreRow:
    """A model's accuracy in words; `own` marks the model that the card is of."""

    name: str
    value: Raw
    range: Raw
    n: Raw
    unparsed: Raw
    truncated: Raw
    own: bool


@dataclasses.dataclass(frozen=True)
class HeldOutWords:
    """Nats per token on held-out traces, of the model and of a unigram model."""

    nll: Raw
    unigram: Raw


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a card says of how good a model is: `scores` of it and of those it is held against, `more` of its scores and what is
    `compared`, each as a label with a value. `generated`: the test problems are made by a generator."""

    scores: list[ScoreRow]
    confidence: Raw
    more: list[tuple[Raw, Raw]]
    held_out: HeldOutWords | None
    compared: list[tuple[Raw, Raw]]
    generated: bool


def measured(run_model: RunModel) -> Measured:
    """What is measured of the model, as far as evaluations and report are finished."""
    own = _scores(run_model.run, run_model.model.name)
    held = written(run_model.run, layout.within(layout.evaluation(run_model.model.name), layout.HELD_OUT), HeldOut)
    every = {name: _scores(run_model.run, name) for name in _compared(run_model)}
    return Measured(
        scores=[_score_row(name, scores, name == run_model.model.name) for name, scores in every.items() if scores],
        confidence=Raw(wording.percent(own.confidence if own else 0.95, 0)),
        more=_at_k(own) if own else [],
        held_out=_held_out(held) if held and held.nll is not None else None,
        compared=_comparison(run_model),
        generated=run_model.experiment.problems.is_endless() and run_model.experiment.test_problems is None,
    )


def written(run: RunStore, name: str, kind: type[T]) -> T | None:
    """The result of a type that a file of the run holds; None where its stage has not finished. `UserError` where the file is not
    what the stage wrote."""
    path = run.optional(name)
    return codec.read(kind, path) if path else None


def _scores(run: RunStore, model: str) -> Scores | None:
    return written(run, layout.within(layout.evaluation(model), layout.SCORES), Scores)


def _score_row(name: str, scores: Scores, own: bool) -> ScoreRow:
    return ScoreRow(
        name=name,
        value=Raw(wording.percent(scores.accuracy.value)),
        range=Raw(wording.percent_range(scores.accuracy)),
        n=Raw(wording.count(scores.accuracy.n)),
        unparsed=Raw(wording.percent(scores.unparsed.value)),
        truncated=Raw(wording.percent(scores.process.truncation.value)),
        own=own,
    )


def _at_k(scores: Scores) -> list[tuple[Raw, Raw]]:
    every: list[tuple[str, AtK]] = [("avg", scores.avg_at_k)] if scores.avg_at_k else []
    every += [("pass", one) for one in scores.pass_at_k] + [("maj", one) for one in scores.maj_at_k]
    return [(Raw(f"{name}@{one.k}"), Raw(f"{_share(one)}, n = {wording.count(one.n)}")) for name, one in every]


def _share(score: AtK) -> str:
    return f"{wording.percent(score.value)} ({wording.percent_range(score)})"


def _held_out(held: HeldOut) -> HeldOutWords:
    return HeldOutWords(Raw(wording.decimal(held.nll, 3)), Raw(wording.decimal(held.unigram, 3)))


def _compared(run_model: RunModel) -> list[str]:
    """Names of the model, then of teachers and the other models of its rung."""
    model, experiment = run_model.model, run_model.experiment
    if model.rung is None:
        return [model.name]
    names = [model.name]
    for teacher in experiment.teachers_of(model.rung):
        writer = models.writer(experiment, model.rung, teacher)
        names += [writer.name] if writer is not None else [teacher.name] if teacher.is_file else []
    return names + [other.name for other in all_models(experiment) if other.rung == model.rung and other.name != model.name]


def _comparison(run_model: RunModel) -> list[tuple[Raw, Raw]]:
    """The report's paired differences and shares of gaps recovered, each with its interval."""
    path = run_model.run.optional(layout.RESULTS) if run_model.model.rung is not None else None
    rungs = write.read(path.parent).rungs if path else ()
    rung = next((rung for rung in rungs if rung.index == run_model.model.rung), None)
    comparison = rung.comparisons.get(run_model.model.arm or "") if rung else None
    if comparison is None:
        return []
    reinforced = [(plain(one.arm), one) for one in comparison.reinforced]
    differences = (
        ("teacher", comparison.vs_teacher),
        ("base", comparison.vs_base),
        (f"student of arm {plain(comparison.before)}, from which it goes on", comparison.vs_before),
        ("ceiling (gold SFT)", comparison.vs_ceiling),
        *((f"student of arm {arm}, which was reinforced", one.difference) for arm, one in reinforced),
    )
    gaps = (
        ("RGR, of the gap from base to ceiling", comparison.rgr_base),
        ("PGR, of the gap from teacher to ceiling", comparison.pgr),
        *((f"RGR, of the gap from base to the student of arm {arm}", one.rgr_base) for arm, one in reinforced),
        *((f"RGR, of the gap from teacher to the student of arm {arm}", one.rgr_teacher) for arm, one in reinforced),
    )
    lines = [(Raw(f"difference to the {other}"), _difference(contrast)) for other, contrast in differences if contrast]
    return lines + [(Raw(f"gap recovered ({of})"), _gap(gap)) for of, gap in gaps if gap]


def _difference(difference: Difference) -> Raw:
    size = f"{wording.points(difference.difference)} points ({wording.points_range(difference)})"
    return Raw(f"{size}, n = {wording.count(difference.n)}")


def _gap(gap: Gap) -> Raw:
    if gap.value is None:
        return Raw(f"not given: {plain(gap.suppressed or 'not measured')}")
    return Raw(f"{wording.percent(gap.value, 0)} ({wording.percent_range(gap, 0)})")
