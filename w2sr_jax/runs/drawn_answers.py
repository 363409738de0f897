"""The answers that a model drew to learn from while it was trained: those to one problem, and how many there are in all."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from w2sr_jax.core import records
from w2sr_jax.core.records import Rollout
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.store import RunStore
from w2sr_jax.report import hostile
from w2sr_jax.runs.problem_records import Located, rows
from w2sr_jax.stages import examples, layout
from w2sr_jax.stages.models import Model

JOURNAL = "rollouts-"
"""What the files of a training's draws begin with, in the folder `layout.DRAWN` of its model."""
_TOKENS = ("token_ids", "logprobs", "sampled")


class Draw(NamedTuple):
    """The answers to one problem in one draw, and the optimizer steps (from 1) that learned from it, the first and the last."""

    first: int
    last: int
    answers: list[Located[Rollout]]


class Counts(NamedTuple):
    """All answers of a training so far: in how many draws, how many, how many of them are correct, and how many nothing was
    learned from, by reason."""

    draws: int
    answers: int
    correct: int
    left_out: Mapping[str, int]


def draws_own(experiment: Experiment, model: Model) -> bool:
    """Whether a model was trained on answers of its own."""
    return examples.start_of(experiment, model) is None and examples.training_stage(experiment, model).draws_own


def drawn(run: RunStore, experiment: Experiment, model: Model, problem: str) -> list[Draw]:
    """A model's answers to a problem, draw by draw, in the order of the samples."""
    every = [one for path in _paths(run, model) for one in rows(run, path, model.stage, Rollout, problem)]
    reused = examples.training_stage(experiment, model).reused
    numbers = sorted({one.record.step for one in every})
    return [
        Draw(
            1 + number * reused,
            (number + 1) * reused,
            sorted((one for one in every if one.record.step == number), key=lambda one: one.record.sample),
        )
        for number in numbers
    ]


def counted(run: RunStore, model: Model) -> Counts:
    """The counts of all answers that a model drew."""
    draws, verdicts, reasons = 0, Counter[str](), Counter[str]()
    for path in _paths(run, model):
        draws += 1
        for rollout in records.iterate(run.path(path), Rollout, without=_TOKENS):
            verdicts[rollout.verdict] += 1
            reasons[rollout.left_out] += 1
    reasons.pop("", None)
    return Counts(draws, verdicts.total(), verdicts["correct"], dict(sorted(reasons.items())))


def lines(counts: Counts) -> Iterator[str]:
    """The counts in words."""
    yield f"{counts.answers:,} answers of its own in {counts.draws:,} draws, {counts.correct:,} of them correct"
    for reason, number in counts.left_out.items():
        yield f"nothing is learned from {number:,} of them: {hostile.one_line(reason, 40)}"


def worth(rollout: Rollout) -> str:
    """What an answer was worth: its rewards by name, its advantage, whether it counts."""
    named = ", ".join(f"{hostile.one_line(name, 30)} {value:g}" for name, value in rollout.rewards.items())
    reward = "not rewarded yet" if rollout.reward is None else f"reward {rollout.reward:g}"
    several = f" ({named})" if len(rollout.rewards) > 1 else ""
    left_out = f", left out: {hostile.one_line(rollout.left_out, 40)}" if rollout.left_out else ""
    return f"{reward}{several}, advantage {rollout.advantage:+.3g}{left_out}"


def likelihood(rollout: Rollout) -> str:
    """The mean log-probabilities of its tokens under the student that drew it; where tokens were drawn from another distribution
    than its own (temperature, truncation), under that one too."""
    if not rollout.logprobs:
        return ""
    own = sum(rollout.logprobs) / len(rollout.logprobs)
    words = f"mean log-probability {own:.2f}"
    if rollout.sampled and rollout.sampled != rollout.logprobs:
        words += f", {sum(rollout.sampled) / len(rollout.sampled):.2f} as sampled"
    return words


def _paths(run: RunStore, model: Model) -> list[str]:
    """The files of all draws, also those of a training that has not finished."""
    prefix = layout.within(layout.within(model.directory, layout.DRAWN), JOURNAL)
    return [run.relative(path) for path in run.lying(prefix, model.stage, f"{JOURNAL}*.parquet")]
