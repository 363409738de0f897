"""When a training's state is saved: once for each state, with all that was written down before it, whatever asks for it."""

from collections.abc import Callable
from typing import Any, NoReturn

import jax

from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.parallel.processes import barrier
from w2sr_jax.training.checkpoints import Checkpoints
from w2sr_jax.training.journal import Journal
from w2sr_jax.training.probe import Prober
from w2sr_jax.training.state import TrainState


class Saver:
    """Saves the states of one sitting. `record` is the lineage of its checkpoints, or of the one that it goes on from; `whole`
    gives the parameters that a probe sees of a state's."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        writer: Journal | None,
        record: dict[str, Any],
        total: int,
        whole: Callable[[Any], Any],
    ) -> None:
        self.record, self._whole = record, whole
        self._checkpoints, self._writer, self._total = checkpoints, writer, total
        self._saved, self._tokens = int(record.get("step", 0)), int(record["tokens"])

    def count(self, tokens: int) -> None:
        """Count the positions that the step just started reads."""
        self._tokens += tokens

    def save(self, state: TrainState) -> None:
        """Start saving a state, unless it is the one saved last; nothing has to be saved of the one before the first step."""
        if int(state.step) == self._saved:
            return
        if self._writer is not None:
            self._writer.sync()
        self._saved = int(state.step)
        self.record = {**self.record, "tokens": self._tokens}
        self._checkpoints.save(state, self.record)

    def finish(self) -> dict[str, Any]:
        """Wait for the last save; the lineage of the last checkpoint."""
        self._checkpoints.wait()
        return self._checkpoints.saved or self.record

    def probe(self, prober: Prober, state: TrainState) -> None:
        """Probe the student; if that ends the training, the state is saved first."""
        try:
            prober.look(int(state.step), self._whole(state.params), self._writer)
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
        """Save the state and raise `Stopped`, on all processes once each has written its part: whoever ended before would end
        the others."""
        self.save(state)
        self._checkpoints.wait()
        step = int(state.step)
        barrier(f"stopped after step {step}")
        where = f"it is saved in {self._checkpoints.directory / str(step)}" if step else "nothing had to be saved"
        raise Stopped(f"training was asked to stop and did so after step {step} of {self._total}; {where}")
