"""Tiny models of every supported architecture, built by transformers itself with random weights, as the tests' reference.

Attention is transformers' eager one throughout: the shortest path to compare with. `PAD` is in no text.
"""

import functools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

VOCAB, WIDTH, WINDOW, PAD = 301, 64, 12, 0
CONTEXT = 256
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 2000.0},
    "tie_word_embeddings": False,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GEMMA: dict[str, Any] = {
    "num_hidden_layers": 5,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "sliding_attention"],
    "sliding_window": WINDOW,
    "query_pre_attn_scalar": 24,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 2000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    },
}
STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 2000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Case:
    """An architecture by the stem of its configuration class in transformers, and what its configuration changes in `SIZES`."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)

    def gain(self, path: str) -> float:
        """Of a matrix: logits differ by several units and depend on all of the text rather than on its last token.

        With layers of 1.5, bfloat16 logits of transformers are at a cosine of 0.997 to its float32 ones: rounding is magnified.
        """
        if "embed_tokens" in path:
            return 0.7 if self.fields.get("tie_word_embeddings") else 2.0
        return 2.5 if "lm_head" in path else 1.0

    def shift(self, path: str) -> float:
        """Of a norm's scale, to the same end: tied models are prone to repeat their last token, Gemma's most of all."""
        if path == "model.norm.weight":
            return 2.0 if self.fields.get("tie_word_embeddings") else 0.0
        return 2.0 if self.kind == "Gemma3Text" and ".post_" in path else 0.0


CASES = {
    "qwen2": Case("Qwen2", {"num_key_value_heads": 1}),
    "qwen2-tied": Case("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": Case("Qwen3", {"head_dim": 24}),
    "qwen3-tied": Case("Qwen3", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama": Case("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 2000.0, "factor": 3.0}}),
    "llama3-tied": Case("Llama", {"rope_parameters": STRETCHED, "tie_word_embeddings": True}),
    "mistral": Case("Mistral", {"sliding_window": WINDOW}),
    "gemma3": Case("Gemma3Text", GEMMA),
    "gemma3-capped": Case("Gemma3Text", {**GEMMA, "final_logit_softcapping": 6.0}),
    "gemma3-scores-capped": Case("Gemma3Text", {**GEMMA, "final_logit_softcapping": 6.0, "attn_logit_softcapping": 2.0}),
}
EACH_FAMILY = ("qwen2", "qwen3", "llama3-tied", "mistral", "gemma3-scores-capped")


def attention(name: str) -> str:
    """The attention implementation of a case: eager.

    transformers' Gemma 3 knows a cap of scores, in its configuration and in its eager attention, but does not hand it from one to
    the other, as its Gemma 2 does. Here it is handed over.
    """
    if "attn_logit_softcapping" not in CASES[name].fields:
        return "eager"
    transformers = pytest.importorskip("transformers")
    from transformers.masking_utils import AttentionMaskInterface, eager_mask
    from transformers.models.gemma3.modeling_gemma3 import eager_attention_forward

    def capped(module: Any, *args: Any, **options: Any) -> Any:
        return eager_attention_forward(module, *args, **{**options, "softcap": module.attn_logit_softcapping})

    transformers.AttentionInterface.register("eager_capped", capped)
    AttentionMaskInterface.register("eager_capped", eager_mask)
    return "eager_capped"


@functools.cache
def torch_model(name: str, dtype: str = "float32") -> Any:
    """The case's model, always the same, with parameters that are nowhere at their initial 0 or 1. Not to be changed."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # such small products are slower on more
    transformers = pytest.importorskip("transformers")
    case = CASES[name]
    fields = {key: value for key, value in (SIZES | case.fields).items() if (case.kind, key) != ("Qwen2", "head_dim")}
    config = getattr(transformers, f"{case.kind}Config")(**fields)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention(name)).eval()
    draw = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim == 1:
                parameter.add_(0.3 * noise + case.shift(path))
            else:
                parameter.copy_(noise * case.gain(path) / math.sqrt(parameter.shape[1]))
    model.generation_config.eos_token_id = None
    return cast(model, dtype)


def cast(model: Any, dtype: str) -> Any:
    """The model with parameters of another type. As in one read in that type, rotary frequencies and other constants stay."""
    torch = pytest.importorskip("torch")
    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))
    return model


def save(name: str, directory: Path, dtype: str = "float32", shard: str = "5GB") -> Path:
    """Writes the case as transformers does, in shards of at most `shard`."""
    torch_model(name, dtype).save_pretrained(directory, max_shard_size=shard)
    return directory


def texts(lengths: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    """Random token ids, none of them `PAD`."""
    draw = np.random.default_rng(seed)
    return [draw.integers(3, VOCAB, length).astype(np.int32) for length in lengths]


def padded(rows: Sequence[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts as [R, L] ids padded on the right, and a mask of 1 where there is text."""
    tokens, mask = np.full((len(rows), length), PAD, np.int32), np.zeros((len(rows), length), np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return tokens, mask


def torch_logits(model: Any, tokens: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """float32 [R, L, V], as transformers computes them."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        mask_ = None if mask is None else torch.tensor(mask, dtype=torch.long)
        return model(torch.tensor(tokens, dtype=torch.long), attention_mask=mask_, use_cache=False).logits.float().numpy()
