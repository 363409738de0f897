"""What a token loss is given, and which other models it looks at. Importing this module does not import jax."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Array, Bool, Float, Int

INITIAL = "initial"
"""The student's own initial parameters, frozen."""
TEACHER = "teacher"
"""Whoever wrote the trace that a token belongs to. Gold solutions have none."""


class Distribution(NamedTuple):
    """Another model's distribution of the next token, at T positions."""

    logits: Float[Array, "T V"]
    """Its logits, or its log-probabilities, float32."""
    available: Bool[Array, " T"] | None = None
    """Where it is known; elsewhere its logits are 0. None: everywhere."""


class Rollout(NamedTuple):
    """What is known of T tokens because the student wrote them itself, at a step of this training."""

    advantage: Float[Array, " T"]
    """Of the target's rollout: how much better its reward is than others of its problem, float32."""
    sampled: Float[Array, " T"]
    """Log-probability of the target under the distribution that it was drawn from, when it was drawn: that of the student of then
    with temperature, top-k, top-p and whatever else limits sampling. 0 where nothing was left to chance."""
    logprob: Float[Array, " T"]
    """The same of the student as it is now, with the gradient in its logits."""

    @property
    def log_ratio(self) -> Float[Array, " T"]:
        """Logarithm of the target's probability now over that when it was drawn."""
        return self.logprob - self.sampled


class Tokens(NamedTuple):
    """All that a per-token loss may look at: T supervised positions, each with its target (the next token)."""

    logits: Float[Array, "T V"]
    """The student's, float32."""
    target: Int[Array, " T"]
    span: Int[Array, " T"]
    """Of the target: 1 reasoning, 2 answer, 3 end of turn."""
    verdict: Int[Array, " T"]
    """Of the target's trace: +1 correct, -1 incorrect, 0 unknown."""
    teacher_logprob: Float[Array, " T"]
    """The teacher's log-probability of the target; nan where unknown."""
    models: Mapping[str, Distribution]
    """The models that the loss names (`models_of`), by name; read them with `logprobs_of` and `available`."""
    progress: Float[Array, ""]
    """0 at the first training step, 1 at the last."""
    rollout: Rollout | None = None
    """Where the student learns from texts that it wrote itself; None where it learns from others'."""

    def drawn(self) -> Rollout:
        """`rollout`, where a loss or its diagnostics cannot do without. `UserError` where there is none."""
        if self.rollout is None:
            raise UserError(
                "the loss looks at rollouts, which are the student's own texts, and this training has none; a loss on rollouts "
                "has the attribute needs_rollouts = True and belongs into a training stage that draws them"
            )
        return self.rollout

    def logprobs_of(self, model: str) -> Float[Array, "T V"]:
        """The log-probabilities of a model that the loss names, float32, without gradient; uniform where not `available`."""
        import jax

        return jax.lax.stop_gradient(jax.nn.log_softmax(self._model(model).logits, axis=-1))

    def available(self, model: str) -> Bool[Array, " T"]:
        """At which tokens the distribution of a model that the loss names is known. Only the teacher's may be unknown: another
        model's is known everywhere."""
        import jax.numpy as jnp

        available = self._model(model).available
        return jnp.ones(self.target.shape, bool) if available is None else available

    def _model(self, model: str) -> Distribution:
        if model not in self.models:
            raise UserError(
                f"the loss looks at the model {sentences.value(model, 60)} without naming it; give it the attribute "
                f"models = ({sentences.value(model, 60)},)"
            )
        return self.models[model]


if TYPE_CHECKING:
    TokenLoss = Callable[[Tokens], Any]
    """From T tokens to T losses (float32)."""
else:
    TokenLoss = Any  # lets the command line offer the fields of whichever loss an experiment holds


def models_of(*losses: TokenLoss) -> tuple[str, ...]:
    """The names of the models whose distributions some losses look at, each once, in the order in which they are named.

    A function of your own names them by an attribute, `my_loss.models = ("initial",)`, an object by an attribute or a property;
    decorators and `functools.partial` keep that. A name is `INITIAL`, `TEACHER`, or that of a model of the experiment.
    `UserError` where `models` is no tuple of names.
    """
    return tuple(dict.fromkeys(name for loss in losses for name in _named(loss)))


def attribute(loss: Any, name: str) -> Any:
    """An attribute of a loss, or of what decorators and `functools.partial` wrap; None where it has none."""
    inner: Any = loss
    for _ in range(100):  # wrappers may lead in a circle
        value = getattr(inner, name, None)
        if value is not None:
            return value
        inner = inner.func if isinstance(inner, partial) else getattr(inner, "__wrapped__", None)
    return None


def _named(loss: TokenLoss) -> tuple[str, ...]:
    names = attribute(loss, "models")
    if names is None:
        return ()
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) and name for name in names):
        said = "a method" if callable(names) else sentences.value(names, 60)
        raise UserError(
            f"the attribute models of a loss is {said}; it must be a tuple with the names of the models that the loss looks at, "
            f"as ('{INITIAL}',) or ('{TEACHER}',)"
        )
    return tuple(names)
