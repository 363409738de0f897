"""What the engine records of a model's distributions is what one forward over the whole text gives, and changes nothing else."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import sampling_toy as toy
from sampling_toy import PROBLEMS, CountingGrader

from w2sr_jax.core import keys, records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Trace
from w2sr_jax.core.topk import TopK
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.sampling import draw as drawing
from w2sr_jax.sampling.engine import Completion, generate
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.shards import draw_shards
from w2sr_jax.sampling.traces import draw

VOCABULARY = 14
CONFIG = ModelConfig(vocab_size=VOCABULARY, width=16, layers=2, heads=2, kv_heads=2, mlp=32)
PROMPTS = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10]]
PLAIN = Decoding(temperature=0.6, top_k=5, top_p=0.9, repetition_penalty=1.3, max_tokens=9, batch=8)


def params() -> transformer.Params:
    return jax.tree.map(lambda leaf: leaf * 1.5, transformer.init(CONFIG, jax.random.key(3)))


def completions(decoding: Decoding, mesh: jax.sharding.Mesh | None = None, vocabulary: int | None = None) -> list[Completion]:
    each = keys.keys(0, "test", [(row,) for row in range(len(PROMPTS))])
    return generate(CONFIG, params(), PROMPTS, each, decoding, (2,), 0, mesh=mesh, vocabulary=vocabulary)


def exact(prompt: list[int], tokens: list[int]) -> np.ndarray:
    """Log-probabilities before each token in float64, from the logits of one forward."""
    row = np.array([[*prompt, *tokens]], np.int32)
    hidden = transformer.forward(CONFIG, params(), row, np.arange(row.shape[1])[None])
    logits = np.asarray(transformer.logits(CONFIG, params(), hidden), np.float64)[0, len(prompt) - 1 : -1]
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def check_recorded(found: TopK | None, logprobs: np.ndarray, count: int, limit: int = VOCABULARY) -> None:
    assert found is not None
    best = np.argsort(-logprobs[:, :limit], axis=-1, kind="stable")[:, :count]
    np.testing.assert_array_equal(found.ids, best)
    # Two float32 passes, whose sums depend on the processor in their order.
    np.testing.assert_allclose(found.logprobs, np.take_along_axis(logprobs, best, -1), atol=3e-5)
    listed = np.zeros(logprobs.shape, bool)
    np.put_along_axis(listed, best, True, -1)
    rest = np.where(listed, 0.0, np.exp(logprobs)).sum(-1)
    np.testing.assert_allclose(np.exp(np.asarray(found.rest, np.float64)), rest, rtol=1e-4, atol=1e-12)
    assert [part.dtype for part in found[:3]] == [np.int32, np.float32, np.float32]


@pytest.mark.parametrize("mesh", [None, Mesh(data=2, fsdp=2, tensor=2)], ids=["alone", "eight devices"])
@pytest.mark.parametrize("count", [1, 4, VOCABULARY])
def test_it_is_the_models_own_distribution_and_changes_no_token(count: int, mesh: Mesh | None) -> None:
    devices = None if mesh is None else make_mesh(mesh)
    found, plain = completions(replace(PLAIN, record_top=count), devices), completions(PLAIN, devices)
    for prompt, one, other in zip(PROMPTS, found, plain, strict=True):
        assert (one.tokens, one.finish) == (other.tokens, other.finish)
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-6)
        assert other.top is None
        check_recorded(one.top, exact(prompt, one.tokens), count)


def test_ids_that_the_tokenizer_does_not_know_are_not_listed_and_their_mass_is_the_rests() -> None:
    for prompt, one in zip(PROMPTS, completions(replace(PLAIN, record_top=4), vocabulary=6), strict=True):
        check_recorded(one.top, exact(prompt, one.tokens), 4, limit=6)


@pytest.mark.parametrize("size", [7, 3000])
def test_the_rest_is_exact_where_it_is_hardly_anything(size: int) -> None:
    logits = np.random.default_rng(0).normal(0, 40, (20, size)).astype(np.float32)
    found = jax.jit(drawing.most_probable, static_argnums=1)(logits, 2)
    ordered = -np.sort(-logits.astype(np.float64), axis=-1)
    total = np.logaddexp.reduce(ordered, axis=-1)
    np.testing.assert_allclose(found.logprobs, ordered[:, :2] - total[:, None], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.rest, np.logaddexp.reduce(ordered[:, 2:], axis=-1) - total, rtol=1e-5, atol=1e-4)
    assert (np.asarray(found.rest) < -20).any()


def test_a_completion_that_is_cut_keeps_what_belongs_to_its_tokens() -> None:
    each = keys.keys(0, "test", [(row,) for row in range(len(PROMPTS))])
    decoding = replace(PLAIN, record_top=3)
    found = generate(CONFIG, params(), PROMPTS, each, decoding, (), 0, stop=lambda tokens: 2 if len(tokens) > 2 else None)
    for prompt, one in zip(PROMPTS, found, strict=True):
        assert len(one.tokens) == 2
        check_recorded(one.top, exact(prompt, one.tokens), 3)


def test_traces_and_their_files_have_it_where_it_is_asked_for(tmp_path: Path) -> None:
    author, decoding = toy.make_author(), replace(toy.DECODING, record_top=2)
    traces = draw(author, PROBLEMS, 1, decoding, CountingGrader())
    (recorded,) = draw_shards(tmp_path / "a", author, PROBLEMS, 1, decoding, CountingGrader(), "identity").paths
    (plain,) = draw_shards(tmp_path / "b", author, PROBLEMS, 1, toy.DECODING, CountingGrader(), "identity").paths
    assert (records.has_top(recorded, Trace), records.has_top(plain, Trace)) == (True, False)
    read = records.read(recorded, Trace)
    assert read == records.read(plain, Trace)
    assert [trace.token_ids for trace in read] == [trace.token_ids for trace in traces]
    for one, other in zip(read, traces, strict=True):
        assert one.top is not None
        assert one.top.ids.shape == (len(one.token_ids), 2)
        assert other.top is not None
        np.testing.assert_array_equal(one.top.ids, other.top.ids)
        np.testing.assert_array_equal(one.top.rest, other.top.rest)


@pytest.mark.parametrize(
    ("decoding", "words"),
    [
        (replace(PLAIN, record_top=VOCABULARY + 1), "record_top is 15; the vocabulary has 14 tokens"),
        (replace(PLAIN, record_top=-1), r"record_top is -1; it must lie in 0 \(nothing is recorded\) … 1,024"),
        (replace(PLAIN, record_top=4096), "record_top is 4096"),
    ],
)
def test_mistakes_are_said(decoding: Decoding, words: str) -> None:
    with pytest.raises(UserError, match=words):
        completions(decoding)
