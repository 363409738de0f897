"""What a study will take, before it is done: its stages, how many of them are shared, and hours and money from those that are
finished."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import fmean

from w2sr_jax.graph.stage import Stage
from w2sr_jax.report import wording
from w2sr_jax.studies.finished import Finished
from w2sr_jax.studies.run import CellRuns, wanted


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Counts of stages, all cells and seeds together: all that there are, those whose work is that of another one, those that are
    finished, those to be done, and the seconds that the latter take, as far as it is known; `unknown` of them are of kinds that
    were not measured yet."""

    cells: int
    runs: int
    stages: int
    shared: int
    finished: int
    due: int
    seconds: float
    unknown: int

    def lines(self, jobs: int, price: float | None = None, currency: str = "") -> Iterator[str]:
        """In words; with a `price` of an hour of one job, in money too."""
        share = self.shared / self.stages if self.stages else 0.0
        yield f"{self.cells:,} cells, {self.runs:,} runs, {self.stages:,} stages, {self.shared:,} ({share:.0%}) of them shared:"
        yield f"{self.finished:,} are finished, {self.due:,} are to do."
        if self.due and self.unknown < self.due:
            of = f" of {self.due - self.unknown:,} of them" if self.unknown else ""
            several = "s" if jobs > 1 else ""
            yield f"What is to do takes about {wording.duration(self.seconds / jobs)}{of} with {jobs} job{several}."
            if price is not None:
                each, total = (f"{wording.money(amount)} {currency}".strip() for amount in (price, price * self.seconds / 3600))
                yield f"That is {total} at {each} for a job and an hour."
        if self.due and self.unknown:
            yield f"{self.unknown:,} stages are of kinds of which none is finished yet, so that no time can be given for them."
        if price is None:
            yield "Without --price nothing is said of money."


def forecast(runs: Sequence[CellRuns]) -> Forecast:
    """Of a study's runs. Nothing is downloaded, computed or written."""
    found = Finished()
    seen: dict[str, bool] = {}
    measured: defaultdict[str, list[float]] = defaultdict(list)
    due: list[Stage] = []
    stages = 0
    for each in runs:
        for seed in each.seeds:
            for stage in filter(wanted, seed.plan):
                stages += 1
                identity = found.identity(seed, stage)
                manifest = found.manifest(seed, stage)
                if manifest is not None and not manifest.shared_from:
                    measured[stage.kind].append(float(manifest.measures.get("seconds", 0.0)))
                if identity not in seen:
                    due.append(stage)
                seen[identity] = seen.get(identity, False) or manifest is not None
    left = [stage for stage, done in zip(due, seen.values(), strict=True) if not done]
    seconds = sum(fmean(measured[stage.kind]) for stage in left if measured[stage.kind])
    return Forecast(
        cells=len(runs),
        runs=sum(len(each.seeds) for each in runs),
        stages=stages,
        shared=stages - len(seen),
        finished=sum(seen.values()),
        due=len(left),
        seconds=seconds,
        unknown=sum(not measured[stage.kind] for stage in left),
    )
