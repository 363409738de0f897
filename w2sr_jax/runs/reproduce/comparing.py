"""Whether a stage that was done again came out the same, and where not, what differs first and under which other conditions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from w2sr_jax.configuration import saved
from w2sr_jax.configuration.encoding import encode
from w2sr_jax.core import files
from w2sr_jax.core.differing import differing
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.graph.runner import do
from w2sr_jax.graph.stage import Context, Stage, Watcher
from w2sr_jax.graph.store import RunStore
from w2sr_jax.runs.diff import Difference, differences, in_files, in_values
from w2sr_jax.runs.reproduce.rerun import SeedRerun
from w2sr_jax.runs.reproduce.result import Condition, StageComparison
from w2sr_jax.stages import layout
from w2sr_jax.stages.execute import pooled

POOLED = "report of all seeds"


def experiment_conditions(run: Path, experiment: Experiment) -> tuple[Condition, ...]:
    """Whether the saved experiment still reads as it was written: functions of the user's, settings and their defaults."""
    words = in_values(saved.settings_of(run), encode(experiment))
    return () if words is None else (Condition("experiment", "as saved", f"read as another one ({words})"),)


def compare(seed: SeedRerun, stage: Stage, old: Manifest, new: Manifest, conditions: Sequence[Condition]) -> StageComparison:
    """A stage of a seed, as the run wrote it and as it came out again. `conditions` are those that are unlike for all stages."""
    unlike = [*_unlike(old.versions, new.versions), *_unlike(old.environment, new.environment), *conditions]
    if old.settings != new.settings:
        changed = ", ".join(path for path, _, _ in differing(old.settings, new.settings))
        unlike.append(Condition("the stage's settings", "as saved", f"another {changed}"))
    name, digests = seed.prefix + stage.name, (old.digest(), new.digest())
    damage = seed.damage(old)
    if digests[0] == digests[1]:
        return StageComparison(name, "damaged" if damage else "identical", *digests, tuple(damage), tuple(unlike))
    follows = any(new.inputs.get(need) != digest for need, digest in old.inputs.items())
    where = [*damage, *differences(seed.original.store.directory, seed.again.store.directory, old, new)]
    return StageComparison(name, "follows" if follows else "different", *digests, tuple(where), tuple(unlike))


def compare_pooled(
    run: Path,
    into: Path,
    experiment: Experiment,
    reruns: Sequence[SeedRerun],
    seeds: Sequence[StageComparison],
    watcher: Watcher,
) -> StageComparison:
    """The report of all seeds: its numbers as they are on disk. `seeds` are the comparisons of the seeds' stages."""
    numbers, again = (RunStore(directory).path(layout.RESULTS) for directory in (run, into))
    if not numbers.is_file() or any(stage.outcome == "unfinished" for stage in seeds):
        return StageComparison(POOLED, "unfinished")
    plan = pooled(experiment, into, [rerun.again for rerun in reruns])
    do(plan.by_name[layout.REPORT], Context(RunStore(into), watcher), plan, len(seeds), len(seeds) + 1)
    was, now = files.digest_file(numbers), files.digest_file(again)
    if was == now:
        return StageComparison(POOLED, "identical", was, now)
    words = in_files(numbers, again) or "it differs"
    follows = any(stage.outcome in ("different", "follows") for stage in seeds)
    differs = (Difference(layout.RESULTS, words),)
    return StageComparison(POOLED, "follows" if follows else "different", was, now, differs)


def _unlike(old: Mapping[str, str], new: Mapping[str, str]) -> list[Condition]:
    names = sorted(old.keys() | new.keys())
    return [Condition(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)]
