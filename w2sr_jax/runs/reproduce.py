"""Run an experiment again, or one stage of it, and compare what comes out with what the run holds, digest by digest.

Compared is what must reproduce (`Manifest.digest()`): files and parameters, not pages and times. Where a stage differs, the first
file and record that do are named, and which of the conditions of a bit-exact claim (versions, device kind, cores, mesh, flags,
code) are not the same.
"""

import contextlib
import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from w2sr_jax.configuration import saved
from w2sr_jax.configuration.encoding import encode
from w2sr_jax.core import files
from w2sr_jax.core.differing import differing
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.lock import LOCK, locked
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.manifest import Manifest, broken_files
from w2sr_jax.graph.runner import do, now
from w2sr_jax.graph.stage import Context, Stage, Watcher, external_of, stages_of
from w2sr_jax.graph.store import RunStore
from w2sr_jax.parallel import virtual
from w2sr_jax.runs.diff import Difference, differences, in_files, in_values
from w2sr_jax.runs.reproduction import Compared, Condition, Reproduction
from w2sr_jax.stages.execute import SeedRun, pooled, seed_runs

RECORD = "reproduction.json"  # in the run: what came of its latest reproduction
MARKER = "reproduction-of.json"  # in the directory rerun in: of what
POOLED = "report of all seeds"


class Part(NamedTuple):
    """One seed's run, and where it is rerun."""

    run: SeedRun
    rerun: SeedRun

    @property
    def prefix(self) -> str:
        return self.run.prefix

    def manifest(self, stage: Stage) -> Manifest | None:
        return self.run.store.manifest(stage.name)


def reproduce(
    run: Path,
    into: Path | None,
    stage: str | None,
    watcher: Watcher,
    keep: bool = False,
    stop: Stop | None = None,
    trusted: bool = False,
) -> Reproduction:
    """Rerun the finished stages of a run in the directory `into` (RUN.reproduced), or `stage` alone from the inputs that it had
    ("seed-1/NAME" for one seed of several), and compare; the result is also written to RUN/reproduction.json.

    An interrupted reproduction is continued. The rerun is removed where all is identical, unless `keep`. `UserError`: a user's
    file has changed since the run read it; nothing is finished; `into` is something else; what `stage` needs is damaged; the run
    has Python of its own that is neither known to this account nor `trusted`.
    """
    experiment = saved.load_trusted(run, trusted)
    if experiment.rehearsal:
        virtual.devices(experiment.mesh)
    into = into or run.with_name(f"{run.name}.reproduced")
    parts = [Part(*pair) for pair in zip(seed_runs(experiment, run), seed_runs(experiment, into), strict=True)]
    wanted = [(part, one) for part in parts for one in part.run.plan if stage in (None, one.name, part.prefix + one.name)]
    if not wanted:
        raise UserError(_no_such_stage(stage or "", parts))
    finished = [(part, one) for part, one in wanted if part.manifest(one) is not None]
    if not finished:
        raise UserError(f"{run} has not finished {'anything' if stage is None else stage}, so there is nothing to compare with")
    for part, one in finished:
        _check_external(part, one)
    code = _code(run, experiment)
    needed = {
        part.prefix + name for part, one in finished for name in (one.name, *(need.name for need in part.run.plan.needs(one)))
    }
    compared: list[Compared] = []
    with _claimed(run, into, stage):
        for directory, own in ((into, experiment), *((part.rerun.store.directory, part.rerun.experiment) for part in parts)):
            saved.save(directory, own)
        for index, (part, one) in enumerate(wanted):
            name, old = part.prefix + one.name, part.manifest(one)
            if stage is not None:
                _take_inputs(part, one)
            new = _rerun(part, one, watcher, stop or Stop(), index, len(wanted)) if name in needed else None
            compared.append(Compared(name, "unfinished") if old is None or new is None else _compare(part, one, old, new, code))
            if compared[-1].outcome not in ("identical", "unfinished"):
                watcher.warn(f"{compared[-1].stage}: {compared[-1].words()}")
        if stage is None and len(parts) > 1:
            compared.append(_compare_pooled(run, into, experiment, parts, compared, watcher))
        result = Reproduction(run, into, stage, now(), tuple(compared))
        if result.identical and not keep:
            result = dataclasses.replace(result, into=None)
        files.write_json(run / RECORD, result.plain())
        if result.into is not None:
            files.write_json(into / MARKER, {**_claim(run, stage), "finished": result.when})
    if result.into is None:  # outside of the claim, which would miss its directory
        _remove(into)
    return result


def _no_such_stage(stage: str, parts: Sequence[Part]) -> str:
    names = [one.name for one in parts[0].run.plan]
    near = difflib.get_close_matches(stage, names, 1)
    return f"there is no stage {stage!r}; " + (f"did you mean {near[0]!r}?" if near else f"the stages are {', '.join(names)}")


def _check_external(part: Part, stage: Stage) -> None:
    """`UserError` where something that the user gave is not as the run read it."""
    manifest, run = part.manifest(stage), part.run.store.directory
    for item in external_of(stage):
        was = manifest.inputs.get(item.name) if manifest else None
        try:
            digest = item.digest()
        except UserError as error:
            raise UserError(f"{run} has read {item.name}, which is needed to reproduce it: {error}") from None
        if was is not None and was != digest:
            raise UserError(f"{item.name} has changed since {run} read it; put it back as it was to reproduce the run")


def _code(run: Path, experiment: Experiment) -> tuple[Condition, ...]:
    """Whether the saved experiment still reads as it was written: functions of the user's, settings and their defaults."""
    words = in_values(saved.settings_of(run), encode(experiment))
    return () if words is None else (Condition("experiment", "as saved", f"read as another one ({words})"),)


def _rerun(part: Part, stage: Stage, watcher: Watcher, stop: Stop, index: int, total: int) -> Manifest:
    """The manifest of the stage in the directory rerun in; its work is done unless it stands from before an interruption."""
    rerun = part.rerun
    own = rerun.plan.by_name[stage.name]
    manifests = {need.name: rerun.store.peek(need.name) for need in stages_of(own)}
    digests = {name: manifest.digest() if manifest else None for name, manifest in manifests.items()}
    status = rerun.plan.status(own, rerun.store, digests)
    if status.state == "stands" and status.manifest is not None:
        watcher.end(part.prefix + stage.name, str(status.manifest.measures.get("note", "")), None)
        return status.manifest
    return do(own, Context(rerun.store, watcher, stop), rerun.plan, index, total)


def _compare(part: Part, stage: Stage, old: Manifest, new: Manifest, code: tuple[Condition, ...]) -> Compared:
    name = part.prefix + stage.name
    conditions = [*_unlike(old.versions, new.versions), *_unlike(old.environment, new.environment), *code]
    if old.settings != new.settings:
        changed = ", ".join(path for path, _, _ in differing(old.settings, new.settings))
        conditions.append(Condition("the stage's settings", "as saved", f"another {changed}"))
    digests = old.digest(), new.digest()
    if digests[0] == digests[1]:
        broken = _damage(part, old)
        return Compared(name, "damaged" if broken else "identical", *digests, tuple(broken), tuple(conditions))
    followed = any(new.inputs.get(need) != digest for need, digest in old.inputs.items())
    where = [*_damage(part, old), *differences(part.run.store.directory, part.rerun.store.directory, old, new)]
    return Compared(name, "follows" if followed else "different", *digests, tuple(where), tuple(conditions))


def _compare_pooled(
    run: Path, into: Path, experiment: Experiment, parts: Sequence[Part], seeds: Sequence[Compared], watcher: Watcher
) -> Compared:
    """The report of all seeds: its numbers as they are on disk."""
    name = "report/results.json"
    if not (run / name).is_file() or any(stage.outcome == "unfinished" for stage in seeds):
        return Compared(POOLED, "unfinished")
    plan = pooled(experiment, into, [part.rerun for part in parts])
    do(plan.by_name["report"], Context(RunStore(into), watcher), plan, len(seeds), len(seeds) + 1)
    was, now_ = (files.digest_file(directory / name) for directory in (run, into))
    if was == now_:
        return Compared(POOLED, "identical", was, now_)
    words = in_files(run / name, into / name) or "it differs"
    follows = any(stage.outcome in ("different", "follows") for stage in seeds)
    return Compared(POOLED, "follows" if follows else "different", was, now_, (Difference(name, words),))


def _damage(part: Part, manifest: Manifest) -> list[Difference]:
    """The first of what the run's stage wrote that is not as its manifest says."""
    broken = broken_files(part.run.store.directory, manifest)
    return [Difference(name, f"{words}: it was changed after the run wrote it") for name, words in broken[:1]]


def _unlike(old: Mapping[str, str], new: Mapping[str, str]) -> list[Condition]:
    names = sorted(old.keys() | new.keys())
    return [Condition(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)]


def _take_inputs(part: Part, stage: Stage) -> None:
    """Give the directory rerun in all that the stage builds on, from the run: linked where the disk can, else copied."""
    for need in part.run.plan.needs(stage):
        manifest = part.manifest(need)
        if manifest is None:
            raise UserError(f"{stage.name} needs {need.name}, which {part.run.store.directory} has not finished")
        broken = _damage(part, manifest)
        if broken:
            raise UserError(f"{stage.name} needs {need.name}, but {broken[0].words}; w2sr run makes it again")
        if part.rerun.store.peek(need.name) is None:
            part.rerun.store.take(part.run.store, manifest)


def _remove(into: Path) -> None:
    """The directory with all that is in it, its marker last, so that a rerun knows what a killed removal leaves."""
    for path in sorted(into.iterdir()):
        if path.name not in (MARKER, LOCK):
            files.remove(path)
    files.remove(into)


def _claim(run: Path, stage: str | None) -> dict[str, Any]:
    experiment = files.digest_file(run / saved.EXPERIMENT)
    return {"run": str(run.resolve()), "stage": stage, "experiment": experiment}


@contextlib.contextmanager
def _claimed(run: Path, into: Path, stage: str | None) -> Iterator[None]:
    """The directory to rerun in, for this process alone. `UserError` where it holds anything but the beginning of the same
    reproduction."""
    here, there = run.resolve(), into.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise UserError(f"--into {into} and the run {run} may not lie within each other; choose another directory")
    marker = into / MARKER
    if into.exists() and not marker.is_file() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"{into} exists and holds no reproduction; remove it, or give another directory with --into")
    with locked(into):
        known = files.read_json(marker) if marker.is_file() else _claim(run, stage)
        if known != _claim(run, stage):
            which = "a finished reproduction" if "finished" in known else "the beginning of another reproduction"
            raise UserError(f"{into} holds {which}; remove it, or give another directory with --into")
        files.sweep(into)
        files.write_json(marker, known)
        yield
