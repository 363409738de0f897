"""What a decoder is: its sizes and switches. No jax, so that the command line can build its options from it."""

from dataclasses import dataclass
from typing import Literal

from w2sr_jax.errors import UserError


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer of the Qwen2 / Qwen3 / Llama family."""

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
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations, matrix products and the KV cache; norms, softmax and logits are float32 in any case."""
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type in which parameters are kept."""
    remat: bool = False
    """Recompute each block in the backward pass instead of storing its activations."""

    @property
    def head_size(self) -> int:
        return self.head_dim if self.head_dim is not None else self.width // self.heads

    @property
    def mlp_size(self) -> int:
        return self.mlp if self.mlp is not None else -(-8 * self.width // (3 * 32)) * 32

    def check(self) -> None:
        """Raises UserError for sizes that make no model, naming the field."""
        if self.heads < 1:
            raise UserError(f"the model's heads is {self.heads}; it must be at least 1")
        for field in ("vocab_size", "width", "layers", "kv_heads", "head_size", "mlp_size"):
            if getattr(self, field) < 1:
                raise UserError(f"the model's {field} is {getattr(self, field)}; it must be at least 1")
        for field in ("rope_theta", "norm_eps"):
            if not getattr(self, field) > 0:
                raise UserError(f"the model's {field} is {getattr(self, field)}; it must be above 0")
        if self.head_dim is None and self.width % self.heads:
            raise UserError(
                f"the model's width {self.width} is no multiple of its {self.heads} heads; change either or set head_dim"
            )
        if self.heads % self.kv_heads:
            raise UserError(f"the model's {self.heads} heads are no multiple of its {self.kv_heads} kv_heads")
        if self.head_size % 2:
            raise UserError(f"the model's head_dim {self.head_size} is odd; rotary positions need an even one")

    def parameters(self) -> int:
        """Number of parameters; tied embeddings count once."""
        head, queries, keys = self.head_size, self.heads * self.head_size, self.kv_heads * self.head_size
        attention = self.width * (2 * queries + 2 * keys)
        attention += (queries + 2 * keys) * self.qkv_bias + 2 * head * self.qk_norm
        block = attention + 3 * self.width * self.mlp_size + 2 * self.width
        return self.layers * block + self.vocab_size * self.width * (1 if self.tied_embeddings else 2) + self.width

    def flops_per_token(self, context: float) -> float:
        """Forward FLOPs of one token that attends to `context` tokens, itself included.

        2 per weight of a matrix product (the output matrix too), 4 · heads · head_dim per attended token and layer.
        """
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        block = 2 * self.width * (2 * queries + 2 * keys + 3 * self.mlp_size)
        return self.layers * (block + 4 * queries * context) + 2 * self.width * self.vocab_size
