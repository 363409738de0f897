"""What flows between stages, and its Parquet schema. Frozen, free of jax, readable by pandas, DuckDB and `datasets`."""

import contextlib
import copy
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_args, overload

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from w2sr_jax.core import files, schemas, sentences, tables, topk
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK

VerdictName = Literal["correct", "incorrect", "unparsed", "ungraded"]
Finish = Literal["stop", "length"]
VERDICTS: tuple[str, ...] = get_args(VerdictName)
_CHOICES = {"verdict": VERDICTS, "finish": get_args(Finish)}

R = TypeVar("R", bound="Record")

GROUP = 8192
"""Rows that are written, and read, together."""
TOGETHER = 1024
"""Rows that are Python's objects at a time, which take ten times what they take in a table."""
GROUP_BYTES = 2**26
"""Rows are written in smaller groups where their `TopK` take more than this."""


class _Column(NamedTuple):
    """What reading a field of a record must know; looked up in the schema, this would take most of the time."""

    name: str
    as_json: bool
    as_list: bool
    choices: tuple[str, ...]
    nullable: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """Base of the row types: a frozen dataclass with a Parquet schema."""

    @classmethod
    def schema(cls) -> pa.Schema:
        return schemas.SCHEMAS[cls.__name__]

    @classmethod
    @functools.cache
    def _columns(cls) -> tuple[_Column, ...]:
        return tuple(
            _Column(
                field.name,
                bool(field.metadata) and field.metadata.get(b"w2sr") == schemas.JSON,
                pa.types.is_list(field.type),
                _CHOICES.get(field.name, ()),
                field.nullable,
            )
            for field in cls.schema()
        )

    def row(self) -> dict[str, Any]:
        """The record as Parquet stores it (mappings become JSON text)."""
        values = {name: getattr(self, name) for name, *_ in self._columns()}
        as_json = {column.name: files.canonical_json(dict(values[column.name])) for column in self._columns() if column.as_json}
        return values | as_json

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The record that `row` made; fields that are absent have their defaults."""
        values = {}
        for name, as_json, as_list, choices, nullable in cls._columns():
            if name not in row:
                continue
            value = row[name]
            if as_json:
                value = json.loads(value)
                if not isinstance(value, dict):
                    raise ValueError(f"column {name!r} does not hold a JSON object")
            elif as_list:
                value = tuple(value or ())
            elif choices and value not in choices:
                raise ValueError(f"column {name!r} holds {sentences.value(value)}")
            elif value is None and not nullable:
                raise ValueError(f"column {name!r} has no value")
            values[name] = value
        return cls(**values)


@dataclasses.dataclass(frozen=True, slots=True)
class Problem(Record):
    """A question with, where known, its gold answer and a worked solution. `meta` holds plain JSON values."""

    id: str
    question: str
    answer: str | None
    solution: str | None
    task: str
    meta: Mapping[str, Any]

    @classmethod
    def of(
        cls, question: str, answer: str | None, solution: str | None = None, task: str = "", meta: Mapping[str, Any] | None = None
    ) -> "Problem":
        """A problem whose id is a digest of its question, answer and task."""
        identity = files.digest_json([question, answer, task])[:16]
        return cls(identity, question, answer, solution, task, meta or {})


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What grading said of one text: `rule` names how the answer was found in it, `grader` what compared it with gold."""

    verdict: VerdictName
    answer: str | None
    rule: str
    grader: str


@dataclasses.dataclass(frozen=True, slots=True)
class Trace(Record):
    """One chain of thought for one problem.

    `token_ids` and `logprobs` are those the sampler drew, end token included; empty for recorded texts. `tokens` counts
    them (for recorded texts: 0 until a tokenizer has seen it). `provenance` says where it comes from (file and line, or
    checkpoint digest). `top` is the author's distribution at each of `token_ids`, where it was recorded.
    """

    id: str
    problem_id: str
    teacher: str
    sample: int
    text: str
    answer: str | None
    verdict: VerdictName
    finish: Finish
    tokens: int
    mean_logprob: float | None
    provenance: str
    rule: str = ""
    grader: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    top: TopK | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def identity(cls, problem_id: str, teacher: str, sample: int, text: str) -> str:
        return files.digest_json([problem_id, teacher, sample, text])[:16]

    @classmethod
    def of(cls, problem_id: str, teacher: str, sample: int, text: str, finish: Finish = "stop", provenance: str = "") -> "Trace":
        """An ungraded trace of which no more is known than its text; its id is a digest of the first four arguments."""
        identity = cls.identity(problem_id, teacher, sample, text)
        return cls(identity, problem_id, teacher, sample, text, None, "ungraded", finish, 0, None, provenance)

    def graded(self, verdict: Verdict) -> "Trace":
        return dataclasses.replace(self, verdict=verdict.verdict, answer=verdict.answer, rule=verdict.rule, grader=verdict.grader)


@dataclasses.dataclass(frozen=True, slots=True)
class Example(Record):
    """One supervised row: what the student sees (`question`) and imitates (`response`), with how much it counts (`weight`).

    `style` picks the prompt: `reason` asks for a chain of thought, `direct` for the answer alone, `plain` is no prompt (all of
    `response` is supervised), `document` is `direct` with the question supervised too. `token_ids`, `logprobs` and `top` are the
    teacher's, when it used the same tokenizer.
    """

    id: str
    problem_id: str
    trace_id: str
    teacher: str
    question: str
    response: str
    style: str
    verdict: VerdictName
    weight: float
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    top: TopK | None = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair(Record):
    """Two texts for one problem, of which one is to be preferred: `chosen` and `rejected` are ids of examples, which lie in two
    tables beside the pairs, those of `chosen_trace` and `rejected_trace` the traces that these are of."""

    id: str
    problem_id: str
    chosen: str
    rejected: str
    chosen_trace: str
    rejected_trace: str


@dataclasses.dataclass(frozen=True, slots=True)
class Rollout(Record):
    """An answer that a student in training drew to learn from.

    `step` is the number of the draw, from 0, `sample` counts the answers to one problem in it. `token_ids` are the tokens drawn,
    end token included, `logprobs` their log-probabilities under the student itself, `sampled` under the distribution that they
    were drawn from (temperature and truncation applied). `reward` is the sum of `rewards`, by their names; None before it is
    rewarded. `left_out` says in a word why nothing is learned from it; empty where something is.
    """

    id: str
    step: int
    problem_id: str
    sample: int
    text: str
    answer: str | None
    verdict: VerdictName
    finish: Finish
    tokens: int
    rule: str = ""
    grader: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    sampled: tuple[float, ...] = ()
    reward: float | None = None
    rewards: Mapping[str, float] = dataclasses.field(default_factory=dict)
    advantage: float = 0.0
    left_out: str = ""

    def trace(self, author: str) -> Trace:
        """The answer as a trace of its author, for graders and rewards."""
        mean = sum(self.logprobs) / len(self.logprobs) if self.logprobs else None
        own = (self.text, self.answer, self.verdict, self.finish, self.tokens)
        identity = Trace.identity(self.problem_id, author, self.sample, self.text)
        drawn = (self.rule, self.grader, self.token_ids, self.logprobs)
        return Trace(identity, self.problem_id, author, self.sample, *own, mean, "", *drawn)


def write(path: Path, kind: type[R], rows: Iterable[R], top: bool = False) -> None:
    """Write rows of one kind as Parquet, atomically and as they come; equal rows give equal bytes under one pyarrow version. With
    `top` the file has the columns of the field of that name; without, what is recorded there is left out.

    Pages carry checksums and the table a digest of the values of each `GROUP` rows, so that any damage that changes a row is
    noticed when it is read.
    """
    with writing(path, kind, top) as add:
        add(rows)


@contextlib.contextmanager
def writing(path: Path, kind: type[R], top: bool = False) -> Iterator[Callable[[Iterable[R]], None]]:
    """What `write` writes, for rows that come a few at a time: yields what takes them. Nothing stays where an error is raised."""
    schema, waiting, group, digests = kind.schema(), list[R](), list[pa.Table](), []
    whole, heavy = pa.schema([*schema, *topk.fields()]) if top else schema, [0]
    with (
        files.replacing(path) as temporary,
        pq.ParquetWriter(temporary, whole, compression="zstd", write_page_checksum=True) as writer,
    ):

        def convert() -> None:
            table = pa.Table.from_pylist([row.row() for row in waiting], schema=schema)
            if top:
                columns = [*table.columns, *topk.columns([row.top for row in waiting])]  # type: ignore[attr-defined]
                table = pa.Table.from_arrays(columns, schema=whole)
            group.append(table)
            waiting.clear()

        def flush() -> None:
            table = pa.concat_tables(group).combine_chunks()
            group.clear()
            heavy[0] = 0
            digests.append([len(table), tables.digest(table)])
            writer.write_table(table, row_group_size=GROUP)

        def add(rows: Iterable[R]) -> None:
            for row in rows:
                waiting.append(row)
                recorded = row.top if top else None  # type: ignore[attr-defined]
                heavy[0] += recorded.nbytes if recorded else 0
                if heavy[0] >= GROUP_BYTES or len(waiting) == min(TOGETHER, GROUP):
                    convert()
                    if heavy[0] >= GROUP_BYTES or sum(map(len, group)) == GROUP:
                        flush()

        yield add
        if waiting:
            convert()
        if group:
            flush()
        writer.add_key_value_metadata({tables.CONTENT: json.dumps(digests)})


def read(path: Path, kind: type[R], problems: Collection[str] | None = None, without: Sequence[str] = ()) -> list[R]:
    """All rows of `iterate`."""
    return list(iterate(path, kind, problems, without))


def iterate(path: Path, kind: type[R], problems: Collection[str] | None = None, without: Sequence[str] = ()) -> Iterator[R]:
    """Rows of what `write` wrote, or of a table of another tool with the same columns; `GROUP` rows are in memory at a time.

    With `problems`, only rows of these ids; columns in `without` have their fields' defaults, `top` among them where the file has
    its columns. Raises UserError, naming the file, where it is missing, foreign or damaged; rows before the damage may have come
    by then.
    """
    schema = kind.schema()
    # Buffered ahead, all groups that were read would stay in memory until the file is closed.
    with _reading(path, kind), pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        missing = [name for name in schema.names if name not in file.schema_arrow.names]
        if missing:
            raise UserError(f"{path} is not a table of {kind.__name__} rows: column {missing[0]!r} is missing")
        wanted = None if problems is None else pa.array(list(problems), pa.string())
        recorded = _has_top(file, kind)
        read = [name for name in schema.names if name not in without]
        for table in tables.checked(path, file, pa.schema([*schema, *topk.fields()]) if recorded else schema):
            if wanted is not None:
                table = table.filter(pc.is_in(table["problem_id"], value_set=wanted))
            for start in range(0, len(table), TOGETHER):
                part = table.slice(start, TOGETHER)
                rows = [kind.from_row(row) for row in part.select(read).to_pylist()]
                if recorded and "top" not in without:
                    rows = [dataclasses.replace(row, top=top) for row, top in zip(rows, topk.texts(part), strict=True)]  # type: ignore[call-arg]
                yield from rows


def has_top(path: Path, kind: type[Record]) -> bool:
    """Whether a file that `write` wrote has the columns of `top`."""
    with _reading(path, kind), pq.ParquetFile(path) as file:
        return _has_top(file, kind)


@contextlib.contextmanager
def _reading(path: Path, kind: type[Record]) -> Iterator[None]:
    """`UserError`, naming the file, where it cannot be read."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Exception as error:  # whatever the library makes of a damaged or foreign file
        raise UserError(f"{path} is not a table of {kind.__name__} rows: {sentences.cause(error)}") from None


def _has_top(file: pq.ParquetFile, kind: type[Record]) -> bool:
    return any(field.name == "top" for field in dataclasses.fields(kind)) and set(topk.COLUMNS) <= set(file.schema_arrow.names)


class Stored(Sequence[R]):
    """The rows of a file as a sequence that holds none of them: whatever is asked of it reads the file, as `iterate` does. It is
    made for going through them in order; an index reads all rows before it."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        self._path, self._kind = path, kind
        with _reading(path, kind):
            self._rows = range(pq.read_metadata(path).num_rows)

    def between(self, start: int, stop: int) -> "Stored[R]":
        """The rows from `start` up to `stop`, which is left out."""
        other = copy.copy(self)
        other._rows = self._rows[start:stop]
        return other

    @property
    def path(self) -> Path:
        return self._path

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[R]:
        return itertools.islice(iterate(self._path, self._kind), self._rows.start, self._rows.stop)

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> list[R]: ...
    def __getitem__(self, index: int | slice) -> R | list[R]:
        chosen = range(len(self))[index]
        if isinstance(chosen, int):
            return next(itertools.islice(self, chosen, None))
        if chosen.step < 0:
            return self[chosen[-1] : chosen[0] + 1 : -chosen.step][::-1] if chosen else []
        return list(itertools.islice(self, chosen.start, chosen.stop, chosen.step))
