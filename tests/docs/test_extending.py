"""The worked examples of docs/extending.md do what the page says, in files of their own beside an unchanged package."""

from pathlib import Path
from typing import Any

import doc_runs
import jax.numpy as jnp
import numpy as np

from w2sr_jax.core import files
from w2sr_jax.graph.runner import climb_all
from w2sr_jax.graph.stage import Silent
from w2sr_jax.losses.token import Tokens

PAGE = "docs/extending.md"


def _tokens(logits: np.ndarray, target: np.ndarray, verdict: np.ndarray) -> Tokens:
    count = len(target)
    whole = jnp.ones(count, jnp.int32)
    return Tokens(jnp.array(logits), jnp.array(target), whole, jnp.array(verdict), jnp.zeros(count), None, jnp.float32(0.0))


def test_the_loss_is_the_hinge_on_the_gap(directory: Path) -> None:
    loss: Any = doc_runs.load(PAGE, "configs/margin.py", directory).rungs[0].objective.loss
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 5)).astype(np.float32)
    target, verdict = rng.integers(5, size=6), np.array([1, -1, 0, 1, 1, -1])
    nll = np.log(np.exp(logits).sum(-1)) - logits[np.arange(6), target]
    rival = np.array([max(np.delete(row, index)) for row, index in zip(logits, target)])
    hinge = np.maximum(0.0, 2.0 - (logits[np.arange(6), target] - rival))
    np.testing.assert_allclose(loss(_tokens(logits, target, verdict)), nll + 0.1 * hinge * (verdict > 0), rtol=1e-5)


def test_a_run_trains_with_the_loss_and_keeps_it(directory: Path) -> None:
    experiment = doc_runs.small(doc_runs.load(PAGE, "configs/margin.py", directory))
    page = climb_all(experiment, directory / "runs" / "margin", Silent())
    assert page is not None
    assert files.read_json(page.with_name("results.json"))["models"]["0-small.all"]
    assert (directory / "runs" / "margin" / "config" / "margin.py").is_file()
