"""The host's side of training: gives the step its batches, watches it, writes down, saves, resumes, stops when asked to."""

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import jax

from w2sr_jax.core import files
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.training import journal, retention
from w2sr_jax.training.agreement import StopRequest
from w2sr_jax.training.checkpoints import Checkpoints
from w2sr_jax.training.conditions import conditions
from w2sr_jax.training.digest import agrees
from w2sr_jax.training.feed import Stalled, Supply
from w2sr_jax.training.goodput import Clock
from w2sr_jax.training.probe import Prober
from w2sr_jax.training.protocols import NO_HOOKS, Hooks, Program, Source
from w2sr_jax.training.resume import resume
from w2sr_jax.training.saving import Saver
from w2sr_jax.training.settings import LoopSettings
from w2sr_jax.training.state import TrainState
from w2sr_jax.training.watch import Watch
from w2sr_jax.training.watchdog import guards

CHECKPOINTS = "checkpoints"


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """A trained student: what was trained of it (all parameters, or adapters beside the initial ones, see `models.lora`; on the
    mesh), where that is saved, its digest, the last step's metrics; `tokens` counts the positions read and `seconds` the time
    spent, over all sittings (less what an interruption kept from being logged); `lineage` is what the checkpoint says of its
    origin."""

    params: Any
    checkpoint: Path
    params_digest: str
    metrics: Mapping[str, float | None]
    steps: int
    tokens: int
    seconds: float
    lineage: Mapping[str, Any]


def fit(
    program: Program,
    source: Source,
    directory: Path,
    lineage: Mapping[str, Any],
    settings: LoopSettings,
    hooks: Hooks = NO_HOOKS,
) -> TrainingResult:
    """Train one student in `directory` (`checkpoints/STEP`, `metrics.jsonl`, `timings.jsonl`, `sittings.jsonl`, `tensorboard/`,
    `probe.jsonl`).

    `lineage` must name `config_hash`, a digest of all settings that have an influence on the result; all of it is saved with
    every checkpoint. Work of an interrupted run of the same data, configuration and initial parameters is continued, and ends
    with the same bits (same versions, device kind and mesh). Only the last checkpoint is left (see `retention.retire`).

    `UserError`: the directory holds another experiment's checkpoints; the disk refuses or has no room; a loss or gradient is not
    finite, or a loss explodes; no batch comes; the probe objects (checkpoints saved before stay). `NothingToTrain`, of these: the
    first steps change nothing. `Stopped`: `hooks.stop` asked for it.
    """
    total, clock = source.steps, Clock(hooks.began)
    prober = Prober(hooks.probe, total)
    with ExitStack() as stack:
        where = hooks.keeping.folder or directory / CHECKPOINTS
        checkpoints = stack.enter_context(Checkpoints(where, settings.keep, hooks.keeping))
        stack.enter_context(checkpoints.guarded())
        initial = program.initial_digest(checkpoints.stated("initial_params_digest"))
        owner = {"data_digest": source.digest, "config_hash": str(lineage["config_hash"]), "initial_params_digest": initial}
        resumed = resume(directory, checkpoints, program.state, owner, settings, total, prober, hooks.warn)
        start = 0 if resumed is None else int(resumed.state.step)
        if start < total:
            retention.room(checkpoints.directory, program.state[:2], settings.keep if settings.save_every else 0)
        measured = source.prepare(directory, start, hooks)
        state = program.begin(None if resumed is None else resumed.state, hooks)
        fresh = {**lineage, **owner, "total_steps": total, **program.lineage, "tokens": 0, **measured}
        record, lines = (fresh, []) if resumed is None else (resumed.record, resumed.lines)
        prober.resume(directory, None if resumed is None else start)
        writer = None
        if jax.process_index() == 0:
            begun, own = None if resumed is None else start, files.digest_json(owner)
            on = conditions(state.params)
            writer = stack.enter_context(journal.Journal(directory, begun, own, clock, hooks.scalars, on))
        del resumed  # its state's arrays may be donated
        watch = Watch(checkpoints, writer, total, guards(settings.watchdog, program.loss_level, total, lines), hooks)
        saver = Saver(checkpoints, writer, record, total, program.whole)
        request = StopRequest(hooks.stop, start, settings.log_every)
        numbers = range(start + 1, total + 1)
        supply = stack.enter_context(Supply(source, numbers, request, settings.watchdog.stall, hooks.warn))
        if prober.due(start):
            saver.probe(prober, state)
        clock.start()
        for number in numbers:
            with watch.waiting():
                batch = _next(supply, number, state, watch, saver)
            with clock.aside() if number == start + 1 else nullcontext():  # the first one is compiled
                state, metrics = program.step(state, batch)
            tokens = source.tokens(batch)
            saver.count(tokens)
            watch.ran(number, metrics, tokens, settings.logs(number, total))
            checkpoints.check()
            saving = settings.saves(number, total)
            if saving or prober.due(number):
                watch.settle(judge=True)
            with clock.aside():
                if prober.due(number):
                    saver.probe(prober, state)
                if saving:
                    saver.save(state)
        with clock.aside():
            record = saver.finish()
        if agrees(state.params, str(record["params_digest"]), initial):
            raise NothingToTrain(
                f"all {total:,} steps left every parameter as it was; keep them in float32 (the model's param_dtype), or raise "
                "training.learning_rate"
            )
        checkpoint = retention.retire(checkpoints.directory, settings.keep_optimizer)
    return _result(directory, checkpoint, state, record)


def _next(supply: Supply, number: int, state: TrainState, watch: Watch, saver: Saver) -> Any:
    """The batch of a step. `Stopped` where the training is asked to stop, `UserError` where no batch comes in time; the state is
    saved before."""
    try:
        batch = supply.next(number, state)
    except Stalled as stalled:
        watch.settle()
        rescue = saver.rescue(state)
        raise UserError(f"training stopped at step {number}: {stalled}; {rescue}; look at the source of data") from None
    if batch is None:
        watch.settle()
        saver.stop(state)
    return batch


def _result(directory: Path, checkpoint: Path, state: TrainState, record: Mapping[str, Any]) -> TrainingResult:
    lines, timings = (journal.read(directory / name) for name in (journal.METRICS, journal.TIMINGS))
    return TrainingResult(
        params=state.params,
        checkpoint=checkpoint,
        params_digest=str(record["params_digest"]),
        metrics=lines[-1] if lines else {},
        steps=int(state.step),
        tokens=int(record["tokens"]),
        seconds=sum(line["seconds"] for line in timings),
        lineage=record,
    )
