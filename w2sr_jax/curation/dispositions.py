"""What became of each trace in an arm's curation, as rows of `dispositions.parquet`."""

import dataclasses

import pyarrow as pa

from w2sr_jax.core.records import Record

KEPT, REJECTED_SIDE = "kept", "rejected_side"

_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("trace_id", "problem_id", "arm", "step", "reason")])


@dataclasses.dataclass(frozen=True, slots=True)
class Disposition(Record):
    """`reason` is "kept", or why the curation step `step` rejected the trace; `step` of a kept trace is the last it passed. Where
    pairs are made, their chosen traces are kept, and the others have the reason "rejected_side"."""

    trace_id: str
    problem_id: str
    arm: str
    step: str
    reason: str

    @classmethod
    def schema(cls) -> pa.Schema:
        return _SCHEMA
