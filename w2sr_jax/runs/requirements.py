"""Requirements on a run: what they may speak of in an experiment, and whether its report meets them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.experiment import Experiment
from w2sr_jax.report.requirements import judging, language
from w2sr_jax.report.requirements.judging import Finding
from w2sr_jax.report.requirements.language import Names, Requirement, RungNames, Target
from w2sr_jax.report.write import read
from w2sr_jax.stages import models


class Required(NamedTuple):
    """A requirement, and of what in the experiment it speaks."""

    requirement: Requirement
    target: Target


def understood(texts: Sequence[str], experiment: Experiment) -> list[Required]:
    """The requirements in order. `UserError` for the first that is none, or speaks of what the experiment does not have."""
    own = names(experiment)
    requirements = [language.parsed(text) for text in texts]
    return [Required(one, language.target(one, own)) for one in requirements]


def names(experiment: Experiment) -> Names:
    """What requirements on a run of the experiment may speak of."""
    rungs = tuple(
        RungNames(index, rung.name, tuple(model.arm or "" for model in models.evaluated(experiment, index)))
        for index, rung in enumerate(experiment.rungs)
    )
    return Names(
        rungs, tuple(teacher.name for teacher in experiment.teachers if teacher.writer is None or not teacher.writer.arm)
    )


def judged(page: Path | None, wanted: Sequence[Required]) -> list[Finding]:
    """How the report of a run meets each requirement; without a report it meets none."""
    if page is None:
        return [Finding(one, False, (f"{one.text}: not met, since there is no report yet",)) for one, _ in wanted]
    if not wanted:
        return []
    results = read(page.parent)
    return [judging.judged(one, target, results) for one, target in wanted]
