"""What a run's files hold of one problem: found by its id alone, without reading the rest.

Files of a finished stage are as its manifest says, or refused (`verified`); what lies beside them is not looked at. Those of a
stage that has not finished are read as they are, and are told as being without a manifest.
"""

import difflib
from collections.abc import Iterator, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import pyarrow.parquet as pq

from w2sr_jax.batches.encode import encode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example, Problem, Record, Trace
from w2sr_jax.curation.dispositions import Disposition
from w2sr_jax.evaluation.ledger import Outcome, answer, cells
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.store import RunStore
from w2sr_jax.runs import lookup
from w2sr_jax.runs import packing as places
from w2sr_jax.runs.packing import Packing, State
from w2sr_jax.stages import examples as batching
from w2sr_jax.stages import layout, models, outcomes, problems, tokenizer
from w2sr_jax.stages import traces as teach
from w2sr_jax.stages.layout import GENERATIONS, PACKING
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.outcomes import GREEDY

R = TypeVar("R", bound=Record)

SHORTEST = 4  # characters of an id that may stand for it


class Found(NamedTuple, Generic[R]):
    """A record with the file (relative to the run) and the row (from 0) that hold it."""

    path: str
    row: int
    record: R


class Use(NamedTuple):
    """One example made of the problem, and the steps (from 1) of `total` that learn from it. `found.path` is "" where the example
    is made anew for each training; `row` is that of the packed data, None where it is not known, or where the example is
    `left_out`: too long for any, or with an end of turn in its midst."""

    found: Found[Example]
    row: int | None
    steps: Sequence[int]
    total: int
    left_out: bool = False


class Learnt(NamedTuple):
    """How a model's training used the problem. `state` is that of its packed rows, or "unread": no tokenizer, so no rows yet. The
    steps are not known of rows that are "foreign" or "unknown". `packing` is the file of the rows, where it is there."""

    model: Model
    state: State | Literal["unread"]
    uses: Sequence[Use]
    packing: str | None = None


class Verdicts(NamedTuple):
    """The outcome of one student in the error ledger's words; `cells` is empty where the student only kept what all got right."""

    teacher: Found[Trace]
    base: Found[Trace]
    cells: tuple[str, ...]


def locate(run: RunStore, identity: str) -> tuple[str, Found[Problem]]:
    """The split and the problem whose id begins with `identity`. `UserError` where there is none, or more than one."""
    if len(identity) < SHORTEST:
        raise UserError(f"{identity!r} is too short to name a problem: give its id or at least {SHORTEST} characters of it")
    files = {split: path for split in problems.SPLITS if (path := run.readable(problems.table(split), layout.PROBLEMS))}
    if not files:
        raise UserError(f"{run.directory} has no problems yet; w2sr run makes them")
    ids = {split: lookup.column(path, Problem, "id") for split, path in files.items()}
    matches = [(key, split, row) for split, keys in ids.items() for row, key in enumerate(keys) if key.startswith(identity)]
    exact = [match for match in matches if match[0] == identity]
    if len(exact or matches) > 1:
        some = ", ".join(key for key, _, _ in matches[:5])
        raise UserError(f"{identity!r} begins the ids of {len(matches)} problems ({some}, …): give more of the id")
    if not matches:
        near = difflib.get_close_matches(identity, (key[: len(identity)] for keys in ids.values() for key in keys), 3, 0.5)
        full = [next(key for keys in ids.values() for key in keys if key.startswith(start)) for start in dict.fromkeys(near)]
        hint = f"; near ones are {', '.join(full)}" if full else ""
        raise UserError(f"no problem of {run.directory} has an id that begins with {identity!r}{hint}")
    _, split, row = (exact or matches)[0]
    return split, Found(problems.table(split), row, lookup.record(files[split], Problem, row))


def rows(run: RunStore, path: str, stage: str, kind: type[R], problem: str) -> list[Found[R]]:
    """The records of a table of a stage that are of a problem; none where it is not there yet."""
    file = run.readable(path, stage)
    return [] if file is None else [Found(path, row, one) for row, one in lookup.where(file, kind, {"problem_id": problem})]


def is_part(run: RunStore, experiment: Experiment, index: int, row: int) -> bool:
    """Whether a rung learns from the problem in a row of the pool."""
    path = run.readable(problems.table(problems.POOL), layout.PROBLEMS)
    count = pq.read_metadata(path).num_rows if path else 0
    return row in problems.part(range(count), experiment.rungs[index].pool)


def traces(run: RunStore, experiment: Experiment, index: int, teacher: str, problem: str) -> list[Found[Trace]]:
    """What a teacher wrote to the problem for a rung, sample by sample."""
    stage = f"{models.rung_directory(experiment, index)}/traces-{teacher}"
    shards = teach.shards(run, index, teacher, stage)
    names = (run.relative(path) for path in shards)
    found = [one for name in names for one in rows(run, name, stage, Trace, problem)]
    return sorted(found, key=lambda one: one.record.sample)


def dispositions(run: RunStore, experiment: Experiment, index: int, arm: str, problem: str) -> list[Found[Disposition]]:
    """What became of those traces in an arm's curation."""
    directory = models.rung_directory(experiment, index)
    return rows(run, f"{directory}/{arm}/{layout.DISPOSITIONS}", f"{directory}/curation", Disposition, problem)


def learnt(run: RunStore, experiment: Experiment, model: Model, problem: Problem, seed: int) -> Learnt | None:
    """How a model's training used the problem; None where it does not learn from it, or is not trained at all."""
    training = batching.training_of(experiment, model)
    found = _examples(run, experiment, model, problem) if training is not None else []
    if training is None or found == []:
        return None
    if found is None or not run.below("tokenizer/"):
        return Learnt(model, "unread", ())
    renderer = tokenizer.renderer(run)
    packing = places.packing(run, model, batching.examples_of(run, experiment, model), renderer, training, seed)
    path = f"{model.directory}/{PACKING}"
    uses = [_use(packing, one) for one in found]
    return Learnt(model, packing.state, uses, path if run.path(path).is_file() else None)


def _use(packing: Packing, found: Found[Example]) -> Use:
    encoded, _ = encode([found.record], packing.renderer, packing.training.batching.length)
    place = packing.place(found.row, encoded[0]) if encoded else None
    known = place is not None and packing.state != "foreign"
    return Use(found, place.row if place else None, place.steps if place and known else [], packing.total, not encoded)


def _examples(run: RunStore, experiment: Experiment, model: Model, problem: Problem) -> list[Found[Example]] | None:
    """The examples of a model that were made of the problem; None where they will be, once the splits are finished. `Found.row`
    is their number; those that are made anew for each training have no path."""
    start = batching.start_of(experiment, model)
    if start is not None:
        if start.split is None or not start.examples_of(problem):
            return []
        if run.optional(problems.table(start.split)) is None:
            return None
        examples = batching.examples_of(run, experiment, model)
        return [Found("", i, one) for i, one in enumerate(examples) if one.problem_id == problem.id]
    stage = f"{models.rung_directory(experiment, model.rung or 0)}/curation"
    return rows(run, batching.curated(experiment, model), stage, Example, problem.id)


def answers(run: RunStore, model: Model, problem: str) -> Iterator[Found[Trace]]:
    """A model's answers to the problem, greedy ones first, from whatever file has them."""
    folder = f"evaluations/{model.name}"
    for name in (GENERATIONS, f"{problems.POOL}.parquet", f"{problems.PROBE}.parquet"):
        yield from sorted(rows(run, f"{folder}/{name}", folder, Trace, problem), key=lambda found: found.record.sample)


def verdicts(
    run: RunStore, experiment: Experiment, index: int, teacher: str, model: Model, problem: str, split: str
) -> Verdicts | None:
    """What the error ledger says of a student's answer, from the files that the report's ledger reads; None where an answer of
    teacher, base or student is not there, or not graded."""
    which: outcomes.Set = "training" if split == problems.POOL else "held-out"
    read = outcomes.files_of(run, experiment, index, teacher, model.arm or "", which)
    taught = [found for path in read.teacher for found in rows(run, path, _stage(path), Trace, problem)]
    base, own = (_greedy(rows(run, path, _stage(path), Trace, problem)) for path in (read.base, read.student))
    if not taught or base is None or own is None:
        return None
    first = min(taught, key=lambda found: found.record.sample)
    if "ungraded" in (first.record.verdict, base.record.verdict, own.record.verdict):
        return None
    outcome = Outcome(problem, answer(first.record), answer(base.record), answer(own.record))
    return Verdicts(first, base, cells(outcome))


def _greedy(found: Sequence[Found[Trace]]) -> Found[Trace] | None:
    return next((one for one in found if one.record.sample == GREEDY), None)


def _stage(path: str) -> str:
    """The stage of a table of answers; that of a teacher's traces has finished where they are asked for here."""
    return path.rpartition("/")[0]
