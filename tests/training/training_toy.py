"""Tiny data, models and settings that the training tests share."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from w2sr_jax.batches.batch import Batches
from w2sr_jax.batches.packing import Packed
from w2sr_jax.batches.settings import Batching
from w2sr_jax.core import keys
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll, ReverseKL
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_sharding, make_mesh
from w2sr_jax.parallel.processes import put
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.training.frozen import NO_MODELS, Models
from w2sr_jax.training.imitation import ReferenceStore, imitation
from w2sr_jax.training.loop import TrainingResult, fit
from w2sr_jax.training.program import Compiled
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.settings import Training
from w2sr_jax.training.state import TrainState

VOCAB, LENGTH, ROWS = 32, 16, 8
MODEL = ModelConfig(vocab_size=VOCAB, width=16, layers=2, heads=2, kv_heads=2, mlp=32)
SETTINGS = Training(
    steps=6, learning_rate=1e-2, weight_decay=0.1, log_every=2, save_every=2, batching=Batching(length=LENGTH, rows=ROWS)
)
LINEAGE = {"config_hash": "configuration", "parent_checkpoint": None}
ONE = Mesh(data=1)
REFERENCED = Objective(Nll() + 0.5 * ReverseKL())


def packed(rows: int = 24, seed: int = 0, learnable: bool = False) -> Packed:
    """Rows of two examples each (one position of padding) with unequal weights; learnable: the next token is 3·token + 1."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(1, VOCAB, (rows, LENGTH + 1))
    if learnable:
        for column in range(LENGTH):
            tokens[:, column + 1] = (3 * tokens[:, column] + 1) % VOCAB
    first = draw.integers(4, LENGTH - 4, (rows, 1))
    place = np.arange(LENGTH)[None]
    segments = np.where(place < first, 1, 2) * (place < LENGTH - 1)
    positions = np.where(segments == 2, place - first, place)
    supervised = (segments > 0) & (positions >= 2)
    weight = np.where(supervised, np.where(segments == 1, 1.0, draw.exponential(1.0, (rows, 1))), 0.0)
    return Packed(
        tokens=tokens[:, :-1].astype(np.int32),
        target=tokens[:, 1:].astype(np.int32),
        positions=positions.astype(np.int32),
        segments=segments.astype(np.int32),
        span=np.where(supervised, draw.integers(1, 4, supervised.shape), 0).astype(np.int8),
        verdict=np.where(segments == 1, 1, -1).astype(np.int8),
        teacher_logprob=np.where(segments == 1, -draw.exponential(1.0, supervised.shape), np.nan).astype(np.float32),
        weight=weight.astype(np.float32),
    )


def batches(settings: Training = SETTINGS, **data: Any) -> Batches:
    return Batches(packed(**data), settings.batching, seed=settings.seed)


@functools.cache
def params(seed: int = 0) -> Any:
    return jax.jit(transformer.init, static_argnums=0)(MODEL, keys.key(seed, "init"))


def steps(program: Compiled, count: int, reference: Any = None, **data: Any) -> tuple[TrainState, list[dict[str, float]]]:
    """The state after `count` steps of a program from `params()`, and each step's metrics."""
    state = program.fresh(put(params(), program.params))
    feed, metrics = batches(**data), []
    layout = batch_sharding(jax.tree.leaves(program.params)[0].mesh)
    frozen = None if reference is None else {"initial": reference}
    for step in range(count):
        state, measured = program.step(state, put(feed.batch_at(step), layout), frozen)
        metrics.append({name: float(value) for name, value in measured.items()})
    return state, metrics


def run(
    directory: Path,
    training: Training = SETTINGS,
    objective: Objective | None = None,
    mesh: Mesh = ONE,
    initial: Any = None,
    data: Batches | None = None,
    lineage: dict[str, Any] | None = None,
    model: ModelConfig = MODEL,
    store: ReferenceStore | None = None,
    models: Models = NO_MODELS,
    **hooks: Any,
) -> TrainingResult:
    """Imitation of `data` from `initial`; `hooks` are those of `Hooks`."""
    data = batches(training) if data is None else data
    initial = params() if initial is None else initial
    program, source = imitation(model, initial, data, training, objective or Objective(), make_mesh(mesh), store, models)
    return fit(program, source, directory, {**LINEAGE, **(lineage or {})}, training.loop, Hooks(**hooks))
