"""`w2sr explain`: everything that a run holds about one problem, as text: traces, verdicts, curation, steps that learned from it,
answers. What a model or a file wrote is shown with hidden characters spelt out and behind a bar, so that it cannot pass for a
line of ours."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from w2sr_jax.configuration import saved
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.experiment import BASE, Experiment
from w2sr_jax.graph import skips
from w2sr_jax.graph.store import RunStore
from w2sr_jax.report import hostile
from w2sr_jax.runs import drawn_answers, problem_records
from w2sr_jax.runs import explain_words as words
from w2sr_jax.runs.problem_records import Located, TrainingUse
from w2sr_jax.stages import examples, layout, models, problems
from w2sr_jax.stages.execute import seed_stores
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.outcomes import GREEDY

LONGEST = 4000  # characters of one text
LONGEST_REASON = 400
ANSWERS = 48  # answers shown of those that one model drew to a problem

_SPLITS = {
    problems.PRETRAIN: "read by bases before they learn to reason",
    problems.TEACHER: "teachers learn its worked solution",
    problems.POOL: "teachers write traces for it, students learn from them",
    problems.PROBE: "teachers write traces for it, no student learns from them",
    problems.TEST: "answered by every model, learnt from by none",
}
_VERDICTS = {"correct": "✓ correct", "incorrect": "✗ incorrect", "unparsed": "? unparsed", "ungraded": "· ungraded"}
_LEDGER = {
    "repeat": "repeat: the teacher is wrong, the student gives its answer",
    "induced": "induced: and its base was right",
    "chance": "chance: its base had given that wrong answer too",
    "corrected": "corrected: the teacher is wrong, the student right",
    "corrupted": "corrupted: the teacher is right, the student wrong",
    "teacher_unreadable": "the teacher's answer cannot be read",
}


def explain(directory: Path, problem: str, write: Callable[[str], None], model: str | None = None) -> None:
    """Give `write` the lines of all that the run holds about the problem whose id begins with `problem`; of what models learned
    and answered that of `model` alone, where one is named. `UserError` where there is no such problem, or several, or no such
    model. Nothing is computed on a device. What the run has not made yet is said to be missing."""
    experiment = saved.load(directory)
    if model is not None:
        words.check_name(experiment, model)
    seeds = dict(zip(experiment.seeds, seed_stores(experiment, directory), strict=True))
    started = {seed: run for seed, run in seeds.items() if run.path(layout.PROBLEMS).is_dir()}
    split, located = problem_records.find_problem(next(iter(started.values()), RunStore(directory)), problem)
    for number, (seed, run) in enumerate(seeds.items()):
        if len(seeds) > 1:
            write(f"{'' if number == 0 else chr(10)}=== Seed {seed}, in {run.name} ===\n")
        if seed in started:
            own = dataclasses.replace(experiment, seeds=(seed,))
            _Explanation(run, own, split, located, write, model).write_all()
        else:
            write("Not started yet.")


class _Explanation:
    """One problem in the run of one seed, written line by line."""

    def __init__(
        self,
        run: RunStore,
        experiment: Experiment,
        split: str,
        located: Located[Problem],
        write: Callable[[str], None],
        only: str | None = None,
    ) -> None:
        self.run, self.experiment, self.split, self.write, self.only = run, experiment, split, write, only
        self.located, self.problem = located, located.record.id

    def write_all(self) -> None:
        self._problem()
        for teacher in self.experiment.teachers:
            chain = models.teacher_chain(teacher)
            if chain and self.split in (problems.TEACHER, problems.TEST):
                self._teacher(teacher.name, chain, models.measured(teacher))
            if teacher.is_file and self.split == problems.TEST:
                self._on_file(teacher.name)
        for index in range(len(self.experiment.rungs)):
            self._rung(index)

    def _problem(self) -> None:
        problem = self.located.record
        self.write(f"Problem {problem.id}, {self.split} split: {_SPLITS[self.split]}")
        self._file(1, self.located.path, [self.located.row])
        self._text(1, problem.question, "question  ")
        self._text(1, "not known" if problem.answer is None else problem.answer, "gold      ")
        if problem.solution is not None:
            self._text(1, problem.solution, "solution  ")
        plain = (f"{name} {value}" for name, value in sorted(problem.meta.items()) if not isinstance(value, list | dict))
        about = ", ".join(filter(None, [problem.task, *plain]))
        if about:
            self._text(1, hostile.one_line(about, 200), "about     ")

    def _teacher(self, name: str, chain: Sequence[Model], measured: Sequence[Model]) -> None:
        self.write(f"\nTeacher {name}")
        if self.split == problems.TEACHER:
            self._training_uses(chain)
        else:
            self._answers(measured, {})

    def _on_file(self, teacher: str) -> None:
        """A recorded teacher's answers to a test problem, which are its evaluation."""
        self.write(f"\nTeacher {teacher}, a file")
        stage = layout.evaluation(teacher)
        answers = problem_records.rows(self.run, layout.within(stage, layout.GENERATIONS), stage, Trace, self.problem)
        if not answers:
            self._missing(stage, "it has no answer to this problem", 1)
        for one in answers:
            self._trace(1, one, f"sample {one.record.sample}")

    def _rung(self, index: int) -> None:
        rung = self.experiment.rungs[index]
        self.write(f"\nRung {index}, {rung.name}")
        trained = [model for arm in rung.trained for model in models.students(self.experiment, index, arm)]
        if self.split == problems.TEACHER:
            self._line(1, "Students neither learn from this problem nor answer it.")
        elif self.split == problems.PRETRAIN:
            self._training_uses([models.student(self.experiment, index, BASE)])
        elif self.split == problems.POOL and not problem_records.in_part(self.run, self.experiment, index, self.located.row):
            low, high = rung.pool
            self._line(1, f"Its part of the pool is {low:.0%} to {high:.0%}; this problem is in another.")
        else:
            if self.split in (problems.POOL, problems.PROBE):
                written = {
                    name: problem_records.traces(self.run, self.experiment, index, name, self.problem) for name in rung.teachers
                }
                self._traces(index, written)
            if self.split == problems.POOL:
                self._dispositions(index, written)
                self._training_uses(trained)
            self._answers(models.evaluated(self.experiment, index), {model.name: model for model in trained})

    def _traces(self, index: int, written: Mapping[str, Sequence[Located[Trace]]]) -> None:
        for name, traces in written.items():
            self._line(1, f"Traces of {name}")
            if not traces:
                folder = models.rung_directory(self.experiment, index)
                self._missing(layout.traces_stage(folder, name), "it wrote none to this problem")
            for one in traces:
                self._trace(2, one, f"sample {one.record.sample}")

    def _dispositions(self, index: int, written: Mapping[str, Sequence[Located[Trace]]]) -> None:
        """What each arm's curation did with those traces, in the order of their samples."""
        experiment = self.experiment
        rung = experiment.rungs[index]
        samples = {one.record.id: f"sample {one.record.sample} of {name}" for name, traces in written.items() for one in traces}
        width = max(map(len, samples.values()), default=0)
        if rung.curated_arms:
            self._line(1, "Kept or left out")
        for arm, title in ((arm.name, arm.title) for arm in rung.curated_arms):
            rows = problem_records.dispositions(self.run, experiment, index, arm, self.problem)
            self._line(2, f"{title} ({arm})")
            if not rows:
                folder = models.rung_directory(experiment, index)
                path = layout.within(layout.arm(folder, arm), layout.DISPOSITIONS)
                kind = "no trace of this problem was given" if self.run.path(path).exists() else f"{path} is not there"
                self._missing(layout.curation_stage(folder), kind, 3)
                continue
            by_trace = {one.record.trace_id: one.record for one in rows}
            paired = problem_records.pairs(self.run, experiment, index, arm, self.problem)
            for trace, name in samples.items():
                others = words.others([one.record for one in paired], trace, samples)
                self._line(3, f"{name:<{width}}  {words.disposition(by_trace.get(trace))}{others}")
            self._file(3, rows[0].path, [one.row for one in rows])
            if paired:
                self._file(3, paired[0].path, [one.row for one in paired])

    def _training_uses(self, trained: Sequence[Model]) -> None:
        self._line(1, "Steps that learnt from it")
        for model in filter(self._is_wanted, trained):
            if drawn_answers.draws_own(self.experiment, model):
                self._drawn(model)
                continue
            use = problem_records.training_use(self.run, self.experiment, model, self.located.record, self.experiment.seeds[0])
            if use is None:
                start = examples.start_of(self.experiment, model)
                if not examples.learns_from_traces(self.experiment, model):
                    self._line(2, f"{model.name}: none, its arm learns from no traces")
                    continue
                waits = start is None and not self.run.path(examples.learnt_from(self.run, self.experiment, model)).exists()
                self._line(
                    2, f"{model.name}: {'its examples are not chosen yet' if waits else 'none, it is not among its examples'}"
                )
            else:
                self._examples(use)

    def _drawn(self, model: Model) -> None:
        """What a model that learns from its own answers drew to the problem, and what that was worth."""
        draws = drawn_answers.drawn(self.run, self.experiment, model, self.problem)
        count = sum(len(draw.answers) for draw in draws)
        if not draws:
            self._missing(model.stage, f"{model.name}: none, it never drew an answer to it")
            return
        some = f", of which the first {ANSWERS} are shown" if count > ANSWERS else ""
        self._line(
            2, f"{model.name}, from {count:,} answers of its own in {len(draws):,} {'draw' if len(draws) == 1 else 'draws'}{some}"
        )
        shown = 0
        for draw in draws:
            steps = f"step {draw.first:,}" if draw.first == draw.last else f"steps {draw.first:,} to {draw.last:,}"
            for one in draw.answers[: ANSWERS - shown]:
                name = f"{steps}, sample {one.record.sample}"
                extra = (drawn_answers.worth(one.record), drawn_answers.likelihood(one.record))
                self._graded(3, Located(one.path, one.row, one.record.trace(model.name)), name, extra)
                self._file(4, one.path, [one.row], f"answer {hostile.one_line(one.record.id)}")
                self._text(4, one.record.text)
                shown += 1

    def _is_wanted(self, model: Model) -> bool:
        return self.only in (None, model.name)

    def _examples(self, training: TrainingUse) -> None:
        state = {
            "open": f" (its training stage {training.chooser}, which may choose other texts than those kept, has not finished)",
            "unkept": f" (its training stage {training.chooser} has trained in its own way, and kept no examples)",
            "finished": "",
            "unfinished": " (its training has not finished; these are the steps that its batches will have)",
            "unread": " (it will be packed into batches when there is a tokenizer)",
            "unknown": " (its row and steps are not known before its training has packed its examples)",
            "otherwise": " (not trained as the settings of its stage say, so that the steps are not known)",
            "foreign": " (packing.npz holds other batches than these examples make, so the steps are not known)",
        }[training.state]
        self._line(2, f"{training.model.name}{state}")
        if training.chooser and training.uses:
            self._line(3, f"from the texts that its training stage {training.chooser} chose itself, not those kept above")
        for use in training.uses:
            self._line(3, words.use(use, training.state not in ("foreign", "unknown", "otherwise")))
            if use.example.path:
                self._file(3, use.example.path, [use.example.row])
        if training.packing:
            rows = sorted({use.row for use in training.uses if use.row is not None})
            self._file(3, training.packing, rows)

    def _answers(self, asked: Sequence[Model], students: Mapping[str, Model]) -> None:
        self._line(1, "Answers")
        for model in filter(self._is_wanted, asked):
            answers = list(problem_records.answers(self.run, model, self.problem))
            for one in (one for one in answers if one.record.sample == GREEDY):
                self._trace(2, one, model.name)
                if model.name in students:
                    self._outcome(students[model.name])
            drawn = [one.record for one in answers if one.record.sample != GREEDY]
            if drawn:
                right = sum(trace.verdict == "correct" for trace in drawn)
                listed = ", ".join("none" if trace.answer is None else hostile.one_line(trace.answer, 24) for trace in drawn)
                self._line(3, f"{right} of {len(drawn)} sampled answers right: {listed}")
            if not answers:
                self._missing(layout.evaluation(model.name), f"{model.name} was not asked")

    def _outcome(self, model: Model) -> None:
        index = model.rung or 0
        for teacher in self.experiment.rungs[index].teachers:
            entry = problem_records.ledger_entry(self.run, self.experiment, index, teacher, model, self.problem, self.split)
            if entry is None:
                continue
            told = [_LEDGER[cell] for cell in entry.cells if cell in _LEDGER]
            if not told:
                right = "teacher_right" in entry.cells
                told = ["the teacher is right, and so is the student" if right else "the teacher is wrong, the student otherwise"]
            taught, base = (
                "none" if t.answer is None else hostile.one_line(t.answer, 24) for t in (entry.teacher.record, entry.base.record)
            )
            self._line(3, f"against {teacher} (which answered {taught}; the base {base}): {'; '.join(told)}")

    def _trace(self, depth: int, one: Located[Trace], name: str) -> None:
        trace = one.record
        mean = "" if trace.mean_logprob is None else f"mean log-probability {trace.mean_logprob:.2f}"
        self._graded(depth, one, name, (mean,))
        self._file(depth + 1, one.path, [one.row], f"trace {hostile.one_line(trace.id)}, from {words.origin(trace.provenance)}")
        self._text(depth + 1, trace.text)

    def _graded(self, depth: int, one: Located[Trace], name: str, more: Sequence[str]) -> None:
        """A text's verdict and reading, and how it ended."""
        trace = one.record
        reading = "no answer" if trace.answer is None else f"answer {hostile.one_line(trace.answer, 60)}"
        notes = [
            f"found by {hostile.one_line(trace.rule, 30)}" if trace.rule not in ("", "none") else "",
            f"graded by {hostile.one_line(trace.grader, 40)}" if trace.grader not in ("", "none") else "",
            {"stop": "ended by itself", "length": "cut off at the token limit"}[trace.finish],
            f"{trace.tokens:,} tokens" if trace.tokens else "",
            *more,
        ]
        self._line(depth, f"{name}  {_VERDICTS[trace.verdict]}, {reading}  ({', '.join(filter(None, notes))})")

    def _file(self, depth: int, path: str, rows: Sequence[int], more: str = "") -> None:
        """The file, rows (from 0) and digest behind what was just said."""
        digest = self.run.digest(path)
        mark = "without a manifest" if digest is None else f"digest {digest[:12]}"
        which = f" row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))}" if rows else ""
        self._line(depth, f"[{path}{which}, {mark}{f'; {more}' if more else ''}]")

    def _missing(self, stage: str, otherwise: str, depth: int = 2) -> None:
        """Why there is nothing: because a stage was skipped, is still to be done, or for another reason."""
        skip = skips.of(self.run.manifest(stage))
        if skip is not None:
            self._line(depth, f"{stage} was skipped: {hostile.one_line(skip.reason, LONGEST_REASON)}")
            return
        done = self.run.manifest(stage) is not None
        self._line(depth, otherwise if done else f"not there yet: {stage} has not finished")

    def _text(self, depth: int, text: str, label: str = "") -> None:
        shown, left_out = hostile.capped(text, LONGEST)
        lines = hostile.visible(shown).split("\n")
        for number, line in enumerate(lines):
            self._line(depth, f"{label if number == 0 else ' ' * len(label)}│ {line}")
        if left_out:
            self._line(depth, f"{' ' * len(label)}│ … {left_out:,} more characters in the file")

    def _line(self, depth: int, text: str) -> None:
        self.write("  " * depth + text)
