"""Which files a number was read from: their paths, digests and sizes, from the manifests of the stages that wrote them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from w2sr_jax.graph.store import RunStore
from w2sr_jax.report.results import Source


class Sources:
    """The files of the runs of one experiment, one run per seed. Paths are relative to the run, or to the folder of several."""

    def __init__(self, runs: Sequence[RunStore]) -> None:
        self.runs = list(runs)
        self.manifests = {run: run.manifests() for run in runs}
        self._digests = {
            run: {path: digest for manifest in manifests for path, digest in {**manifest.outputs, **manifest.seals}.items()}
            for run, manifests in self.manifests.items()
        }

    def prefix(self, run: RunStore) -> str:
        """What paths and stage names of a run begin with, so that they differ between seeds."""
        return f"{run.name}/" if len(self.runs) > 1 else ""

    def of(self, paths: Iterable[str], where: str | None = None) -> tuple[Source, ...]:
        """One entry per path and seed, without files that no finished stage of a run wrote. `where` says which rows count."""
        return tuple(self._entry(run, path, where) for path in paths for run in self.runs if path in self._digests[run])

    def _entry(self, run: RunStore, path: str, where: str | None) -> Source:
        rows = _rows(run.file(path))
        return Source(path=self.prefix(run) + path, digest=self._digests[run][path], rows=rows, where=where)


def _rows(path: Path) -> int | None:
    if path.suffix == ".parquet":
        return int(pq.ParquetFile(path).metadata.num_rows)
    if path.suffix == ".jsonl":
        with open(path, "rb") as lines:
            return sum(1 for _ in lines)
    return None
