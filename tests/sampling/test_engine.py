"""Decoding against the uncached forward, and what a completion may depend on."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from w2sr_jax.core import keys
from w2sr_jax.core.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.sampling.engine import Completion, generate
from w2sr_jax.sampling.programs import programs
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


def reference(
    config: ModelConfig, params: transformer.Params, prompt: list[int], limit: int, ends: tuple[int, ...], slots: int = 64
) -> list[int]:
    """The plain decoder: one request, one token at a time, the whole text read anew for each."""
    row, drawn = np.zeros((1, slots), np.int32), []
    row[0, : len(prompt)] = prompt
    while len(drawn) < limit and not set(drawn) & set(ends):
        at = len(prompt) + len(drawn)
        drawn.append(int(np.asarray(log_softmax(config, params, row))[at - 1].argmax()))
        row[0, at] = drawn[-1]
    return drawn


def close(one: list[Completion], other: list[Completion]) -> None:
    """The same tokens and ends, and log-probabilities but for rounding."""
    assert [(each.tokens, each.finish) for each in one] == [(each.tokens, each.finish) for each in other]
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine.logprobs, theirs.logprobs, atol=1e-5)


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_any_number_of_slots_gives_what_the_plain_decoder_gives(
    params: transformer.Params, prompts: list[list[int]], slots: int
) -> None:
    limits = [1 + 5 * row % 14 for row in range(len(prompts))]
    decoding = replace(GREEDY, batch=slots, max_tokens=14)
    found = generate(CONFIG, params, prompts, rows_of_keys(12), decoding, (2,), PAD, limits=limits)
    want = [reference(CONFIG, params, prompt, limit, (2,)) for prompt, limit in zip(prompts, limits, strict=True)]
    assert [completion.tokens for completion in found] == want
    assert [completion.finish for completion in found] == ["stop" if 2 in tokens else "length" for tokens in want]


WINDOWED = replace(
    CONFIG, pattern=("local", "global"), window=5, qk_norm=True, attention_softcap=3.0, logit_softcap=4.0, scaled_embeddings=True
)


def test_windows_caps_and_norms_are_decoded_as_they_are_read() -> None:
    params = jax.tree.map(lambda leaf: leaf * 1.5, transformer.init(WINDOWED, jax.random.key(5)))
    prompts = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [3], [4, 4]]
    found = generate(WINDOWED, params, prompts, rows_of_keys(3), replace(GREEDY, batch=2, max_tokens=12), (), PAD)
    assert [each.tokens for each in found] == [reference(WINDOWED, params, prompt, 12, ()) for prompt in prompts]


def test_rows_outgrow_the_cache(params: transformer.Params) -> None:
    """The first class of lengths ends at 128 slots; what is longer moves to a larger cache, and back."""
    decoding = Decoding(temperature=0.0, max_tokens=150, batch=2)
    prompts, limits = [[1, 2], [3], [4, 5, 6], [7]], [150, 9, 20, 140]
    found = generate(CONFIG, params, prompts, rows_of_keys(4), decoding, (), PAD, limits=limits)
    for prompt, completion, limit in zip(prompts, found, limits, strict=True):
        assert completion.tokens == reference(CONFIG, params, prompt, limit, (), 192)


def test_equal_prompts_are_read_once(params: transformer.Params, monkeypatch: pytest.MonkeyPatch) -> None:
    from w2sr_jax.sampling import slots

    read = []
    monkeypatch.setattr(slots.Batch, "read", _noting(read, slots.Batch.read))
    prompts = [[3, 4, 5], [6, 7]] * 9
    found = generate(CONFIG, params, prompts, rows_of_keys(18), SAMPLED, (2,), PAD)
    assert sum(int((lengths > 0).sum()) for lengths in read) == 2
    apart = [
        generate(CONFIG, params, [prompt], rows_of_keys(18)[row : row + 1], SAMPLED, (2,), PAD)[0]
        for row, prompt in enumerate(prompts[:4])
    ]
    close(found[:4], apart)


def _noting(read: list[np.ndarray], prefill: Callable[..., Any]) -> Callable[..., Any]:
    def noted(self: Any, weights: Any, tokens: np.ndarray, lengths: np.ndarray) -> Any:
        read.append(lengths)
        return prefill(self, weights, tokens, lengths)

    return noted


def test_a_stopper_cuts_wherever_chunks_end(params: transformer.Params, prompts: list[list[int]]) -> None:
    """It is asked with a whole chunk at a time, so the place of the end lies in its midst."""

    def stopper(tokens: list[int]) -> int | None:
        return next((end for end in range(1, len(tokens) + 1) if sum(tokens[:end]) >= 40), None)

    decoding = replace(SAMPLED, max_tokens=45, batch=4)
    whole = generate(CONFIG, params, prompts, rows_of_keys(12), decoding, (2,), PAD)
    cut = generate(CONFIG, params, prompts, rows_of_keys(12), decoding, (2,), PAD, stop=stopper)
    kept = [stopper(completion.tokens) for completion in whole]
    assert None in kept
    assert any(kept)
    assert [each.tokens for each in cut] == [each.tokens[:end] for each, end in zip(whole, kept, strict=True)]
    assert [each.finish for each in cut] == [
        each.finish if end is None else "stop" for each, end in zip(whole, kept, strict=True)
    ]
    assert all(len(each.tokens) == len(each.logprobs) for each in cut)


@jax.jit
def raw_logits(params: transformer.Params, tokens: jax.Array) -> jax.Array:
    return transformer.logits(CONFIG, params, transformer.forward(CONFIG, params, tokens, np.arange(16)[None]))[0]


def test_the_repetition_penalty_knows_prompt_and_completion(params: transformer.Params) -> None:
    decoding = Decoding(temperature=0.0, repetition_penalty=3.0, max_tokens=8, batch=2)
    prompts = [[1, 2, 3], [4]]
    plain = generate(CONFIG, params, prompts, rows_of_keys(2), replace(decoding, repetition_penalty=1.0), (), PAD)
    found = generate(CONFIG, params, prompts, rows_of_keys(2), decoding, (), PAD)
    assert plain != found
    for prompt, completion in zip(prompts, found, strict=True):
        row = list(prompt)
        for token in completion.tokens:
            raw = np.asarray(raw_logits(params, np.array([row + [0] * (16 - len(row))], np.int32)))[len(row) - 1]
            held = np.isin(np.arange(CONFIG.vocab_size), row)
            assert token == np.where(held, np.where(raw > 0, raw / 3, raw * 3), raw).argmax()
            row.append(token)


def test_weights_of_8_bits_decode_nearly_the_same(params: transformer.Params, prompts: list[list[int]]) -> None:
    decoding = replace(SAMPLED, batch=4, weights="int8")
    rough = generate(CONFIG, params, prompts[:4], rows_of_keys(4), decoding, (2,), PAD)
    for prompt, completion in zip(prompts, rough, strict=False):
        exact = uncached(params, prompt, completion.tokens)[np.arange(len(completion.tokens)), completion.tokens]
        assert 1e-6 < np.abs(completion.logprobs - exact).max() < 0.2


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
    close([sampled[row] for row in order], shuffled)
    for row in (0, 7, 11):
        close(generate(CONFIG, params, [prompts[row]], all_keys[row : row + 1], SAMPLED, (2, 5), PAD), [sampled[row]])
    repeated = generate(CONFIG, params, [prompts[3]] * 19, all_keys[np.full(19, 3)], SAMPLED, (2, 5), PAD)
    close(repeated, [sampled[3]] * 19)


def test_equal_calls_give_equal_bits(params: transformer.Params, prompts: list[list[int]], sampled: list[Completion]) -> None:
    assert generate(CONFIG, params, prompts, rows_of_keys(len(prompts)), SAMPLED, (2, 5), PAD) == sampled


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
    done = [done for done, _, _ in calls]
    assert done == sorted(set(done))
    assert len(done) > 1  # eight slots for twelve requests
    assert calls[-1] == (12, 12, sum(len(completion.tokens) for completion in sampled))


def test_a_run_compiles_a_handful_of_programs_and_the_next_one_none(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever lengths come: one program to read each class of prompts, one to seat them, one to decode each class of caches."""
    config = replace(CONFIG, vocab_size=17)
    params, random = transformer.init(config, jax.random.key(1)), np.random.default_rng(2)
    prompts = [random.integers(1, 17, 1 + 7 * row % 47).tolist() for row in range(60)]

    own = ("prefill", "seat", "decode", "resize", "empty", "weights")

    def compiled(count: int, limits: list[int]) -> int:
        caplog.clear()
        decoding = replace(SAMPLED, max_tokens=40)
        with jax.log_compiles():
            generate(config, params, prompts[:count], rows_of_keys(count), decoding, (2,), PAD, limits=limits)
        said = [record.getMessage() for record in caplog.records]
        return sum(words.startswith("Compiling") and any(name in words.split()[1] for name in own) for words in said)

    assert 4 <= compiled(60, [1 + row % 40 for row in range(60)]) <= 6
    assert compiled(53, [40 - row % 31 for row in range(53)]) == 0


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


def test_on_a_mesh_a_layer_exchanges_the_sums_of_its_two_products_alone() -> None:
    config, mesh = replace(CONFIG, vocab_size=14), meshes.make_mesh(Mesh(data=4, tensor=2))
    made = programs(config, replace(GREEDY, batch=8), (2,), mesh)
    decode: Any = made.decode  # jitted
    weights = made.weights(transformer.init(config, jax.random.key(0)), 128)
    text = decode.lower(weights, made.empty(128), np.int32(1)).compile().as_text()
    exchanges = re.findall(r" (all-\w+|collective-permute)(?:-start)?\(.*op_name=\"[^\"]*/Block/(\w+)/(\w+)\"", text)
    assert Counter(exchanges) == {("all-reduce", part, "dot_general"): CONFIG.layers for part in ("attention", "mlp")}


def test_a_batch_that_the_mesh_does_not_divide_is_named(params: transformer.Params) -> None:
    mesh = meshes.make_mesh(Mesh(data=8))
    with pytest.raises(UserError, match=r"decoding\.batch is 12.*multiple of 8"):
        generate(CONFIG, params, [[1]], rows_of_keys(1), replace(SAMPLED, batch=12), (2,), PAD, mesh=mesh)
