"""Problems with their splits, and the tokenizer that all models of a run share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from w2sr_jax.core import files, records
from w2sr_jax.core.records import Problem, Stored
from w2sr_jax.experiment import Experiment, Pretraining
from w2sr_jax.graph import verified
from w2sr_jax.graph.stage import Context, Made
from w2sr_jax.problems import files as problem_files
from w2sr_jax.problems import generated
from w2sr_jax.problems.copies.matching import Questions, written
from w2sr_jax.problems.settings import Files, Generated
from w2sr_jax.problems.splits import split
from w2sr_jax.stages import tables
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.settings import Recorded
from w2sr_jax.text import tokenizer as tokenizers
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import WordTokenizer

T = TypeVar("T")

PRETRAIN, TEACHER, POOL, PROBE, TEST = "pretrain", "teacher", "pool", "probe", "test"
SPLITS = (PRETRAIN, TEACHER, POOL, PROBE, TEST)
SPLIT_SEED = 0  # splits are part of the problems, not of a run: all seeds share them


def read(run: Path, name: str) -> list[Problem]:
    """The problems of one split."""
    return tables.read(verified.file(run, f"problems/{name}.parquet"), Problem)


def part(problems: Sequence[T], bounds: tuple[float, float]) -> list[T]:
    """The part of a split between two fractions of it."""
    return list(problems[slice(*_rows(len(problems), bounds))])


def pool(run: Path, bounds: tuple[float, float]) -> Stored[Problem]:
    """The same part of the pool, which stays on the disk."""
    every = Stored(verified.file(run, f"problems/{POOL}.parquet"), Problem)
    return every.between(*_rows(len(every), bounds))


def renderer(run: Path) -> Renderer:
    return Renderer(tokenizers.load(verified.folder(run, "tokenizer")))


def facts(experiment: Experiment) -> list[str]:
    """Lines of arithmetic facts for the bases that are pretrained in the run."""
    lines = max([rung.start.facts for rung in experiment.rungs if isinstance(rung.start, Pretraining)], default=0)
    return generated.facts(experiment.problems, lines) if isinstance(experiment.problems, Generated) else []


def problems(context: Context) -> Made:
    """Write problems/SPLIT.parquet and problems/report.json (sizes, near-duplicates removed, quarantined rows)."""
    experiment, directory = context.experiment, context.run / "problems"
    quarantine: list[Any] = []
    if isinstance(experiment.problems, Generated):
        wanted = sum(max(getattr(experiment.splits, name), 0) for name in SPLITS)
        candidates = generated.generate(experiment.problems, wanted)
    else:
        candidates, bad = problem_files.load(experiment.problems)
        quarantine.extend(bad.rows)
    given = {problem.id for problem in candidates}
    test = None
    if experiment.test_problems is not None:
        test, bad = problem_files.load(experiment.test_problems)
        quarantine.extend(bad.rows)
    candidates, left_out = _with_recorded(experiment, candidates, test or [])
    quarantine.extend(left_out)
    own = sum(problem.id not in given for problem in candidates)
    if own and isinstance(experiment.problems, Files):
        context.watcher.warn(
            f"{own:,} questions of recorded traces are not among the problems of {experiment.problems.path} and count as "
            "problems of their own; if a prompt is wrapped around them, name its text in the teacher's `strip`"
        )
    dealt, report = split(candidates, experiment.splits, SPLIT_SEED, test)
    outputs = []
    for name, rows in dealt.items():
        records.write(directory / f"{name}.parquet", Problem, rows)
        outputs.append(directory / f"{name}.parquet")
    sizes = {name: len(rows) for name, rows in dealt.items()}
    removed = sum(sum(reasons.values()) for reasons in report.removed.values())
    files.write_json(
        directory / "report.json",
        {
            "splits": sizes,
            "removed_near_duplicates": removed,
            "removed": {name: dict(reasons) for name, reasons in report.removed.items()},
            "quarantined": len(quarantine),
            "quarantine": [{"file": bad.file, "line": bad.line, "reason": bad.reason} for bad in quarantine],
        },
    )
    if quarantine:
        first = quarantine[0]
        context.watcher.warn(
            f"{len(quarantine)} rows were left out, the first at {first.file}, line {first.line}: {first.reason}; "
            f"all are listed in {directory / 'report.json'}"
        )
    note = ", ".join(f"{name} {count:,}" for name, count in sizes.items() if count)
    note += f"; {removed:,} near-duplicates across splits removed" if removed else ""
    return Made(
        [*outputs, directory / "report.json"], {}, {"problems": sum(sizes.values()), "quarantined": len(quarantine)}, note
    )


def tokenizer(context: Context) -> Made:
    """Write tokenizer/, made from the texts that models are trained on. A vocabulary of words also needs to know the words of the
    questions that are only asked."""
    texts = facts(context.experiment)
    for name in (PRETRAIN, TEACHER, POOL):
        for problem in read(context.run, name):
            texts.extend(text for text in (problem.question, problem.solution) if text)
    if isinstance(context.experiment.tokenizer, WordTokenizer):
        texts.extend(problem.question for name in (PROBE, TEST) for problem in read(context.run, name))
    for teacher in context.experiment.teachers:
        if isinstance(teacher, Recorded):
            texts.extend(trace.text for trace in recorded.load(teacher, read(context.run, POOL)).traces)
    built = tokenizers.build(context.experiment.tokenizer, texts)
    directory = context.run / "tokenizer"
    built.save(directory)
    outputs = sorted(path for path in directory.rglob("*") if path.is_file())
    return Made(outputs, {}, {"vocabulary": built.vocab_size}, f"{built.vocab_size:,} tokens")


def _rows(count: int, bounds: tuple[float, float]) -> tuple[int, int]:
    low, high = (round(bound * count) for bound in bounds)
    return low, high


def _with_recorded(experiment: Experiment, candidates: list[Problem], test: Sequence[Problem]) -> tuple[list[Problem], list[Any]]:
    """The problems with those that recorded traces bring along, but for those of a test set of its own, whose traces are the
    teachers' evaluation. Where every teacher is recorded, problems that none of them answered are left out: no student could
    learn from them."""
    teachers = [teacher for teacher in experiment.teachers if isinstance(teacher, Recorded)]
    if not teachers:
        return candidates, []
    found = recorded.load_all(teachers)
    ours, tested = {written(problem.question): problem for problem in candidates}, Questions(test)
    brought = [problem for problem in found.problems if tested.find(problem.question) is None]
    answered = [ours.get(written(problem.question), problem) for problem in brought]
    if len(teachers) == len(experiment.teachers):
        return answered, found.quarantine
    known = {problem.id for problem in candidates}
    return [*candidates, *(problem for problem in answered if problem.id not in known)], found.quarantine
