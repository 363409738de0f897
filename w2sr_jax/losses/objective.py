"""What a student is trained to minimise."""

from dataclasses import dataclass, field

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.token import Nll, TokenLoss
from w2sr_jax.losses.weights import TokenWeights


@dataclass(frozen=True)
class Objective:
    """A token loss, the weights of the tokens, and how it is evaluated."""

    loss: TokenLoss = field(default_factory=Nll)
    """Loss per token; sums such as Nll() + 0.05 * ReverseKL() are written in the experiment's file."""
    weights: TokenWeights = field(default_factory=TokenWeights)
    """Factors on the weights of tokens."""
    trim: float = 0.0
    """Fraction of each step's tokens, those of highest loss, that is left out (0.05 to 0.1; 0: none)."""
    block: int = 512
    """Tokens whose logits exist at one time, over all devices; memory grows with it."""

    def __post_init__(self) -> None:
        if not callable(self.loss):
            raise UserError(f"Objective.loss is {self.loss!r}; it must be a loss: a function from a block of tokens to losses")
        if not 0.0 <= self.trim < 1.0:
            raise UserError(f"Objective.trim is {self.trim}; it is a fraction of tokens, at least 0 and below 1")
        if self.block < 1:
            raise UserError(f"Objective.block is {self.block}; it must be at least 1 token")
