"""Each rung's students against their teachers, bases and ceilings, in numbers."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from w2sr_jax.core import codec
from w2sr_jax.curation.funnel import Funnel
from w2sr_jax.evaluation.answered import Answered
from w2sr_jax.evaluation.arms import ArmTraining
from w2sr_jax.evaluation.scores import Comparison, compare
from w2sr_jax.evaluation.statistics import DIGITS, Reals
from w2sr_jax.experiment import BASE, GOLD, Experiment
from w2sr_jax.experiment import Rung as RungSettings
from w2sr_jax.graph import skips
from w2sr_jax.graph.store import RunStore
from w2sr_jax.report import wording
from w2sr_jax.report.results import Climb, Rung, Student, TeacherTraces
from w2sr_jax.report.rule import headline_arm, reinforcement
from w2sr_jax.stages import layout, models, tokenizer
from w2sr_jax.stages.report.arms import before
from w2sr_jax.stages.report.sources import Sources


@dataclasses.dataclass(frozen=True)
class Scored:
    """Scores on the test problems: those of models, `[seeds, problems]`, and of recorded teachers whose files answer some."""

    greedy: Mapping[str, Reals]
    on_file: Mapping[str, Answered]

    def of(self, name: str | None) -> tuple[Reals | None, NDArray[np.int64] | None]:
        """A teacher's scores, and the indices of the problems that they are for; None for all."""
        answered = self.on_file.get(name or "")
        return (self.greedy.get(name or ""), None) if answered is None else (answered.shares, answered.indices)

    def best(self, names: Sequence[str]) -> str | None:
        """The teacher that a student is held against: the best on the problems that all of them answered, since outgrowing the
        weakest would prove little; where there is no such problem, each is judged by those that it answered."""
        scores = {name: dict(enumerate(self.greedy[name].mean(axis=0))) for name in names if name in self.greedy}
        for name in names:
            if name in self.on_file:
                scores[name] = dict(zip(self.on_file[name].indices.tolist(), self.on_file[name].shares, strict=True))
        common = set.intersection(*map(set, scores.values())) if scores else set()
        means = {
            name: round(statistics.fmean(share for index, share in shares.items() if not common or index in common), DIGITS)
            for name, shares in scores.items()
        }
        return max((name for name in names if name in means), key=means.__getitem__, default=None)


def rung(
    experiment: Experiment,
    sources: Sources,
    index: int,
    scored: Scored,
    curation_evidence: Mapping[str, str],
    files: Sequence[str],
    trained: Mapping[str, ArmTraining],
) -> Rung:
    """A rung: its models by arm, but for those that were skipped, their comparisons, its teachers' traces and its curation, with
    the keys of the pages that show it, by arm, and the files that tell of it. `trained` says how each arm was."""
    settings, run = experiment.rungs[index], sources.runs[0]
    own = {model.arm or "": model.name for model in models.evaluated(experiment, index) if model.name in scored.greedy}
    teachers = tuple(_teacher_model(experiment, index, name) for name in settings.teachers)
    best = scored.best(teachers)
    funnels = run.optional(layout.within(models.rung_directory(experiment, index), layout.FUNNELS))
    config = models.sized(settings.model, tokenizer.renderer(run))
    parent = settings.start.parent
    arms = {arm: training for arm, training in trained.items() if arm in own}
    top = {arm: scored.greedy[own[arm]] for arm in reinforcement(arms)}
    return Rung(
        index=index,
        name=settings.name,
        student=Student(config.parameters(), config.width, config.layers),
        teachers=teachers,
        parent=models.student(experiment, index - 1, parent).name if parent else None,
        models=own,
        comparisons={
            arm: _comparison(experiment, scored, own, settings, arm, best, top)
            for arm in (*settings.arm_names, GOLD)
            if arm in own
        },
        curation=codec.read(dict[str, Funnel], funnels) if funnels else {},
        curation_evidence=curation_evidence,
        traces=tuple(_traces(experiment, sources.runs, index, name) for name in settings.teachers),
        sources=sources.of(files),
        labels=_labels(settings) or None,
        arms=arms,
    )


def _labels(rung: RungSettings) -> dict[str, str]:
    """What arms are called in tables, where that is not as the protocol calls them; one label of two arms gets their names."""
    titles = [arm.title for arm in rung.selected_arms]
    named = {arm.name: arm.title if titles.count(arm.title) == 1 else f"{arm.title} ({arm.name})" for arm in rung.selected_arms}
    return {name: title for name, title in named.items() if title != wording.arm(name)}


def _comparison(
    experiment: Experiment,
    scored: Scored,
    own: Mapping[str, str],
    rung: RungSettings,
    arm: str,
    teacher: str | None,
    reinforced: Mapping[str, Reals],
) -> Comparison:
    scores, columns = scored.of(teacher)
    earlier = before(rung, rung.arm(arm))
    return compare(
        scored.greedy[own[arm]],
        scores,
        scored.greedy[own[BASE]],
        scored.greedy[own[GOLD]] if GOLD in own and arm != GOLD else None,
        experiment.evaluation,
        teacher_name=teacher,
        columns=columns,
        before=(earlier, scored.greedy[own[earlier]]) if earlier is not None and earlier in own else None,
        reinforced={name: scores for name, scores in reinforced.items() if name != arm},
    )


def climb(experiment: Experiment, rungs: Sequence[Rung], scored: Scored) -> Climb | None:
    """From end to end: the last rung's student against the teacher of the first, each as the rule has it."""
    first, last = rungs[0], rungs[-1]
    if len(rungs) < 2 or (arm := headline_arm(first)) is None:
        return None
    teacher = first.comparisons[arm].teacher
    student = last.models.get(headline_arm(last) or "")
    scores, columns = scored.of(teacher)
    if teacher is None or student is None or student not in scored.greedy or scores is None:
        return None
    comparison = compare(scored.greedy[student], scores, None, None, experiment.evaluation, columns=columns)
    return Climb(student, teacher, comparison.vs_teacher) if comparison.vs_teacher else None


def _teacher_model(experiment: Experiment, index: int, name: str) -> str:
    """The model behind a teacher's name."""
    model = models.writer(experiment, index, experiment.teacher(name))
    return name if model is None else model.name


def _traces(experiment: Experiment, runs: Sequence[RunStore], index: int, name: str) -> TeacherTraces:
    """How many traces a teacher wrote for a rung, and how many of them are right."""
    manifests = [run.manifest(layout.traces_stage(models.rung_directory(experiment, index), name)) for run in runs]
    measures = [manifest.measures for manifest in manifests if manifest and skips.of(manifest) is None]
    traces, graded, correct = (sum(m[key] for m in measures) for key in ("traces", "graded", "correct"))
    return TeacherTraces(name, traces, graded, correct, correct / graded if graded else None)
