"""Which other models the loss of a training stage looks at, as the trainings that make them."""

import difflib
from collections.abc import Mapping

from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment import GOLD
from w2sr_jax.losses.inputs import INITIAL, TEACHER, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.stages import models
from w2sr_jax.stages.traces import Traces
from w2sr_jax.stages.train import Train


def beside(
    trainings: Mapping[str, Train],
    where: str,
    objective: Objective,
    arm: str,
    traces: tuple[Traces, ...],
    owns: bool = False,
) -> dict[str, Train]:
    """Of `trainings`, by the models' names, those of the models that a training stage's loss looks at besides `initial`, by the
    names that it has for them. A teacher whose distributions are recorded with its traces is none of them, unless the stage
    learns from answers of its own (`owns`). `UserError`, saying `where`, for a model that is not there."""
    others: dict[str, Train] = {}
    for name in models_of(objective.loss):
        if name in (TEACHER, models.TEACHER_BASE) and (owns or name != TEACHER):
            others[name] = _teacher_model(trainings, where, name, traces)
        elif name == TEACHER:
            writers = [stage.writer for stage in traces if not stage.teacher.records]
            if arm != GOLD and len(traces) == 1 and writers and writers[0] is not None:
                others[name] = writers[0]
            elif arm != GOLD and len(writers) == len(traces):
                named = ", ".join(stage.teacher.name for stage in traces)
                raise UserError(
                    f"{where}: the loss looks at the teacher, of whose distributions nothing will be known: {named} records "
                    "none (decoding.record_top, or top_logprobs of a served teacher), and only a rung's only teacher that is "
                    "a model of the run is computed while the student trains"
                )
        elif name != INITIAL and name not in trainings:
            near = difflib.get_close_matches(name, trainings, 1)
            usual = f"{INITIAL}, {TEACHER}, {models.TEACHER_BASE}"
            hint = f"did you mean {near[0]!r}?" if near else f"it may be {usual}, {', '.join(trainings)}"
            raise UserError(f"{where}: the loss looks at the model {name!r}, which is not made before it; {hint}")
        elif name != INITIAL:
            others[name] = trainings[name]
    return others


def _teacher_model(trainings: Mapping[str, Train], where: str, name: str, traces: tuple[Traces, ...]) -> Train:
    """The training of the rung's only teacher, or of its model before its training stages."""
    writers = [stage.writer for stage in traces]
    if len(writers) != 1 or writers[0] is None:
        named = ", ".join(stage.teacher.name for stage in traces) or "none"
        raise UserError(
            f"{where}: the loss looks at the model {name!r}, which is there where the rung has one teacher that is a model of "
            f"the run; its teachers: {named}; name the model itself instead, one of {', '.join(trainings)}"
        )
    if name == TEACHER:
        return writers[0]
    base = next((one for one in models.teacher_chain(traces[0].teacher) if one.role == models.TEACHER_BASE), None)
    if base is None:
        raise UserError(
            f"{where}: the loss looks at the model {name!r}, but the teacher {traces[0].teacher.name} has no training stages "
            "(train) before which its model could be looked at; name another model, such as a teacher of the same checkpoint"
        )
    return trainings[base.name]
