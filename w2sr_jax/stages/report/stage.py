"""The stage that gathers a run's results and renders them."""

import dataclasses
from typing import Any

from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.stage import Context, ExternalInput, Stage, StageResult
from w2sr_jax.graph.store import RunStore
from w2sr_jax.stages import layout

NAME = layout.REPORT
"""The stage that makes a run's report, and in the folder of several seeds the one that pools theirs."""


@dataclasses.dataclass(frozen=True)
class SeedReport(ExternalInput):
    """The report of one seed's run, which the report of all seeds stands on."""

    seed: str = ""
    store: Any = None

    def digest(self) -> str:
        manifest = self.store.manifest(NAME)
        return manifest.digest() if manifest else ""


@dataclasses.dataclass(frozen=True)
class Report(Stage):
    """Write report/index.html and report/results.json. In the folder of several seeds, `seeds` are theirs."""

    experiment: Experiment
    measured: tuple[Stage, ...] = ()
    seeds: tuple[SeedReport, ...] = ()

    kind = "report"

    @property
    def survives_skips(self) -> bool:
        return True

    def run(self, context: Context) -> StageResult:
        from w2sr_jax.stages.report.assemble import pooled

        stores: list[RunStore] = [each.store for each in self.seeds] or [context.store]
        return pooled(context.store, self.experiment, stores)


def pooled_report(experiment: Experiment, store: RunStore, seeds: "dict[str, RunStore]") -> Report:
    """The stage that pools the reports of all seeds."""
    return Report(
        NAME, experiment.untracked, seeds=tuple(SeedReport(f"{name}/{NAME}", name, each) for name, each in seeds.items())
    )
