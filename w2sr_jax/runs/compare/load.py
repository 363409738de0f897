"""What is compared of a run: its report, and what its models answered."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph.store import RunStore
from w2sr_jax.report.results import Results
from w2sr_jax.report.write import read
from w2sr_jax.stages import layout
from w2sr_jax.stages.outcomes import GREEDY

Answers = Sequence[Mapping[str, float]]
"""Per seed, 1 or 0 for each graded problem by its id."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: its report's numbers, and what its seeds wrote. `date` is ISO, in UTC; `dated` says whence."""

    label: str
    results: Results
    seeds: Sequence[RunStore]
    date: str
    dated: str


def load(paths: Sequence[Path]) -> list[Run]:
    """The runs in the order given. `UserError` where one has no report, one of another format, or one that is not what the run
    wrote."""
    if len({path.resolve() for path in paths}) != len(paths):
        raise UserError("the same run is given twice; give each run once")
    names = [path.resolve().name for path in paths]
    labels = [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths)]
    return [_load(path, label) for path, label in zip(paths, labels)]


def _load(path: Path, label: str) -> Run:
    store = RunStore(path)
    if not store.path(layout.RESULTS).is_file() and store.manifest(layout.REPORT) is None:
        raise UserError(f"{path} has no {layout.RESULTS}; w2sr report {path} makes it where the run is finished")
    results = read(store.file(layout.RESULTS).parent)
    several = len(results.seeds) > 1
    seeds = [RunStore(store.path(layout.seed(seed))) for seed in results.seeds] if several else [store]
    reports = {seed.name: seed.manifest(layout.REPORT) for seed in seeds}
    pooled = store.manifest(layout.REPORT) if several else None
    for name, manifest in reports.items():
        if pooled and manifest and pooled.inputs.get(f"{name}/{layout.REPORT}", manifest.digest()) != manifest.digest():
            raise UserError(f"the report of {path} was made from another {name} than is there now; w2sr report {path}")
    moments = [str(manifest.measures.get("finished") or "") for manifest in reports.values() if manifest]
    if any(moments):
        return Run(label, results, seeds, max(moments), "the report's manifest")
    changed = datetime.datetime.fromtimestamp(store.path(layout.RESULTS).stat().st_mtime, datetime.UTC)
    return Run(label, results, seeds, changed.isoformat(timespec="seconds"), "the file's time")


def answers(run: Run, model: str) -> Answers:
    """How good one model's greedy answers are; of a teacher whose answers lay in a file, the mean of those to each problem. Empty
    where a seed's file is not there."""
    of_seeds = []
    for seed in run.seeds:
        path = seed.optional(layout.within(layout.evaluation(model), layout.GENERATIONS))
        if path is None:
            return []
        of_seeds.append(_read(path))
    return of_seeds


def _read(path: Path) -> Mapping[str, float]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            rows = file.read(["problem_id", "sample", "verdict"]).to_pylist()
        graded = [row for row in rows if row["verdict"] != "ungraded"]
        counted = [row for row in graded if row["sample"] == GREEDY] or graded
    except Exception as error:  # the library answers damage with many kinds
        raise UserError(f"{path} cannot be read as generations: {sentences.cause(error)}") from None
    verdicts: dict[str, list[bool]] = {}
    for row in counted:
        verdicts.setdefault(row["problem_id"], []).append(row["verdict"] == "correct")
    return {problem: sum(right) / len(right) for problem, right in verdicts.items()}
