"""Well-known architectures, as the `config.json` of their repositories on the Hugging Face Hub say, set up for training.

Variants are `dataclasses.replace` of them. Where a family's instruction-tuned repositories differ from the base ones, it is
noted; `hf.config_json.architecture(directory)` reads what a downloaded model really is. No jax.
"""

from functools import partial

from w2sr_jax.models.config import ModelConfig, RopeScaling

_model = partial(ModelConfig, dtype="bfloat16", param_dtype="float32", remat="layers")

_qwen2_5 = partial(_model, vocab_size=151_936, rope_theta=1e6, qkv_bias=True)
_qwen2_5_large = partial(_qwen2_5, vocab_size=152_064, tied_embeddings=False)
QWEN2_5_0_5B = _qwen2_5(width=896, layers=24, heads=14, kv_heads=2, mlp=4864)
QWEN2_5_1_5B = _qwen2_5(width=1536, layers=28, heads=12, kv_heads=2, mlp=8960)
QWEN2_5_3B = _qwen2_5(width=2048, layers=36, heads=16, kv_heads=2, mlp=11_008)
QWEN2_5_7B = _qwen2_5_large(width=3584, layers=28, heads=28, kv_heads=4, mlp=18_944)
QWEN2_5_14B = _qwen2_5_large(width=5120, layers=48, heads=40, kv_heads=8, mlp=13_824, norm_eps=1e-5)
"""Of the base model; Instruct has norm_eps 1e-6."""
QWEN2_5_32B = _qwen2_5_large(width=5120, layers=64, heads=40, kv_heads=8, mlp=27_648, norm_eps=1e-5)
"""Of the base model; Instruct has norm_eps 1e-6."""

_qwen3 = partial(_model, vocab_size=151_936, kv_heads=8, rope_theta=1e6, qk_norm=True)
QWEN3_0_6B = _qwen3(width=1024, layers=28, heads=16, head_dim=128, mlp=3072)
QWEN3_1_7B = _qwen3(width=2048, layers=28, heads=16, mlp=6144)
QWEN3_4B = _qwen3(width=2560, layers=36, heads=32, head_dim=128, mlp=9728)
QWEN3_8B = _qwen3(width=4096, layers=36, heads=32, mlp=12_288, tied_embeddings=False)
QWEN3_14B = _qwen3(width=5120, layers=40, heads=40, mlp=17_408, tied_embeddings=False)
QWEN3_32B = _qwen3(width=5120, layers=64, heads=64, head_dim=128, mlp=25_600, tied_embeddings=False)

_llama3 = partial(_model, vocab_size=128_256, kv_heads=8, rope_theta=500_000.0, norm_eps=1e-5)
LLAMA3_2_1B = _llama3(width=2048, layers=16, heads=32, mlp=8192, rope_scaling=RopeScaling("llama3", 32.0))
LLAMA3_2_3B = _llama3(width=3072, layers=28, heads=24, mlp=8192, rope_scaling=RopeScaling("llama3", 32.0))
LLAMA3_1_8B = _llama3(width=4096, layers=32, heads=32, mlp=14_336, rope_scaling=RopeScaling("llama3", 8.0), tied_embeddings=False)

_mistral = partial(_model, width=4096, layers=32, heads=32, kv_heads=8, mlp=14_336, norm_eps=1e-5, tied_embeddings=False)
MISTRAL_7B_V0_1 = _mistral(vocab_size=32_000, pattern=("local",), window=4096)
MISTRAL_7B_V0_3 = _mistral(vocab_size=32_768, rope_theta=1e6)

GEMMA3_1B = _model(
    vocab_size=262_144,
    width=1152,
    layers=26,
    heads=4,
    kv_heads=1,
    head_dim=256,
    mlp=6912,
    qk_norm=True,
    rope_theta=1e6,
    local_rope_theta=10_000.0,
    pattern=("local",) * 5 + ("global",),
    window=512,
    activation="gelu",
    norm_offset=True,
    post_norms=True,
    scaled_embeddings=True,
)
