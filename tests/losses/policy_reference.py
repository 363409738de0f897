"""The policy losses of one token in NumPy, float64, and data to try them on; `held` are logits as stop-gradient sees them."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from losses_reference import softmax

from w2sr_jax.losses.inputs import Distribution, Rollout, TokenLoss, Tokens
from w2sr_jax.losses.policy import K3, Dapo, DrGrpo, Grpo, Reinforce

Vector = np.ndarray
VOCABULARY, TOKENS = 7, 40


def logprob(z: Vector, y: int) -> float:
    return float(np.log(softmax(z)[y]))


def surrogate(z: Vector, y: int, drawn: float, a: float, low: float, high: float) -> float:
    ratio = np.exp(logprob(z, y) - drawn)
    return -min(ratio * a, min(max(ratio, 1 - low), 1 + high) * a)


def k3(z: Vector, y: int, r: Vector) -> float:
    d = logprob(r, y) - logprob(z, y)
    return float(np.exp(d) - d - 1)


# (name, loss, its value on one token from logits z, held logits, target y, log-probability s when it was drawn, advantage a,
# initial student's logits r)
CASES: list[tuple[str, TokenLoss, Callable[..., float]]] = [
    ("reinforce", Reinforce(), lambda z, held, y, s, a, r: -a * logprob(z, y)),
    (
        "truncated importance",
        Reinforce(importance=1.3),
        lambda z, held, y, s, a, r: -min(np.exp(logprob(held, y) - s), 1.3) * a * logprob(z, y),
    ),
    ("grpo", Grpo(), lambda z, held, y, s, a, r: surrogate(z, y, s, a, 0.2, 0.2)),
    ("grpo without clip", Grpo(clip=None), lambda z, held, y, s, a, r: -np.exp(logprob(z, y) - s) * a),
    ("dr.grpo", DrGrpo(clip=(0.3, 0.1)), lambda z, held, y, s, a, r: surrogate(z, y, s, a, 0.3, 0.1)),
    ("dapo", Dapo(), lambda z, held, y, s, a, r: surrogate(z, y, s, a, 0.2, 0.28)),
    ("k3", K3(), lambda z, held, y, s, a, r: k3(z, y, r)),
    ("sum", Grpo() + 0.5 * K3(), lambda z, held, y, s, a, r: surrogate(z, y, s, a, 0.2, 0.2) + 0.5 * k3(z, y, r)),
]


def sample(seed: int = 0) -> dict[str, Vector]:
    """Ratios on both sides of every clip, advantages of both signs and 0; no ratio is within 1e-3 of where a clip begins."""
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(size=(TOKENS, VOCABULARY)), rng.integers(0, VOCABULARY, TOKENS)
    ratio = np.exp(rng.uniform(-0.6, 0.6, TOKENS))
    for edge in (0.7, 0.8, 1.1, 1.2, 1.28, 1.3):
        ratio = np.where(abs(ratio - edge) < 1e-3, ratio + 3e-3, ratio)
    now = np.array([logprob(z, y) for z, y in zip(logits, target, strict=True)])
    return {
        "logits": logits,
        "target": target,
        "sampled": now - np.log(ratio),
        "advantage": rng.choice([-1.5, -0.2, 0.0, 0.7, 2.0], TOKENS),
        "initial": logits + 0.5 * rng.normal(size=logits.shape),
    }


def tokens(data: dict[str, Vector], logits: Any = None) -> Tokens:
    logits = jnp.asarray(data["logits"], jnp.float32) if logits is None else logits
    whole, real = jnp.ones(TOKENS, jnp.int32), jnp.zeros(TOKENS, jnp.float32)
    target = jnp.asarray(data["target"], jnp.int32)
    logprobs = logits - jnp.log(jnp.sum(jnp.exp(logits), axis=-1, keepdims=True))
    now = jnp.take_along_axis(logprobs, target[:, None], 1)[:, 0]
    rollout = Rollout(jnp.asarray(data["advantage"], jnp.float32), jnp.asarray(data["sampled"], jnp.float32), now)
    models = {"initial": Distribution(jnp.asarray(data["initial"], jnp.float32))}
    return Tokens(logits, target, whole, whole, real, models, jnp.float32(0), rollout)


def rows(data: dict[str, Vector]) -> list[tuple]:
    names = ("logits", "target", "sampled", "advantage", "initial")
    return list(zip(*(data[name] for name in names), strict=True))


def values(plain: Callable[..., float], data: dict[str, Vector]) -> Vector:
    return np.array([plain(z, z, y, s, a, r) for z, y, s, a, r in rows(data)])


def gradients(plain: Callable[..., float], data: dict[str, Vector], step: float = 1e-6) -> Vector:
    """[T, V], by central differences."""
    result = np.zeros_like(data["logits"])
    for t, (z, y, s, a, r) in enumerate(rows(data)):
        for i in range(len(z)):
            away = step * np.eye(len(z))[i]
            result[t, i] = (plain(z + away, z, y, s, a, r) - plain(z - away, z, y, s, a, r)) / (2 * step)
    return result
