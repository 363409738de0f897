"""Gates of a policy training: bounds on what is watched, beyond which it warns, or stops."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

from w2sr_jax.core.errors import UserError

_WORDS = {
    "truncated": "{value:.0%} of the answers did not end within decoding.max_tokens",
    "looping": "{value:.0%} of the answers run in circles",
    "bare": "{value:.0%} of the answers are stated without reasoning",
    "kl": "the student is {value:.2f} nats per token away from where it started",
    "beyond": "{value:.1%} of the tokens have another probability in the trainer than in the sampler by more than 10 %",
}
_METRICS = {"beyond": "ratio_far"}


@dataclasses.dataclass(frozen=True)
class Gates:
    """Bounds on what is watched at every step; 0 is off. Each is told once, or stops the training."""

    truncated: float = 0.5
    """Share of answers that did not end."""
    looping: float = 0.2
    """Share of answers that run in circles."""
    bare: float = 0.0
    """Share of answers without reasoning, which a reward for answers alone invites."""
    kl: float = 0.0
    """Nats per token from the start (the metric `kl`)."""
    beyond: float = 0.01
    """Share of tokens whose probability differs between trainer and sampler by more than a tenth, at the first step on them."""
    entropy: float = 0.0
    """Least nats per token of the student's own distribution: below, it draws the same answers over and over."""
    action: Literal["warn", "stop"] = "warn"
    """What happens beyond a bound."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "action" and value < 0:
                raise UserError(f"gates.{field.name} is {value}; it must be 0 (off) or more")

    def words(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """By the name of each bound that does not hold, what does not."""
        wrong = {}
        for name, words in _WORDS.items():
            bound, value = getattr(self, name), metrics.get(_METRICS.get(name, name))
            if bound and value is not None and value > bound:
                wrong[name] = words.format(value=value)
        entropy = metrics.get("entropy")
        if self.entropy and entropy is not None and entropy < self.entropy:
            wrong["entropy"] = f"the student's distribution has {entropy:.3f} nats of entropy per token"
        return wrong


class Guard:
    """Holds the metrics of steps against gates."""

    def __init__(self, gates: Gates, warn: Callable[[str], None]) -> None:
        self._gates, self._warn, self._said = gates, warn, set[str]()

    def look(self, step: int, metrics: Mapping[str, float], fresh: bool = True) -> None:
        """`UserError` where a gate stops. Answers that are not `fresh` are of the student as it was before, so that its
        probabilities are not those of the draw."""
        for name, words in self._gates.words(metrics).items():
            if name == "beyond" and not fresh:
                continue
            bound = f"gates.{name} is {getattr(self._gates, name):g}"
            if self._gates.action == "stop":
                raise UserError(f"training stopped at step {step}: {words} ({bound}, gates.action is stop)")
            if name not in self._said:
                self._said.add(name)
                self._warn(f"at step {step} {words} ({bound})")
