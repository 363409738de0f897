"""Rewards of rollouts: functions from an answer, as a graded trace, and its problem to a number. No jax.

An experiment's grader is the reward by default; anything `(trace, problem) -> float` is one. Several are added up, and each is
logged by its name.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from w2sr_jax.core import sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.extendable import Extendable
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.text.spans import answer_start

RewardFunction = Callable[[Trace, Problem], float]


class Reward(Extendable):
    """Base of reward objects, for settings of their own; a plain function is a reward, too."""

    must_define = ("__call__",)

    def __call__(self, trace: Trace, problem: Problem) -> float:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class IsCorrect(Reward):
    """What the experiment's grader says: a binary reward (DeepSeekMath, arXiv 2402.03300; SimpleRL-Zoo, arXiv 2503.18892)."""

    right: float = 1.0
    """Reward of a correct answer."""
    wrong: float = 0.0
    """Reward of any other."""

    def __call__(self, trace: Trace, problem: Problem) -> float:
        return self.right if trace.verdict == "correct" else self.wrong


@dataclasses.dataclass(frozen=True)
class IsFormed(Reward):
    """A reward for form alone: the answer is marked (`####`, a box, "the answer is"), some words of reasoning come before it, and
    the turn has ended. SimpleRL-Zoo found that such rewards can hurt a base that does not know the form: watch accuracy."""

    value: float = 0.1
    """Reward of an answer in this form."""
    words: int = 3
    """Words of reasoning that it has at least."""

    def __call__(self, trace: Trace, problem: Problem) -> float:
        return self.value if trace.finish == "stop" and reasoned(trace.text, self.words) else 0.0


@dataclasses.dataclass(frozen=True)
class Overlong(Reward):
    """The soft punishment of length of DAPO (arXiv 2503.14476, eq. 13): 0 up to `limit` − `margin` tokens, falling linearly to
    −`value` at `limit`, and that beyond."""

    limit: int
    """Tokens from which the whole punishment counts."""
    margin: int
    """Tokens over which it rises."""
    value: float = 1.0
    """The whole punishment, a positive number."""

    def __post_init__(self) -> None:
        if not 0 < self.margin <= self.limit:
            raise UserError(f"Overlong.margin is {self.margin}; it must lie in 1 … {self.limit}, the limit")

    def __call__(self, trace: Trace, problem: Problem) -> float:
        over = (trace.tokens - (self.limit - self.margin)) / self.margin
        return -self.value * min(max(over, 0.0), 1.0)


@dataclasses.dataclass(frozen=True)
class Distinct(Reward):
    """The share of distinct tokens, in which answers of any model differ: what a rehearsal learns from, and little else."""

    value: float = 1.0
    """Reward of an answer that repeats no token."""

    def __call__(self, trace: Trace, problem: Problem) -> float:
        return self.value * len(set(trace.token_ids)) / max(len(trace.token_ids), 1)


def reasoned(text: str, words: int = 3) -> bool:
    """Whether a text has a marked answer after at least so many words."""
    start = answer_start(text)
    return start is not None and len(text[:start].split()) >= words


def bare(text: str, words: int = 3) -> bool:
    """Whether a text states an answer with fewer words before it: an answer without reasoning."""
    return answer_start(text) is not None and not reasoned(text, words)


def names(rewards: Sequence[RewardFunction]) -> list[str]:
    """What rewards are called in logs: by their class or function, numbered where two are of one name."""
    plain = [getattr(reward, "__name__", type(reward).__name__) for reward in rewards]
    return [name if plain.count(name) == 1 else f"{name}-{plain[:index].count(name) + 1}" for index, name in enumerate(plain)]


def rewarded(rewards: Sequence[RewardFunction], trace: Trace, problem: Problem) -> dict[str, float]:
    """Every reward of an answer, by its name. `UserError` with file and line where a function of the user's own raises or gives
    anything but a finite number."""
    values = {}
    for name, reward in zip(names(rewards), rewards, strict=True):
        with usercode.calling(reward):
            value: Any = reward(trace, problem)
        value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(
                f"{usercode.defined(reward)}: the reward is {sentences.value(value, 40)} for problem {problem.id} and the answer "
                f"{sentences.value(trace.text, 60)}; it must be a finite number"
            )
        values[name] = float(value)
    return values
