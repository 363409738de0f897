"""A training of another kind than imitation, written against the public seam alone: REINFORCE on a table of logits.

The policy is one categorical distribution over `ACTIONS` actions, of which `GOOD` is rewarded. Before every step the source draws
actions from the policy as it is, writes them down with their rewards, and the step follows the policy gradient.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from w2sr_jax.core import files, keys
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.loop import TrainingResult, fit
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.settings import LoopSettings
from w2sr_jax.training.state import Metrics, TrainState, abstract_state, advance, create

ACTIONS, GOOD, DRAWN, STEPS, RATE = 5, 3, 64, 7, 0.7
SETTINGS = LoopSettings(save_every=3, log_every=2)


class Drawn(NamedTuple):
    actions: Any
    rewards: Any


class PolicyProgram:
    loss_level = None
    lineage: Mapping[str, Any] = {"policy": "table"}

    def __init__(self) -> None:
        self._optimizer = optax.sgd(RATE)
        self._initial = {"table": jnp.zeros(ACTIONS)}
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        state = create(self._initial, self._optimizer)
        self.state = abstract_state(state, jax.tree.map(lambda _: here, state))
        self._step = jax.jit(self._update, donate_argnums=0)

    def initial_digest(self, like: str = "") -> str:
        return params_digest(self._initial, like)

    def begin(self, restored: TrainState | None, hooks: Hooks) -> TrainState:
        return create(jax.tree.map(jnp.copy, self._initial), self._optimizer) if restored is None else restored

    def step(self, state: TrainState, batch: Drawn) -> tuple[TrainState, Metrics]:
        return self._step(state, batch)

    def whole(self, params: Any) -> Any:
        return jax.nn.softmax(params["table"])

    def _update(self, state: TrainState, batch: Drawn) -> tuple[TrainState, Metrics]:
        advantage = batch.rewards - jnp.mean(batch.rewards)

        def loss(params: Any) -> Any:
            return -jnp.mean(advantage * jax.nn.log_softmax(params["table"])[batch.actions])

        value, gradient = jax.value_and_grad(loss)(state.params)
        norm = optax.global_norm(gradient)
        sound = state.sound & jnp.isfinite(value) & jnp.isfinite(norm)
        new, _ = advance(state, gradient, self._optimizer, sound)
        return new, {"loss": value, "gradient_norm": norm, "reward": jnp.mean(batch.rewards), "sound": sound}


class PolicySource:
    """`before(step)` is called before each draw; `drawn` lists the steps that this object drew for."""

    needs_state = True

    def __init__(self, seed: int = 0, before: Callable[[int], None] = lambda step: None) -> None:
        self._seed, self._before, self.steps, self.drawn = seed, before, STEPS, list[int]()
        self.digest = hashlib.sha256(f"{ACTIONS} {GOOD} {DRAWN} {seed}".encode()).hexdigest()

    def prepare(self, directory: Path, start: int, hooks: Hooks) -> Mapping[str, float]:
        self._folder = directory / "drawn"
        self._folder.mkdir(parents=True, exist_ok=True)
        return {"rewarded_share": 1 / ACTIONS}

    def batch_at(self, step: int, state: TrainState | None) -> Drawn:
        assert state is not None
        assert int(state.step) == step
        path = self._folder / f"{step}.npy"
        if not path.exists():
            self._before(step)
            key = keys.key(self._seed, "draw", str(step))
            actions = np.asarray(jax.random.categorical(key, state.params["table"], shape=(DRAWN,)), np.int32)
            with files.replacing(path) as temporary, open(temporary, "wb") as file:
                np.save(file, actions)
            self.drawn.append(step)
        actions = np.load(path)
        return Drawn(actions, (actions == GOOD).astype(np.float32))

    def tokens(self, batch: Drawn) -> int:
        return len(batch.actions)


def run(
    directory: Path,
    before: Callable[[int], None] = lambda step: None,
    source: PolicySource | None = None,
    settings: LoopSettings = SETTINGS,
    **hooks: Any,
) -> TrainingResult:
    source = PolicySource(before=before) if source is None else source
    return fit(PolicyProgram(), source, directory, {"config_hash": "policy"}, settings, Hooks(**hooks))


def followed(directory: Path) -> np.ndarray:
    """The table that the drawn actions lead to, in float64: the policy gradient of a categorical distribution is closed."""
    table = np.zeros(ACTIONS)
    for step in range(STEPS):
        actions = np.load(directory / "drawn" / f"{step}.npy")
        rewards = (actions == GOOD).astype(np.float64)
        policy = np.exp(table) / np.exp(table).sum()
        table += RATE * np.mean((rewards - rewards.mean())[:, None] * (np.eye(ACTIONS)[actions] - policy), axis=0)
    return table
