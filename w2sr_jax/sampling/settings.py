"""How to decode. No jax, so that the command line can build its options from it."""

from dataclasses import dataclass
from typing import Literal

from w2sr_jax.core.errors import UserError

LEAST = 1e-6
"""What logits are divided by at least."""
MOST_RECORDED = 1024
"""Most tokens that are recorded of a distribution; a whole vocabulary would take a megabyte for each token of a trace."""


@dataclass(frozen=True)
class Decoding:
    """How completions are drawn.

    A token's probability passes through these in order, as in transformers' `generate`: repetition penalty, temperature, top-k,
    top-p over what top-k kept, min-p. (vLLM has min-p before top-k and top-p, so that its top-p keeps fewer tokens.)
    """

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
    min_p: float = 0.0
    """Draw from tokens at least this share as probable as the most probable one (after temperature); 0 is off."""
    repetition_penalty: float = 1.0
    """Divides positive logits, and multiplies negative ones, of tokens that the prompt or the completion holds already
    (CTRL, Keskar et al. 2019, section 4.1); above 1 they become less probable; 1 is off."""
    stop: tuple[str, ...] = ()
    """A completion ends before the first of these that its text contains, and counts as finished."""
    weights: Literal["model", "int8"] = "model"
    """What the matrices are decoded with: as the model has them, or rounded to 8 bits (smaller, faster where memory limits)."""
    record_top: int = 0
    """Record, with every token drawn, the model's own distribution that it was drawn from (no penalty, no temperature, no
    truncation): so many of its most probable tokens with their log-probabilities, 8 bytes each, and the mass of all others.
    Losses that look at the `teacher` read it. 0: nothing."""

    @property
    def truncates(self) -> bool:
        """Whether some tokens are never drawn, though the model gives them a probability; greedy decoding aside."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    @property
    def changes(self) -> bool:
        """Whether tokens are drawn from another distribution than the model's own."""
        return self.truncates or self.temperature != 1 or self.repetition_penalty != 1

    def check(self) -> None:
        """Raises UserError for a value outside its range, naming the field."""
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"decoding.temperature is {self.temperature}; it must be 0 (greedy) or positive")
        if 0 < self.temperature < LEAST:
            raise UserError(
                f"decoding.temperature is {self.temperature}; logits divided by so little are no float32 numbers: it must be 0 "
                f"(greedy), which draws the same, or at least {LEAST:g}"
            )
        if not 0 < self.top_p <= 1:
            raise UserError(f"decoding.top_p is {self.top_p}; it must lie in (0, 1]")
        if self.top_k < 0:
            raise UserError(f"decoding.top_k is {self.top_k}; it must be 0 (off) or positive")
        if not 0 <= self.min_p <= 1:
            raise UserError(f"decoding.min_p is {self.min_p}; it must lie in [0, 1] (0 is off)")
        if not LEAST <= self.repetition_penalty <= 1 / LEAST:
            raise UserError(
                f"decoding.repetition_penalty is {self.repetition_penalty}; it must lie in {LEAST:g} … {1 / LEAST:g} (1 is off)"
            )
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise UserError(f"decoding.stop is {self.stop!r}; it must be a tuple of texts, none of them empty, as in ('\\n\\n',)")
        if self.weights not in ("model", "int8"):
            raise UserError(f"decoding.weights is {self.weights!r}; it must be 'model' or 'int8'")
        if not 0 <= self.record_top <= MOST_RECORDED:
            raise UserError(
                f"decoding.record_top is {self.record_top}; it must lie in 0 (nothing is recorded) … {MOST_RECORDED:,} tokens"
            )
        if self.max_tokens < 1 or self.batch < 1:
            raise UserError(f"decoding.max_tokens is {self.max_tokens} and decoding.batch {self.batch}; both must be at least 1")
