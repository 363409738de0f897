"""Run with JAX's strict settings: a bit of everything that a run compiles, and its gradients. Says what it computed."""

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import training_toy as toy

from w2sr_jax.core import keys
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.schedules import Constant, Cosine, Linear, WarmUp
from w2sr_jax.losses.token import (
    Confidence,
    Dft,
    Entropy,
    ForwardKL,
    GeneralizedCrossEntropy,
    Jsd,
    LabelSmoothing,
    Nll,
    OnCorrect,
    OnIncorrect,
    OnSpans,
    ReverseKL,
    SymmetricCrossEntropy,
    Unlikelihood,
    Weighted,
    ZLoss,
)
from w2sr_jax.losses.weights import TokenWeights
from w2sr_jax.models import grow, transformer
from w2sr_jax.models.config import ModelConfig, RopeScaling
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.sampling.engine import generate
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.training import held_out

EVERYTHING = (
    Nll()
    + 0.1 * LabelSmoothing()
    + Weighted(WarmUp(0.1), GeneralizedCrossEntropy())
    + Weighted(Constant(0.1), SymmetricCrossEntropy())
    + Weighted(Linear(0.0, 0.1), Dft())
    + Weighted(Cosine(0.1, 0.0), Confidence())
    + 0.01 * (ForwardKL() + ReverseKL() + Jsd())
    - 0.1 * Entropy()
    + 1e-4 * ZLoss()
    + 0.1 * Unlikelihood()
    + OnCorrect(Nll())
    + 0.1 * OnIncorrect(OnSpans(Dft(), answer=False))
)
SHORT = dataclasses.replace(toy.SETTINGS, steps=2, save_every=1, log_every=1)
QWEN = ModelConfig(
    vocab_size=32,
    width=16,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=8,
    mlp=32,
    qkv_bias=True,
    tied_embeddings=False,
    rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 16),
    attention="blocks",
    remat="products",
)
GEMMA = dataclasses.replace(
    QWEN,
    layers=2,
    qkv_bias=False,
    qk_norm=True,
    tied_embeddings=True,
    pattern=("local", "global"),
    window=4,
    local_rope_theta=1000.0,
    activation="gelu",
    norm_offset=True,
    post_norms=True,
    scaled_embeddings=True,
    query_scale=8.0,
    attention_softcap=5.0,
    logit_softcap=5.0,
    attention="dense",
    dtype="bfloat16",
    param_dtype="bfloat16",
)
SAMPLED = Decoding(temperature=0.7, top_p=0.9, min_p=0.01, repetition_penalty=1.2, max_tokens=4, batch=2)


def trained(objective: Objective, **changes: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return toy.run(Path(folder), dataclasses.replace(SHORT, **changes), objective).params_digest


def traced(config: ModelConfig) -> None:
    """Promotions are refused when a program is traced; nothing is compiled."""

    def total(params: Any, tokens: Any) -> Any:
        hidden = transformer.forward(config, params, tokens, tokens, tokens)
        return jnp.sum(transformer.logits(config, params, hidden))

    jax.eval_shape(jax.grad(total), transformer.shapes(config), jax.ShapeDtypeStruct((2, 24), jnp.int32))


def drawn(config: ModelConfig, decoding: Decoding) -> list[list[int]]:
    params = transformer.init(config, keys.key(0, "init"))
    found = generate(config, params, [[1], [2, 3], [1]], keys.keys(0, "test", [(n,) for n in range(3)]), decoding, (5,), 0)
    assert all(np.isfinite(each.logprobs).all() for each in found)
    return [each.tokens for each in found]


def main(everything: bool) -> None:
    weights = TokenWeights(answer=2.0, correct=1.5, confidence_gamma=1.0)
    print("trained", trained(Objective(EVERYTHING, weights, trim=0.1, block=48), accumulation=2))
    print("drawn", drawn(QWEN, SAMPLED))
    if not everything:
        return
    kept = Objective(Nll() + 0.1 * ReverseKL())
    lora = Lora(rank=2, quantize="int8", embeddings=True)
    print("adapters", trained(kept, lora=lora, reference_top=4, moments="bfloat16"))
    large = dataclasses.replace(QWEN, layers=2, heads=4, mlp=48)
    grow.grow(QWEN, transformer.init(QWEN, keys.key(0, "init")), large, keys.key(0, "grow"))
    print("likelihood", held_out.nll(toy.MODEL, toy.params(), toy.packed(rows=4), 4, make_mesh(toy.ONE)))
    for config in (QWEN, GEMMA, dataclasses.replace(GEMMA, attention="blocks")):
        traced(config)


if __name__ == "__main__":
    main(sys.argv[1:] != ["little"])
    print("done")
