"""The host's side of training: feeds the step, watches it, writes down, saves, resumes."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from w2sr_jax.batches.batch import Batches
from w2sr_jax.errors import UserError
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import needs_reference
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_divisor, batch_sharding
from w2sr_jax.parallel.processes import place
from w2sr_jax.training import journal
from w2sr_jax.training.checkpoints import Checkpoints, restore_params
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.program import make_program
from w2sr_jax.training.settings import Training
from w2sr_jax.training.step import Metrics

CHECKPOINTS = "checkpoints"
AHEAD = 8  # steps that may wait on the device; more only hold their batches in memory

OnEvent = Callable[[Mapping[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """A trained student: its parameters (on the mesh), where they are saved, their digest, the last step's metrics; `tokens`
    counts the positions read and `seconds` the time spent, over all sittings (steps lost to a kill are not counted)."""

    params: Any
    checkpoint: Path
    params_digest: str
    metrics: Mapping[str, float | None]
    steps: int
    tokens: int
    seconds: float


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
) -> Result:
    """Train one student in `directory` (`checkpoints/STEP`, `metrics.jsonl`, `timings.jsonl`, `tensorboard/`).

    `initial_params` is a pytree (left as it is) or the path of a checkpoint to start from; where the objective needs a
    reference, it is this. `lineage` must name `data_digest` and `config_hash` (text); all of it is saved with every checkpoint.
    Work of an interrupted run of the same data, configuration and initial parameters is continued, and ends with the same bits
    (same versions, device kind and mesh). `on_event` gets `step`, `total`, `loss`, `tokens_per_second` and `eta` (seconds) at
    every logged step. With several processes, all call this alike.

    `UserError`: the directory holds another experiment's checkpoints; the mesh does not divide the batch; initial parameters do
    not fit the model; a loss or gradient is not finite (checkpoints saved before stay).
    """
    owner = {name: str(lineage[name]) for name in ("data_digest", "config_hash")}
    total = training.total_steps(batches.steps_per_epoch)
    _check_rows(batches.settings.rows, training.accumulation, mesh)
    parent = {}
    if isinstance(initial_params, str | Path):
        parent = {"parent_checkpoint": str(initial_params)}
        initial_params = restore_params(Path(initial_params))
    _check_fit(model, initial_params)
    owner["initial_params_digest"] = params_digest(initial_params)
    record = {**parent, **lineage, **owner, "total_steps": total, "model": dataclasses.asdict(model)}

    program = make_program(model, objective, training, total, mesh)

    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(Path(directory) / CHECKPOINTS, training.keep))
        found = checkpoints.restore(program.like, owner)
        referenced = needs_reference(objective.loss)
        initial = place(initial_params, program.params) if found is None or referenced else None
        state, record = found or (program.fresh(initial), record)
        reference = initial if referenced else None
        writer = journal.Journal(Path(directory), int(state.step)) if jax.process_index() == 0 else None
        if writer is not None:
            stack.enter_context(writer)
        watch = _Watch(checkpoints, writer, total, on_event)

        for number in range(int(state.step) + 1, total + 1):
            batch = batches.batch_at(number - 1)
            state, metrics = program.step(state, place(batch, batch_sharding(mesh)), reference)
            last = number == total
            log = number == 1 or last or _due(number, training.log_every)
            watch.ran(number, metrics, int(np.count_nonzero(batch.segments)), log)
            if last or _due(number, training.save_every):
                watch.settle()
                record = checkpoints.save(state, record)
        checkpoints.wait()

    lines, timings = (journal.read(Path(directory) / name) for name in (journal.METRICS, journal.TIMINGS))
    return Result(
        params=state.params,
        checkpoint=checkpoints.directory / str(int(state.step)),
        params_digest=str(record["params_digest"]),
        metrics=lines[-1] if lines else {},
        steps=int(state.step),
        tokens=sum(line["tokens"] for line in timings),
        seconds=sum(line["seconds"] for line in timings),
    )


class _Watch:
    """Looks at the metrics of finished steps, one step late, so that the device always has work waiting."""

    def __init__(self, checkpoints: Checkpoints, writer: journal.Journal | None, total: int, on_event: OnEvent | None) -> None:
        self._checkpoints, self._writer, self._total, self._on_event = checkpoints, writer, total, on_event
        self._waiting: list[tuple[int, Metrics, bool]] = []
        self._since = time.monotonic()
        self._tokens: dict[int, int] = {}

    def ran(self, number: int, metrics: Metrics, tokens: int, log: bool) -> None:
        """Step `number` was started; what was waiting before it is looked at if it is to be logged."""
        if self._waiting and self._waiting[-1][2]:
            self.settle()
        if log:
            for value in metrics.values():
                value.copy_to_host_async()
        self._waiting.append((number, metrics, log))
        if len(self._waiting) > AHEAD:
            self._waiting[-AHEAD][1]["sound"].block_until_ready()
        self._tokens[number] = tokens

    def settle(self) -> None:
        """Wait for all steps given so far; write what is to be logged; `UserError` if one was not finite."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        number, metrics, log = waiting[-1]
        if not metrics["sound"]:
            self._stop(waiting)
        if log:
            self._log(number, {name: _plain(value) for name, value in metrics.items() if name != "sound"})

    def _log(self, number: int, metrics: dict[str, float | None]) -> None:
        now = time.monotonic()
        covered = [done for done in self._tokens if done <= number]
        tokens, seconds = sum(self._tokens.pop(done) for done in covered), now - self._since
        self._since = now
        if self._writer is not None:
            self._writer.write(number, metrics, {"tokens": tokens, "seconds": round(seconds, 6)})
        if self._on_event is not None:
            each = seconds / len(covered)
            event = {"step": number, "total": self._total, "loss": metrics["loss"]}
            self._on_event({**event, "tokens_per_second": tokens / max(seconds, 1e-9), "eta": each * (self._total - number)})

    def _stop(self, waiting: list[tuple[int, Metrics, bool]]) -> None:
        number, metrics = next((number, metrics) for number, metrics, _ in waiting if not metrics["sound"])
        self._checkpoints.wait()
        newest = self._checkpoints.latest()
        rescue = f"the last sound checkpoint is {newest}" if newest else "no checkpoint was saved before"
        loss, norm = float(metrics["loss"]), float(metrics["gradient_norm"])
        raise UserError(
            f"training stopped at step {number} of {self._total}: the loss is {loss:g} and the gradient's norm {norm:g}; "
            f"{rescue}; lower the learning rate or look at the loss"
        )


def _plain(value: Any) -> float | None:
    """A number that JSON can hold. Only a companion metric (such as `nll` beside a bounded loss) may lack one in a sound step."""
    return float(value) if math.isfinite(value) else None


def _due(number: int, every: int) -> bool:
    return every > 0 and number % every == 0


def _check_rows(rows: int, accumulation: int, mesh: Mesh) -> None:
    devices = batch_divisor(mesh)
    if rows % (accumulation * devices):
        raise UserError(
            f"training.batching.rows is {rows}; it must be a multiple of training.accumulation × mesh.data × mesh.fsdp = "
            f"{accumulation} × {mesh.shape['data']} × {mesh.shape['fsdp']} = {accumulation * devices}"
        )


def _check_fit(model: ModelConfig, params: Any) -> None:
    wanted = {
        jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(transformer.shapes(model))
    }
    given = {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise UserError(
                f"the initial parameters do not fit the model: {name} is {given.get(name, 'absent')}, "
                f"and the model's settings make it {wanted.get(name, 'absent')}"
            )
