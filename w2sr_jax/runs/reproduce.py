"""Run an experiment again, or one stage of it, and compare what comes out with what the run holds, digest by digest.

Compared is what must reproduce (`Manifest.digest()`): files and parameters, not pages and times. Where a stage differs, the first
file and record that do are named, and which of the conditions of a bit-exact claim (versions, device kind, cores, mesh, flags,
code) are not the same.
"""

import contextlib
import dataclasses
import datetime
import difflib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from w2sr_jax.configuration import saved
from w2sr_jax.configuration.encoding import encode
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.lock import LOCK, locked
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph import manifest as lineage
from w2sr_jax.graph import verified
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.graph.runner import do
from w2sr_jax.graph.stage import Context, Task, Watcher
from w2sr_jax.preflight.rehearsal import ready
from w2sr_jax.runs.diff import Difference, differences, in_files, in_values
from w2sr_jax.runs.reproduction import Compared, Condition, Reproduction
from w2sr_jax.stages.plan import tasks
from w2sr_jax.stages.report import assemble

RECORD = "reproduction.json"  # in the run: what came of its latest reproduction
MARKER = "reproduction-of.json"  # in the directory rerun in: of what
POOLED = "report of all seeds"


class Part(NamedTuple):
    """One seed's run: where it is, where it is rerun, what its stages are called."""

    run: Path
    into: Path
    experiment: Experiment
    prefix: str
    plan: list[Task]

    def found(self, task: Task) -> Manifest | None:
        return verified.manifest(self.run, task.name)


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
    ready(experiment)
    into = into or run.with_name(f"{run.name}.reproduced")
    parts = _parts(run, into, experiment)
    wanted = [(part, task) for part in parts for task in part.plan if stage in (None, task.name, part.prefix + task.name)]
    if not wanted:
        raise UserError(_no_such_stage(stage or "", parts))
    finished = [(part, task) for part, task in wanted if part.found(task) is not None]
    if not finished:
        raise UserError(f"{run} has not finished {'anything' if stage is None else stage}, so there is nothing to compare with")
    for part, task in finished:
        _check_files(part, task)
    code = _code(run, experiment)
    needed = {part.prefix + name for part, task in finished for name in (task.name, *_needs(part, task))}
    compared: list[Compared] = []
    with _claimed(run, into, stage):
        for directory, own in ((into, experiment), *((part.into, part.experiment) for part in parts)):
            saved.save(directory, own)
        for index, (part, task) in enumerate(wanted):
            name, old = part.prefix + task.name, part.found(task)
            if stage is not None:
                _take_over(part, task)
            new = _rerun(part, task, watcher, stop or Stop(), index, len(wanted)) if name in needed else None
            compared.append(Compared(name, "unfinished") if old is None or new is None else _compare(part, task, old, new, code))
            if compared[-1].outcome not in ("identical", "unfinished"):
                watcher.warn(f"{compared[-1].stage}: {compared[-1].words()}")
        if stage is None and len(parts) > 1:
            compared.append(_compare_pooled(run, into, experiment, parts, compared))
        result = Reproduction(run, into, stage, _now(), tuple(compared))
        if result.identical and not keep:
            result = dataclasses.replace(result, into=None)
        files.write_json(run / RECORD, result.plain())
        if result.into is not None:
            files.write_json(into / MARKER, {**_claim(run, stage), "finished": result.when})
    if result.into is None:  # outside of the claim, which would miss its directory
        _remove(into)
    return result


def _parts(run: Path, into: Path, experiment: Experiment) -> list[Part]:
    if len(experiment.seeds) == 1:
        return [Part(run, into, experiment, "", tasks(experiment))]
    found = []
    for seed in experiment.seeds:
        own, name = dataclasses.replace(experiment, seeds=(seed,)), f"seed-{seed}"
        found.append(Part(run / name, into / name, own, f"{name}/", tasks(own)))
    return found


def _no_such_stage(stage: str, parts: Sequence[Part]) -> str:
    names = [task.name for task in parts[0].plan]
    near = difflib.get_close_matches(stage, names, 1)
    return f"there is no stage {stage!r}; " + (f"did you mean {near[0]!r}?" if near else f"the stages are {', '.join(names)}")


def _check_files(part: Part, task: Task) -> None:
    """`UserError` where a file of the user's is not as the run read it."""
    manifest = part.found(task)
    for path in task.reads:
        was = manifest.inputs.get(str(path)) if manifest else None
        if not path.is_file():
            raise UserError(f"{path} does not exist, but {part.run} has read it; put it back as it was to reproduce the run")
        if was is not None and was != files.digest_file(path):
            raise UserError(f"{path} has changed since {part.run} read it; put it back as it was to reproduce the run")
    for given in task.given:
        was = manifest.inputs.get(given.name) if manifest else None
        try:
            found = given.digest()
        except UserError as error:
            raise UserError(f"{part.run} has read {given.name}, which is needed to reproduce it: {error}") from None
        if was is not None and was != found:
            raise UserError(f"{given.name} has changed since {part.run} read it; put it back as it was to reproduce the run")


def _code(run: Path, experiment: Experiment) -> tuple[Condition, ...]:
    """Whether the saved experiment still reads as it was written: functions of the user's, settings and their defaults."""
    known = files.read_json(run / saved.EXPERIMENT)
    known = {name: value for name, value in known.items() if name not in ("digest", "code")}
    words = in_values(known, encode(experiment))
    return () if words is None else (Condition("experiment", "as saved", f"read as another one ({words})"),)


def _rerun(part: Part, task: Task, watcher: Watcher, stop: Stop, index: int, total: int) -> Manifest:
    """The manifest of the task in the directory rerun in; its work is done unless it stands from before an interruption."""
    stage = task.stage(part.into)
    standing = stage.current()
    if standing is not None:
        watcher.end(part.prefix + task.name, str(standing.measures.get("note", "")), None)
        return standing
    do(task, Context(part.into, part.experiment, part.experiment.seeds[0], watcher, stop), index, total)
    made = lineage.load(part.into, task.name)
    assert made is not None
    return made


def _compare(part: Part, task: Task, old: Manifest, new: Manifest, code: tuple[Condition, ...]) -> Compared:
    name = part.prefix + task.name
    conditions = [*_unlike(old.versions, new.versions), *_unlike(old.environment, new.environment), *code]
    if old.settings != new.settings:
        conditions.append(Condition("the stage's settings", old.settings[:16], new.settings[:16]))
    digests = old.digest(), new.digest()
    if digests[0] == digests[1]:
        broken = _damage(part, old)
        return Compared(name, "damaged" if broken else "identical", *digests, tuple(broken), tuple(conditions))
    followed = any(new.inputs.get(need) != digest for need, digest in old.inputs.items())
    where = [*_damage(part, old), *differences(part.run, part.into, old, new)]
    return Compared(name, "follows" if followed else "different", *digests, tuple(where), tuple(conditions))


def _compare_pooled(run: Path, into: Path, experiment: Experiment, parts: Sequence[Part], seeds: Sequence[Compared]) -> Compared:
    """The report of all seeds, which has no manifest of its own: its numbers as they are on disk."""
    name = "report/results.json"
    if not (run / name).is_file() or any(stage.outcome == "unfinished" for stage in seeds):
        return Compared(POOLED, "unfinished")
    saved.save(into, experiment)
    assemble.pooled(into, experiment, [part.into for part in parts])
    was, now = (files.digest_file(directory / name) for directory in (run, into))
    if was == now:
        return Compared(POOLED, "identical", was, now)
    words = in_files(run / name, into / name) or "it differs"
    follows = any(stage.outcome in ("different", "follows") for stage in seeds)
    return Compared(POOLED, "follows" if follows else "different", was, now, (Difference(name, words),))


def _damage(part: Part, manifest: Manifest) -> list[Difference]:
    """The first of what the run's stage wrote that is not as its manifest says."""
    broken = lineage.broken_files(part.run, manifest)
    return [Difference(name, f"{words}: it was changed after the run wrote it") for name, words in broken[:1]]


def _unlike(old: Mapping[str, str], new: Mapping[str, str]) -> list[Condition]:
    names = sorted(old.keys() | new.keys())
    return [Condition(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)]


def _needs(part: Part, task: Task) -> list[str]:
    """The names of all stages that a task builds on."""
    known = {other.name: other for other in part.plan}
    found: set[str] = set()
    waiting = [*task.needs, *task.parents]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(known[name].needs)
    return sorted(found)


def _take_over(part: Part, task: Task) -> None:
    """Give the directory rerun in all that the task builds on, from the run: linked where the disk can, else copied."""
    known = {other.name: other for other in part.plan}
    for name in _needs(part, task):
        manifest = part.found(known[name])
        if manifest is None:
            raise UserError(f"{task.name} needs {name}, which {part.run} has not finished")
        broken = _damage(part, manifest)
        if broken:
            raise UserError(f"{task.name} needs {name}, but {broken[0].words}; w2sr run makes it again")
        kept = [part.run / path for path in (*manifest.outputs, *manifest.seals)]
        kept += [path for directory in manifest.artifacts for path in sorted((part.run / directory).rglob("*"))]
        for path in (*kept, lineage.manifest_path(part.run, name)):
            if path.is_file():
                _link(path, part.into / path.relative_to(part.run))


def _link(old: Path, new: Path) -> None:
    if new.exists():
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, new)
    except OSError:  # another file system, or one without links
        with files.replacing(new) as temporary:
            shutil.copyfile(old, temporary)


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


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
