"""Models whose logits are no distribution, and ids that no tokenizer has: nothing of either is ever written."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sampling_toy as toy

from w2sr_jax.core import keys
from w2sr_jax.core.errors import UserError
from w2sr_jax.models import finite, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.sampling import draw as drawing
from w2sr_jax.sampling.engine import NotFinite, generate
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import continued, draw

SIZES = (13, 600)  # searched in one level, and by blocks of which the last is not whole
WAYS = [
    Decoding(temperature=0.0, max_tokens=4, batch=2),
    Decoding(temperature=1.0, max_tokens=4, batch=2),
    Decoding(temperature=0.7, top_k=3, top_p=0.9, min_p=0.1, max_tokens=4, batch=2),
    Decoding(temperature=1.3, top_p=0.9, repetition_penalty=1.2, max_tokens=4, batch=2),
]


def spoilt(params: Any, value: float) -> Any:
    return {**params, "norm": {"scale": params["norm"]["scale"].at[0].set(value)}}


def completions(vocab: int, change: Callable[[Any], Any], decoding: Decoding, **rest: Any) -> list[Any]:
    config = ModelConfig(vocab_size=vocab, width=8, layers=1, heads=2, kv_heads=2, mlp=16)
    params = change(transformer.init(config, jax.random.key(0)))
    prompts = [[1], [2, 3], [4]]
    return generate(config, params, prompts, keys.keys(0, "test", [(row,) for row in range(3)]), decoding, (5,), 0, **rest)


@pytest.mark.parametrize(("vocab", "decoding"), [(600, WAYS[0]), (13, WAYS[3])])
def test_no_token_is_drawn_from_what_is_not_a_number(vocab: int, decoding: Decoding) -> None:
    with pytest.raises(NotFinite, match="not finite numbers, so that no token can be drawn") as caught:
        completions(vocab, lambda params: spoilt(params, jnp.nan), decoding)
    assert (caught.value.row, caught.value.drawn) == (0, 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decoding", WAYS)
def test_rows_that_are_no_distribution_are_told_apart(size: int, decoding: Decoding) -> None:
    """Whatever is wrong with a row, its token is one of the vocabulary and its log-probability says that it means nothing."""
    sound = np.random.default_rng(0).normal(size=size).astype(np.float32)
    rows = np.stack([sound] * 5)
    rows[1, 3], rows[2, size - 1], rows[3, 0] = np.nan, np.inf, -np.inf
    rows[4] = -np.inf
    seen = np.zeros(rows.shape, bool)
    token, logprob = jax.jit(drawing.draw_with_logprob, static_argnums=2)(rows, np.full(5, 0.999, np.float32), decoding, seen)
    assert np.isfinite(logprob).tolist() == [True, False, False, True, False]
    assert ((np.asarray(token) >= 0) & (np.asarray(token) < size)).all()


def test_one_row_that_breaks_late_is_named_with_its_place() -> None:
    """Token 7 has an embedding that is not a number: the first row to draw it stops the work."""

    config = ModelConfig(vocab_size=13, width=8, layers=1, heads=2, kv_heads=2, mlp=16, tied_embeddings=False)
    sound = transformer.init(config, jax.random.key(0))
    params = {**sound, "embedding": sound["embedding"].at[7].set(jnp.nan)}
    decoding = Decoding(temperature=1.0, max_tokens=40, batch=2)
    asked = [[1], [2, 3]], keys.keys(0, "test", [(0,), (1,)]), decoding, (), 0
    until = [each.tokens.index(7) if 7 in each.tokens else 99 for each in generate(config, sound, *asked)]
    with pytest.raises(NotFinite) as caught:
        generate(config, params, *asked)
    assert min(until) < 40
    assert caught.value.drawn == until[caught.value.row] + 1


def test_ids_beyond_the_tokenizer_are_never_drawn_and_others_as_before() -> None:
    plain = Decoding(temperature=1.0, max_tokens=60, batch=2)
    free = completions(13, lambda params: params, plain)
    assert {token for each in free for token in each.tokens} >= {11, 12}
    held = completions(13, lambda params: params, plain, vocabulary=11)
    for before, after in zip(free, held, strict=True):
        first = next((index for index, token in enumerate(before.tokens) if token >= 11), len(before.tokens))
        assert before.tokens[:first] == after.tokens[:first]
        assert max(after.tokens) < 11
        assert np.isfinite(after.logprobs).all()


@pytest.mark.parametrize(("size", "known"), [(13, 11), (600, 590)])
@pytest.mark.parametrize("decoding", WAYS)
def test_an_id_beyond_the_tokenizer_is_drawn_anew(size: int, known: int, decoding: Decoding) -> None:
    logits = np.random.default_rng(1).normal(size=(16, size)).astype(np.float32)
    logits[:8, known:] += 20.0  # by far the most probable ones
    uniform = np.linspace(0.01, 0.99, 16, dtype=np.float32)
    seen = np.zeros(logits.shape, bool)
    token, logprob = jax.jit(drawing.draw_within, static_argnums=(3, 4))(logits, uniform, uniform[::-1], known, decoding, seen)
    assert (np.asarray(token) < known).all()
    assert np.isfinite(logprob).all()


def test_what_is_drawn_anew_keeps_its_shares() -> None:
    logits = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    count = 4000
    uniform = jax.random.uniform(jax.random.key(0), (2, count))
    rows = np.broadcast_to(logits, (count, 4))
    token, logprob = jax.jit(drawing.draw_within, static_argnums=(3, 4))(rows, uniform[0], uniform[1], 3, Decoding())
    share = np.bincount(np.asarray(token), minlength=4) / count
    np.testing.assert_allclose(share, [1 / 6, 2 / 6, 3 / 6, 0], atol=0.03)
    np.testing.assert_allclose(logprob, logits[np.asarray(token)], atol=1e-5)


def test_a_trace_that_cannot_be_written_names_model_problem_and_reason() -> None:
    author = toy.make_author()
    broken = dataclasses.replace(author, params=spoilt(author.params, float("nan")))
    with pytest.raises(UserError) as caught:
        draw(broken, toy.PROBLEMS, 2, toy.DECODING, toy.CountingGrader())
    said = str(caught.value)
    assert "the model weak can draw no token after 0 of its trace 0" in said
    assert toy.PROBLEMS[0].id in said
    assert toy.PROBLEMS[0].question[:20] in said
    assert "norm.scale holds 1 values that are not finite numbers" in said
    huge = {**author.params, "norm": {"scale": jnp.full_like(author.params["norm"]["scale"], 3e38)}}
    large = dataclasses.replace(author, params={**huge, "embedding": 100.0 * huge["embedding"]})
    with pytest.raises(UserError, match="its parameters are finite, so that its computation overflows"):
        continued(large, toy.PROBLEMS, [""] * len(toy.PROBLEMS), toy.DECODING, toy.CountingGrader())


def test_parameters_that_are_not_finite_are_counted_on_host_and_device() -> None:
    tree = {"a": np.array([1.0, np.inf, np.nan], np.float32), "b": {"c": np.arange(3)}, "d": np.zeros(2, jnp.bfloat16)}
    for params in (tree, jax.tree.map(jnp.asarray, tree)):
        assert finite.not_finite(params) == {"a": 2}
    two = {**tree, "d": np.full(2, -np.inf, jnp.bfloat16)}
    assert finite.words(finite.not_finite(two)) == (
        "a holds 2 values that are not finite numbers (nan or infinite), and 2 in 1 other arrays"
    )


@pytest.mark.parametrize(
    ("decoding", "field"),
    [(Decoding(temperature=1e-30), "temperature"), (Decoding(repetition_penalty=1e30), "repetition_penalty")],
)
def test_settings_that_would_make_sound_logits_infinite_are_refused(decoding: Decoding, field: str) -> None:
    with pytest.raises(UserError, match=f"decoding.{field} is "):
        decoding.check()
