"""Trace sets as TFDS data sets in ArrayRecord files, written and read without TensorFlow.

    DIRECTORY/  dataset_info.json  features.json  DIGESTS.json  NAME-train.array_record-00000-of-00001 …

`tfds.builder_from_directory(DIRECTORY).as_data_source("train")` opens it; so does a teacher with `path="tfds:DIRECTORY:train"`,
whose default fields (`question`, `trace`, `gold`) it has.
"""

import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.problems import tfds_data
from w2sr_jax.problems.reference import Part, Reference

TRAIN = "train"
PER_SHARD = 20_000

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_VERSION = re.compile(r"\d{1,6}\.\d{1,6}\.\d{1,6}")
# The columns of a row beside those that are called as in `Trace`.
_TRACE = {"id": "trace_id", "text": "trace"}
_PROBLEM = {"question": "question", "answer": "gold", "solution": "solution", "task": "task", "meta": "meta"}


def write_traces(
    directory: Path,
    traces: Mapping[str, Sequence[Trace]] | Sequence[Trace],
    problems: Sequence[Problem],
    name: str = "traces",
    version: str = "1.0.0",
    per_shard: int = PER_SHARD,
) -> dict[str, int]:
    """Write traces with their problems, in order, as splits of a data set (one list: the split `train`); their sizes.

    Splits without traces are left out. Equal traces give equal bytes. `directory` appears whole or not at all. `UserError` where
    it holds something already, there is no trace, a trace has no problem, or a name cannot be used.
    """
    directory = Path(directory)
    splits = {TRAIN: traces} if isinstance(traces, Sequence) else traces
    splits = {split: rows for split, rows in splits.items() if rows}
    asked = {problem.id: problem for problem in problems}
    _check(directory, splits, asked, name, version)
    directory.absolute().parent.mkdir(parents=True, exist_ok=True)
    making = directory.absolute().with_name(f".{directory.name}.{secrets.token_hex(6)}.tmp")
    making.mkdir()
    try:
        _write(making, splits, asked, name, version, per_shard)
        files.seal(making)
        for path in making.iterdir():
            with open(path, "rb") as written:
                os.fsync(written.fileno())
        os.replace(making, directory)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return {split: len(rows) for split, rows in splits.items()}


def read_traces(directory: Path, split: str = TRAIN) -> tuple[list[Problem], list[Trace]]:
    """What `write_traces` wrote: the traces of a split, equal in every field, and their problems in the order of their first
    trace. `UserError` where the directory is missing, damaged or foreign."""
    where = tfds_data.prepared(str(directory))
    fault = files.damage(where) if files.sealed(where) else None
    if fault is not None:
        raise UserError(f"{directory} is damaged: {fault}")
    problems: dict[str, Problem] = {}
    traces = []
    for row in tfds_data.rows(Reference("tfds", str(directory), (), (Part(split),))):
        try:
            trace = Trace.from_row({field: row.values[_TRACE.get(field, field)] for field in Trace.schema().names})
            problem = Problem.from_row({field: row.values[name] for field, name in _PROBLEM.items()} | {"id": trace.problem_id})
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{directory} is not a set of traces as w2sr writes it: {sentences.cause(error)}") from None
        problems.setdefault(problem.id, problem)
        traces.append(trace)
    return list(problems.values()), traces


def _check(directory: Path, splits: Mapping[str, Sequence[Trace]], asked: Mapping[str, Problem], name: str, version: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(f"{sentences.value(name)} cannot name a TFDS data set; use small letters, digits and _, as in my_traces")
    if not _VERSION.fullmatch(version):
        raise UserError(f"{sentences.value(version)} is no version of a TFDS data set; write one like 1.0.0")
    if not splits:
        raise UserError(f"there are no traces to write to {directory}")
    for split, rows in splits.items():
        if not _NAME.fullmatch(split):
            raise UserError(f"{sentences.value(split)} cannot name a split; use small letters, digits and _")
        stray = next((trace for trace in rows if trace.problem_id not in asked), None)
        if stray is not None:
            raise UserError(f"trace {stray.id} is about problem {stray.problem_id}, which is not among the problems given")
    if directory.is_dir():
        if any(directory.iterdir()):
            raise UserError(f"{directory} is not empty; give a directory that does not exist yet")
    elif directory.exists() or directory.is_symlink():
        raise UserError(f"{directory} is a file; give a directory that does not exist yet")


def _write(
    directory: Path,
    splits: Mapping[str, Sequence[Trace]],
    asked: Mapping[str, Problem],
    name: str,
    version: str,
    per_shard: int,
) -> None:
    from tensorflow_datasets.core import dataset_info, naming
    from tensorflow_datasets.core import splits as split_infos
    from tensorflow_datasets.core.example_serializer import ExampleSerializer
    from tensorflow_datasets.core.utils.version import Version

    features = _features()
    serializer = ExampleSerializer(features.get_serialized_info())
    identity = dataset_info.DatasetIdentity(
        name=name, version=Version(version), data_dir=str(directory), module_name=__name__, release_notes={}
    )
    info = dataset_info.DatasetInfo(builder=identity, description=_description(splits), features=features, disable_shuffling=True)
    info.set_file_format("array_record")
    written = []
    for split, traces in splits.items():
        template = naming.ShardedFileTemplate(
            dataset_name=name, data_dir=directory, split=split, filetype_suffix=tfds_data.FORMAT
        )
        parts = [traces[start : start + per_shard] for start in range(0, len(traces), per_shard)]
        size = 0
        for number, part in enumerate(parts):
            examples = [features.encode_example(_row(trace, asked[trace.problem_id])) for trace in part]
            rows = [serializer.get_tf_example(example).SerializeToString(deterministic=True) for example in examples]
            size += sum(map(len, rows))
            _write_shard(Path(template.sharded_filepath(shard_index=number, num_shards=len(parts))), rows)
        written.append(
            split_infos.SplitInfo(
                name=split, shard_lengths=[len(part) for part in parts], num_bytes=size, filename_template=template
            )
        )
    info.set_splits(split_infos.SplitDict(written))
    info.write_to_directory(directory)


def _write_shard(path: Path, rows: Sequence[bytes]) -> None:
    """A file of rows; `UserError` where it does not hold them all afterwards."""
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    try:
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for row in rows:
            writer.write(row)
        writer.close()
        reader = ArrayRecordReader(str(path))
        stored = reader.num_records()
        reader.close()
    except Exception as error:
        raise UserError(files.refusal(error, path) or f"{path} cannot be written: {sentences.cause(error)}") from None
    if stored != len(rows):
        raise UserError(f"{path} cannot be written: it holds {stored} of {len(rows)} rows")


def _features() -> Any:
    import numpy as np
    from tensorflow_datasets import features

    text, absent = features.Text(), features.Text(optional=True)
    whole, real = features.Scalar(np.int32), features.Scalar(np.float32, optional=True)
    return features.FeaturesDict(
        {
            "question": text,
            "trace": text,
            "gold": absent,
            "teacher": text,
            "sample": whole,
            "verdict": text,
            "answer": absent,
            "rule": text,
            "grader": text,
            "finish": text,
            "tokens": whole,
            "mean_logprob": real,
            "token_ids": features.Sequence(np.int32),
            "logprobs": features.Sequence(np.float32),
            "provenance": text,
            "trace_id": text,
            "problem_id": text,
            "solution": absent,
            "task": text,
            "meta": text,
        }
    )


def _row(trace: Trace, problem: Problem) -> dict[str, Any]:
    trace_row, problem_row = trace.row(), problem.row()
    row = {_TRACE.get(field, field): value for field, value in trace_row.items()}
    return row | {name: problem_row[field] for field, name in _PROBLEM.items()}


def _description(splits: Mapping[str, Sequence[Trace]]) -> str:
    lines = []
    for split, traces in splits.items():
        verdicts = Counter(trace.verdict for trace in traces)
        teachers = ", ".join(sorted({sentences.shown(trace.teacher, 60) for trace in traces})[:20])
        counted = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(verdicts.items()))
        lines.append(f"{split}: {len(traces):,} chains of thought by {teachers} ({counted})")
    return "\n".join(lines)
