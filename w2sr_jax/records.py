"""What flows between stages, and its Parquet schema. Frozen, free of jax, readable by pandas, DuckDB and `datasets`."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from w2sr_jax import files
from w2sr_jax.errors import UserError

VerdictName = Literal["correct", "incorrect", "unparsed", "ungraded"]
Finish = Literal["stop", "length"]
VERDICTS: tuple[str, ...] = get_args(VerdictName)

R = TypeVar("R", bound="Record")

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
            elif pa.types.is_list(field.type):
                value = tuple(value or ())
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
    """Write rows of one kind as Parquet, atomically; equal rows give equal bytes under one pyarrow version."""
    table = pa.Table.from_pylist([row.row() for row in rows], schema=kind.schema())
    with files.replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read(path: Path, kind: type[R]) -> list[R]:
    """Read what `write` wrote. A missing, foreign or damaged file is a `UserError` that names it."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    missing = [name for name in kind.schema().names if name not in table.schema.names]
    if missing:
        raise UserError(f"{path} is not a table of {kind.__name__} rows: column {missing[0]!r} is missing")
    return [kind.from_row(row) for row in table.select(kind.schema().names).to_pylist()]
