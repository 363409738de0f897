"""What is compared of a run: its report, and what its models answered."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import verified
from w2sr_jax.report.results import Results
from w2sr_jax.report.write import RESULTS, read
from w2sr_jax.stages.outcomes import GENERATIONS, GREEDY
from w2sr_jax.stages.report.stage import NAME as REPORT

Answers = Sequence[Mapping[str, float]]
"""Per seed, 1 or 0 for each graded problem by its id."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: its report's numbers, and the directories of its seeds. `date` is ISO, in UTC; `dated` says whence."""

    path: Path
    label: str
    results: Results
    seeds: Sequence[Path]
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
    if not (path / "report" / RESULTS).is_file() and verified.manifest(path, REPORT) is None:
        raise UserError(f"{path} has no report/{RESULTS}; w2sr report {path} makes it where the run is finished")
    results = read(verified.file(path, f"report/{RESULTS}").parent)
    several = len(results.seeds) > 1
    seeds = [path / f"seed-{seed}" for seed in results.seeds] if several else [path]
    reports = {seed: verified.manifest(seed, REPORT) for seed in seeds}
    pooled = verified.manifest(path, REPORT) if several else None
    for seed, manifest in reports.items():
        if pooled and manifest and pooled.inputs.get(f"{seed.name}/{REPORT}", manifest.digest()) != manifest.digest():
            raise UserError(f"the report of {path} was made from another {seed.name} than is there now; w2sr report {path}")
    moments = [str(manifest.measures.get("finished") or "") for manifest in reports.values() if manifest]
    if any(moments):
        return Run(path, label, results, seeds, max(moments), "the report's manifest")
    changed = datetime.datetime.fromtimestamp((path / "report" / RESULTS).stat().st_mtime, datetime.UTC)
    return Run(path, label, results, seeds, changed.isoformat(timespec="seconds"), "the file's time")


def answers(run: Run, model: str) -> Answers:
    """How good one model's greedy answers are; of a teacher whose answers lay in a file, the mean of those to each problem. Empty
    where a seed's file is not there."""
    of_seeds = []
    for seed in run.seeds:
        path = verified.optional(seed, f"evaluations/{model}/{GENERATIONS}")
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
