"""Which stages of a run stand, which are to be done and why, and which can be taken from another run. Nothing is computed
here."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from w2sr_jax.configuration.encoding import encode_type
from w2sr_jax.core.code import usercode
from w2sr_jax.core.differing import differing
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import results, skips
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.graph.root import Store
from w2sr_jax.graph.stage import ExternalInput, Stage, identity, inputs, settings, stages_of
from w2sr_jax.graph.store import RunStore

State = Literal["stands", "shared", "due", "waits"]
_CHANGES = 3  # settings named of one stage


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A finished stage of another run that has the same identity."""

    run: RunStore
    manifest: Manifest
    label: str


@dataclasses.dataclass(frozen=True)
class StageStatus:
    """What is to be done about a stage: nothing, since its work stands; take it from another run ("shared"); its work ("due"); or
    wait for a stage that is not to be done now. `why` says so in words. `damaged` are files and directories that are not as they
    were written."""

    stage: Stage
    identity: str
    state: State
    why: str
    manifest: Manifest | None = None
    candidate: Candidate | None = None
    damaged: tuple[Path, ...] = ()


class Plan:
    """The stages of a run in an order in which each comes after what it reads.

    `UserError` where a stage has a name that no manifest of the run can have, two stages have one name, a stage reads one that
    nobody makes, or stages read each other in a circle.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.by_name = _by_name(stages)
        self.stages = tuple(_ordered(self.by_name))
        self._identities: dict[str, str] = {}

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def needs(self, stage: Stage) -> list[Stage]:
        """All stages that a stage builds on, at any distance, in the order of the plan."""
        wanted: set[str] = set()
        waiting = [*stages_of(stage), *stage.after]
        while waiting:
            need = waiting.pop()
            if need.name not in wanted:
                wanted.add(need.name)
                waiting.extend(stages_of(self.by_name[need.name]))
        return [each for each in self.stages if each.name in wanted]

    def identity(self, stage: Stage, store: RunStore, download: bool = True) -> str:
        """The identity of a stage. External inputs that cannot be had count as the finished stage read them; without `download`,
        also those that are not at hand. `UserError` where there is no such stage."""
        if stage.name not in self._identities:

            def of(item: Stage | ExternalInput) -> str:
                if isinstance(item, Stage):
                    return self.identity(item, store, download)
                return external_digest(item, stage, store, download)

            self._identities[stage.name] = identity(stage, of)
        return self._identities[stage.name]

    def statuses(
        self, store: RunStore, root: Store | None = None, conditions: Callable[[Stage], Mapping[str, str]] | None = None
    ) -> list[StageStatus]:
        """What is to be done about every stage. With a `root`, other runs of it are looked through for stages of the same
        identity; `conditions` says of each stage under what a bit-exact claim would hold here (see `graph.environment`), which
        must agree. Nothing is downloaded or written. `Unsavable` where the settings of a stage cannot be saved."""
        check_savable(self)
        digests: dict[str, str | None] = {}
        statuses = []
        for stage in self.stages:
            try:
                self.identity(stage, store, download=False)
                status = self.status(stage, store, digests, root, conditions)
            except UserError as error:
                status = StageStatus(stage, "", "due", str(error))
            manifest = status.candidate.manifest if status.candidate else status.manifest
            digests[stage.name] = manifest.digest() if manifest and status.state in ("stands", "shared") else None
            statuses.append(status)
        return statuses

    def status(
        self,
        stage: Stage,
        store: RunStore,
        digests: Mapping[str, str | None],
        root: Store | None = None,
        conditions: Callable[[Stage], Mapping[str, str]] | None = None,
    ) -> StageStatus:
        """What is to be done about one stage; `digests` holds those of what the stages that it reads have written, None for those
        that are still to be done."""
        own = self.identity(stage, store)
        manifest = store.peek(stage.name)
        pending = next((need.name for need in stages_of(stage) if digests.get(need.name) is None), None)
        read = {} if pending is not None else input_digests(stage, store, digests, download=False)
        if manifest is not None and pending is None and manifest.identity == own and manifest.inputs == read:
            broken = [(store.path(name), words) for name, words in store.broken(manifest)]
            outdated = skips.outdated(manifest, store, stage)
            if outdated:
                return StageStatus(stage, own, "due", outdated, manifest=manifest)
            if not broken:
                return StageStatus(stage, own, "stands", "its work stands", manifest)
            return StageStatus(stage, own, "due", broken[0][1], damaged=tuple(path for path, _ in broken))
        why = _why(stage, manifest, read, pending)
        refused = ""
        for candidate in _candidates(own, stage, store, root) if pending is None else ():
            refused = _unlike(candidate, read, conditions(stage) if conditions else {})
            if not refused and skips.outdated(candidate.manifest, store, stage):
                refused = f"run {candidate.label} left it out with a student that is not skipped here"
            if not refused:
                return StageStatus(stage, own, "shared", f"taken from run {candidate.label}", candidate=candidate)
        return StageStatus(stage, own, "due", f"{why}; {refused}" if refused else why, manifest=manifest)


def check_savable(stages: Iterable[Stage]) -> None:
    """`Unsavable` where the settings of a stage, or its type, cannot be saved with a run."""
    for stage in stages:
        encode_type(type(stage))
        settings(stage)


def input_digests(stage: Stage, store: RunStore, digests: Mapping[str, str | None], download: bool = True) -> dict[str, str]:
    """The digest of everything that a stage reads, by name; external inputs as `external_digest` has them."""
    return {
        item.name: (digests[item.name] or "") if isinstance(item, Stage) else external_digest(item, stage, store, download)
        for item in inputs(stage)
    }


def external_digest(item: ExternalInput, stage: Stage, store: RunStore, download: bool = True) -> str:
    """The digest of an external input of a stage. What cannot be had is as the finished stage read it: its work can still be
    looked at and built on where weights and data sets never came."""
    try:
        if not download and not item.at_hand():
            raise UserError(f"{item.name} is to be downloaded")
        return item.digest()
    except UserError:
        manifest = store.peek(stage.name)
        if manifest is None or item.name not in manifest.inputs:
            raise
        return manifest.inputs[item.name]


def _by_name(stages: Sequence[Stage]) -> dict[str, Stage]:
    named: dict[str, Stage] = {}
    for stage in stages:
        results.check_name(stage)
        if stage.name in named:
            raise UserError(f"two stages are called {stage.name}; give each its own name")
        named[stage.name] = stage
    for stage in stages:
        if type(stage).run is Stage.run:
            raise UserError(
                f"{usercode.defined(stage)}: the stage {stage.name} defines no run; define run(context) -> StageResult"
            )
        for need in (*stages_of(stage), *stage.after):
            if need.name not in named:
                raise UserError(f"stage {stage.name} reads {need.name}, which no stage of the run makes")
    return named


def _ordered(named: Mapping[str, Stage]) -> Iterator[Stage]:
    """Stages after what they read, otherwise in the order given."""
    done: set[str] = set()

    def visit(stage: Stage, path: tuple[str, ...]) -> Iterator[Stage]:
        if stage.name in path:
            raise UserError(f"stages read each other in a circle: {' → '.join((*path[path.index(stage.name) :], stage.name))}")
        if stage.name in done:
            return
        for need in (*stages_of(stage), *stage.after):
            yield from visit(named[need.name], (*path, stage.name))
        done.add(stage.name)
        yield stage

    for stage in named.values():
        yield from visit(stage, ())


def _candidates(own: str, stage: Stage, store: RunStore, root: Store | None) -> Iterator[Candidate]:
    if root is None:
        return
    for run, manifest in root.finished(own, store):
        if manifest.stage == stage.name:
            yield Candidate(run, manifest, root.label(run))


def _unlike(candidate: Candidate, read: Mapping[str, str], conditions: Mapping[str, str]) -> str:
    """Why a stage of the same identity cannot be taken from another run, in words; "" where it can."""
    theirs = candidate.manifest
    if theirs.inputs != read:
        name = next(name for name in {**theirs.inputs, **read} if theirs.inputs.get(name) != read.get(name))
        return f"run {candidate.label} made it from another {name}"
    there = {**theirs.versions, **theirs.environment}
    unlike = next((name for name in conditions if there.get(name) != conditions[name]), None)
    if unlike is not None:
        return f"run {candidate.label} made it with {unlike} {there.get(unlike, 'unknown')}, not {conditions[unlike]}"
    broken = candidate.run.broken(theirs)
    return f"run {candidate.label} has it, but {broken[0][1]}" if broken else ""


def _why(stage: Stage, manifest: Manifest | None, read: Mapping[str, str], pending: str | None) -> str:
    """Why a stage has to be done, in words; `read` holds the digests of what it reads."""
    if manifest is None:
        return "it is not done yet"
    now = settings(stage)
    changes = [_change(*change) for change in differing(manifest.settings, now)]
    if changes:
        more = len(changes) - _CHANGES
        return ", ".join(changes[:_CHANGES]) + (f" and {more} more settings" if more > 0 else "")
    if pending is not None:
        return f"{pending} is made anew"
    changed = [name for name in {**manifest.inputs, **read} if manifest.inputs.get(name) != read.get(name)]
    if changed:
        return f"{changed[0]}, which it reads, has changed"
    another = "what it reads was made in another way"
    return another if usercode.is_ours(stage) else f"its code has changed, or {another}"


def _change(path: str, old: Any, new: Any) -> str:
    above, _, last = path.rpartition(".")
    if last == "source" and ... not in (old, new):  # the digest of the user's code behind a setting
        return f"the code of {above} was edited"
    return f"{path} is {_short(new)}, was {_short(old)}"


def _short(value: Any) -> str:
    from w2sr_jax.core.files import canonical_json

    if value is ...:
        return "absent"
    if isinstance(value, Mapping) and ("type" in value or "function" in value):
        return str(value.get("type") or value.get("function")).rpartition(":")[2]
    text = canonical_json(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
