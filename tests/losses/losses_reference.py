"""The losses of one token in plain NumPy, float64, from probabilities; `held` are the logits as stop-gradient sees them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from w2sr_jax.losses import schedules, token

Vector = np.ndarray
VOCABULARY, TOKENS = 7, 12


def softmax(logits: Vector) -> Vector:
    e = np.exp(logits - logits.max())
    return e / e.sum()


def kl(p: Vector, q: Vector) -> float:
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


def jsd(p: Vector, q: Vector, beta: float) -> float:
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def burns(z: Vector, y: int, held: Vector, c: float) -> float:
    mixed = (1 - c) * np.eye(len(z))[y] + c * np.eye(len(z))[held.argmax()]
    return float(-(mixed * np.log(softmax(z))).sum())


# (name, loss, its value on one token from logits z, target y, held logits, reference logits r, verdict v)
CASES: list[tuple[str, token.TokenLoss, Callable[..., float]]] = [
    ("nll", token.Nll(), lambda z, y, held, r, v: -np.log(softmax(z)[y])),
    (
        "label smoothing",
        token.LabelSmoothing(0.2),
        lambda z, y, held, r, v: -0.8 * np.log(softmax(z)[y]) - 0.2 * np.log(softmax(z)).mean(),
    ),
    ("gce", token.GeneralizedCrossEntropy(0.7), lambda z, y, held, r, v: (1 - softmax(z)[y] ** 0.7) / 0.7),
    ("gce q=1", token.GeneralizedCrossEntropy(1.0), lambda z, y, held, r, v: 1 - softmax(z)[y]),
    (
        "symmetric",
        token.SymmetricCrossEntropy(0.1, 1.0, -4.0),
        lambda z, y, held, r, v: -0.1 * np.log(softmax(z)[y]) + 4.0 * (1 - softmax(z)[y]),
    ),
    ("dft", token.Dft(), lambda z, y, held, r, v: -softmax(held)[y] * np.log(softmax(z)[y])),
    # PROGRESS is half the warm-up, so c is a quarter
    ("burns", token.Confidence(0.5, 0.8), lambda z, y, held, r, v: burns(z, y, held, 0.25)),
    ("forward kl", token.ForwardKL(), lambda z, y, held, r, v: kl(softmax(r), softmax(z))),
    ("reverse kl", token.ReverseKL(), lambda z, y, held, r, v: kl(softmax(z), softmax(r))),
    ("jsd", token.Jsd(beta=0.3), lambda z, y, held, r, v: jsd(softmax(r), softmax(z), 0.3)),
    ("entropy", token.Entropy(), lambda z, y, held, r, v: -(softmax(z) * np.log(softmax(z))).sum()),
    ("z", token.ZLoss(), lambda z, y, held, r, v: np.log(np.exp(z).sum()) ** 2),
    ("unlikelihood", token.Unlikelihood(), lambda z, y, held, r, v: -np.log(1 - softmax(z)[y]) if v < 0 else 0.0),
    (
        "composed",
        token.OnCorrect(token.Nll())
        + 0.1 * token.Unlikelihood()
        - 0.2 * token.Entropy()
        + token.Jsd() * schedules.Linear(0.0, 1.0),
        lambda z, y, held, r, v: (
            (-np.log(softmax(z)[y]) if v > 0 else 0.0)
            + (-0.1 * np.log(1 - softmax(z)[y]) if v < 0 else 0.0)
            + 0.2 * (softmax(z) * np.log(softmax(z))).sum()
            + 0.4 * jsd(softmax(r), softmax(z), 0.5)
        ),
    ),
]
PROGRESS = 0.4


def sample(seed: int = 0, tokens: int = TOKENS, vocabulary: int = VOCABULARY) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "logits": rng.normal(size=(tokens, vocabulary)) * 2,
        "target": rng.integers(0, vocabulary, tokens),
        "span": rng.integers(1, 4, tokens),
        "verdict": rng.integers(-1, 2, tokens),
        "teacher_logprob": -rng.exponential(size=tokens),
        "reference": rng.normal(size=(tokens, vocabulary)) * 2,
    }


def values(reference_loss: Callable[..., float], data: dict[str, Any]) -> Vector:
    rows = zip(data["logits"], data["target"], data["reference"], data["verdict"], strict=True)
    return np.array([reference_loss(z, y, z, r, v) for z, y, r, v in rows])


def gradients(reference_loss: Callable[..., float], data: dict[str, Any], step: float = 1e-5) -> Vector:
    """[T, V], by central differences."""
    result = np.zeros_like(data["logits"])
    for t, (z, y, r, v) in enumerate(zip(data["logits"], data["target"], data["reference"], data["verdict"], strict=True)):
        for i in range(len(z)):
            up, down = z.copy(), z.copy()
            up[i] += step
            down[i] -= step
            result[t, i] = (reference_loss(up, y, z, r, v) - reference_loss(down, y, z, r, v)) / (2 * step)
    return result
