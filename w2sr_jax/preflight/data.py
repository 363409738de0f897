"""Whether problems and recorded traces can be read with the fields that were named, and whether there are enough of them.

The first rows of each file are read as the run reads them. What a whole file holds may still be another matter.
"""

from collections.abc import Iterator, Sequence

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.experiment import GOLD, Rung
from w2sr_jax.losses.selection import nothing
from w2sr_jax.preflight.findings import Findings, listed
from w2sr_jax.preflight.subject import Rows, Subject
from w2sr_jax.problems.copies.matching import single_spaced
from w2sr_jax.problems.datasets import at_hand
from w2sr_jax.problems.source import ProblemSource, load
from w2sr_jax.problems.splits import COUNTS, REST
from w2sr_jax.stages import models
from w2sr_jax.teachers.recorded_traces import HEAD

_MATCHED = 50_000  # problems against which recorded questions are held
_MUCH = 0.05  # share of rows set aside that is worth a remark


def problems(subject: Subject, findings: Findings) -> None:
    """Do the fields hold problems? Are there as many as the splits ask for?"""
    if "problems" in subject.settled:
        return findings.see("made")
    for name, rows in subject.rows.items():
        source = subject.experiment.problems if name == "problems" else subject.experiment.test_problems
        assert source is not None
        _source(name, source, rows, findings)
    _splits(subject, findings)


def traces(subject: Subject, findings: Findings) -> None:
    """Do the fields of recorded teachers hold traces, and of the run's problems?"""
    for teacher in subject.files:
        where = f"teacher {teacher.name}"
        names = [stage.name for stage in subject.stages.traces.values() if stage.teacher.name == teacher.name]
        if names and all(name in subject.settled for name in names):
            findings.see(f"{where}: read")
            continue
        with findings.refusing(where):
            if not at_hand(teacher.path):
                findings.see(f"{where}: {teacher.path} is on the Hub, to be downloaded when the run begins")
                continue
            teacher.inspect(where, findings.for_teacher(), lambda: _questions(subject))


def arms(subject: Subject, findings: Findings) -> None:
    """Is there something to learn from for every student? An arm that will be empty is skipped; a teacher, a base or a rung
    without any is not."""
    experiment = subject.experiment
    golds, solutions = _golds(subject), _solutions(subject)
    for index, teacher in enumerate(experiment.teachers):
        writer, model = teacher.writer, models.teacher(teacher)
        if writer is None or model is None or model.stage in subject.settled or writer.start.split is None:
            continue
        split = writer.start.split
        where = f"teachers.{index} ({teacher.name}) learns from worked solutions of the {split} split"
        if not getattr(experiment.splits, split):
            findings.refuse(f"{where}, which is empty: set splits.{split}, or give the teacher a checkpoint")
        elif solutions is False and _whole(subject):
            findings.refuse(
                f"{where}, and no problem has one: name their field in problems.fields.solution, or give it a checkpoint"
            )
        elif solutions is False:
            findings.remark(f"{where}, and none of the first {HEAD:,} problems has one")
        else:
            findings.see(f"{teacher.name}: up to {getattr(experiment.splits, split):,} worked solutions")
    for index, rung in enumerate(experiment.rungs):
        curation = subject.stages.curations.get(index)
        if curation is not None and curation.name in subject.settled:
            continue
        _base(subject, index, findings)
        if not experiment.splits.pool:
            findings.refuse(
                f"rungs.{index} ({rung.name}) has no problems to learn from: set splits.pool (-1: all that others leave)"
            )
            continue
        empty = dict(_empty(subject, index)) | dict(_unlearned(rung))
        likely = dict(_ungraded(subject, index, golds))
        if rung.gold and solutions is False and _whole(subject):
            empty[GOLD] = "no problem has a worked solution"
        elif rung.gold and solutions is False:
            likely[GOLD] = f"none of the first {HEAD:,} problems has a worked solution"
        certain = all(_read_whole(subject, name) for name in rung.teachers)
        titles = {arm.name: GOLD if arm.name == GOLD else arm.title for arm in rung.trained}
        for arm, why in likely.items():
            if arm not in empty and (arm == GOLD or not certain):
                findings.remark(f"rungs.{index} ({rung.name}) may have to skip {titles[arm]} ({arm}): {why}")
            else:
                empty.setdefault(arm, why)
        asked = [arm.name for arm in rung.trained]
        reasons = [f"{titles[arm]} ({arm}): {why}" for arm, why in empty.items()]
        if set(asked) <= set(empty):
            findings.refuse(f"rungs.{index} ({rung.name}) has nothing to learn from: {'; '.join(reasons)}")
            continue
        for line in reasons:
            findings.remark(f"rungs.{index} ({rung.name}) will skip {line}")
        findings.see(f"{rung.name}: {', '.join(arm for arm in asked if arm not in empty)}")


def _source(name: str, source: ProblemSource, rows: "Rows | UserError | None", findings: Findings) -> None:
    if isinstance(rows, UserError):
        findings.refuse(f"{name}: {rows}")
    elif rows is None:
        findings.see(f"{name}: {source.describe()} is on the Hub, to be downloaded when the run begins")
    elif source.is_endless():
        findings.see(source.describe())
    else:
        some, what = "all" if rows.whole else "the first", source.describe()
        findings.see(f"{name}: {some} {rows.count:,} rows of {what} read, {_share(len(rows.quarantine), rows.count)} set aside")
        if len(rows.quarantine) > _MUCH * rows.count:
            first = rows.quarantine.rows[0]
            findings.remark(
                f"{name}: {len(rows.quarantine):,} of {rows.count:,} rows of {what} cannot be used, the first in line "
                f"{first.line}: {first.reason}"
            )


def _splits(subject: Subject, findings: Findings) -> None:
    experiment = subject.experiment
    splits, own = experiment.splits, experiment.test_problems is not None
    wanted = {name: int(getattr(splits, name)) for name in COUNTS}
    if own and wanted["test"]:
        findings.refuse(f"there are test problems of their own, so splits.test must be 0, not {wanted['test']}")
    if not own and not wanted["test"]:
        findings.refuse("there are no test problems: set splits.test, or give test_problems")
    if wanted["pool"] == REST and wanted["pretrain"]:
        findings.refuse("splits.pool takes the rest (-1), so nothing is left for splits.pretrain; give the pool a number")
    asked = sum(max(0, count) for count in wanted.values())
    there = experiment.problems.available()
    if subject.stages.problems.only_brought and not experiment.problems.is_endless():
        return  # problems are those that the traces answer
    findings.see(
        f"splits: {', '.join(f'{name} {count:,}' for name, count in wanted.items() if count)} of {_counted(there)} problems"
    )
    if there is not None and asked > there:
        what = experiment.problems.describe()
        findings.refuse(f"splits ask for {asked:,} problems, and {what} has {there:,} rows; ask for fewer")


def _questions(subject: Subject) -> set[str] | None:
    """The questions of all problems; None where they are too many to be read at once, or made by the run."""
    experiment = subject.experiment
    sources = [source for source in (experiment.problems, experiment.test_problems) if source is not None]
    sources = [source for source in sources if not source.is_endless()]
    if not sources or not all(isinstance(rows, Rows) for rows in subject.rows.values()):
        return None
    questions: set[str] = set()
    for source in sources:
        problems, _ = load(source, _MATCHED + 1)
        if len(problems) > _MATCHED:
            return None
        questions.update(single_spaced(problem.question) for problem in problems)
    return questions


def _golds(subject: Subject) -> dict[str, bool]:
    """By recorded teacher, whether its first traces can be graded: by a gold answer of their own or a problem's."""
    asked = None
    graded_of = {}
    for name, loaded in subject.loaded.items():
        graded = any(problem.answer is not None for problem in loaded.problems)
        if not graded:
            asked = _questions(subject) if asked is None else asked
            # Without all problems at hand nothing is known against the traces.
            graded = asked is None or any(single_spaced(problem.question) in asked for problem in loaded.problems)
            graded = graded or subject.experiment.problems.is_endless()
        graded_of[name] = graded
    return graded_of


def _solutions(subject: Subject) -> bool | None:
    """Whether problems have worked solutions, as far as the first ones tell; None where there are none to look at."""
    problems: Sequence[Problem] = subject.some
    return any(problem.solution is not None for problem in problems) if problems else None


def _whole(subject: Subject) -> bool:
    """Whether all problems have been looked at."""
    rows = subject.rows["problems"]
    return isinstance(rows, Rows) and rows.whole


def _read_whole(subject: Subject, teacher: str) -> bool:
    """Whether all rows of a recorded teacher's file have been looked at."""
    loaded = subject.loaded.get(teacher)
    return loaded is not None and len(loaded.traces) + len(loaded.quarantine) + loaded.unmatched < HEAD


def _ungraded(subject: Subject, index: int, golds: dict[str, bool]) -> Iterator[tuple[str, str]]:
    """The arms of a rung that need verdicts, where none of the traces that were looked at has one, each with the reason."""
    voters = [teacher for teacher in subject.teachers_of(index) if teacher.weight > 0]
    without = [teacher.name for teacher in voters if golds.get(teacher.name) is False]
    if voters and len(without) == len(voters):
        of = f"none of the first {HEAD:,} rows of {listed(without)} has a gold answer, in the file or among the problems"
        arms = subject.experiment.rungs[index].curated_arms
        yield from ((arm.name, of) for arm in arms if 0 not in arm.select.verdicts)


def _empty(subject: Subject, index: int) -> Iterator[tuple[str, str]]:
    """The arms of a rung for which nothing will be left, each with the reason."""
    rung, teachers = subject.experiment.rungs[index], subject.teachers_of(index)
    if all(teacher.weight == 0 for teacher in teachers):
        yield from ((arm.name, "all its teachers have the weight 0") for arm in rung.curated_arms)
        return
    counted = [teacher.samples for teacher in teachers if teacher.weight > 0]
    samples = None if None in counted else sum(count or 0 for count in counted)
    for arm in rung.curated_arms:
        why = arm.select.emptied(samples, rung.curation)
        if why is not None:
            yield arm.name, why


def _unlearned(rung: Rung) -> Iterator[tuple[str, str]]:
    """The arms, and the ceiling, that the rung's objective learns nothing from, each with the reason. What a student learns from
    its own answers, no trace tells."""
    for arm in (arm for arm in rung.trained if arm.select.curates):
        verdicts = (1,) if arm.name == GOLD else arm.select.verdicts
        last = rung.stages_of(arm)[-1]
        objective = last.objective
        if objective is None or last.draws_own:
            continue
        reasons = [nothing(objective, verdict) for verdict in verdicts]
        if all(reasons):
            yield arm.name, reasons[0] if len(reasons) == 1 else "objective counts no token of any trace"


def _base(subject: Subject, index: int, findings: Findings) -> None:
    experiment = subject.experiment
    rung = experiment.rungs[index]
    start = rung.start
    if start.training is None or start.split is None or models.student(experiment, index, "base").stage in subject.settled:
        return
    facts = start.facts_wanted and experiment.problems.facts(1)
    if not getattr(experiment.splits, start.split) and not facts:
        findings.refuse(
            f"rungs.{index} ({rung.name}): start pretrains a base, and splits.{start.split} is 0: set it, or take another start"
        )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if part and whole else "none"


def _counted(count: int | None) -> str:
    return "any number of" if count is None else f"{count:,}"
