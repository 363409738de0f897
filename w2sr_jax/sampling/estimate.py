"""What sampling will cost: bounds before it starts, time once a rate was measured. Pure but for the meter's clock."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from w2sr_jax.models.config import ModelConfig
from w2sr_jax.sampling.settings import Decoding

Progress = Callable[[int, int, str], None]
"""Called with (traces done, traces in all, a few words on the rate)."""

WINDOW = 30.0
"""Seconds over which a rate is measured."""


@dataclass(frozen=True)
class Estimate:
    """Of completions that are still to be drawn, on all devices together."""

    requests: int
    prompt_tokens: int
    """That are read: each distinct prompt once."""
    most_tokens: int
    """Tokens drawn where every completion is as long as it may be, or as a budget allows."""
    expected_tokens: int | None
    """Tokens drawn where completions are as long as those seen so far; None before there are any."""
    most_flops: float
    expected_flops: float | None
    cache_bytes: int
    """Keys and values of all slots at their longest."""

    def measured(self, rate: float) -> tuple[float | None, float]:
        """Seconds at `rate` drawn tokens per second: expected (None where no length is known), and at most."""
        return None if self.expected_tokens is None else self.expected_tokens / rate, self.most_tokens / rate

    def words(self, rate: float | None = None) -> str:
        """For the console; a time only where a `rate` was measured."""
        expected = "" if self.expected_tokens is None else f" (about {amount(self.expected_tokens)} expected)"
        bounds = f"at most {amount(self.most_tokens)} tokens{expected}, {amount(self.most_flops, 'FLOP')}, "
        bounds += f"{amount(self.cache_bytes, 'B')} of cache"
        if not rate:
            return bounds
        typical, most = self.measured(rate)
        lasts = f"at most {span(most)}" if typical is None else f"about {span(typical, most)}"
        return f"{bounds}, {lasts} at {rate:,.0f} tokens/s"


def estimate(
    config: ModelConfig,
    prompts: int,
    prompt_tokens: int,
    longest: int,
    samples: int,
    decoding: Decoding,
    typical: float | None = None,
    budget: int | None = None,
) -> Estimate:
    """Of `samples` completions for each of `prompts` prompts that have `prompt_tokens` tokens in all and at most `longest`;
    `typical` is the mean length of completions, if it is known, and `budget` the most tokens that may be drawn."""
    requests, mean = prompts * samples, prompt_tokens / max(prompts, 1)
    most = requests * decoding.max_tokens
    expected = None if typical is None else round(requests * min(typical, decoding.max_tokens))
    if budget is not None:
        most, expected = min(most, budget), None if expected is None else min(expected, budget)

    def flops(tokens: int) -> float:
        """The output matrix is applied to the last token of a prompt alone."""
        read = config.flops_per_token(mean / 2) - 2.0 * config.width * config.vocab_size
        drawn = config.flops_per_token(mean + tokens / max(requests, 1) / 2)
        return prompt_tokens * read + tokens * drawn

    slots, item = decoding.batch * (longest + decoding.max_tokens), 2 if "16" in config.dtype else 4
    cache = 2 * config.layers * config.kv_heads * config.head_size * item * slots
    expected_flops = None if expected is None else flops(expected)
    return Estimate(requests, prompt_tokens, most, expected, flops(most), expected_flops, cache)


class Meter:
    """Turns the engine's counts into words: tokens per second of the last half minute, and how long the rest takes at its pace.
    What follows a call, such as grading, takes time too: no less than as many traces as the last call had are looked at.

    It outlasts calls of the engine, each of which counts from 0: `add` closes one. `earlier` traces were drawn before it began:
    they are done, but say nothing about the pace.
    """

    def __init__(
        self, tell: Progress, earlier: int = 0, total: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell, self._earlier, self._total, self._clock = tell, earlier, total, clock
        self._before, self._here, self._last = (0, 0), (0, 0), 0
        self._seen = deque([(clock(), 0, 0)])

    @property
    def rate(self) -> float:
        """Tokens per second of late."""
        (start, _, before), (end, _, after) = self._seen[0], self._seen[-1]
        return (after - before) / max(end - start, 1e-9)

    def __call__(self, done: int, total: int, tokens: int) -> None:
        self._here = done, tokens
        drawn = self._before[0] + done
        self._seen.append((self._clock(), drawn, self._before[1] + tokens))
        while len(self._seen) > 2 and self._seen[-1][0] - self._seen[1][0] >= WINDOW and drawn - self._seen[1][1] >= self._last:
            self._seen.popleft()
        (start, first, _), (end, _, _) = self._seen[0], self._seen[-1]
        whole = self._earlier + self._before[0] + total if self._total is None else self._total
        left = whole - self._earlier - drawn
        words = f"{self.rate:,.0f} tokens/s"
        if left > 0 and drawn > first:
            words += f", {span(left * (end - start) / (drawn - first))} left"
        self._tell(self._earlier + drawn, whole, words)

    def add(self) -> None:
        """What was counted so far stays; the next count begins at 0."""
        self._before = self._before[0] + self._here[0], self._before[1] + self._here[1]
        self._here, self._last = (0, 0), self._here[0]


def amount(number: float, unit: str = "") -> str:
    """With the prefix that SI has for it: 950, 2.4 M, 1.1 GB."""
    prefixes = ("", "k", "M", "G", "T", "P", "E")
    step = 0
    while abs(number) >= 999.5 and step < len(prefixes) - 1:
        number, step = number / 1000, step + 1
    return f"{number:.{0 if step == 0 or number >= 99.95 else 1}f} {prefixes[step]}{unit}".rstrip()


def span(least: float, most: float | None = None) -> str:
    """Seconds in words: 40 s, 3–9 min, 2.5 h."""
    longest = least if most is None else most
    unit, word = (1.0, "s") if longest < 99.5 else (60.0, "min") if longest < 99.5 * 60 else (3600.0, "h")
    parts = [f"{value / unit:.{1 if unit > 1 and value < 9.95 * unit else 0}f}" for value in dict.fromkeys((least, longest))]
    return f"{'–'.join(dict.fromkeys(part.removesuffix('.0') for part in parts))} {word}"
