"""Which stages of a study's runs are finished, as they are planned now."""

from pathlib import Path

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import stage as stages
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.graph.planner import external_digest
from w2sr_jax.graph.stage import ExternalInput, Stage
from w2sr_jax.stages.execute import SeedRun


class Finished:
    """What is finished of a study's runs, each stage looked at once. Nothing is downloaded, computed or written.

    A stage is finished where its manifest is that of the stage as the plan has it, and was made from what the stages that it
    reads hold now, which are finished themselves. What was done under other settings is not.
    """

    def __init__(self) -> None:
        self._manifests: dict[tuple[Path, str], Manifest | None] = {}
        self._identities: dict[tuple[Path, str], str] = {}

    def manifest(self, run: SeedRun, stage: Stage) -> Manifest | None:
        """The manifest of a stage that is finished; None for any other."""
        key = (run.store.directory, stage.name)
        if key not in self._manifests:
            self._manifests[key] = self._standing(run, stage)
        return self._manifests[key]

    def identity(self, run: SeedRun, stage: Stage) -> str:
        """The identity of a stage. Where it stands on an external input that is still to be downloaded, which counts by its name,
        it is that of no finished stage, and equal for equal stages."""
        key = (run.store.directory, stage.name)
        if key not in self._identities:
            try:
                self._identities[key] = run.plan.identity(stage, run.store, download=False)
            except UserError:
                self._identities[key] = stages.identity(stage, lambda item: self._input(item, run, stage))
        return self._identities[key]

    def _input(self, item: Stage | ExternalInput, run: SeedRun, stage: Stage) -> str:
        if isinstance(item, Stage):
            return self.identity(run, item)
        try:
            return external_digest(item, stage, run.store, download=False)
        except UserError:
            return files.digest_json(["not at hand", item.name])

    def _standing(self, run: SeedRun, stage: Stage) -> Manifest | None:
        try:
            manifest = run.store.manifest(stage.name)
        except UserError:  # damaged, or made from other inputs
            return None
        if manifest is None or manifest.identity != self.identity(run, stage):
            return None
        return manifest if all(self.manifest(run, need) for need in stages.stages_of(stage)) else None
