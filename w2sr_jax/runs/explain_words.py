"""What `w2sr explain` says in one line of a disposition, of where a trace is from, of an example and the steps that read it."""

import re
from collections.abc import Mapping, Sequence

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Pair
from w2sr_jax.curation.dispositions import KEPT, REJECTED_SIDE, Disposition
from w2sr_jax.experiment import GOLD, Experiment
from w2sr_jax.report import hostile
from w2sr_jax.runs.problem_records import ExampleUse
from w2sr_jax.stages import models

STEPS = 8  # steps listed of one example
_DIGEST = re.compile("[0-9a-f]{64}")


def check_name(experiment: Experiment, name: str) -> None:
    made = [model for teacher in experiment.teachers for model in models.teacher_chain(teacher)]
    for index, rung in enumerate(experiment.rungs):
        made += models.evaluated(experiment, index)
        made += [model for arm in rung.trained for model in models.students(experiment, index, arm)]
    names = dict.fromkeys(model.name for model in made)
    if name not in names:
        raise UserError(f"there is no model {sentences.value(name, 60)}; there are {', '.join(names)}")


def disposition(row: Disposition | None) -> str:
    if row is None:
        return "not among the traces that were curated"
    if row.reason == REJECTED_SIDE:
        return "the rejected side"
    return KEPT if row.reason == KEPT else f"left out at “{row.step}”: {row.reason.replace('_', ' ')}"


def others(pairs: Sequence[Pair], trace: str, names: Mapping[str, str]) -> str:
    """In which pairs a trace is, and with which other one."""
    of = [f"pair {pair.id}, chosen over {names.get(pair.rejected_trace)}" for pair in pairs if pair.chosen_trace == trace]
    of += [f"pair {pair.id}, rejected for {names.get(pair.chosen_trace)}" for pair in pairs if pair.rejected_trace == trace]
    return f" ({'; '.join(of)})" if of else ""


def origin(provenance: str) -> str:
    """Where a trace comes from; of a digest, its beginning. A teacher of a user's own need not say."""
    if not provenance:
        return "its teacher's own code"
    return f"parameters {provenance[:12]}" if _DIGEST.fullmatch(provenance) else hostile.one_line(provenance, 100)


def use(one: ExampleUse, steps_known: bool) -> str:
    """One example: where it was packed and, where they are known, which steps read it."""
    example = one.example.record
    text = "its text" if example.style == "document" else "its solution"
    text = text if example.teacher == GOLD else f"a text of {hostile.one_line(example.teacher)}"
    who = f"trace {hostile.one_line(example.trace_id)} of {hostile.one_line(example.teacher)}" if example.trace_id else text
    if one.row is None and not one.left_out:
        return who
    if one.row is None:
        return f"{who}: left out, too long for a row or with an end of turn in its midst"
    weight = "" if example.weight == 1 else f", weight {example.weight:.3g}"
    return f"{who}: packed in row {one.row}{weight}" + (f"; {steps_of(one.steps, one.total)}" if steps_known else "")


def steps_of(steps: Sequence[int], total: int) -> str:
    if not steps:
        return f"in none of the {total:,} steps, which end before its turn"
    listed = [f"{step:,}" for step in steps]
    some = ", ".join(listed) if len(listed) <= STEPS else f"{', '.join(listed[: STEPS - 1])}, … {listed[-1]}"
    return f"step{'s' if len(steps) > 1 else ''} {some} ({len(listed):,} in all, of {total:,})"
