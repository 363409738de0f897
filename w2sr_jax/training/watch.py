"""Looking at the metrics of a running training: write down, report, stop it where it goes wrong."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.training.checkpoints import Checkpoints
from w2sr_jax.training.journal import Journal
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.state import Metrics
from w2sr_jax.training.watchdog import Guards

AHEAD = 8  # steps that may wait on the device; more only hold their batches in memory

_STILL = (
    "let the loss depend on the student's logits on the tokens of this data (a coefficient that is 0 at first has to rise with "
    "the second step), or raise the learning rate"
)


class Watch:
    """Looks at the metrics of finished steps, one step late, so that the device always has work waiting."""

    def __init__(self, checkpoints: Checkpoints, writer: Journal | None, total: int, guards: Guards, hooks: Hooks) -> None:
        self._checkpoints, self._writer, self._total, self._guards, self._hooks = checkpoints, writer, total, guards, hooks
        self._waiting: list[tuple[int, Metrics, bool]] = []
        self._since, self._waited = time.monotonic(), 0.0
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

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """What is done inside is to wait for a batch."""
        before = time.monotonic()
        yield
        self._waited += time.monotonic() - before

    def settle(self, judge: bool = False) -> None:
        """Wait for all steps given so far; write what is to be logged. `UserError` if one was not finite, or if the last one's
        loss has exploded, where it is to be logged or `judge` asks for it: always at the same steps, so that an interruption
        changes nothing."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        number, metrics, log = waiting[-1]
        if not metrics["sound"]:
            self._not_finite(waiting)
        if not log and not judge:
            return
        values = {name: plain(value) for name, value in metrics.items() if name != "sound"}
        if log:
            self._log(number, values)
        exploded = self._guards.explosion.words(number, values)
        if exploded is not None:
            self._stop(number, exploded, "lower the learning rate, or raise training.watchdog.explosion")
        if not log:
            return
        still = self._guards.standstill.words(number, values)
        if still is not None:
            raise NothingToTrain(
                f"training stopped at step {number} of {self._total}: {still}, in every step so far; {_STILL}; "
                f"{self._checkpoints.rescue()}"
            )
        self._warn(number, values)

    def _log(self, number: int, metrics: dict[str, float | None]) -> None:
        now = time.monotonic()
        covered = [done for done in self._tokens if done <= number]
        tokens, seconds = sum(self._tokens.pop(done) for done in covered), now - self._since
        self._since, waited, self._waited = now, self._waited, 0.0
        if self._hooks.on_event is not None:  # before the writer, which has a slow import at its first line
            each = seconds / len(covered)
            event = {"step": number, "total": self._total, "loss": metrics["loss"]}
            self._hooks.on_event(
                {
                    **event,
                    "tokens_per_second": tokens / max(seconds, 1e-9),
                    "eta": each * (self._total - number),
                    "waiting": waited / max(seconds, 1e-9),
                }
            )
        if self._writer is not None:
            self._writer.write(number, metrics, {"tokens": tokens, "seconds": round(seconds, 6)})

    def _warn(self, number: int, metrics: Mapping[str, float | None]) -> None:
        rounded = self._guards.rounding.words(number, metrics)
        if rounded is not None:
            self._hooks.warn(rounded)
        full = self._guards.memory.words(number)
        if full is not None:
            self._hooks.warn(f"{full}; {self._checkpoints.rescue()}")

    def _not_finite(self, waiting: list[tuple[int, Metrics, bool]]) -> None:
        number, metrics = next((number, metrics) for number, metrics, _ in waiting if not metrics["sound"])
        loss, norm, weight = float(metrics["loss"]), float(metrics["gradient_norm"]), float(metrics.get("weight", 0.0))
        if weight < 0.0:
            self._stop(number, f"its tokens' weights sum to {weight:g}", "weights must not sum to less than 0")
        reason = f"the loss is {loss:g} and the gradient's norm {norm:g}"
        self._stop(number, reason, "lower the learning rate or look at the loss")

    def _stop(self, number: int, reason: str, remedy: str) -> None:
        rescue = self._checkpoints.rescue()
        raise UserError(f"training stopped at step {number} of {self._total}: {reason}; {rescue}; {remedy}")


def plain(value: Any) -> float | None:
    """A number that JSON can hold. Only a companion metric (such as `nll` beside a bounded loss) may lack one in a sound step."""
    return float(value) if math.isfinite(value) else None
