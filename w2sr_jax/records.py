"""What flows between stages, and its Parquet schema. Frozen, free of jax, readable by pandas, DuckDB and `datasets`."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from w2sr_jax import files, sentences
from w2sr_jax.errors import UserError

VerdictName = Literal["correct", "incorrect", "unparsed", "ungraded"]
Finish = Literal["stop", "length"]
VERDICTS: tuple[str, ...] = get_args(VerdictName)
_CHOICES = {"verdict": VERDICTS, "finish": get_args(Finish)}

R = TypeVar("R", bound="Record")

_CONTENT = b"w2sr.content"  # the digest of a table's values, among its metadata
_JSON = b"json"  # marks string columns that hold a JSON object


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """Base of the row types: a frozen dataclass with a Parquet schema."""

    @classmethod
    def schema(cls) -> pa.Schema:
        return _SCHEMAS[cls.__name__]

    def row(self) -> dict[str, Any]:
        """The record as Parquet stores it (mappings become JSON text)."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: files.canonical_json(dict(v)) if isinstance(v, Mapping) else v for k, v in values.items()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        values = {}
        for field in cls.schema():
            value = row[field.name]
            if field.metadata and field.metadata.get(b"w2sr") == _JSON:
                value = json.loads(value)
                if not isinstance(value, dict):
                    raise ValueError(f"column {field.name!r} does not hold a JSON object")
            elif pa.types.is_list(field.type):
                value = tuple(value or ())
            elif field.name in _CHOICES and value not in _CHOICES[field.name]:
                raise ValueError(f"column {field.name!r} holds {sentences.value(value)}")
            elif value is None and not field.nullable:
                raise ValueError(f"column {field.name!r} has no value")
            values[field.name] = value
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
    checkpoint digest).
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

    @classmethod
    def identity(cls, problem_id: str, teacher: str, sample: int, text: str) -> str:
        return files.digest_json([problem_id, teacher, sample, text])[:16]

    def graded(self, verdict: Verdict) -> "Trace":
        return dataclasses.replace(self, verdict=verdict.verdict, answer=verdict.answer, rule=verdict.rule, grader=verdict.grader)


@dataclasses.dataclass(frozen=True, slots=True)
class Example(Record):
    """One supervised row: what the student sees (`question`) and imitates (`response`), with how much it counts (`weight`).

    `style` picks the prompt: `reason` asks for a chain of thought, `direct` for the answer alone, `plain` is no prompt (all of
    `response` is supervised), `document` is `direct` with the question supervised too. `token_ids`/`logprobs` are the teacher's,
    when it used the same tokenizer.
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


def _field(name: str, kind: pa.DataType, nullable: bool = False, json_text: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={b"w2sr": _JSON} if json_text else None)


_TEXT, _IDS, _REALS = pa.string(), pa.list_(pa.int32()), pa.list_(pa.float32())
_SCHEMAS = {
    "Problem": pa.schema(
        [
            _field("id", _TEXT),
            _field("question", _TEXT),
            _field("answer", _TEXT, nullable=True),
            _field("solution", _TEXT, nullable=True),
            _field("task", _TEXT),
            _field("meta", _TEXT, json_text=True),
        ]
    ),
    "Trace": pa.schema(
        [
            _field("id", _TEXT),
            _field("problem_id", _TEXT),
            _field("teacher", _TEXT),
            _field("sample", pa.int32()),
            _field("text", _TEXT),
            _field("answer", _TEXT, nullable=True),
            _field("verdict", _TEXT),
            _field("finish", _TEXT),
            _field("tokens", pa.int32()),
            _field("mean_logprob", pa.float32(), nullable=True),
            _field("provenance", _TEXT),
            _field("rule", _TEXT),
            _field("grader", _TEXT),
            _field("token_ids", _IDS),
            _field("logprobs", _REALS),
        ]
    ),
    "Example": pa.schema(
        [
            _field("id", _TEXT),
            _field("problem_id", _TEXT),
            _field("trace_id", _TEXT),
            _field("teacher", _TEXT),
            _field("question", _TEXT),
            _field("response", _TEXT),
            _field("style", _TEXT),
            _field("verdict", _TEXT),
            _field("weight", pa.float32()),
            _field("token_ids", _IDS),
            _field("logprobs", _REALS),
        ]
    ),
}


def write(path: Path, kind: type[R], rows: Iterable[R]) -> None:
    """Write rows of one kind as Parquet, atomically; equal rows give equal bytes under one pyarrow version.

    Pages carry checksums and the table a digest of its values, so that `read` notices any damage that changes a row.
    """
    table = pa.Table.from_pylist([row.row() for row in rows], schema=kind.schema())
    table = table.replace_schema_metadata({_CONTENT: _content(table)})
    with files.replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read(path: Path, kind: type[R], problems: Collection[str] | None = None) -> list[R]:
    """Read what `write` wrote, or a table of another tool with the same columns; with `problems`, only rows of these ids. Raises
    UserError, naming the file, where it is missing, foreign or damaged."""
    table = _table(path)
    schema = kind.schema()
    missing = [name for name in schema.names if name not in table.schema.names]
    if missing:
        raise UserError(f"{path} is not a table of {kind.__name__} rows: column {missing[0]!r} is missing")
    metadata = table.schema.metadata or {}
    try:
        table = table.select(schema.names).cast(schema)
        sound = metadata.get(_CONTENT, b"") in (b"", _content(table))
        if problems is not None:
            table = table.filter(pc.is_in(table["problem_id"], value_set=pa.array(list(problems), pa.string())))
        rows = [kind.from_row(row) for row in table.to_pylist()] if sound else []
    except Exception as error:
        raise UserError(f"{path} is not a table of {kind.__name__} rows: {sentences.cause(error)}") from None
    if not sound:
        raise UserError(f"{path} is damaged: its rows are not those that were written")
    return rows


def _table(path: Path) -> pa.Table:
    """All of a Parquet file; whatever the library makes of a damaged one is a UserError."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Exception as error:
        raise UserError(f"{path} cannot be read as Parquet: {sentences.cause(error)}") from None


def _content(table: pa.Table) -> bytes:
    """Digest of a table's names, types and values, however they are cut into chunks and pages."""
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns):
        digest.update(f"{name}:{column.type}:{len(column)};".encode())
        for part in _parts(column):
            digest.update(part)
    return digest.hexdigest().encode()


def _parts(column: pa.ChunkedArray) -> Iterator[bytes | memoryview]:
    """The bytes of a column's values, each null and each spelling of 0 and NaN alike."""
    yield np.packbits(column.is_null().to_numpy()).tobytes()
    if pa.types.is_list(column.type):
        yield pc.list_value_length(column).fill_null(0).to_numpy().tobytes()
        yield from _parts(pc.list_flatten(column))
    elif pa.types.is_string(column.type):
        yield pc.binary_length(column).fill_null(0).to_numpy().tobytes()
        for chunk in column.drop_null().chunks:
            _, offsets, characters = chunk.buffers()
            if len(chunk) and characters is not None:
                ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
                yield memoryview(characters)[ends[0] : ends[-1]]
    else:
        values = column.drop_null().to_numpy()
        yield (np.where(np.isnan(values), np.nan, values) + 0.0 if values.dtype.kind == "f" else values).tobytes()
