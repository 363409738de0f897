"""Each rung's students against their teachers, bases and ceilings, in numbers."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from w2sr_jax.core import files
from w2sr_jax.evaluation.answered import Answered
from w2sr_jax.evaluation.scores import compare
from w2sr_jax.evaluation.statistics import DIGITS, Reals
from w2sr_jax.experiment import BASE, GOLD, Experiment, Graduate
from w2sr_jax.graph import verified
from w2sr_jax.report.rule import headline_arm, headline_comparison
from w2sr_jax.stages import models, problems, skips


class Scored(NamedTuple):
    """Scores on the test problems: those of models, `[seeds, problems]`, and of recorded teachers whose files answer some."""

    greedy: Mapping[str, Reals]
    on_file: Mapping[str, Answered]

    def of(self, name: str | None) -> tuple[Reals | None, Any]:
        """A teacher's scores, and the places of the problems that they are for; None for all."""
        found = self.on_file.get(name or "")
        return (self.greedy.get(name or ""), None) if found is None else (found.shares, found.places)

    def best(self, names: Sequence[str]) -> str | None:
        """The teacher that a student is held against: the best on the problems that all of them answered, since outgrowing the
        weakest would prove little; where there is no such problem, each is judged by those that it answered."""
        found = {name: dict(enumerate(self.greedy[name].mean(axis=0))) for name in names if name in self.greedy}
        for name in names:
            if name in self.on_file:
                found[name] = dict(zip(self.on_file[name].places.tolist(), self.on_file[name].shares, strict=True))
        common = set.intersection(*map(set, found.values())) if found else set()
        means = {
            name: round(statistics.fmean(share for place, share in shares.items() if not common or place in common), DIGITS)
            for name, shares in found.items()
        }
        return max((name for name in names if name in means), key=means.__getitem__, default=None)


def rung(experiment: Experiment, runs: Sequence[Path], index: int, scored: Scored) -> dict[str, Any]:
    """A rung: its models by arm, but for those that were skipped, their comparisons, its teachers' traces and its curation."""
    rung = experiment.rungs[index]
    own = {model.arm or "": model.name for model in models.evaluated(experiment, index) if model.name in scored.greedy}
    teachers = [_teacher_model(experiment, index, name) for name in rung.teachers]
    best = scored.best(teachers)
    scores, places = scored.of(best)
    comparisons = {}
    for arm in (arm for arm in rung.arms if arm in own):
        found = compare(
            scored.greedy[own[arm]],
            scores,
            scored.greedy[own[BASE]],
            scored.greedy[own[GOLD]] if GOLD in own else None,
            experiment.evaluation,
            places=places,
        )
        comparisons[arm] = {**found, "teacher": best}
    funnels = verified.optional(runs[0], f"{models.rung_directory(experiment, index)}/curation.json")
    config = models.sized(rung.model, problems.renderer(runs[0]))
    parent = getattr(rung.start, "arm", None)
    return {
        "index": index,
        "name": rung.name,
        "student": {"parameters": config.parameters(), "width": config.width, "layers": config.layers},
        "teachers": teachers,
        "parent": models.student(experiment, index - 1, parent).name if parent else None,
        "models": own,
        "comparisons": comparisons,
        "curation": files.read_json(funnels) if funnels else {},
        "traces": [_traces(experiment, runs, index, name) for name in rung.teachers],
    }


def climb(experiment: Experiment, rungs: Sequence[dict[str, Any]], scored: Scored) -> dict[str, Any] | None:
    """From end to end: the last rung's student against the teacher of the first, each as the rule has it."""
    if len(rungs) < 2:
        return None
    teacher = headline_comparison(rungs[0]).get("teacher")
    student = rungs[-1]["models"].get(headline_arm(rungs[-1]) or "")
    scores, places = scored.of(teacher)
    if student not in scored.greedy or scores is None:
        return None
    difference = compare(scored.greedy[student], scores, None, None, experiment.evaluation, places=places)["vs_teacher"]
    return {"student": student, "teacher": teacher, "difference": difference}


def _teacher_model(experiment: Experiment, index: int, name: str) -> str:
    """The model behind a teacher's name."""
    teacher = next(teacher for teacher in experiment.teachers if teacher.name == name)
    return models.student(experiment, index - 1, teacher.arm).name if isinstance(teacher, Graduate) else name


def _traces(experiment: Experiment, runs: Sequence[Path], index: int, name: str) -> dict[str, Any]:
    """How many traces a teacher wrote for a rung, and how many of them are right."""
    made = [verified.manifest(run, f"{models.rung_directory(experiment, index)}/traces-{name}") for run in runs]
    measures = [manifest.measures for manifest in made if manifest and skips.of(manifest) is None]
    traces, graded, correct = (sum(m[key] for m in measures) for key in ("traces", "graded", "correct"))
    return {
        "teacher": name,
        "traces": traces,
        "graded": graded,
        "correct": correct,
        "accuracy": correct / graded if graded else None,
    }
