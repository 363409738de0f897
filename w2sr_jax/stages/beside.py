"""Which other models a training stage's loss looks at: for a plan the trainings that make them, for a report the models."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment import GOLD, Teacher
from w2sr_jax.losses.inputs import INITIAL, TEACHER, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.stages import models

M = TypeVar("M")
"""Whatever stands for a model: the stage that makes it, or what it is called and where it lies."""


@dataclasses.dataclass(frozen=True)
class Wrote(Generic[M]):
    """A teacher of a rung, and the model of the run that writes its traces; None where none does."""

    teacher: Teacher
    writer: M | None


def beside(
    known: Mapping[str, M],
    where: str,
    objective: Objective,
    arm: str,
    teachers: Sequence[Wrote[M]],
    owns: bool = False,
) -> dict[str, M]:
    """Of the models that are `known` by their names, those that a training stage's loss looks at besides `initial`, by the names
    that it has for them; `teachers` are those of the stage's rung. A teacher whose distributions are recorded with its traces is
    none of them, unless the stage learns from answers of its own (`owns`). `UserError`, saying `where`, for a model that is not
    there."""
    others: dict[str, M] = {}
    for name in models_of(objective.loss):
        if name in (TEACHER, models.TEACHER_BASE) and (owns or name != TEACHER):
            others[name] = _teacher_model(known, where, name, teachers)
        elif name == TEACHER:
            writers = [each.writer for each in teachers if not each.teacher.records]
            if arm != GOLD and len(teachers) == 1 and writers and writers[0] is not None:
                others[name] = writers[0]
            elif arm != GOLD and len(writers) == len(teachers):
                named = ", ".join(each.teacher.name for each in teachers)
                raise UserError(
                    f"{where}: the loss looks at the teacher, of whose distributions nothing will be known: {named} records "
                    "none (decoding.record_top, or top_logprobs of a served teacher), and only a rung's only teacher that is "
                    "a model of the run is computed while the student trains"
                )
        elif name != INITIAL and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            usual = f"{INITIAL}, {TEACHER}, {models.TEACHER_BASE}"
            hint = f"did you mean {near[0]!r}?" if near else f"it may be {usual}, {', '.join(known)}"
            raise UserError(f"{where}: the loss looks at the model {name!r}, which is not made before it; {hint}")
        elif name != INITIAL:
            others[name] = known[name]
    return others


def _teacher_model(known: Mapping[str, M], where: str, name: str, teachers: Sequence[Wrote[M]]) -> M:
    """The rung's only teacher, or its model before its training stages."""
    writers = [each.writer for each in teachers]
    if len(writers) != 1 or writers[0] is None:
        named = ", ".join(each.teacher.name for each in teachers) or "none"
        raise UserError(
            f"{where}: the loss looks at the model {name!r}, which is there where the rung has one teacher that is a model of "
            f"the run; its teachers: {named}; name the model itself instead, one of {', '.join(known)}"
        )
    if name == TEACHER:
        return writers[0]
    base = next((one for one in models.teacher_chain(teachers[0].teacher) if one.role == models.TEACHER_BASE), None)
    if base is None:
        raise UserError(
            f"{where}: the loss looks at the model {name!r}, but the teacher {teachers[0].teacher.name} has no training stages "
            "(train) before which its model could be looked at; name another model, such as a teacher of the same checkpoint"
        )
    return known[base.name]
