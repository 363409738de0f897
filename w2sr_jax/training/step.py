"""One optimizer step as a pure function of arrays: it knows no files, clocks or processes.

Losses are sums with their weights: micro-batches and devices add up both, and one division at the end gives the weighted mean
over the tokens of the whole step, however they were split and however unequal the weights are.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from w2sr_jax.losses.blocks import Drawn, Frozen, LossSum, Model, TokenData, blocked, token_losses
from w2sr_jax.losses.inputs import INITIAL, TEACHER, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.sums import Watch, no_tokens
from w2sr_jax.losses.weights import trimmed
from w2sr_jax.models import lora as adapters
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import batch_sharding, here, replicated
from w2sr_jax.training.accumulation import gradient, micro_batches
from w2sr_jax.training.hidden import last_hidden, ratio
from w2sr_jax.training.optimizer import changed
from w2sr_jax.training.state import Metrics, TrainState, advance

Batch: TypeAlias = Any  # `batches.batch.Batch`, as jax arrays
Step: TypeAlias = Callable[[TrainState, Batch, Any], tuple[TrainState, Metrics]]

NONE = Lora()
NO_CONFIGS: Mapping[str, ModelConfig] = {}


class StepSettings(NamedTuple):
    """What a step is made with besides model, loss and optimizer; see `make_step`."""

    accumulation: int = 1
    mesh: Mesh | None = None
    lora: Lora = NONE
    peak: float | None = None
    models: Mapping[str, ModelConfig] = NO_CONFIGS


class OnRollouts(NamedTuple):
    """What a step on the student's own answers has besides: `drawn` makes a token's log-probability of logits as it was drawn,
    `watch` looks beside the loss. The loss is then the sum of weight · loss, not the mean: the weights hold the denominator. With
    `known` models are compared over ids below it alone."""

    drawn: Drawn | None
    watch: Watch | None = None
    known: int | None = None


def make_step(
    config: ModelConfig,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    total_steps: int,
    accumulation: int = 1,
    mesh: Mesh | None = None,
    lora: Lora = NONE,
    peak: float | None = None,
    models: Mapping[str, ModelConfig] = NO_CONFIGS,
    rollouts: OnRollouts | None = None,
) -> Step:
    """Build `(state, batch, frozen) -> (state, metrics)`; `batch` holds [R, L] arrays, R the rows of the whole step.

    `optimizer` follows `schedule` (step → learning rate), which is only reported here; progress runs from 0 to 1 over
    `total_steps`. The rows are taken in `accumulation` micro-batches; `mesh` splits each one's rows over data × fsdp.
    `frozen` has the parameters of the models that `objective.loss` looks at, by name, as far as the batch has not their
    distributions; it may be None where there are none. `models` are the settings of those besides `initial`. A teacher that is in
    neither is known nowhere. With a `lora` of rank above 0 `initial` is always there, as `lora.freeze` makes it, and the state's
    parameters are the adapters beside it. `rollouts` says that the student wrote the batch, which has `Batch.rollout` then.

    Metrics are float32 scalars (`sound` a bool): `loss` is the weighted mean of the objective, `nll` and `token_accuracy`
    unweighted means over the supervised tokens that were not trimmed, `tokens` their number and `weight` their weight;
    `gradient_norm` is taken before clipping, `update_norm` after everything. Where parameters are trained in another type than
    float32, `changed` is the share of them that such an update changes at the `peak` learning rate (default: the step's own); the
    other updates are rounded away. What a watch gives are further ones: means over tokens, and largest values.

    A non-finite loss or gradient, or weights that sum to less than 0, change nothing but `state.sound`, which stays False.
    """
    configs, hidden_at = {**models, INITIAL: config}, partial(last_hidden, mesh)
    block, softcap = objective.block, config.logit_softcap
    drawn, watch, known = rollouts or OnRollouts(None)
    names = models_of(objective.loss) if watch is None else models_of(objective.loss, watch)

    def student(params: Any, frozen: Any) -> Any:
        return adapters.beside(lora, frozen[INITIAL], params) if lora.rank else params

    def models_at(frozen: Any, part: Batch) -> dict[str, Model]:
        """The distributions of all models that the loss looks at, those that are read before those that are computed."""
        found: dict[str, Model] = {TEACHER: None}
        for name in names:
            if name in part.models:
                found[name] = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), part.models[name])
            elif frozen and name in frozen:
                hidden, output = jax.lax.stop_gradient(hidden_at(configs[name], frozen[name], part))
                found[name] = Frozen(hidden, output, configs[name].logit_softcap)
        return found

    def sums(params: Any, frozen: Any, part: Batch, progress: Float[Array, ""]) -> tuple[Float[Array, ""], LossSum]:
        hidden, output = hidden_at(config, student(params, frozen), part, trained=not lora.rank or lora.embeddings)
        models = models_at(frozen, part)
        where = None if mesh is None else here(mesh)
        total = blocked(objective.loss, hidden, output, _data(part), progress, models, block, where, softcap, drawn, watch, known)
        return total.loss_sum, total

    def losses(params: Any, frozen: Any, part: Batch, progress: Float[Array, ""]) -> Float[Array, "r L"]:
        hidden, output = hidden_at(config, student(params, frozen), part)
        models = models_at(frozen, part)
        flat = token_losses(objective.loss, hidden, output, _data(part), progress, models, block, mesh, softcap, drawn, known)
        return flat.reshape(part.weight.shape)

    def step(state: TrainState, batch: Batch, frozen: Any) -> tuple[TrainState, Metrics]:
        progress = state.step.astype(jnp.float32) / max(total_steps - 1, 1)
        weight = objective.weights(batch.span, batch.verdict, batch.teacher_logprob, batch.weight)
        parts = micro_batches(batch._replace(weight=weight), accumulation, mesh)
        if objective.trim > 0.0:
            every = jax.lax.map(lambda part: losses(state.params, frozen, part, progress), parts)
            parts = parts._replace(weight=trimmed(every, parts.weight, objective.trim))
        own = (state.params, frozen, parts, progress, accumulation, mesh)
        # How many rows the rollouts of a step fill differs, and the last ones are empty. Devices that decided apart whether to
        # pass over rows could wait for each other for ever.
        alone = mesh is None or mesh.size == 1
        slope, total = gradient(sums, partial(no_tokens, watch), *own, _learns if rollouts is not None and alone else None)
        if rollouts is None:
            slope = jax.tree.map(lambda leaf: ratio(leaf, total.weight_sum), slope)

        loss = total.loss_sum if rollouts is not None else ratio(total.loss_sum, total.weight_sum)
        norm = optax.global_norm(slope)
        sound = state.sound & jnp.isfinite(loss) & jnp.isfinite(norm) & (total.weight_sum >= 0.0)
        new, updates = advance(state, slope, optimizer, sound)
        metrics = {
            "loss": loss,
            "nll": ratio(total.nll_sum, total.token_sum),
            "token_accuracy": ratio(total.correct_sum, total.token_sum),
            "gradient_norm": norm,
            "update_norm": optax.global_norm(updates),
            "learning_rate": schedule(state.step),
            "weight": total.weight_sum,
            "tokens": total.token_sum,
            "sound": sound,
            **{name: ratio(value, total.token_sum) for name, value in total.sums.items()},
            **{name: jnp.where(total.token_sum > 0, value, 0.0) for name, value in total.peaks.items()},
        }
        if any(leaf.dtype != jnp.float32 for leaf in jax.tree.leaves(state.params)):
            rate = schedule(state.step)
            metrics["changed"] = changed(state.params, updates, jnp.float32(1.0) if peak is None else peak / rate)
        return new, metrics

    return step


def compile_step(step: Step, mesh: Mesh, state: TrainState, frozen: Mapping[str, Any]) -> Step:
    """`step` jitted once for `mesh`: the state is donated and keeps the shardings that `state` gives; metrics are everywhere.

    `state` is a `TrainState` of shardings, `frozen` has pytrees of shardings by the names of models.
    """
    shardings = (state, batch_sharding(mesh), dict(frozen) or None)
    return jax.jit(step, in_shardings=shardings, out_shardings=(state, replicated(mesh)), donate_argnums=0)


def _learns(part: Batch) -> Bool[Array, ""]:
    return jnp.any(part.weight != 0.0)


def _data(part: Batch) -> TokenData:
    fields = (part.target, part.span, part.verdict, part.teacher_logprob, part.weight, *(part.rollout or ()))
    return TokenData(*(leaf.reshape(-1) for leaf in fields))
