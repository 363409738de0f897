"""The Parquet schemas of the record types, by their names."""

import pyarrow as pa

JSON = b"json"
"""Marks string columns that hold a JSON object, in their metadata under `w2sr`."""


def _field(name: str, kind: pa.DataType, nullable: bool = False, json_text: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={b"w2sr": JSON} if json_text else None)


_TEXT, _IDS, _REALS = pa.string(), pa.list_(pa.int32()), pa.list_(pa.float32())
SCHEMAS = {
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
    "Pair": pa.schema(
        [_field(name, _TEXT) for name in ("id", "problem_id", "chosen", "rejected", "chosen_trace", "rejected_trace")]
    ),
    "Rollout": pa.schema(
        [
            _field("id", _TEXT),
            _field("step", pa.int32()),
            _field("problem_id", _TEXT),
            _field("sample", pa.int32()),
            _field("text", _TEXT),
            _field("answer", _TEXT, nullable=True),
            _field("verdict", _TEXT),
            _field("finish", _TEXT),
            _field("tokens", pa.int32()),
            _field("rule", _TEXT),
            _field("grader", _TEXT),
            _field("token_ids", _IDS),
            _field("logprobs", _REALS),
            _field("sampled", _REALS),
            _field("reward", pa.float64(), nullable=True),
            _field("rewards", _TEXT, json_text=True),
            _field("advantage", pa.float64()),
            _field("left_out", _TEXT),
        ]
    ),
}
