"""Every family against transformers on the same random weights: logits, greedy decoding, and what each switch does."""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
import tiny_checkpoints as tiny

from w2sr_jax.core import keys
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig, RopeScaling
from w2sr_jax.models.hf import pretrained
from w2sr_jax.sampling.engine import generate
from w2sr_jax.sampling.settings import Decoding

torch = pytest.importorskip("torch")

Load = Callable[..., tuple[ModelConfig, transformer.Params]]
SHORT, LONG = 14, 40
assert SHORT - 5 < tiny.WINDOW < SHORT < LONG


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """A case as our model, read from the directory that transformers wrote."""

    @functools.cache
    def one(name: str, dtype: Any = "float32") -> tuple[ModelConfig, transformer.Params]:
        return pretrained.load(tiny.save(name, tmp_path_factory.mktemp("case") / name, dtype), dtype, dtype)

    return one


@functools.partial(jax.jit, static_argnums=0)
def logits(config: ModelConfig, params: transformer.Params, tokens: Any, positions: Any, segments: Any) -> jax.Array:
    return transformer.logits(config, params, transformer.forward(config, params, tokens, positions, segments))


def ragged(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, positions and segments of three texts, one a row, the longest of `length`."""
    tokens, mask = tiny.padded(tiny.texts([length, length - 5, 3], seed=length), length)
    return tokens, np.broadcast_to(np.arange(length), tokens.shape), mask


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each token's logits."""
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


def packed(rows: Sequence[Sequence[np.ndarray]], length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, positions and segments of rows of several texts."""
    tokens, positions, segments = np.zeros((3, len(rows), length), np.int32)
    for row, members in enumerate(rows):
        start = 0
        for number, text in enumerate(members, 1):
            at = slice(start, start + len(text))
            tokens[row, at], positions[row, at], segments[row, at] = text, np.arange(len(text)), number
            start = at.stop
    return tokens, positions, segments


@pytest.mark.parametrize("name", tiny.CASES)
def test_logits_of_ragged_and_packed_batches_are_those_of_transformers(name: str, load: Load) -> None:
    config, params = load(name)
    model = tiny.torch_model(name)
    assert config.parameters() == sum(parameter.numel() for parameter in model.parameters())
    for length in (SHORT, LONG):
        tokens, positions, segments = ragged(length)
        mine, want = logits(config, params, tokens, positions, segments), tiny.torch_logits(model, tokens, segments)
        np.testing.assert_allclose(np.asarray(mine)[segments > 0], want[segments > 0], rtol=0, atol=1e-4)
    assert want[segments > 0].std() > 1.5  # 1e-4 is little beside it

    first, second, third, fourth, fifth, sixth = tiny.texts([21, 4, 13, 17, 18, LONG])
    rows = [[first, second, third], [fourth, fifth], [sixth]]
    together = np.asarray(logits(config, params, *packed(rows, LONG)))
    for row, members in enumerate(rows):
        start = 0
        for text in members:
            mine = together[row, start : start + len(text)]
            np.testing.assert_allclose(mine, tiny.torch_logits(model, text[None])[0], rtol=0, atol=1e-4)
            start += len(text)


@pytest.mark.parametrize("name", tiny.EACH_FAMILY)
def test_bfloat16_logits_point_where_those_of_transformers_do(name: str, load: Load) -> None:
    config, params = load(name, "bfloat16")
    tokens, positions, segments = ragged(LONG)
    mine = np.asarray(logits(config, params, tokens, positions, segments))[segments > 0]
    half = tiny.torch_model(name, "bfloat16")
    theirs = tiny.torch_logits(half, tokens, segments)[segments > 0]
    exact = tiny.torch_logits(tiny.cast(copy.deepcopy(half), "float32"), tokens, segments)[segments > 0]
    assert cosine(mine, theirs).min() >= 0.999
    assert cosine(mine, exact).min() >= 0.999
    assert (1 - cosine(mine, exact)).mean() <= 1.2 * (1 - cosine(theirs, exact)).mean()  # no less exact than transformers


@pytest.mark.parametrize("name", tiny.CASES)
def test_sixty_four_greedy_tokens_are_those_of_transformers(name: str, load: Load) -> None:
    """Prompts shorter and longer than the window in one batch, decoded far beyond it."""
    config, params = load(name)
    prompts = tiny.texts([3, 9, 17, 31], seed=1)
    drawn = generate(
        config,
        params,
        [prompt.tolist() for prompt in prompts],
        keys.keys(0, "test", [(row,) for row in range(4)]),
        Decoding(temperature=0.0, max_tokens=64, batch=4),
        (),
        tiny.PAD,
    )
    model = tiny.torch_model(name)
    tokens, mask = (torch.tensor(array[:, ::-1].copy()).long() for array in tiny.padded([p[::-1] for p in prompts], 31))
    want = model.generate(tokens, attention_mask=mask, max_new_tokens=64, do_sample=False)[:, 31:]
    assert [completion.tokens for completion in drawn] == want.tolist()
    assert len(set(want.flatten().tolist())) > 20  # no loop that any model would fall into


ALL_OF_GEMMA: dict[str, dict[str, Any]] = {
    "window": {"window": 1000},
    "shorter window": {"window": tiny.WINDOW - 1},
    "pattern": {"pattern": ("local", "global")},
    "rope_theta": {"rope_theta": 3000.0},
    "local_rope_theta": {"local_rope_theta": None},
    "rope_scaling": {"rope_scaling": RopeScaling()},
    "activation": {"activation": "silu"},
    "norm_offset": {"norm_offset": False},
    "post_norms": {"post_norms": False},
    "qk_norm": {"qk_norm": False},
    "scaled_embeddings": {"scaled_embeddings": False},
    "query_scale": {"query_scale": None},
    "attention_softcap": {"attention_softcap": None},
    "logit_softcap": {"logit_softcap": None},
    "norm_eps": {"norm_eps": 1e-2},
}
STRETCH = RopeScaling("llama3", factor=8.0, low=1.0, high=4.0, original=64)
SWITCHES: dict[tuple[str, str], dict[str, Any]] = {
    **{("gemma3-scores-capped", switch): changes for switch, changes in ALL_OF_GEMMA.items()},
    ("qwen2", "qkv_bias"): {"qkv_bias": False},
    ("qwen3", "qk_norm"): {"qk_norm": False},
    ("mistral", "window"): {"window": 1000},
    ("llama", "rope_scaling"): {"rope_scaling": RopeScaling()},
    ("llama3-tied", "rope_scaling"): {"rope_scaling": RopeScaling()},
    ("llama3-tied", "kind"): {"rope_scaling": replace(STRETCH, kind="linear")},
    ("llama3-tied", "factor"): {"rope_scaling": replace(STRETCH, factor=4.0)},
    ("llama3-tied", "low"): {"rope_scaling": replace(STRETCH, low=2.0)},
    ("llama3-tied", "high"): {"rope_scaling": replace(STRETCH, high=2.0)},
    ("llama3-tied", "original"): {"rope_scaling": replace(STRETCH, original=32)},
}


@pytest.mark.parametrize(("name", "switch"), SWITCHES)
def test_every_switch_is_seen_in_the_logits(name: str, switch: str, load: Load) -> None:
    """Agreement with transformers says something about a switch only where the tiny model reacts to it."""
    config, params = load(name)
    other = replace(config, **SWITCHES[name, switch])
    assert other != config
    assert config.rope_scaling == STRETCH or name != "llama3-tied"
    before, after = (np.asarray(logits(each, params, *ragged(LONG)))[0] for each in (config, other))
    assert np.abs(before - after).max() > 1e-2
