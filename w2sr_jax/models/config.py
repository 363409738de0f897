"""What a decoder is: its sizes and switches. No jax, so that the command line can build its options from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError

Reach = Literal["global", "local"]
AttentionKind = Literal["auto", "dense", "blocks", "splash", "pallas"]
RematKind = Literal["none", "layers", "attention", "products"]
LARGEST: Mapping[str, int] = {
    "heads": 2**16,
    "vocab_size": 2**24,
    "width": 2**20,
    "layers": 10_000,
    "kv_heads": 2**16,
    "head_size": 2**16,
    "mlp_size": 2**24,
}
"""Sizes that no model exceeds: a foreign file that says more is refused before anything is allocated."""


@dataclass(frozen=True)
class RopeScaling:
    """How the rotary frequencies of global layers are stretched beyond the context of pretraining."""

    kind: Literal["none", "linear", "llama3"] = "none"
    """linear divides all frequencies by `factor`; llama3 only the low ones, with a smooth passage (Llama 3.1)."""
    factor: float = 1.0
    """By how much the longest wavelengths grow."""
    low: float = 1.0
    """llama3: wavelengths above original / low are stretched by the whole factor."""
    high: float = 4.0
    """llama3: wavelengths below original / high stay as they are."""
    original: int = 8192
    """llama3: tokens of the context of pretraining."""


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer of the Qwen2, Qwen3, Llama, Mistral or Gemma 3 family; the defaults are a Llama's."""

    vocab_size: int = 0
    """Number of token ids; 0 takes the tokenizer's."""
    width: int = 96
    """Size of the residual stream."""
    layers: int = 3
    """Number of blocks."""
    heads: int = 3
    """Query heads."""
    kv_heads: int = 3
    """Key and value heads; divides `heads` (grouped-query attention)."""
    head_dim: int | None = None
    """Size of one head; None: width / heads."""
    mlp: int | None = None
    """Hidden size of the SwiGLU; None: 8/3 of the width, rounded up to a multiple of 32."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    norm_eps: float = 1e-6
    """Added to the mean square in RMSNorm."""
    qkv_bias: bool = False
    """Biases on query, key and value (Qwen2)."""
    qk_norm: bool = False
    """RMSNorm on each query and key head (Qwen3)."""
    tied_embeddings: bool = True
    """The output matrix is the transposed embedding."""
    rope_scaling: RopeScaling = RopeScaling()
    """Stretching of the rotary frequencies of global layers (Llama 3.x, Gemma 3)."""
    pattern: tuple[Reach, ...] = ("global",)
    """Which layers see all earlier tokens and which only the last `window`; repeated over the layers (Mistral, Gemma 3)."""
    window: int | None = None
    """Tokens that a local layer sees, the own one included."""
    local_rope_theta: float | None = None
    """Base of the rotary frequencies of local layers, which are never stretched; None: the global ones (Gemma 3)."""
    activation: Literal["silu", "gelu"] = "silu"
    """Of the gate of the feed-forward part; gelu is the tanh approximation (Gemma)."""
    norm_offset: bool = False
    """Norms multiply by 1 + scale, and scales start at 0 (Gemma)."""
    post_norms: bool = False
    """Also norm what attention and feed-forward part give, before it is added (Gemma 3)."""
    scaled_embeddings: bool = False
    """Multiply embeddings by the square root of the width (Gemma)."""
    query_scale: float | None = None
    """Scores are divided by the root of this; None: of the head's size (Gemma's query_pre_attn_scalar)."""
    attention_softcap: float | None = None
    """Scores x become cap · tanh(x / cap); None: they stay (Gemma)."""
    logit_softcap: float | None = None
    """The same of logits (Gemma)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations, matrix products and the KV cache; norms, softmax and logits are float32 in any case."""
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type in which parameters are stored."""
    attention: AttentionKind = "auto"
    """How attention among packed tokens is computed in training; auto: by platform and shape."""
    remat: RematKind = "attention"
    """What the backward pass of training recomputes instead of storing it. layers: everything inside a layer; attention: the same
    but for attention's outputs; products: everything but matrix products and attention's outputs; none: nothing."""

    @property
    def head_size(self) -> int:
        return self.head_dim if self.head_dim is not None else self.width // self.heads

    @property
    def mlp_size(self) -> int:
        return self.mlp if self.mlp is not None else -(-8 * self.width // (3 * 32)) * 32

    @property
    def local_layers(self) -> tuple[bool, ...]:
        """For each layer whether it is local."""
        return tuple(self.pattern[layer % len(self.pattern)] == "local" for layer in range(self.layers))

    def check(self) -> None:
        """Raises UserError for sizes that make no model, naming the field."""
        for field, most in LARGEST.items():  # the number of heads first, from which the heads' size follows
            value = getattr(self, field)
            if value < 1:
                raise UserError(f"the model's {field} is {value}; it must be at least 1")
            if value > most:
                raise UserError(f"the model's {field} is {sentences.value(value, 40)}; it must be at most {most:,}")
        for field in ("rope_theta", "norm_eps"):
            if not getattr(self, field) > 0:
                raise UserError(f"the model's {field} is {getattr(self, field)}; it must be above 0")
        if self.head_dim is None and self.width % self.heads:
            raise UserError(
                f"the model's width {self.width} is no multiple of its {self.heads} heads; change either or set head_dim"
            )
        if self.heads % self.kv_heads:
            raise UserError(f"the model's {self.heads} heads are no multiple of its {self.kv_heads} kv_heads")
        if not self.pattern or not set(self.pattern) <= {"global", "local"}:
            raise UserError(f"the model's pattern is {self.pattern}; it must name global and local layers")
        if "local" in self.pattern and (self.window is None or self.window < 1):
            raise UserError(f"the model has local layers and the window {self.window}; it must be at least 1 token")
        for field in ("local_rope_theta", "query_scale", "attention_softcap", "logit_softcap"):
            if getattr(self, field) is not None and not getattr(self, field) > 0:
                raise UserError(f"the model's {field} is {getattr(self, field)}; it must be above 0, or None")
        scaling = self.rope_scaling
        if not (scaling.factor > 0 and 0 < scaling.low < scaling.high and scaling.original > 0):
            raise UserError(f"the model's rope_scaling is {scaling}; factor and original must be above 0, and low below high")
        if self.head_size % 2:
            raise UserError(f"the model's head_dim {self.head_size} is odd; rotary positions need an even one")

    def parameters(self) -> int:
        """Number of parameters; tied embeddings count once."""
        head, queries, keys = self.head_size, self.heads * self.head_size, self.kv_heads * self.head_size
        attention = self.width * (2 * queries + 2 * keys)
        attention += (queries + 2 * keys) * self.qkv_bias + 2 * head * self.qk_norm
        block = attention + 3 * self.width * self.mlp_size + (4 if self.post_norms else 2) * self.width
        return self.layers * block + self.vocab_size * self.width * (1 if self.tied_embeddings else 2) + self.width

    def flops_per_token(self, context: float) -> float:
        """Forward FLOPs of one token that attends to `context` tokens, itself included.

        2 per weight of a matrix product (the output matrix too), 4 · heads · head_dim per attended token and layer.
        """
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        block = 2 * self.width * (2 * queries + 2 * keys + 3 * self.mlp_size)
        attended = sum(min(context, self.window) if local and self.window else context for local in self.local_layers)
        return self.layers * block + 4 * queries * attended + 2 * self.width * self.vocab_size
