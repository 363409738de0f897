"""An engine that stays while its parameters change gives what a new one gives, compiles nothing more, and holds no more."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sampling_toy as toy

from w2sr_jax.core import keys
from w2sr_jax.core.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.sampling import draw as drawing
from w2sr_jax.sampling.engine import Completion, Engine, generate
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import draw, drawn

CONFIG = ModelConfig(vocab_size=14, width=16, layers=2, heads=2, kv_heads=2, mlp=32)
PLAIN = Decoding(max_tokens=12, batch=8)
CHANGED = Decoding(temperature=0.7, top_k=9, top_p=0.9, repetition_penalty=1.3, max_tokens=40, batch=8)
SHORT = [[1 + (3 * row + at) % 11 for at in range(1 + row % 5)] for row in range(12)]
LONG = [[1 + (5 * row + at) % 11 for at in range(40 + 25 * row)] for row in range(4)]


def params(seed: int) -> Any:
    return jax.tree.map(lambda leaf: leaf * 1.5, transformer.init(CONFIG, jax.random.key(seed)))


def rows_of_keys(count: int, purpose: str = "test") -> jax.Array:
    return keys.keys(0, purpose, [(row,) for row in range(count)])


def new(decoding: Decoding, mesh: jax.sharding.Mesh | None = None, vocabulary: int | None = None) -> Engine:
    return Engine(CONFIG, decoding, (2,), 0, mesh, vocabulary)


def complete(engine: Engine, prompts: list[list[int]], **rest: Any) -> list[Completion]:
    found = dict(engine.complete(prompts, rows_of_keys(len(prompts)), **rest))
    return [found[row] for row in range(len(prompts))]


@pytest.mark.parametrize(
    ("decoding", "mesh", "vocabulary"),
    [(PLAIN, None, None), (CHANGED, None, 12), (replace(PLAIN, temperature=0.7), Mesh(data=2, fsdp=2, tensor=2), None)],
    ids=["plain", "changed, limited", "eight devices"],
)
def test_whatever_it_did_before_it_gives_the_bits_of_a_new_one(
    decoding: Decoding, mesh: Mesh | None, vocabulary: int | None
) -> None:
    devices = None if mesh is None else meshes.make_mesh(mesh)
    engine = new(decoding, devices, vocabulary)
    for seed, prompts in enumerate((SHORT, LONG, SHORT)):
        engine.update(params(seed))
        fresh = new(decoding, devices, vocabulary)
        fresh.update(params(seed))
        mine = complete(engine, prompts)
        assert mine == complete(fresh, prompts)
    engine.release()
    engine.update(params(2))
    assert complete(engine, SHORT) == mine


@pytest.mark.parametrize(
    ("decoding", "vocabulary"),
    [(PLAIN, None), (PLAIN, 12), (CHANGED, None), (CHANGED, 9), (replace(CHANGED, temperature=0.0), 9)],
)
def test_each_token_has_the_log_probability_with_which_it_was_drawn(decoding: Decoding, vocabulary: int | None) -> None:
    engine, weights = new(replace(decoding, max_tokens=12), None, vocabulary), params(3)
    engine.update(weights)
    for prompt, one in zip(SHORT, complete(engine, SHORT), strict=True):
        row, count = [*prompt, *one.tokens], len(one.tokens)
        held = np.array([np.isin(np.arange(CONFIG.vocab_size), row[:at]) for at in range(24)])
        after = slice(len(prompt) - 1, len(prompt) - 1 + count)
        text = np.array([row + [0] * (24 - len(row))], np.int32)
        want = uncached(weights, text, held[1:], decoding, vocabulary)[after]
        assert one.sampled is not None
        np.testing.assert_allclose(one.sampled, want, atol=2e-5)
        assert (one.sampled == one.logprobs) is (decoding == PLAIN and vocabulary is None)


@partial(jax.jit, static_argnums=(3, 4))
def uncached(weights: Any, text: jax.Array, held: jax.Array, decoding: Decoding, vocabulary: int | None) -> jax.Array:
    """The log-probability of each token after the first, from one forward over the whole text."""
    hidden = transformer.forward(CONFIG, weights, text, jnp.arange(text.shape[1])[None])
    logits = transformer.logits(CONFIG, weights, hidden)[0, :-1]
    return drawing.sampled_logprob(logits, text[0, 1:], decoding, held, vocabulary)


def test_it_draws_what_generate_draws() -> None:
    engine = new(CHANGED, None, 12)
    engine.update(params(1))
    plain = generate(CONFIG, params(1), SHORT, rows_of_keys(12), CHANGED, (2,), 0, vocabulary=12)
    for one, other in zip(complete(engine, SHORT), plain, strict=True):
        assert (one.tokens, one.finish, other.sampled) == (other.tokens, other.finish, None)
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-6)


def test_after_the_second_step_nothing_is_compiled_and_nothing_more_is_held(caplog: pytest.LogCaptureFixture) -> None:
    engine, weights = new(replace(CHANGED, max_tokens=100)), [params(seed) for seed in range(3)]

    def step(number: int) -> int:
        for leaf in jax.tree.leaves(kept := jax.tree.map(lambda leaf: leaf.copy(), weights[number % 3])):
            leaf.block_until_ready()
        engine.update(kept)
        for leaf in jax.tree.leaves(kept):
            leaf.delete()  # as a step of training that donates them does
        complete(engine, SHORT + LONG[:1])
        return sum(array.nbytes for array in jax.live_arrays())

    caplog.clear()
    with jax.log_compiles():
        held = [step(0), step(1)]
        first = len([record for record in caplog.records if record.getMessage().startswith("Compiling")])
        held += [step(number) for number in range(2, 20)]
    assert first > 5
    assert len([record for record in caplog.records if record.getMessage().startswith("Compiling")]) == first
    assert max(held[2:]) <= max(held[:2])


def test_completions_come_as_they_end_and_a_caller_may_leave() -> None:
    engine = Engine(CONFIG, replace(PLAIN, max_tokens=90), (), 0)
    with pytest.raises(ValueError, match="call `update` first"):
        engine.complete(SHORT, rows_of_keys(12))
    engine.update(params(0))
    limits = [90 if row == 0 else 4 for row in range(12)]
    whole = list(engine.complete(SHORT, rows_of_keys(12), limits))
    assert sorted(row for row, _ in whole) == list(range(12))
    assert whole[-1][0] == 0
    begun: Iterator[tuple[int, Completion]] = engine.complete(SHORT, rows_of_keys(12), limits)
    assert next(begun) == whole[0]
    with pytest.raises(ValueError, match="amid a call"):
        engine.update(params(1))
    with pytest.raises(ValueError, match="amid a call"):
        list(engine.complete(SHORT, rows_of_keys(12)))
    del begun
    assert list(engine.complete(SHORT, rows_of_keys(12), limits)) == whole
    assert list(engine.complete([], rows_of_keys(0))) == []
    with pytest.raises(UserError, match="prompt 0 is empty"):
        engine.complete([[]], rows_of_keys(1))


def test_texts_of_an_engine_are_those_of_traces_with_the_same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    author = toy.make_author()
    plain = draw(author, toy.PROBLEMS, 2, replace(toy.DECODING, max_tokens=40), toy.CountingGrader())
    word = next(word for trace in plain for word in trace.text.split()[3:6])
    decoding = replace(toy.DECODING, max_tokens=40, stop=(word,))
    renderer = author.renderer
    engine = Engine(author.config, decoding, renderer.end_tokens, renderer.pad, None, renderer.vocab_size)
    engine.update(author.params)
    want = {(trace.problem_id, trace.sample): trace for trace in draw(author, toy.PROBLEMS, 2, decoding, toy.CountingGrader())}
    found = list(drawn(engine, author, toy.PROBLEMS, 2, "sample reason 1.0"))
    assert {(one.problem, one.sample) for one in found} == {
        (row, sample) for row in range(len(toy.PROBLEMS)) for sample in (0, 1)
    }
    for one in found:
        trace = want[toy.PROBLEMS[one.problem].id, one.sample]
        assert (one.text, tuple(one.completion.tokens), one.completion.finish) == (trace.text, trace.token_ids, trace.finish)
    others = list(drawn(engine, author, toy.PROBLEMS, 2, "step 7"))
    assert {one.text for one in others} != {one.text for one in found}
    spoilt = replace(author, params={**author.params, "norm": {"scale": author.params["norm"]["scale"] * np.nan}})
    engine.update(spoilt.params)
    with pytest.raises(UserError, match="holds 8 values that are not finite"):
        list(drawn(engine, spoilt, toy.PROBLEMS, 2, "step 8"))
    engine.update(author.params)
    again = list(drawn(engine, author, toy.PROBLEMS, 2, "step 7"))
    assert again == others
