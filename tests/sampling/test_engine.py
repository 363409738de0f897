"""Decoding against the uncached forward, and what a completion may depend on."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from w2sr_jax import keys
from w2sr_jax.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.sampling.engine import Completion, generate
from w2sr_jax.sampling.settings import Decoding

CONFIG = ModelConfig(vocab_size=13, width=16, layers=2, heads=2, kv_heads=2, mlp=32)
PAD = 0
SAMPLED = Decoding(temperature=0.8, max_tokens=7, batch=8)
GREEDY = replace(SAMPLED, temperature=0.0)


@pytest.fixture(scope="module")
def params() -> transformer.Params:
    return jax.tree.map(lambda leaf: leaf * 1.5, transformer.init(CONFIG, jax.random.key(3)))


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    random = np.random.default_rng(0)
    lengths = [1, 2, 3, 5, 8, 13, 21, 34, 47, 48, 49, 50]
    return [random.integers(1, CONFIG.vocab_size, length).tolist() for length in lengths]


def rows_of_keys(count: int) -> jax.Array:
    return keys.keys(0, "test", [(row,) for row in range(count)])


@partial(jax.jit, static_argnums=0)
def log_softmax(config: ModelConfig, params: transformer.Params, tokens: jax.Array) -> jax.Array:
    positions = np.arange(tokens.shape[1])[None]
    hidden = transformer.forward(config, params, tokens, positions)
    return jax.nn.log_softmax(transformer.logits(config, params, hidden))[0]


def uncached(params: transformer.Params, prompt: list[int], completion: list[int]) -> np.ndarray:
    """Log-probabilities [tokens of the completion, V] from one forward over the whole text, padded on the right."""
    row = np.zeros((1, 64), np.int32)
    row[0, : len(prompt) + len(completion)] = prompt + completion
    start = len(prompt) - 1
    return np.asarray(log_softmax(CONFIG, params, row))[start : start + len(completion)]


@pytest.fixture(scope="module")
def sampled(params: transformer.Params, prompts: list[list[int]]) -> list[Completion]:
    return generate(CONFIG, params, prompts, rows_of_keys(len(prompts)), SAMPLED, (2, 5), PAD)


def test_greedy_takes_the_argmax_of_the_uncached_forward(params: transformer.Params, prompts: list[list[int]]) -> None:
    for prompt, completion in zip(
        prompts, generate(CONFIG, params, prompts, rows_of_keys(len(prompts)), GREEDY, (), PAD), strict=True
    ):
        assert completion.tokens == uncached(params, prompt, completion.tokens).argmax(axis=1).tolist()
        assert (len(completion.tokens), completion.finish) == (7, "length")


def test_logprobs_are_those_of_the_untempered_uncached_forward(
    params: transformer.Params, prompts: list[list[int]], sampled: list[Completion]
) -> None:
    for prompt, completion in zip(prompts, sampled, strict=True):
        again = uncached(params, prompt, completion.tokens)
        np.testing.assert_allclose(completion.logprobs, again[np.arange(len(completion.tokens)), completion.tokens], atol=1e-5)


def test_a_completion_stops_at_any_end_token_and_keeps_it(sampled: list[Completion]) -> None:
    assert {completion.finish for completion in sampled} == {"stop", "length"}
    assert {completion.tokens[-1] for completion in sampled if completion.finish == "stop"} == {2, 5}
    for completion in sampled:
        assert not {2, 5} & set(completion.tokens[:-1])
        assert (completion.tokens[-1] in (2, 5)) == (completion.finish == "stop")
        assert len(completion.tokens) == 7 or completion.finish == "stop"


def test_a_completion_does_not_depend_on_neighbours_order_or_number_of_rows(
    params: transformer.Params, prompts: list[list[int]], sampled: list[Completion]
) -> None:
    all_keys = rows_of_keys(len(prompts))
    order = np.random.default_rng(1).permutation(len(prompts))
    shuffled = generate(CONFIG, params, [prompts[row] for row in order], all_keys[order], SAMPLED, (2, 5), PAD)
    assert [sampled[row] for row in order] == shuffled
    for row in (0, 7, 11):
        assert generate(CONFIG, params, [prompts[row]], all_keys[row : row + 1], SAMPLED, (2, 5), PAD) == [sampled[row]]
    repeated = generate(CONFIG, params, [prompts[3]] * 19, all_keys[np.full(19, 3)], SAMPLED, (2, 5), PAD)
    assert repeated == [sampled[3]] * 19


def test_a_smaller_token_limit_gives_a_prefix(
    params: transformer.Params, prompts: list[list[int]], sampled: list[Completion]
) -> None:
    shorter = generate(CONFIG, params, prompts, rows_of_keys(len(prompts)), replace(SAMPLED, max_tokens=4), (2, 5), PAD)
    assert [completion.tokens for completion in shorter] == [completion.tokens[:4] for completion in sampled]


def test_rows_with_other_keys_follow_the_models_distribution(params: transformer.Params, prompts: list[list[int]]) -> None:
    count = 3000
    decoding = Decoding(temperature=0.7, top_k=6, max_tokens=1, batch=500)
    drawn = generate(CONFIG, params, [prompts[4]] * count, rows_of_keys(count), decoding, (), PAD)
    weights = np.exp(uncached(params, prompts[4], [0])[0].astype(np.float64) / 0.7)
    weights[np.argsort(weights)[:-6]] = 0
    want = count * weights / weights.sum()
    got = np.bincount([completion.tokens[0] for completion in drawn], minlength=CONFIG.vocab_size)
    assert got[want == 0].sum() == 0
    statistic = ((got - want) ** 2 / np.maximum(want, 1e-9))[want > 0].sum()
    assert statistic < 25.7  # the 1 − 10⁻⁴ quantile of χ² with 5 degrees of freedom; the keys are fixed


def test_decoding_ends_when_all_rows_have(params: transformer.Params) -> None:
    """Running to this limit would take hours."""
    everything = tuple(range(CONFIG.vocab_size))
    decoding = Decoding(max_tokens=50_000, batch=1)
    completion = generate(CONFIG, params, [[3, 4]], rows_of_keys(1), decoding, everything, PAD)[0]
    assert (len(completion.tokens), completion.finish) == (1, "stop")


def test_progress_counts_completions_and_tokens(
    params: transformer.Params, prompts: list[list[int]], sampled: list[Completion]
) -> None:
    calls: list[tuple[int, int, int]] = []
    generate(CONFIG, params, prompts, rows_of_keys(12), SAMPLED, (2, 5), PAD, lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == [8, 10, 12]
    assert calls[-1] == (12, 12, sum(len(completion.tokens) for completion in sampled))


def test_equal_settings_compile_once(
    params: transformer.Params, prompts: list[list[int]], sampled: list[Completion], caplog: pytest.LogCaptureFixture
) -> None:
    del sampled
    with jax.log_compiles():
        generate(CONFIG, params, prompts[:5], rows_of_keys(5), replace(SAMPLED), (2, 5), PAD)
    assert not [record for record in caplog.records if "decode" in record.getMessage()]


def test_on_a_mesh_the_completions_are_the_same(
    params: transformer.Params, prompts: list[list[int]], sampled: list[Completion]
) -> None:
    mesh = meshes.make_mesh(Mesh(data=2, fsdp=2, tensor=2))
    config = replace(CONFIG, vocab_size=14)
    wide = {**params, "embedding": np.concatenate([params["embedding"], np.zeros((1, 16), np.float32)])}
    apart = generate(config, wide, prompts[:8], rows_of_keys(8), GREEDY, (2, 5), PAD, mesh=mesh)
    alone = generate(config, wide, prompts[:8], rows_of_keys(8), GREEDY, (2, 5), PAD)
    assert [completion.tokens for completion in apart] == [completion.tokens for completion in alone]
    for one, other in zip(apart, alone, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)


def test_no_prompts_give_no_completions(params: transformer.Params) -> None:
    assert generate(CONFIG, params, [], rows_of_keys(0), SAMPLED, (2,), PAD) == []


@pytest.mark.parametrize(
    ("prompt", "decoding", "word"),
    [
        ([], SAMPLED, "empty"),
        ([13], SAMPLED, "vocabulary of 13"),
        ([1], replace(SAMPLED, top_p=0.0), "top_p"),
        ([1], replace(SAMPLED, temperature=-1.0), "temperature"),
        ([1], replace(SAMPLED, max_tokens=0), "max_tokens"),
        ([1], replace(SAMPLED, top_k=-2), "top_k"),
    ],
)
def test_mistakes_are_named(params: transformer.Params, prompt: list[int], decoding: Decoding, word: str) -> None:
    with pytest.raises(UserError, match=word):
        generate(CONFIG, params, [prompt], rows_of_keys(1), decoding, (2,), PAD)


def test_a_batch_that_the_mesh_does_not_divide_is_named(params: transformer.Params) -> None:
    mesh = meshes.make_mesh(Mesh(data=8))
    with pytest.raises(UserError, match=r"decoding\.batch is 12.*multiple of 8"):
        generate(CONFIG, params, [[1]], rows_of_keys(1), replace(SAMPLED, batch=12), (2,), PAD, mesh=mesh)
