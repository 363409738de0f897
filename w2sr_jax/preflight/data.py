"""Whether problems and recorded traces can be read with the fields that were named, and whether there are enough of them.

The first rows of each file are read as the run reads them. What a whole file holds may still be another matter.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.curation.settings import NAMES
from w2sr_jax.experiment import GOLD, Experiment, Graduate, ModelTeacher, Pretraining, Rung
from w2sr_jax.losses.selection import nothing
from w2sr_jax.preflight.findings import HEAD, Findings, Rows, Subject, chunks, head, here
from w2sr_jax.problems import files as problem_files
from w2sr_jax.problems import generated, hf_data, reference
from w2sr_jax.problems.copies.matching import written
from w2sr_jax.problems.settings import Files, Generated
from w2sr_jax.problems.sources import read_rows
from w2sr_jax.problems.splits import COUNTS, REST
from w2sr_jax.stages import models
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.settings import Recorded, Served

_SCANNED = 50_000  # rows that are gone through to find as many as are looked at
_COUNTED = 1 << 28  # bytes of a file whose lines are counted
_MATCHED = 50_000  # problems against which recorded questions are held
_MUCH = 0.05  # share of rows set aside that is worth a remark


def problems(subject: Subject, found: Findings) -> None:
    """Do the fields hold problems? Are there as many as the splits ask for?"""
    if "problems" in subject.settled:
        return found.see("made")
    experiment = subject.experiment
    for name, source in (("problems", experiment.problems), ("test_problems", experiment.test_problems)):
        if isinstance(source, Generated):
            generated.generate(source, 1)
            found.see(f"generated, {source.operations[0]} to {source.operations[1]} operations, numbers up to {source.largest}")
        elif isinstance(source, Files):
            _source(name, source, subject.rows[source.path], found)
    _splits(subject, found)


def traces(subject: Subject, found: Findings) -> None:
    """Do the fields of recorded teachers hold traces, and of the run's problems?"""
    for teacher in subject.recorded:
        where = f"teacher {teacher.name}"
        stages = [
            f"{models.rung_directory(subject.experiment, index)}/traces-{teacher.name}" for index in _rungs_of(subject, teacher)
        ]
        if stages and all(stage in subject.settled for stage in stages):
            found.see(f"{where}: read")
            continue
        with found.refusing(where):
            if not here(teacher.path):
                found.see(f"{where}: {teacher.path} is on the Hub, to be downloaded when the run begins")
                continue
            _recorded(subject, teacher, where, found)


def arms(subject: Subject, found: Findings) -> None:
    """Is there something to learn from for every student? An arm that will be empty is skipped; a teacher, a base or a rung
    without any is not."""
    experiment = subject.experiment
    golds, solutions = _golds(subject), _solutions(subject)
    for index, teacher in enumerate(experiment.teachers):
        if (
            not isinstance(teacher, ModelTeacher)
            or teacher.checkpoint is not None
            or models.teacher(teacher).task in subject.settled
        ):
            continue
        where = f"teachers.{index} ({teacher.name}) learns from worked solutions of the teacher split"
        if not experiment.splits.teacher:
            found.refuse(f"{where}, which is empty: set splits.teacher, or give the teacher a checkpoint")
        elif solutions is False and _whole(subject):
            found.refuse(
                f"{where}, and no problem has one: name their field in problems.fields.solution, or give it a checkpoint"
            )
        elif solutions is False:
            found.remark(f"{where}, and none of the first {HEAD:,} problems has one")
        else:
            found.see(f"{teacher.name}: up to {experiment.splits.teacher:,} worked solutions")
    for index, rung in enumerate(experiment.rungs):
        if f"{models.rung_directory(experiment, index)}/curation" in subject.settled:
            continue
        _base(subject, index, found)
        if not experiment.splits.pool:
            found.refuse(
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
        for arm, why in likely.items():
            if arm not in empty and (arm == GOLD or not certain):
                found.remark(f"rungs.{index} ({rung.name}) may have to skip {NAMES.get(arm, arm)} ({arm}): {why}")
            else:
                empty.setdefault(arm, why)
        wanted = [*rung.arms, *(["gold"] if rung.gold else [])]
        said = [f"{NAMES.get(arm, arm)} ({arm}): {why}" for arm, why in empty.items()]
        if set(wanted) <= set(empty):
            found.refuse(f"rungs.{index} ({rung.name}) has nothing to learn from: {'; '.join(said)}")
            continue
        for line in said:
            found.remark(f"rungs.{index} ({rung.name}) will skip {line}")
        found.see(f"{rung.name}: {', '.join(arm for arm in wanted if arm not in empty)}")


def _source(name: str, source: Files, rows: "Rows | UserError | None", found: Findings) -> None:
    if isinstance(rows, UserError):
        found.refuse(f"{name}: {rows}")
    elif rows is None:
        found.see(f"{name}: {source.path} is on the Hub, to be downloaded when the run begins")
    else:
        some = "all" if rows.whole else "the first"
        found.see(
            f"{name}: {some} {rows.count:,} rows of {source.path} read, {_share(len(rows.quarantine), rows.count)} set aside"
        )
        if len(rows.quarantine) > _MUCH * rows.count:
            first = rows.quarantine.rows[0]
            found.remark(
                f"{name}: {len(rows.quarantine):,} of {rows.count:,} rows of {source.path} cannot be used, the first in line "
                f"{first.line}: {first.reason}"
            )


def _splits(subject: Subject, found: Findings) -> None:
    experiment = subject.experiment
    splits, own = experiment.splits, experiment.test_problems is not None
    wanted = {name: int(getattr(splits, name)) for name in COUNTS}
    if own and wanted["test"]:
        found.refuse(f"there are test problems of their own, so splits.test must be 0, not {wanted['test']}")
    if not own and not wanted["test"]:
        found.refuse("there are no test problems: set splits.test, or give test_problems")
    if wanted["pool"] == REST and wanted["pretrain"]:
        found.refuse("splits.pool takes the rest (-1), so nothing is left for splits.pretrain; give the pool a number")
    asked = sum(max(0, count) for count in wanted.values())
    there = available(experiment)
    if isinstance(experiment.problems, Files) and subject.recorded and len(subject.recorded) == len(experiment.teachers):
        return  # problems are those that the traces answer
    found.see(
        f"splits: {', '.join(f'{name} {count:,}' for name, count in wanted.items() if count)} of {_counted(there)} problems"
    )
    if there is not None and asked > there:
        found.refuse(
            f"splits ask for {asked:,} problems, and {getattr(experiment.problems, 'path', 'the source')} has {there:,} rows; "
            "ask for fewer"
        )


def available(experiment: Experiment) -> int | None:
    """How many problems there are at most, where that can be told at once; generated ones have no number."""
    source = experiment.problems
    if not isinstance(source, Files):
        return None
    try:
        count = _count(source.path)
    except (UserError, OSError, ValueError):
        return None
    return count if source.limit is None or count is None else min(count, source.limit)


def _count(path: str) -> int | None:
    named = reference.parse(path)
    if named.kind == "hf":
        return hf_data.count(named) if hf_data.at_hand(named) else None
    file = Path(named.name)
    if named.kind != "file" or not file.is_file():
        return None
    if file.suffix.lower() == ".parquet":
        return int(pq.read_metadata(file).num_rows)
    if file.stat().st_size > _COUNTED or file.suffix.lower() == ".gz":
        return None
    with open(file, "rb") as lines:
        return sum(1 for line in lines if line.strip())


def _recorded(subject: Subject, teacher: Recorded, where: str, found: Findings) -> None:
    try:
        loaded = recorded.load(head(teacher), most=_SCANNED)
    except UserError:
        if teacher.where and sum(1 for _ in islice(read_rows(teacher.path), _SCANNED + 1)) > _SCANNED:
            found.remark(f"{where}: none of the first {_SCANNED:,} rows of {teacher.path} is one of those that `where` asks for")
            return
        raise
    rows = len(loaded.traces) + len(loaded.quarantine)
    found.see(
        f"{where}: {len(loaded.traces):,} traces in the first rows of {teacher.path} ({loaded.shape}), "
        f"{_share(len(loaded.quarantine), rows)} set aside"
    )
    if len(loaded.quarantine) > _MUCH * rows:
        first = loaded.quarantine[0]
        found.remark(
            f"{where}: {len(loaded.quarantine):,} of {rows:,} cannot be used, the first in line {first.line}: {first.reason}"
        )
    known = _known(subject)
    if known is None:
        return
    asked = {written(problem.question) for problem in loaded.problems}
    matched = len(asked & known)
    found.see(f"{where}: {matched:,} of {len(asked):,} questions are among the problems")
    if not matched:
        found.remark(
            f"{where}: none of its first {len(asked):,} questions is among the problems; they count as problems of their own. If "
            "a prompt is wrapped around them, name its text in the teacher's strip"
        )


def _known(subject: Subject) -> set[str] | None:
    """The questions of all problems; None where they are too many to be read at once, or made by the run."""
    experiment = subject.experiment
    sources = [source for source in (experiment.problems, experiment.test_problems) if isinstance(source, Files)]
    if not sources or any(not isinstance(subject.rows[source.path], Rows) for source in sources):
        return None
    found: set[str] = set()
    for source in sources:
        limit = min(source.limit or _MATCHED + 1, _MATCHED + 1)
        read, _ = problem_files.load(dataclasses.replace(source, limit=limit))
        if len(read) > _MATCHED:
            return None
        found.update(written(problem.question) for problem in read)
    return found


def _golds(subject: Subject) -> dict[str, bool]:
    """By recorded teacher, whether its first traces can be graded: by a gold answer of their own or a problem's."""
    known = None
    found = {}
    for name, loaded in subject.loaded.items():
        graded = any(problem.answer is not None for problem in loaded.problems)
        if not graded:
            known = _known(subject) if known is None else known
            # Without all problems at hand nothing is known against the traces.
            graded = known is None or any(written(problem.question) in known for problem in loaded.problems)
            graded = graded or isinstance(subject.experiment.problems, Generated)
        found[name] = graded
    return found


def _solutions(subject: Subject) -> bool | None:
    """Whether problems have worked solutions, as far as the first ones tell; None where there are none to look at."""
    if isinstance(subject.experiment.problems, Generated):
        return True
    seen: Sequence[Problem] = subject.some
    return any(problem.solution is not None for problem in seen) if seen else None


def _whole(subject: Subject) -> bool:
    """Whether all problems have been looked at."""
    source = subject.experiment.problems
    rows = subject.rows.get(source.path) if isinstance(source, Files) else None
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
        of = f"none of the first {HEAD:,} rows of {chunks(without)} has a gold answer, in the file or among the problems"
        yield from ((arm, of) for arm in subject.experiment.rungs[index].arms if arm in ("correct", "incorrect"))


def _empty(subject: Subject, index: int) -> Iterator[tuple[str, str]]:
    """The arms of a rung for which nothing will be left, each with the reason."""
    rung, teachers = subject.experiment.rungs[index], subject.teachers_of(index)
    if all(teacher.weight == 0 for teacher in teachers):
        yield from ((arm, "all its teachers have the weight 0") for arm in rung.arms)
        return
    voters = [teacher for teacher in teachers if teacher.weight > 0]
    counted = [teacher.samples for teacher in voters if isinstance(teacher, ModelTeacher | Graduate | Served)]
    for arm in rung.arms:
        if arm == "majority" and len(counted) == len(voters) and sum(counted) < rung.curation.majority_votes:
            yield arm, f"{sum(counted)} traces a problem are fewer than curation.majority_votes, {rung.curation.majority_votes}"


def _unlearned(rung: Rung) -> Iterator[tuple[str, str]]:
    """The arms, and the ceiling, that the rung's objective learns nothing from, each with the reason."""
    for arm in (*rung.arms, *((GOLD,) if rung.gold else ())):
        verdicts = {"correct": (1,), GOLD: (1,), "incorrect": (-1,)}.get(arm, (-1, 0, 1))
        reasons = [nothing(rung.objective, verdict) for verdict in verdicts]
        if all(reasons):
            yield arm, reasons[0] if len(reasons) == 1 else "objective counts no token of any trace"


def _base(subject: Subject, index: int, found: Findings) -> None:
    experiment = subject.experiment
    rung = experiment.rungs[index]
    start = rung.start
    if not isinstance(start, Pretraining) or models.student(experiment, index, "base").task in subject.settled:
        return
    facts = start.facts if isinstance(experiment.problems, Generated) else 0
    if not experiment.splits.pretrain and not facts:
        found.refuse(
            f"rungs.{index} ({rung.name}): start pretrains a base, and splits.pretrain is 0: set it, or take another start"
        )


def _rungs_of(subject: Subject, teacher: Recorded) -> list[int]:
    return [index for index, rung in enumerate(subject.experiment.rungs) if teacher.name in rung.teachers]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if part and whole else "none"


def _counted(count: int | None) -> str:
    return "any number of" if count is None else f"{count:,}"
