"""What is said of a training while it runs and once it has ended, and kept among its measures."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from w2sr_jax.batches.encode import END_SPELT, OVER_LENGTH
from w2sr_jax.evaluation.cost import GOODPUT
from w2sr_jax.graph.stage import Context, Stage, settings
from w2sr_jax.trackers.following import Following
from w2sr_jax.trackers.tracker import flat
from w2sr_jax.training import journal
from w2sr_jax.training.goodput import SITTINGS, changes, goodput
from w2sr_jax.training.imitation import reference_mass, teacher_share
from w2sr_jax.training.loop import TrainingResult


def under_way(event: Mapping[str, Any]) -> str:
    """How a training goes, in words, of an event of `training.protocols.Hooks.on_event`."""
    return f"loss {event['loss']:.3f}, {event['tokens_per_second']:,.0f} tokens/s"


def followers(context: Context, stage: Stage, directory: Path) -> Following | None:
    """The run's trackers, where it has any, told of a training with all its settings; its files lie in `directory`."""
    if context.trackers is None:
        return None
    return context.trackers.following(context.run, stage.name, flat(settings(stage)), directory)


def spent(directory: Path) -> dict[str, Any]:
    """The measures of where a training's time went and, where an interrupted one went on elsewhere, on what it was computed, from
    its own files; nothing at processes that do not write them."""
    sittings = journal.read(directory / SITTINGS)
    if not sittings:
        return {}
    ran_on = changes(sittings)
    return {GOODPUT: dataclasses.asdict(goodput(sittings)), **({"ran_on": ran_on} if len(ran_on) > 1 else {})}


def noted(result: TrainingResult, count: int, rejected: Mapping[str, int], others: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """The note of a training on `count` examples, and its measures of how much of other models' distributions it has seen;
    `rejected` counts the examples left out by reason, `others` are the models that its loss looks at."""
    measures: dict[str, Any] = {}
    note = f"{result.steps} steps on {count:,} examples, loss {result.metrics.get('loss', float('nan')):.3f}"
    mass = reference_mass(result)
    if mass is not None:
        measures["reference_mass"] = mass
        note += f", {mass:.1%} of the reference's mass kept"
    masses = {name: mass for name in others if (mass := reference_mass(result, name)) is not None}
    measures |= {"reference_masses": masses} if masses else {}
    note += "".join(f", {mass:.1%} of {name}'s" for name, mass in masses.items())
    share = teacher_share(result)
    if share is not None:
        measures["teacher_share"] = share
        note += f", the teacher's distribution recorded at {share:.1%} of the tokens"
    if rejected.get(OVER_LENGTH):
        note += f", {rejected[OVER_LENGTH]} too long"
    if rejected.get(END_SPELT):
        note += f", {rejected[END_SPELT]} left out for an end of turn spelt out"
    return note, measures
