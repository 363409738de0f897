"""How models are evaluated."""

import dataclasses

from w2sr_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Greedy accuracy and the error ledger of the test problems always; with `samples`, avg@k, pass@k and maj@k too."""

    samples: int = 0
    """Answers sampled per test problem for avg@k, pass@k and maj@k (0: greedy answers alone)."""
    temperature: float = 0.7
    """Temperature of those samples."""
    resamples: int = 2000
    """Bootstrap resamples behind every interval."""
    confidence: float = 0.95
    """Coverage of the intervals."""
    faithfulness: int = 0
    """Test problems whose chains of thought are cut short, or given a mistake, to see whether the answer follows (0: none)."""
    pool: int = 0
    """Training problems that teacher, base and student answer for the error ledger, beside the test problems (0: none)."""

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise UserError(f"evaluation.samples is {self.samples}; it must be 0 or more")
        if self.samples and not self.temperature > 0:
            raise UserError(f"evaluation.temperature is {self.temperature}; samples differ only where it is above 0")
        if self.resamples < 1:
            raise UserError(f"evaluation.resamples is {self.resamples}; it must be 1 or more")
        if not 0 < self.confidence < 1:
            raise UserError(f"evaluation.confidence is {self.confidence}; it must lie between 0 and 1, for example 0.95")
        for name, what in (("faithfulness", "test"), ("pool", "training")):
            if (value := getattr(self, name)) < 0:
                raise UserError(f"evaluation.{name} is {value}; it must be 0 or more {what} problems")
