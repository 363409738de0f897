"""Drawing against closed forms: a grid of uniform numbers must give every token its exact share."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from w2sr_jax.sampling import draw as drawing
from w2sr_jax.sampling.settings import Decoding

POINTS = 4000


def shares(logits: np.ndarray, decoding: Decoding) -> np.ndarray:
    """Fraction of a fine grid of uniform numbers that each token gets."""
    grid = ((np.arange(POINTS) + 0.5) / POINTS).astype(np.float32)
    rows = np.broadcast_to(np.asarray(logits, np.float32), (POINTS, len(logits)))
    tokens = np.asarray(jax.jit(drawing.draw, static_argnums=2)(rows, grid, decoding))
    return np.bincount(tokens, minlength=len(logits)) / POINTS


def expected(logits: np.ndarray, decoding: Decoding) -> np.ndarray:
    """The definition, in float64: temper, keep the top k, then the fewest that hold top_p; ties go to the lower id."""
    weights = np.exp((np.asarray(logits, np.float64) - np.max(logits)) / decoding.temperature)
    order = np.argsort(-weights, kind="stable")
    kept = order[: decoding.top_k or len(order)]
    mass = np.cumsum(weights[kept]) / weights[kept].sum()
    if decoding.top_p < 1:
        kept = kept[: int(np.searchsorted(mass, decoding.top_p - 1e-7)) + 1]
    result = np.zeros_like(weights)
    result[kept] = weights[kept] / weights[kept].sum()
    return result


LOGITS = np.log(np.array([0.02, 0.4, 0.08, 0.25, 0.1, 0.15]))


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(),
        Decoding(temperature=0.5),
        Decoding(temperature=2.0),
        Decoding(top_k=1),
        Decoding(top_k=3),
        Decoding(top_k=99),
        Decoding(top_p=0.1),
        Decoding(top_p=0.7),
        Decoding(top_p=0.95),
        Decoding(temperature=0.7, top_k=4, top_p=0.8),
    ],
    ids=str,
)
def test_tokens_get_their_share_and_the_support_is_exact(decoding: Decoding) -> None:
    got, want = shares(LOGITS, decoding), expected(LOGITS, decoding)
    assert ((got > 0) == (want > 0)).all()
    np.testing.assert_allclose(got, want, atol=2 / POINTS)


def test_ties_at_the_edge_keep_exactly_as_many_as_needed() -> None:
    even = np.zeros(8)
    assert (shares(even, Decoding(top_k=3)) > 0).tolist() == [True] * 3 + [False] * 5
    assert (shares(even, Decoding(top_p=0.5)) > 0).tolist() == [True] * 4 + [False] * 4


def test_impossible_tokens_are_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, -200.0, 0.0, -np.inf])
    np.testing.assert_allclose(shares(logits, Decoding()), [0, 0.5, 0, 0, 0.5, 0], atol=1e-3)


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(top_p=0.6), Decoding(top_k=5)], ids=str)
def test_a_large_vocabulary_is_drawn_from_alike(decoding: Decoding) -> None:
    logits = np.full(1301, -30.0)
    places = [0, 255, 256, 257, 700, 1279, 1300]
    logits[places] = np.log([0.1, 0.2, 0.05, 0.25, 0.15, 0.05, 0.2])
    got, want = shares(logits, decoding), expected(logits, decoding)
    np.testing.assert_allclose(got, want, atol=2 / POINTS)
    assert np.delete(got, places).sum() == 0


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, 9, elements=st.sampled_from([-20.0, -3.0, -1.5, -0.25, 0.0, 0.5, 2.0]), fill=st.nothing()),
    st.sampled_from(
        [Decoding(top_k=5), Decoding(top_p=0.33), Decoding(top_k=4, top_p=0.87), Decoding(temperature=3.0, top_k=2, top_p=0.61)]
    ),
)
def test_the_support_is_exact_for_any_logits(logits: np.ndarray, decoding: Decoding) -> None:
    got, want = shares(logits, decoding), expected(logits, decoding)
    roomier = expected(logits, replace(decoding, top_p=min(1.0, decoding.top_p + 1e-6)))
    assert (roomier[got > 0] > 0).all()
    assert (got[want > 2 / POINTS] > 0).all()


def test_greedy_takes_the_first_of_the_greatest() -> None:
    logits = np.array([[0.0, 3.0, 3.0, 1.0], [-1.0, -2.0, -5.0, -1.0], [0.0, 0.0, 0.0, 1e-6]], np.float32)
    np.testing.assert_array_equal(
        drawing.draw(logits, np.full(3, 0.9, np.float32), Decoding(temperature=0)), logits.argmax(axis=1)
    )
