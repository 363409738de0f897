"""What a run's files hold of one problem: found by its id alone, without reading the rest into memory as records."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pyarrow.parquet as pq

from w2sr_jax import files, lineage, sentences
from w2sr_jax.batches.packing import Packed
from w2sr_jax.curation.fates import Fate
from w2sr_jax.errors import UserError
from w2sr_jax.evaluation.ledger import Outcome, answer, cells
from w2sr_jax.experiment import BASE, Experiment
from w2sr_jax.ladder import batching, curate, models, outcomes, prepare, teach
from w2sr_jax.ladder.batching import CURATED, PACKING, Lessons
from w2sr_jax.ladder.models import Model
from w2sr_jax.ladder.outcomes import GENERATIONS, GREEDY
from w2sr_jax.records import Example, Problem, Record, Trace

R = TypeVar("R", bound=Record)

SHORTEST = 4  # characters of an id that may stand for it


class Found(NamedTuple, Generic[R]):
    """A record with the file (relative to the run) and the row (from 0) that hold it."""

    path: str
    row: int
    record: R


class Use(NamedTuple):
    """One example made of the problem, and the steps (from 1) of `total` that learn from it. `found.path` is "" where the example
    is made anew for each training; `row` is that of the packed data, None where the example was too long for any."""

    found: Found[Example]
    row: int | None
    steps: Sequence[int]
    total: int


class Learnt(NamedTuple):
    """How a model's training used the problem. `state` is "finished", "unfinished", "unread" (no tokenizer, so no batches yet) or
    "foreign": the batches made of its examples are not those of packing.npz, and the steps are not known."""

    model: Model
    state: str
    uses: Sequence[Use]


class Verdicts(NamedTuple):
    """The outcome of one student in the error ledger's words; `cells` is empty where the student only kept what all got right."""

    teacher: Found[Trace]
    base: Found[Trace]
    cells: tuple[str, ...]


class Files:
    """A run's files and their digests, as the manifests of the stages that wrote them say."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._written: dict[str, str] = {}
        folder = run / "lineage"
        for path in sorted(folder.rglob("*.json")):
            made = lineage.load(run, path.relative_to(folder).with_suffix("").as_posix())
            self._written.update(made.outputs if made else {})

    def digest(self, path: str) -> tuple[str | None, bool]:
        """The digest in the manifest (None where the stage has not finished), and whether the file still has it."""
        known = self._written.get(path)
        return known, known is None or files.digest_file(self.run / path) == known


def locate(run: Path, identity: str) -> tuple[str, Found[Problem]]:
    """The split and the problem whose id begins with `identity`. `UserError` where there is none, or more than one."""
    if len(identity) < SHORTEST:
        raise UserError(f"{identity!r} is too short to name a problem: give its id or at least {SHORTEST} characters of it")
    paths = {split: f"problems/{split}.parquet" for split in prepare.SPLITS}
    there = {split: path for split, path in paths.items() if (run / path).is_file()}
    if not there:
        raise UserError(f"{run} has no problems yet; w2sr run makes them")
    ids = {split: _table(run / path, ["id"])["id"].to_pylist() for split, path in there.items()}
    matches = [(key, split, row) for split, keys in ids.items() for row, key in enumerate(keys) if key.startswith(identity)]
    exact = [match for match in matches if match[0] == identity]
    if len(exact or matches) > 1:
        some = ", ".join(key for key, _, _ in matches[:5])
        raise UserError(f"{identity!r} begins the ids of {len(matches)} problems ({some}, …): give more of the id")
    if not matches:
        near = difflib.get_close_matches(identity, (key[: len(identity)] for keys in ids.values() for key in keys), 3, 0.5)
        full = [next(key for keys in ids.values() for key in keys if key.startswith(start)) for start in dict.fromkeys(near)]
        hint = f"; near ones are {', '.join(full)}" if full else ""
        raise UserError(f"no problem of {run} has an id that begins with {identity!r}{hint}")
    key, split, row = (exact or matches)[0]
    (record,) = rows(run, there[split], Problem, "id", key)
    return split, record._replace(row=row)


def rows(run: Path, path: str, kind: type[R], column: str, value: str) -> list[Found[R]]:
    """The records of a Parquet file in whose column a value stands; none where the file is not there yet."""
    if not (run / path).is_file():
        return []
    table = _table(run / path, None)
    if column not in table.schema.names:
        raise UserError(f"{run / path} is not a table of {kind.__name__} rows: column {column!r} is missing")
    at = [row for row, other in enumerate(table[column].to_pylist()) if other == value]
    if not at:
        return []
    try:
        found = [kind.from_row(table.slice(row, 1).to_pylist()[0]) for row in at]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run / path} is not a table of {kind.__name__} rows: {sentences.cause(error)}") from None
    return [Found(path, row, record) for row, record in zip(at, found, strict=True)]


def is_part(run: Path, experiment: Experiment, index: int, row: int) -> bool:
    """Whether a rung learns from the problem in a row of the pool."""
    count = pq.read_metadata(run / "problems" / f"{prepare.POOL}.parquet").num_rows
    return row in prepare.part(range(count), experiment.rungs[index].pool)


def traces(run: Path, index: int, teacher: str, problem: str) -> list[Found[Trace]]:
    """What a teacher wrote to the problem for a rung, sample by sample."""
    shards = (str(path.relative_to(run)) for path in teach.shards(run, index, teacher))
    found = [one for shard in shards for one in rows(run, shard, Trace, "problem_id", problem)]
    return sorted(found, key=lambda one: one.record.sample)


def fates(run: Path, experiment: Experiment, index: int, arm: str, problem: str) -> list[Found[Fate]]:
    """What became of those traces in an arm's curation."""
    path = f"{models.rung_directory(experiment, index)}/{arm}/{curate.FATES}"
    return rows(run, path, Fate, "problem_id", problem)


def learnt(run: Path, experiment: Experiment, model: Model, problem: str, seed: int) -> Learnt | None:
    """How a model's training used the problem; None where it does not learn from it, or is not trained at all."""
    training = batching.training_of(experiment, model)
    curated = f"{model.directory}/{CURATED}" if model.rung is not None and model.arm != BASE else ""
    if training is None or (curated and not rows(run, curated, Example, "problem_id", problem)):
        return None
    examples = batching.examples_of(run, experiment, model)
    at = {i: example for i, example in enumerate(examples) if example.problem_id == problem}
    if not at:
        return None
    if not (run / "tokenizer").is_dir():
        return Learnt(model, "unread", ())
    lessons = batching.lessons(model, examples, prepare.renderer(run), training, seed)
    state = _state(run, model, lessons)
    uses = []
    for i, example in at.items():
        row = lessons.row_of(i)
        steps = [] if row is None or state == "foreign" else lessons.steps_of(row)
        uses.append(Use(Found(curated, i, example), row, steps, lessons.total))
    return Learnt(model, state, uses)


def answers(run: Path, model: Model, problem: str) -> Iterator[Found[Trace]]:
    """A model's answers to the problem, greedy ones first, from whatever file has them."""
    folder = f"evaluations/{model.name}"
    for name in (GENERATIONS, f"{prepare.POOL}.parquet", f"{prepare.PROBE}.parquet"):
        yield from sorted(rows(run, f"{folder}/{name}", Trace, "problem_id", problem), key=lambda found: found.record.sample)


def verdicts(
    run: Path, experiment: Experiment, index: int, teacher: str, model: Model, problem: str, split: str
) -> Verdicts | None:
    """What the error ledger says of a student's answer, from the files that the report's ledger reads; None where an answer of
    teacher, base or student is not there, or not graded."""
    which: outcomes.Set = "training" if split == prepare.POOL else "held-out"
    read = outcomes.files_of(run, experiment, index, teacher, model.arm or "", which)
    taught = [found for path in read.teacher for found in rows(run, path, Trace, "problem_id", problem)]
    base, own = (_greedy(rows(run, path, Trace, "problem_id", problem)) for path in (read.base, read.student))
    if not taught or base is None or own is None:
        return None
    first = min(taught, key=lambda found: found.record.sample)
    if "ungraded" in (first.record.verdict, base.record.verdict, own.record.verdict):
        return None
    outcome = Outcome(problem, answer(first.record), answer(base.record), answer(own.record))
    return Verdicts(first, base, cells(outcome))


def _greedy(found: Sequence[Found[Trace]]) -> Found[Trace] | None:
    return next((one for one in found if one.record.sample == GREEDY), None)


def _state(run: Path, model: Model, lessons: Lessons) -> str:
    path = run / model.directory / PACKING
    if path.is_file() and Packed.load(path).digest != lessons.batches.digest:
        return "foreign"
    return "finished" if lineage.load(run, model.task) is not None else "unfinished"


def _table(path: Path, columns: Sequence[str] | None) -> Any:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns)
    except Exception as error:  # the library answers damage with many kinds
        raise UserError(f"{path} cannot be read as Parquet: {sentences.cause(error)}") from None
