"""Stages of a run done again in another directory, from the inputs that they had."""

from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.graph.runner import do
from w2sr_jax.graph.stage import Context, Stage, Watcher, external_of, stages_of
from w2sr_jax.runs.diff import Difference
from w2sr_jax.stages.execute import SeedRun, seed_runs


class SeedRerun(NamedTuple):
    """One seed's run, and the run of the same stages in the other directory."""

    original: SeedRun
    again: SeedRun

    @property
    def prefix(self) -> str:
        """What the seed's stages are called by among those of several seeds."""
        return self.original.prefix

    def manifest(self, stage: Stage) -> Manifest | None:
        """What the original run's stage wrote; None where it has not finished."""
        return self.original.store.manifest(stage.name)

    def damage(self, manifest: Manifest) -> list[Difference]:
        """The first of what the original run's stage wrote that is not as its manifest says."""
        broken = self.original.store.broken(manifest)
        return [Difference(name, f"{words}: it was changed after the run wrote it") for name, words in broken[:1]]

    def check_external(self, stage: Stage) -> None:
        """`UserError` where something that the user gave is not as the run read it."""
        manifest, run = self.manifest(stage), self.original.store.directory
        for item in external_of(stage):
            was = manifest.inputs.get(item.name) if manifest else None
            try:
                digest = item.digest()
            except UserError as error:
                raise UserError(f"{run} has read {item.name}, which is needed to reproduce it: {error}") from None
            if was is not None and was != digest:
                raise UserError(f"{item.name} has changed since {run} read it; put it back as it was to reproduce the run")

    def take_inputs(self, stage: Stage) -> None:
        """Give the other directory all that a stage builds on: linked where the file system can, else copied."""
        for need in self.original.plan.needs(stage):
            manifest = self.manifest(need)
            if manifest is None:
                raise UserError(f"{stage.name} needs {need.name}, which {self.original.store.directory} has not finished")
            broken = self.damage(manifest)
            if broken:
                raise UserError(f"{stage.name} needs {need.name}, but {broken[0].words}; w2sr run makes it again")
            if self.again.store.peek(need.name) is None:
                self.again.store.take(self.original.store, manifest)

    def do(self, stage: Stage, watcher: Watcher, stop: Stop, index: int, total: int) -> Manifest:
        """The manifest of the stage in the other directory; its work is done unless it stands from before an interruption."""
        plan, store = self.again.plan, self.again.store
        own = plan.by_name[stage.name]
        manifests = {need.name: store.peek(need.name) for need in stages_of(own)}
        digests = {name: manifest.digest() if manifest else None for name, manifest in manifests.items()}
        status = plan.status(own, store, digests)
        if status.state == "stands" and status.manifest is not None:
            watcher.end(self.prefix + stage.name, str(status.manifest.measures.get("note", "")), None)
            return status.manifest
        return do(own, Context(store, watcher, stop), plan, index, total)


def seed_reruns(experiment: Experiment, run: Path, into: Path) -> list[SeedRerun]:
    """The runs of all seeds, each with the run in the directory `into`."""
    return [SeedRerun(*pair) for pair in zip(seed_runs(experiment, run), seed_runs(experiment, into), strict=True)]
