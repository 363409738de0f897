"""All records of one problem in a run: the problem itself, traces, dispositions, examples and answers, looked up by the problem's
id without reading the rest.

Files of a finished stage are as its manifest says, or refused by the store; what lies beside them is not looked at. Files of a
stage that has not finished are read as they are.
"""

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import pyarrow.parquet as pq

from w2sr_jax.batches.encode import encode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example, Pair, Problem, Record, Trace
from w2sr_jax.curation.dispositions import Disposition
from w2sr_jax.evaluation.ledger import Outcome, answer, cells
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.store import RunStore
from w2sr_jax.runs import lookup, packing
from w2sr_jax.runs.packing import Packing, State
from w2sr_jax.stages import examples, layout, models, outcomes, problems, tokenizer
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.outcomes import GREEDY
from w2sr_jax.stages.traces import shards

R = TypeVar("R", bound=Record)

SHORTEST = 4  # characters of an id that may stand for it


class Located(NamedTuple, Generic[R]):
    """A record with the file (relative to the run) and the row (from 0) that hold it."""

    path: str
    row: int
    record: R


class ExampleUse(NamedTuple):
    """One example made of the problem, and the steps (from 1) of `total` that learn from it. `example.path` is "" where the
    example is made anew for each training. `row` is that of the packed data: None where it is not known yet, or where the example
    is `left_out`, being too long for a row or having an end of turn in its midst."""

    example: Located[Example]
    row: int | None
    steps: Sequence[int]
    total: int
    left_out: bool = False


class TrainingUse(NamedTuple):
    """How a model's training used the problem. `state` is that of the packed rows (see `packing.Packing`), or "unread": there is
    no tokenizer, so no rows yet. Of rows that are "foreign", "unknown" or "otherwise" the steps are not known. `packing` is the
    file of the rows, None where there is none. `chooser` is the kind of the user's training stage that has chosen other texts
    than those that were curated, None for others. Where one has not finished yet, the state is "open"; where it has kept no
    examples, "unkept"."""

    model: Model
    state: State | Literal["unread", "open", "unkept"]
    uses: Sequence[ExampleUse]
    packing: str | None = None
    chooser: str | None = None


class LedgerEntry(NamedTuple):
    """The cells of the error ledger that count a student's answer, with the teacher's and the base's; no cell where all three
    were right."""

    teacher: Located[Trace]
    base: Located[Trace]
    cells: tuple[str, ...]


def find_problem(run: RunStore, identity: str) -> tuple[str, Located[Problem]]:
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
    return split, Located(problems.table(split), row, lookup.record(files[split], Problem, row))


def rows(run: RunStore, path: str, stage: str, kind: type[R], problem: str) -> list[Located[R]]:
    """The rows about a problem in a table that a stage writes; none where the table is not there yet."""
    file = run.readable(path, stage)
    if file is None:
        return []
    return [Located(path, row, record) for row, record in lookup.where(file, kind, {"problem_id": problem})]


def in_part(run: RunStore, experiment: Experiment, index: int, row: int) -> bool:
    """Whether a row of the pool lies in the part of it that a rung learns from."""
    path = run.readable(problems.table(problems.POOL), layout.PROBLEMS)
    count = pq.read_metadata(path).num_rows if path else 0
    return row in problems.part(range(count), experiment.rungs[index].pool)


def traces(run: RunStore, experiment: Experiment, index: int, teacher: str, problem: str) -> list[Located[Trace]]:
    """What a teacher wrote to the problem for a rung, in the order of the samples."""
    stage = layout.traces_stage(models.rung_directory(experiment, index), teacher)
    names = (run.relative(path) for path in shards(run, index, teacher, stage))
    return _by_sample(row for name in names for row in rows(run, name, stage, Trace, problem))


def dispositions(run: RunStore, experiment: Experiment, index: int, arm: str, problem: str) -> list[Located[Disposition]]:
    """What became of those traces in an arm's curation."""
    folder = models.rung_directory(experiment, index)
    path = layout.within(layout.arm(folder, arm), layout.DISPOSITIONS)
    return rows(run, path, layout.curation_stage(folder), Disposition, problem)


def pairs(run: RunStore, experiment: Experiment, index: int, arm: str, problem: str) -> list[Located[Pair]]:
    """The pairs that an arm's curation made of those traces; none where it makes none."""
    folder = models.rung_directory(experiment, index)
    path = layout.within(layout.arm(folder, arm), layout.PAIRS)
    return rows(run, path, layout.curation_stage(folder), Pair, problem)


def training_use(run: RunStore, experiment: Experiment, model: Model, problem: Problem, seed: int) -> TrainingUse | None:
    """How a model's training used the problem; None where it does not learn from it, or is not trained at all."""
    training, chooser = examples.training_of(experiment, model), examples.chooser(experiment, model)
    path = layout.within(model.directory, layout.PACKING)
    if chooser is not None and (run.manifest(model.stage) is None or run.optional(path) is None):
        return TrainingUse(model, "open" if run.manifest(model.stage) is None else "unkept", (), None, chooser)
    rows = _examples(run, experiment, model, problem) if training is not None or chooser is not None else []
    if rows == []:
        return None
    if run.optional(layout.within(model.directory, layout.LESSONS)) is None:
        chooser = None
    if training is None:
        return TrainingUse(model, "otherwise", [ExampleUse(one, None, [], 0) for one in rows or ()], path, chooser)
    if rows is None or not run.below(layout.within(layout.TOKENIZER, "")):
        return TrainingUse(model, "unread", ())
    every = examples.examples_of(run, experiment, model)
    paired = examples.learns_from_pairs(experiment, model)
    packed = packing.packing_of(run, model, every, tokenizer.renderer(run), training, seed, paired)
    uses = [_use(packed, one) for one in rows]
    return TrainingUse(model, packed.state, uses, path if run.path(path).is_file() else None, chooser)


def answers(run: RunStore, model: Model, problem: str) -> Iterator[Located[Trace]]:
    """A model's answers to the problem, greedy ones first, from whatever table has them."""
    folder = layout.evaluation(model.name)
    tables = (layout.within(folder, layout.GENERATIONS), *(layout.answers(model.name, name) for name in _ALSO_ANSWERED))
    for name in tables:
        yield from _by_sample(rows(run, name, folder, Trace, problem))


def ledger_entry(
    run: RunStore, experiment: Experiment, index: int, teacher: str, model: Model, problem: str, split: str
) -> LedgerEntry | None:
    """What the error ledger says of a student's answer, from the files that the report's ledger reads; None where an answer of
    teacher, base or student is not there, or not graded."""
    which: outcomes.Set = "training" if split == problems.POOL else "held-out"
    files = outcomes.files_of(run, experiment, index, teacher, model.arm or "", which)
    taught = _by_sample(row for path in files.teacher for row in rows(run, path, _stage(path), Trace, problem))
    base, own = (_greedy(rows(run, path, _stage(path), Trace, problem)) for path in (files.base, files.student))
    if not taught or base is None or own is None:
        return None
    if "ungraded" in (taught[0].record.verdict, base.record.verdict, own.record.verdict):
        return None
    outcome = Outcome(problem, answer(taught[0].record), answer(base.record), answer(own.record))
    return LedgerEntry(taught[0], base, cells(outcome))


_ALSO_ANSWERED = (problems.POOL, problems.PROBE)
"""Splits besides the test split of which models may answer problems."""


def _examples(run: RunStore, experiment: Experiment, model: Model, problem: Problem) -> list[Located[Example]] | None:
    """The examples of a model that were made of the problem; None where they will be, once the splits are finished. `row` is
    their number; those that are made anew for each training have no path."""
    start = examples.start_of(experiment, model)
    if start is None:
        name, stage = examples.learnt_from(run, experiment, model), model.stage
        if name != layout.within(model.directory, layout.LESSONS):
            stage = layout.curation_stage(models.rung_directory(experiment, model.rung or 0))
        own = rows(run, name, stage, Example, problem.id)
        return [*own, *_rejected(run, experiment, model, own, problem.id)]
    if start.split is None or not start.examples_of(problem):
        return []
    if run.optional(problems.table(start.split)) is None:
        return None
    every = examples.examples_of(run, experiment, model)
    return [Located("", number, example) for number, example in enumerate(every) if example.problem_id == problem.id]


def _rejected(
    run: RunStore, experiment: Experiment, model: Model, chosen: Sequence[Located[Example]], problem: str
) -> list[Located[Example]]:
    """The rejected sides of the pairs that a model learns from, with the weights that they have in them; none where it learns
    from none."""
    if not examples.learns_from_pairs(experiment, model):
        return []
    weights = {one.record.id: one.record.weight for one in chosen}
    index, arm = model.rung or 0, str(model.arm)
    weight_of = {pair.record.rejected: weights.get(pair.record.chosen) for pair in pairs(run, experiment, index, arm, problem)}
    folder = models.rung_directory(experiment, index)
    path = layout.within(layout.arm(folder, arm), layout.REJECTED)
    found = rows(run, path, layout.curation_stage(folder), Example, problem)
    weighted = ((one, weight_of.get(one.record.id)) for one in found)
    return [
        one if weight is None else one._replace(record=dataclasses.replace(one.record, weight=weight)) for one, weight in weighted
    ]


def _use(packed: Packing, example: Located[Example]) -> ExampleUse:
    encoded, _ = encode([example.record], packed.renderer, packed.training.batching.length)
    if not encoded:
        return ExampleUse(example, None, [], packed.total, left_out=True)
    location = packed.locate(example.row, encoded[0])
    if location is None:
        return ExampleUse(example, None, [], packed.total, left_out=packed.paired)
    return ExampleUse(example, location.row, [] if packed.state == "foreign" else location.steps, packed.total)


def _by_sample(traces: "Iterator[Located[Trace]] | list[Located[Trace]]") -> list[Located[Trace]]:
    return sorted(traces, key=lambda located: located.record.sample)


def _greedy(traces: Sequence[Located[Trace]]) -> Located[Trace] | None:
    return next((located for located in traces if located.record.sample == GREEDY), None)


def _stage(path: str) -> str:
    """The stage of a table of answers; that of a teacher's traces has finished where they are asked for here."""
    return path.rpartition("/")[0]
