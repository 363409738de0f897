"""How to decode. No jax, so that the command line can build its options from it."""

from dataclasses import dataclass

from w2sr_jax.errors import UserError


@dataclass(frozen=True)
class Decoding:
    """How completions are drawn."""

    temperature: float = 1.0
    """Divides the logits; 0 is greedy."""
    top_p: float = 1.0
    """Draw from the fewest most probable tokens that hold this much probability (after temperature and top-k); 1 is off."""
    top_k: int = 0
    """Draw from this many most probable tokens; 0 is off."""
    max_tokens: int = 64
    """Most tokens of a completion, its end token included."""
    batch: int = 64
    """Rows decoded together; all programs have this many, missing rows are dummies."""

    def check(self) -> None:
        """Raises UserError for a value outside its range, naming the field."""
        if self.temperature < 0:
            raise UserError(f"decoding.temperature is {self.temperature}; it must be 0 (greedy) or positive")
        if not 0 < self.top_p <= 1:
            raise UserError(f"decoding.top_p is {self.top_p}; it must lie in (0, 1]")
        if self.top_k < 0:
            raise UserError(f"decoding.top_k is {self.top_k}; it must be 0 (off) or positive")
        if self.max_tokens < 1 or self.batch < 1:
            raise UserError(f"decoding.max_tokens is {self.max_tokens} and decoding.batch {self.batch}; both must be at least 1")
