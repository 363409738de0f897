"""How large a loss is at some point of training, whatever the student predicts: what tells a schedule that rises from a student
that gets worse."""

import contextlib
from typing import Any

import jax
import numpy as np

from w2sr_jax.losses.inputs import Distribution, TokenLoss, Tokens, models_of
from w2sr_jax.losses.token import Nll
from w2sr_jax.training.watchdog import Level

TOKENS = 64


def level(loss: TokenLoss, vocab_size: int, total: int) -> Level:
    """The `Level` of a loss over `total` steps, from its mean size on tokens that are drawn once. 1 where it cannot be told."""

    def size(loss: TokenLoss, step: int) -> float:
        progress = np.float32((step - 1) / max(total - 1, 1))
        with contextlib.suppress(Exception):  # of a user's own, on tokens that it has not seen before
            return float(np.mean(np.abs(np.asarray(jax.jit(loss)(_tokens(loss, vocab_size)._replace(progress=progress))))))
        return float("nan")

    def level(step: int) -> tuple[float, float]:
        here, nll, first = size(loss, step), size(Nll(), step), size(loss, 1)
        return _times(here, nll), _times(here, first) if first else 0.0

    return level


def _times(here: float, other: float) -> float:
    return max(here / other, 1.0) if np.isfinite(here) and other > 0.0 else 1.0


def _tokens(loss: TokenLoss, vocab_size: int) -> Any:
    draw, index = np.random.default_rng(0), np.arange(TOKENS, dtype=np.int32)
    logits, other = draw.normal(size=(2, TOKENS, vocab_size)).astype(np.float32)
    target = draw.integers(0, vocab_size, TOKENS).astype(np.int32)
    confidence = np.where(index % 5 == 0, np.nan, -1.0).astype(np.float32)
    models = {name: Distribution(other) for name in models_of(loss)}
    return Tokens(logits, target, 1 + index % 3, index // 3 % 3 - 1, confidence, models, np.float32(0))  # type: ignore[arg-type]
