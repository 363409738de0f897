"""Run an experiment again, or one stage of it, and compare what comes out with what the run holds, digest by digest.

Compared is what must reproduce (`Manifest.digest()`): files and parameters, not pages and times. Where a stage differs, the first
file and record that do are named, and which of the conditions of a bit-exact claim (versions, device kind, cores, mesh, flags,
code) are not the same.
"""

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path

from w2sr_jax.configuration import saved
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.graph.runner import now
from w2sr_jax.graph.stage import Stage, Watcher
from w2sr_jax.runs.reproduce import directory
from w2sr_jax.runs.reproduce.comparing import compare, compare_pooled, experiment_conditions
from w2sr_jax.runs.reproduce.rerun import SeedRerun, seed_reruns
from w2sr_jax.runs.reproduce.result import Reproduction, StageComparison

RECORD = "reproduction.json"
"""The file of the run that says what came of its latest reproduction."""


def reproduce(
    run: Path,
    into: Path | None,
    stage: str | None,
    watcher: Watcher,
    keep: bool = False,
    stop: Stop | None = None,
    trusted: bool = False,
) -> Reproduction:
    """Do the finished stages of a run again in the directory `into` (None: RUN.reproduced), or `stage` alone from the inputs that
    it had ("seed-1/NAME" for one seed of several), and compare; the result is also written to RUN/reproduction.json.

    An interrupted reproduction is continued. The directory is removed where all is identical, unless `keep`. `UserError`: a
    user's file has changed since the run read it; nothing is finished; `into` is something else; what `stage` needs is damaged;
    the run has Python of its own that this account has not run before and that is not `trusted`.
    """
    experiment = saved.load_trusted(run, trusted)
    if experiment.rehearsal:
        from w2sr_jax.parallel.mesh import virtual_devices
        from w2sr_jax.stages import placing

        virtual_devices(placing.widest(experiment))
    into = into or run.with_name(f"{run.name}.reproduced")
    reruns = seed_reruns(experiment, run, into)
    asked = [(seed, one) for seed in reruns for one in seed.original.plan if stage in (None, one.name, seed.prefix + one.name)]
    if not asked:
        raise UserError(_no_such_stage(stage or "", reruns))
    finished = [(seed, one) for seed, one in asked if seed.manifest(one) is not None]
    if not finished:
        raise UserError(f"{run} has not finished {'anything' if stage is None else stage}, so there is nothing to compare with")
    for seed, one in finished:
        seed.check_external(one)
    conditions = experiment_conditions(run, experiment)
    needed = {name for seed, one in finished for name in _needed(seed, one)}
    compared: list[StageComparison] = []
    with directory.claimed(run, into, stage):
        for path, own in ((into, experiment), *((seed.again.store.directory, seed.again.experiment) for seed in reruns)):
            saved.save(path, own)
        for index, (seed, one) in enumerate(asked):
            name, old = seed.prefix + one.name, seed.manifest(one)
            if stage is not None:
                seed.take_inputs(one)
            new = seed.do(one, watcher, stop or Stop(), index, len(asked)) if name in needed else None
            if old is None or new is None:
                compared.append(StageComparison(name, "unfinished"))
            else:
                compared.append(compare(seed, one, old, new, conditions))
            if compared[-1].outcome not in ("identical", "unfinished"):
                watcher.warn(f"{compared[-1].stage}: {compared[-1].words()}")
        if stage is None and len(reruns) > 1:
            compared.append(compare_pooled(run, into, experiment, reruns, compared, watcher))
        result = Reproduction(run, into, stage, now(), tuple(compared))
        if result.identical and not keep:
            result = dataclasses.replace(result, into=None)
        files.write_json(run / RECORD, result.plain())
        if result.into is not None:
            directory.mark_finished(run, into, stage, result.when)
    if result.into is None:  # outside of the claim, which would miss its directory
        directory.remove(into)
    return result


def _needed(seed: SeedRerun, stage: Stage) -> list[str]:
    """The stages without which a stage cannot be done again, and itself."""
    return [seed.prefix + name for name in (stage.name, *(need.name for need in seed.original.plan.needs(stage)))]


def _no_such_stage(stage: str, reruns: Sequence[SeedRerun]) -> str:
    names = [one.name for one in reruns[0].original.plan]
    near = difflib.get_close_matches(stage, names, 1)
    return f"there is no stage {stage!r}; " + (f"did you mean {near[0]!r}?" if near else f"the stages are {', '.join(names)}")
