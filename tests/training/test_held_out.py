"""Likelihood of held-out rows against full logits in NumPy, and of unigrams against a count by hand."""

import math

import numpy as np
import pytest
import training_toy as toy

from w2sr_jax.batches.encode import Encoded
from w2sr_jax.core.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.training.held_out import nll, unigram_nll


def test_nll_is_the_sum_over_full_logits_however_the_rows_are_read() -> None:
    packed = toy.packed(rows=5)
    hidden = transformer.forward(toy.MODEL, toy.params(), packed.tokens, packed.positions, packed.segments)
    logits = np.asarray(transformer.logits(toy.MODEL, toy.params(), hidden), np.float64)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(logits, packed.target[..., None], -1)[..., 0][packed.weight > 0].sum()
    for mesh, rows in ((toy.ONE, 5), (Mesh(data=4, fsdp=2), 3)):  # the latter reads 8 rows, of which 3 are padding
        total, count = nll(toy.MODEL, toy.params(), packed, rows, make_mesh(mesh), block=32)
        assert total == pytest.approx(expected, rel=1e-5)
        assert count == (packed.weight > 0).sum()


def test_a_likelihood_that_is_no_number_is_refused() -> None:
    broken = {**toy.params(), "embedding": toy.params()["embedding"].at[0, 0].set(np.nan)}
    with pytest.raises(UserError, match=r"held-out traces is nan under this model: embedding holds 1 values"):
        nll(toy.MODEL, broken, toy.packed(rows=4), 4, make_mesh(toy.ONE))


def example(tokens: list[int], prompt: int) -> Encoded:
    supervised = np.arange(len(tokens)) >= prompt
    nothing = np.zeros(len(tokens))
    return Encoded(np.array(tokens), nothing, supervised, 1, 1.0, nothing)


def test_unigrams_are_the_smoothed_frequencies_of_supervised_tokens() -> None:
    train = [example([3, 3, 1, 1], 2), example([3, 2], 1)]  # supervised: 1, 1, 2
    held_out = [example([0, 1, 3], 1)]  # supervised: 1, 3
    assert unigram_nll(train, held_out, 4) == pytest.approx(-(math.log(3 / 7) + math.log(1 / 7)) / 2)
