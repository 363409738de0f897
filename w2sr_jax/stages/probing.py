"""The probe of a training: a student's accuracy on the probe problems, the errors it takes over from its teachers, the gates."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2sr_jax.core import codec
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Trace
from w2sr_jax.evaluation.ledger import Outcome, answer, cells
from w2sr_jax.evaluation.probe import Probe, ProbePoint, rising, too_weak
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.store import RunStore
from w2sr_jax.sampling.traces import draw
from w2sr_jax.stages import layout, models, problems, traces
from w2sr_jax.training import journal
from w2sr_jax.training.probe import Probing

if TYPE_CHECKING:
    from w2sr_jax.stages.training_work import Work


class TrainingProbe:
    """Measures a student on the probe problems while it trains. A gate that warns says so once."""

    def __init__(self, work: "Work", base: Callable[[], Any], settings: Probe) -> None:
        self._work, self._settings = work, settings
        stage, store = work.stage, work.store
        graded = [problem for problem in problems.read(store, problems.PROBE) if problem.answer is not None]
        self.problems = graded[: settings.problems]
        wanted = {problem.id for problem in self.problems}
        self._teachers = {name: traces.first_traces(store, rung, name, wanted) for name, rung in traces.teachers(stage.traces)}
        self._read = sum(map(len, work.renderer.prompts([problem.question for problem in self.problems])))
        self._base = self._answers(base(), work.sampling.style) if self.problems else {}
        self._warned: set[str] = set()

    def probing(self) -> Probing:
        return Probing(self._settings.every, self.measure)

    def check_teachers(self) -> None:
        """The gate that needs no student. Raises UserError where it stops."""
        for name, first in self._teachers.items():
            correct = sum(trace.verdict == "correct" for trace in first.values())
            self._gate(name, too_weak(name, correct, len(first), self._settings))

    def measure(self, step: int, params: Any) -> Mapping[str, float | int | None]:
        """The fields of a `ProbePoint` but for the step, over the wrong answers of all teachers, and the tokens that it took.
        Raises UserError where a gate stops."""
        answers = self._answers(params)
        outcomes = [
            Outcome(key, answer(trace), answer(self._base[key]), answer(answers[key]))
            for first in self._teachers.values()
            for key, trace in first.items()
        ]
        counted = [cells(outcome) for outcome in outcomes]
        exposed = sum("teacher_wrong_base_right" in one for one in counted)
        induced = sum("induced" in one for one in counted)
        point = ProbePoint(
            step=step,
            accuracy=sum(trace.verdict == "correct" for trace in answers.values()) / len(answers),
            induced=induced / exposed if exposed else None,
            n=len(answers),
            n_induced=exposed,
        )
        earlier = points(self._work.directory / journal.PROBE)
        self._gate("rising", rising([*(one for one in earlier if one.step < step), point], self._settings))
        tokens = self._read + sum(trace.tokens for trace in answers.values())
        fields = {field.name: getattr(point, field.name) for field in dataclasses.fields(point) if field.name != "step"}
        return {**fields, "tokens": tokens}

    def _answers(self, params: Any, style: str = "reason") -> dict[str, Trace]:
        author, work = self._work.author(params), self._work
        decoding = dataclasses.replace(work.decoding, temperature=0.0)
        return {trace.problem_id: trace for trace in draw(author, self.problems, 1, decoding, work.grader, style)}

    def _gate(self, kind: str, reason: str | None) -> None:
        if reason is None:
            return
        words = f"{self._work.model}: {reason}"
        if self._settings.action == "stop":
            raise UserError(f"{words}; training was stopped (probe.action is stop)")
        if kind not in self._warned:
            self._warned.add(kind)
            self._work.warn(words)


def points(path: Path) -> list[ProbePoint]:
    """What a probe.jsonl holds; nothing where there is no file."""
    return [codec.decode(ProbePoint, line, str(path), others=True) for line in journal.read(path)]


def warnings(store: RunStore, experiment: Experiment, index: int) -> list[str]:
    """What the gates of a rung had to say, from the run's files: of its teachers, then of each student the first rise in each of
    its training stages. A stage that has a probe of its own is judged by that one's gates."""
    rung = experiment.rungs[index]
    looks = {arm.name: [stage.probe or rung.probe for stage in rung.stages_of(arm)] for arm in rung.trained}
    gates = list(dict.fromkeys(gate for of_arm in looks.values() for gate in of_arm if gate.every))
    if not gates:
        return []
    probe = [problem.id for problem in problems.read(store, problems.PROBE) if problem.answer is not None]
    sentences: dict[str, None] = {}
    for name in rung.teachers:
        first = traces.first_traces(store, index, name, set(probe))
        for gate in gates:
            asked = [first[key].verdict for key in probe[: gate.problems] if key in first]
            weak = too_weak(name, asked.count("correct"), len(asked), gate)
            sentences |= {f"{rung.name}: {weak}": None} if weak else {}
    for arm in rung.trained:
        made = models.students(experiment, index, arm)
        for number, (model, gate) in enumerate(zip(made, looks[arm.name], strict=True), 1):
            path = store.optional(layout.within(model.directory, layout.PROBE)) if gate.every else None
            seen = points(path) if path else []
            rise = next((words for end in range(len(seen)) if (words := rising(seen[: end + 1], gate))), None)
            where = f"stage {number} of {len(made)}: " if len(made) > 1 else ""
            # Under the name of the arm's student, by which readers know it.
            sentences |= {f"{made[-1].name}: {where}{rise}": None} if rise else {}
    return list(sentences)


def training_probe(work: "Work", base: Callable[[], Any], settings: Probe) -> TrainingProbe | None:
    """The probe of a training, its teachers checked; `base` reads the parameters that it starts from. None where no probe problem
    has a gold answer."""
    probe = TrainingProbe(work, base, settings)
    if not probe.problems:
        return None
    probe.check_teachers()
    return probe
