"""Gradients and the first steps of training against torch: transformers' model, torch's AdamW and clipping, one example a row."""

import copy
import functools
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

sys.path.append(str(Path(__file__).parents[1] / "models" / "hf"))
import tiny_checkpoints as tiny

from w2sr_jax.batches.batch import Batch, Batches
from w2sr_jax.batches.encode import Encoded
from w2sr_jax.batches.packing import pack
from w2sr_jax.batches.settings import Batching
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models.hf import pretrained
from w2sr_jax.training.optimizer import learning_rate, make_optimizer
from w2sr_jax.training.settings import Training
from w2sr_jax.training.state import create
from w2sr_jax.training.step import make_step

torch = pytest.importorskip("torch")

STEPS = 20
OBJECTIVE = Objective(block=50)
TRAINING = Training(
    steps=STEPS,
    learning_rate=3e-3,
    warmup=0.25,
    final_fraction=0.2,
    weight_decay=2.0,
    clip=1.0,
    batching=Batching(length=48, rows=4),
)


@functools.cache
def batches() -> Batches:
    """Examples of 7 to 45 tokens, several to a row; the first of each are a prompt, and their weights are unequal."""
    draw = np.random.default_rng(0)
    examples = []
    for text in tiny.texts(draw.integers(7, 46, 60).tolist(), seed=1):
        supervised = np.arange(len(text)) >= draw.integers(1, 5)
        unknown = np.full(len(text), np.nan, np.float32)
        # A few tokens often follow each other: there is something to learn in 20 steps.
        habit = np.where(draw.random(len(text)) < 0.7, 3 + np.arange(len(text)) % 4, text).astype(np.int32)
        examples.append(Encoded(habit, np.ones(len(text), np.int32), supervised, 1, float(draw.uniform(0.2, 2.0)), unknown))
    return Batches(pack(examples, TRAINING.batching.length), TRAINING.batching, seed=0)


def torch_loss(model: Any, batch: Batch, weighted: bool = True) -> Any:
    """The weighted mean NLL, every example in a row of its own."""
    rows: list[list[np.ndarray]] = []
    for row, segments in enumerate(batch.segments):
        for segment in range(1, segments.max() + 1):
            here = segments == segment
            rows.append([leaf[row][here] for leaf in (batch.tokens, batch.target, batch.weight)])
    length = max(len(tokens) for tokens, _, _ in rows)
    tokens, mask = tiny.padded([tokens for tokens, _, _ in rows], length)
    target, weight = np.zeros(tokens.shape, np.int64), np.zeros(tokens.shape, np.float32)
    for place, (_, targets, weights) in enumerate(rows):
        target[place, : len(targets)], weight[place, : len(weights)] = targets, weights
    logits = model(torch.tensor(tokens).long(), attention_mask=torch.tensor(mask).long(), use_cache=False).logits
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(target).flatten(), reduction="none")
    factor = torch.tensor(weight if weighted else (weight > 0).astype(np.float32)).flatten()
    return (nll * factor).sum() / factor.sum()


def recorder() -> optax.GradientTransformation:
    """Changes nothing and keeps the gradient."""
    return optax.GradientTransformation(
        lambda params: params, lambda slope, state, params=None: (optax.tree.zeros_like(slope), slope)
    )


@pytest.mark.parametrize("name", tiny.EACH_FAMILY)
def test_the_gradient_of_every_tensor_is_that_of_torch(name: str, tmp_path: Path) -> None:
    config, params = pretrained.load(tiny.save(name, tmp_path / "given"))
    step = jax.jit(make_step(config, OBJECTIVE, recorder(), optax.constant_schedule(0.0), 1))
    batch = batches().batch_at(0)
    assert batch.segments.max() > 1
    state, metrics = step(create(jax.tree.map(jnp.asarray, params), recorder()), batch, None)
    pretrained.save(tmp_path / "gradient", config, state.opt_state)  # by the names that the parameters have there

    model = copy.deepcopy(tiny.torch_model(name))
    loss = torch_loss(model, batch)
    loss.backward()
    assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-5)
    got = load_file(tmp_path / "gradient" / "model.safetensors")
    wanted = {path: parameter.grad.numpy() for path, parameter in model.named_parameters()}
    assert got.keys() == wanted.keys()
    for path, want in wanted.items():
        assert np.linalg.norm(want) > 0, path
        assert np.linalg.norm(got[path] - want) <= 1e-3 * np.linalg.norm(want), path


@dataclass(frozen=True)
class Recipe:
    """How torch trains; each field can be left out to see whether the comparison notices."""

    clip: bool = True
    decay: float = TRAINING.weight_decay
    spared: bool = True
    """Vectors are not decayed."""
    schedule: bool = True
    weighted: bool = True
    b2: float = TRAINING.b2


def torch_curve(name: str, recipe: Recipe) -> list[float]:
    """The losses of a plain torch loop."""
    model = copy.deepcopy(tiny.torch_model(name))
    parameters = list(model.parameters())
    matrices, vectors = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.decay},
        {"params": vectors, "weight_decay": 0.0 if recipe.spared else recipe.decay},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(TRAINING.b1, recipe.b2), eps=TRAINING.epsilon)
    rising = STEPS // 4
    losses = []
    for step in range(STEPS):
        rate = TRAINING.learning_rate
        if recipe.schedule and step < rising:
            rate *= (step + 1) / rising
        elif recipe.schedule:
            rate *= 0.2 + 0.8 * (1 + math.cos(math.pi * (step - rising) / (STEPS - rising))) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = torch_loss(model, batches().batch_at(step), recipe.weighted)
        optimizer.zero_grad()
        loss.backward()
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(parameters, TRAINING.clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


@functools.cache
def our_curve(name: str, directory: Path) -> list[dict[str, float]]:
    config, params = pretrained.load(tiny.save(name, directory))
    optimizer = make_optimizer(TRAINING, STEPS)
    step = jax.jit(make_step(config, OBJECTIVE, optimizer, learning_rate(TRAINING, STEPS), STEPS))
    state = create(jax.tree.map(jnp.asarray, params), optimizer)
    curve = []
    for number in range(STEPS):
        state, metrics = step(state, batches().batch_at(number), None)
        curve.append({key: float(value) for key, value in metrics.items()})
    return curve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases")


@pytest.mark.parametrize("name", ["qwen2", "llama3-tied", "gemma3-scores-capped"])
def test_twenty_steps_have_the_losses_of_a_torch_loop(name: str, folder: Path) -> None:
    curve = our_curve(name, folder / name)
    assert [metrics["loss"] for metrics in curve] == pytest.approx(torch_curve(name, Recipe()), rel=1e-3)
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]
    assert curve[0]["gradient_norm"] > 1.5 * TRAINING.clip


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(clip=False),
        Recipe(decay=0.0),
        Recipe(spared=False),
        Recipe(schedule=False),
        Recipe(weighted=False),
        Recipe(b2=0.999),
    ],
    ids=["unclipped", "undecayed", "vectors decayed", "constant rate", "equal weights", "b2"],
)
def test_another_recipe_has_other_losses(recipe: Recipe, folder: Path) -> None:
    """Agreement says something about an ingredient only where it matters."""
    mine = np.array([metrics["loss"] for metrics in our_curve("qwen2", folder / "qwen2")])
    assert (np.abs(mine - torch_curve("qwen2", recipe)) / mine).max() > 5e-3
