"""Where a training goes on: the newest sound checkpoint of its own, if nothing that belongs to it is missing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from w2sr_jax.training import journal
from w2sr_jax.training.agreement import any_process
from w2sr_jax.training.checkpoints import Checkpoints
from w2sr_jax.training.probe import Prober
from w2sr_jax.training.settings import LoopSettings
from w2sr_jax.training.state import TrainState


class Resumed(NamedTuple):
    """A restored state, the lineage of its checkpoint, and the lines of metrics.jsonl."""

    state: TrainState
    record: dict[str, Any]
    lines: list[dict[str, Any]]


def resume(
    directory: Path,
    checkpoints: Checkpoints,
    abstract: TrainState,
    owner: Mapping[str, str],
    settings: LoopSettings,
    total: int,
    prober: Prober,
    warn: Callable[[str], None],
) -> Resumed | None:
    """What an interrupted training in `directory` left, or None where there is nothing to go on from: then no checkpoint is left.

    `abstract` gives the state's shapes, dtypes and shardings. `UserError`: the checkpoints are of another `owner`.
    """
    restored = checkpoints.restore(abstract, owner)
    if restored is None:
        return None
    state, record = restored
    lacking = _lacking(directory, state, settings, total, prober)
    if any_process(lacking is not None):
        warn(f"the training starts anew: {lacking or 'another process found damage'}")
        checkpoints.clear()
        return None
    return Resumed(state, record, journal.read(directory / journal.METRICS))


def _lacking(directory: Path, state: TrainState, settings: LoopSettings, total: int, prober: Prober) -> str | None:
    """What a restored state or the files beside it lack, without which the training could not go on and end the same."""
    step = int(state.step)
    if step < total and state.opt_state is None:
        return f"the checkpoint of step {step} holds no optimizer's state"
    logged = (number for number in range(1, step + 1) if settings.logs(number, total))
    probed = (number for number in range(step) if prober.due(number))
    return journal.lacks(directory / journal.METRICS, logged) or journal.lacks(directory / journal.PROBE, probed)
