"""How traces are selected. Dataclasses only."""

import dataclasses
from typing import Literal

from w2sr_jax.core.errors import UserError
from w2sr_jax.problems.settings import Copies


@dataclasses.dataclass(frozen=True)
class Curation:
    """What every arm has in common; the arm itself says which verdicts are kept."""

    per_problem: int = 1
    """Most traces kept of one problem, drawn from those that qualify without regard to anything but the teachers' weights."""
    limit: int = 0
    """Most examples in all, problems drawn at random, so that arms can be compared at one size; 0: no limit."""
    max_characters: int = 0
    """Longest trace in characters; 0: no limit."""
    max_tokens: int = 0
    """Longest trace in tokens; 0: no limit."""
    keep_unfinished: bool = False
    """Keep traces that ran into the teacher's token limit."""
    keep_loops: bool = True
    """Keep traces that repeat themselves (an n-gram four times near the end, or few distinct words)."""
    unparsed_is_incorrect: bool = False
    """Let the arm `incorrect` also take traces in which no answer could be read."""
    majority_threshold: float = 0.5
    """Arm `majority`: smallest share of a problem's votes for the answer agreed on."""
    majority_votes: int = 2
    """Arm `majority`: fewest traces of a problem that can agree; a single trace agrees with itself alone."""
    decontaminate: bool = True
    """Leave out traces of questions that are copies of a forbidden (test) question, also in another dress."""
    copies: Copies = Copies()
    """What counts as a copy."""
    weighting: Literal["mix", "loss"] = "mix"
    """Teachers' weights are odds of being drawn where a problem has more traces than `per_problem` (mix), or factors on the
    examples' weights, with every trace as likely to be drawn (loss)."""
    seed: int = 0
    """Which traces are drawn where more qualify than are kept."""

    def __post_init__(self) -> None:
        for name in ("per_problem", "majority_votes"):
            if getattr(self, name) < 1:
                raise UserError(f"Curation.{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("limit", "max_characters", "max_tokens"):
            if getattr(self, name) < 0:
                raise UserError(f"Curation.{name} is {getattr(self, name)}; it must be 0 (no limit) or more")
        if not 0.0 <= self.majority_threshold <= 1.0:
            raise UserError(f"Curation.majority_threshold is {self.majority_threshold}; it is a share from 0 to 1")
