"""What of a run stands, and how it comes to stand without its work: taken from another run, with what is damaged or outdated out
of the way."""

import time

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import skips
from w2sr_jax.graph.planner import Candidate, Plan, StageStatus
from w2sr_jax.graph.stage import Context, Stage
from w2sr_jax.graph.store import RunStore


def digests(plan: Plan, store: RunStore, stages: "list[Stage] | None" = None, lenient: bool = False) -> dict[str, str | None]:
    """Digests of what stages wrote that stand, as they are now; None for the others. All stages of the plan, or some. With
    `lenient`, also None where what a stage reads cannot be had, which is a `UserError` otherwise."""
    if stages is not None:
        return {stage.name: manifest.digest() if (manifest := store.peek(stage.name)) else None for stage in stages}
    digests: dict[str, str | None] = {}
    for stage in plan:
        try:
            status = plan.status(stage, store, digests)
        except UserError:
            if not lenient:
                raise
            digests[stage.name] = None
            continue
        digests[stage.name] = status.manifest.digest() if status.state == "stands" and status.manifest else None
    return digests


def take(context: Context, plan: Plan, status: StageStatus, candidate: Candidate) -> bool:
    """Take a stage's work from another run. False, with a warning, where it is damaged or vanishes meanwhile: then the work is to
    be done."""
    store, stage, theirs = context.store, status.stage, candidate.manifest
    started = time.monotonic()
    clear(context, status)
    try:
        broken = store.take(candidate.run, theirs, theirs.shared_from or candidate.label)
        damage = broken[0][1] if broken else None
    except OSError as error:
        damage = files.refusal(error) or f"{error.filename} cannot be read: {error.strerror}"
        store.remove([*theirs.files(), *theirs.artifacts])
    if damage is not None:
        context.watcher.warn(f"{stage.name} is not taken from run {candidate.label}: {damage}")
        return False
    note = f"{theirs.measures.get('note', '')} (taken from run {candidate.label})"
    context.watcher.end(stage.name, note, round(time.monotonic() - started, 2))
    return True


def clear(context: Context, status: StageStatus) -> None:
    """Remove damaged work, so that it is made anew and not taken for a part of what an interrupted stage left, and what the stage
    wrote as another one."""
    stage, store = status.stage, context.store
    if status.damaged:
        context.watcher.warn(f"{stage.name} is done again, since {status.why}")
        for path in status.damaged:
            store.discard(path)
    elif status.manifest is not None:
        context.watcher.warn(f"{stage.name} is done again, since {status.why}")
        store.retract(stage.name)


def set_damaged_aside(context: Context) -> None:
    """Rename manifests that are damaged, so that nothing else is kept from being read by what they may have said."""
    for path in context.store.damaged_manifests():
        context.watcher.warn(f"{path} is damaged: it is renamed to {path.name}.damaged, and its stage is done again")
        aside = path.with_name(f"{path.name}.damaged")
        path.rename(aside)
        if context.store.mirror is not None:
            context.store.discard(path)


def tell_skip(context: Context, plan: Plan, stage: Stage) -> None:
    """Warn where a student was skipped, and of the rungs that cannot be climbed for it."""
    skip = skips.of(context.store.peek(stage.name))
    if skip is None or skip.origin != stage.name:
        return
    context.watcher.warn(f"{skips.student(stage.name)} is skipped: {skip.reason}")
    for rung in skips.blocked_rungs(plan, stage):
        context.watcher.warn(f"rung {rung} will be skipped too, since it needs that student")
