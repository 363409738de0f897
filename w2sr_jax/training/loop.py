"""The host's side of training: feeds the step, watches it, writes down, saves, resumes, stops when asked to."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh

from w2sr_jax.batches.batch import Batch, Batches
from w2sr_jax.core.errors import NothingToTrain, Stopped, UserError
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import needs_reference
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_sharding
from w2sr_jax.parallel.processes import put
from w2sr_jax.training import journal, level, retention, supervision
from w2sr_jax.training.agreement import any_process
from w2sr_jax.training.checkpoints import Checkpoints, restore_params
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.feed import Feed, Stalled
from w2sr_jax.training.preconditions import check_ending, check_fit, check_rows
from w2sr_jax.training.probe import Prober, Probing
from w2sr_jax.training.program import make_program
from w2sr_jax.training.reference import References, references
from w2sr_jax.training.settings import Training
from w2sr_jax.training.state import TrainState
from w2sr_jax.training.watch import OnEvent, Watch
from w2sr_jax.training.watchdog import Explosion, Memory, Rounding, Standstill

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
REFERENCES = "references"


@dataclasses.dataclass(frozen=True)
class Result:
    """A trained student: what was trained of it (all parameters, or adapters beside the initial ones, see `models.lora`; on the
    mesh), where that is saved, its digest, the last step's metrics; `tokens` counts the positions read and `seconds` the time
    spent, over all sittings (less what an interruption kept from being logged); `reference_mass` is how much of the reference's
    mass the tokens that were kept of it have, in the mean."""

    params: Any
    checkpoint: Path
    params_digest: str
    metrics: Mapping[str, float | None]
    steps: int
    tokens: int
    seconds: float
    reference_mass: float | None = None


def fit(
    directory: Path,
    model: ModelConfig,
    initial_params: Any,
    batches: Batches,
    training: Training,
    objective: Objective,
    mesh: Mesh,
    lineage: Mapping[str, Any],
    on_event: OnEvent | None = None,
    *,
    stop: Callable[[], bool] | None = None,
    probe: Probing | None = None,
    on_warning: Callable[[str], None] | None = None,
    on_reference: Callable[[int, int], None] | None = None,
    references_in: Path | None = None,
) -> Result:
    """Train one student in `directory` (`checkpoints/STEP`, `metrics.jsonl`, `timings.jsonl`, `tensorboard/`, `probe.jsonl`).

    `initial_params` is a pytree (left as it is), the path of a checkpoint to start from, or a function that gives the pytree, so
    that nobody else holds it while a quantised copy takes its place; where the objective needs a
    reference, it is this. `lineage` must name `data_digest` and `config_hash` (text); all of it is saved with every checkpoint.
    Work of an interrupted run of the same data, configuration and initial parameters is continued, and ends with the same bits
    (same versions, device kind and mesh). With `training.lora` only adapters are trained and saved, the lineage of their
    checkpoints has its settings as `adapter`, and `probe` sees the parameters that adapters and initial ones amount to.

    `on_event` gets `step`, `total`, `loss`, `tokens_per_second` and `eta` (seconds) at every logged step; `on_warning` gets
    sentences (default: the log). `probe` looks at the student while it learns.

    `stop` is polled before every step; once it is true, the state is saved and `Stopped` raised. With several processes, all call
    this alike, and they look for it, together, every `training.log_every` steps.

    With `training.reference_top`, what is kept of the reference lies below `references_in` (default: `references/` in
    `directory`), where every training of the same data and initial parameters finds it; `on_reference` gets rows done and rows in
    all while it is made.

    Only the last checkpoint is left at the end (see `retention.retire`).

    `UserError`: the directory holds another experiment's checkpoints; the mesh does not divide the batch; initial parameters do
    not fit the model or are not finite; the disk refuses or has no room; a loss or gradient is not finite, or a loss explodes; no
    batch comes; `probe` objects (checkpoints saved before stay). `NothingToTrain`, of these: there is nothing to learn from the
    data with this objective (known before anything is compiled), or the first steps change nothing.
    """
    directory = Path(directory)
    owner = {name: str(lineage[name]) for name in ("data_digest", "config_hash")}
    total = training.total_steps(batches.steps_per_epoch)
    check_rows(batches.settings.rows, training.accumulation, mesh)
    watchdog, prober, warn = training.watchdog, Prober(probe, total), on_warning or log.warning
    idle = supervision.check(batches, objective, total)
    parent = {}
    if isinstance(initial_params, str | Path):
        parent = {"parent_checkpoint": str(initial_params)}
        initial_params = restore_params(Path(initial_params))
    elif callable(initial_params):
        initial_params = initial_params()
    check_fit(model, initial_params)
    owner["initial_params_digest"] = params_digest(initial_params)
    record = {**parent, **lineage, **owner, "total_steps": total, "model": dataclasses.asdict(model), "tokens": 0}
    if training.lora.rank:
        record["adapter"] = dataclasses.asdict(training.lora)

    program = make_program(model, objective, training, total, mesh)

    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(directory / CHECKPOINTS, training.keep))
        stack.enter_context(checkpoints.guarded())
        found = checkpoints.restore(program.like, owner)
        if found is not None:
            lacking = _lacking(directory, found[0], total, training, prober)
            if any_process(lacking is not None):
                warn(f"the training starts anew: {lacking or 'another process found damage'}")
                checkpoints.clear()
                found = None
        start = 0 if found is None else int(found[0].step)
        if start < total and idle is not None:
            warn(idle)
        if start < total:
            retention.room(checkpoints.directory, program.like[:2], training.keep if training.save_every else 0)
        referenced, kept = needs_reference(objective.loss), None
        if training.reference_top and not referenced:
            warn(f"training.reference_top {training.reference_top} does nothing: the loss asks for no reference")
        if training.reference_top and referenced and start < total:
            kept = references(
                references_in or directory / REFERENCES,
                model,
                lambda: program.freeze(put(initial_params, program.params)),
                batches.packed,
                training.reference_top,
                batches.settings.rows // training.accumulation,
                objective.block,
                mesh,
                {name: owner[name] for name in ("data_digest", "initial_params_digest")} | {"base": training.lora.quantize},
                stop,
                on_reference,
                warn,
            )
            if found is None:
                record["reference_mass"] = kept.mass()
        freezing = training.lora.rank > 0 or (referenced and not training.reference_top)
        initial = put(initial_params, program.params) if found is None or freezing else None
        frozen = program.freeze(initial) if freezing else None
        state, record = found or (program.fresh(initial, batches.seed), record)
        del initial, initial_params  # a quantised base takes their place, unless the caller keeps them
        if found is None and training.lora.rank and not training.lora.embeddings:
            check_ending(model, frozen, batches, training.accumulation, mesh, warn)
        written = [] if found is None else journal.read(directory / journal.METRICS)
        if found is not None:
            prober.resume(directory, start)
        writer = journal.Journal(directory, None if found is None else start) if jax.process_index() == 0 else None
        if writer is not None:
            stack.enter_context(writer)
        size = level.level(objective.loss, model.vocab_size, total)
        explosion = Explosion(watchdog.explosion, model.vocab_size, written, size)
        stuck, rounding = Standstill(total, written), Rounding(written)
        watch = Watch(checkpoints, writer, total, explosion, Memory(watchdog.memory), stuck, rounding, on_event, warn)
        saver = _Saver(checkpoints, writer, record, total, lambda state: program.whole(state.params, frozen))
        asked = _Asked(stop, start, training.log_every)
        batch_of = partial(_batch, batches, kept)
        feed = stack.enter_context(Feed(batch_of, range(start + 1, total + 1), watchdog.stall, warn))

        if prober.due(start):
            saver.look(prober, state)
        for number in range(start + 1, total + 1):
            batch = None if asked.before(number) else _next(feed, number, asked, watch, saver, state)
            if batch is None:
                watch.settle()
                saver.stop(state)
            state, metrics = program.step(state, put(batch, batch_sharding(mesh)), frozen)
            tokens = int(np.count_nonzero(batch.segments))
            saver.read(tokens)
            watch.ran(number, metrics, tokens, _logged(number, total, training))
            saving = number == total or _due(number, training.save_every)
            if saving or prober.due(number):
                watch.settle(judge=True)
            if prober.due(number):
                saver.look(prober, state)
            if saving:
                saver.save(state)
        checkpoints.wait()
        if saver.record["params_digest"] == owner["initial_params_digest"]:
            raise NothingToTrain(
                f"all {total:,} steps left every parameter as it was; keep them in float32 (the model's param_dtype), or raise "
                "training.learning_rate"
            )
        checkpoint = retention.retire(checkpoints.directory, training.keep_optimizer)

    lines, timings = (journal.read(directory / name) for name in (journal.METRICS, journal.TIMINGS))
    return Result(
        params=state.params,
        checkpoint=checkpoint,
        params_digest=str(saver.record["params_digest"]),
        metrics=lines[-1] if lines else {},
        steps=int(state.step),
        tokens=int(saver.record["tokens"]),
        seconds=sum(line["seconds"] for line in timings),
        reference_mass=saver.record.get("reference_mass"),
    )


class _Saver:
    """Saves a state once, with all that was written down before it. `whole` are a state's parameters as a look is to see them."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        writer: journal.Journal | None,
        record: dict[str, Any],
        total: int,
        whole: Callable[[TrainState], Any],
    ) -> None:
        self.record, self._whole = record, whole
        self._checkpoints, self._writer, self._total = checkpoints, writer, total
        self._saved, self._tokens = int(record.get("step", 0)), int(record["tokens"])

    def read(self, tokens: int) -> None:
        """Positions that the step just started reads."""
        self._tokens += tokens

    def save(self, state: TrainState) -> None:
        """Nothing has to be saved of the state before the first step."""
        if int(state.step) == self._saved:
            return
        if self._writer is not None:
            self._writer.sync()
        self._saved = int(state.step)
        self.record = self._checkpoints.save(state, {**self.record, "tokens": self._tokens})

    def look(self, prober: Prober, state: TrainState) -> None:
        """Looks at the student; if that ends the training, the state is saved first."""
        try:
            prober.look(int(state.step), self._whole(state), self._writer)
        except UserError:
            self.save(state)
            self._checkpoints.wait()
            raise

    def rescue(self, state: TrainState) -> str:
        """The last sound checkpoint in words; one process alone makes it of this state."""
        if jax.process_count() == 1:
            self.save(state)
        return self._checkpoints.rescue()

    def stop(self, state: TrainState) -> NoReturn:
        self.save(state)
        self._checkpoints.wait()
        step = int(state.step)
        where = f"it is saved in {self._checkpoints.directory / str(step)}" if step else "nothing had to be saved"
        raise Stopped(f"training was asked to stop and did so after step {step} of {self._total}; {where}")


class _Asked:
    """Whether the training is asked to stop, which several processes must find at the same step."""

    def __init__(self, stop: Callable[[], bool] | None, start: int, every: int) -> None:
        self._stop, self._start, self._every = stop, start, every
        self._alone = jax.process_count() == 1

    def before(self, number: int) -> bool:
        """Whether to stop before this step."""
        if self._stop is None:
            return False
        if self._alone:
            return self._stop()
        return (number - 1 - self._start) % self._every == 0 and any_process(self._stop())

    def waiting(self) -> bool:
        """Whether to stop waiting for a batch; of several processes none may do so alone."""
        return self._alone and self._stop is not None and self._stop()


def _batch(batches: Batches, kept: References | None, number: int) -> Batch:
    """What a step (from 1) reads."""
    batch = batches.batch_at(number - 1)
    return batch if kept is None else batch._replace(reference=kept.at(batches.rows_at(number - 1)))


def _next(feed: Feed[Batch], number: int, asked: _Asked, watch: Watch, saver: _Saver, state: TrainState) -> Batch | None:
    """The batch of a step, None where the training is to stop instead of waiting for it."""
    try:
        return feed.get(number, asked.waiting)
    except Stalled as stalled:
        watch.settle()
        rescue = saver.rescue(state)
        raise UserError(f"training stopped at step {number}: {stalled}; {rescue}; look at the source of data") from None


def _lacking(directory: Path, state: TrainState, total: int, training: Training, prober: Prober) -> str | None:
    """What a restored state or the files beside it lack, without which the training could not go on and end the same."""
    step = int(state.step)
    if step < total and state.opt_state is None:
        return f"the checkpoint of step {step} holds no optimizer's state"
    logged = (number for number in range(1, step + 1) if _logged(number, total, training))
    looked = (number for number in range(step) if prober.due(number))
    return journal.lacks(directory / journal.METRICS, logged) or journal.lacks(directory / journal.PROBE, looked)


def _logged(number: int, total: int, training: Training) -> bool:
    return number in (1, total) or _due(number, training.log_every)


def _due(number: int, every: int) -> bool:
    return every > 0 and number % every == 0
