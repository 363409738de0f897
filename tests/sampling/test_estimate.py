"""Estimates against sums by hand, and the meter against a clock that is set."""

import pytest

from w2sr_jax.models.config import ModelConfig
from w2sr_jax.sampling.estimate import Meter, amount, estimate, span
from w2sr_jax.sampling.settings import Decoding

CONFIG = ModelConfig(vocab_size=100, width=8, layers=2, heads=4, kv_heads=2, mlp=16)
DECODING = Decoding(max_tokens=50, batch=16)


def test_bounds_before_anything_ran() -> None:
    found = estimate(CONFIG, prompts=3, prompt_tokens=60, longest=30, samples=4, decoding=DECODING)
    assert (found.requests, found.prompt_tokens, found.most_tokens) == (12, 60, 600)
    assert (found.expected_tokens, found.expected_flops) == (None, None)
    assert found.cache_bytes == 2 * 2 * 2 * 2 * 4 * 16 * (30 + 50)  # k and v, layers, heads, channels, bytes, slots, length
    matrices = 2 * (8 * (2 * 8 + 2 * 4) + 3 * 8 * 16)
    read = sum(2 * matrices + 4 * 2 * 8 * (at + 0.5) for _ in range(3) for at in range(20))
    drawn = sum(2 * (matrices + 8 * 100) + 4 * 2 * 8 * (20 + at + 0.5) for _ in range(12) for at in range(50))
    assert found.most_flops == pytest.approx(read + drawn, rel=0.01)


def test_a_typical_length_gives_what_is_expected_and_a_budget_bounds_both() -> None:
    found = estimate(CONFIG, 3, 60, 30, 4, DECODING, typical=20.0)
    assert (found.expected_tokens, found.most_tokens) == (240, 600)
    assert found.expected_flops is not None
    assert 0.3 * found.most_flops < found.expected_flops < 0.5 * found.most_flops
    bounded = estimate(CONFIG, 3, 60, 30, 4, DECODING, typical=20.0, budget=100)
    assert (bounded.expected_tokens, bounded.most_tokens) == (100, 100)
    assert estimate(CONFIG, 3, 60, 30, 4, DECODING, typical=99.0).expected_tokens == 600
    assert estimate(CONFIG, 0, 0, 0, 4, DECODING).words() == "at most 0 tokens, 0 FLOP, 51.2 kB of cache"


def test_a_time_is_told_only_where_a_rate_was_measured() -> None:
    unknown, known = (estimate(CONFIG, 3, 60, 30, 4, DECODING, typical=typical) for typical in (None, 20.0))
    assert "tokens/s" not in unknown.words()
    assert unknown.words().startswith("at most 600 tokens, ")
    assert unknown.words(2.0).endswith(", at most 5 min at 2 tokens/s")
    assert "(about 240 expected)" in known.words()
    assert known.words(2.0).endswith(", about 2–5 min at 2 tokens/s")
    assert known.measured(2.0) == (120.0, 300.0)


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1.0 kB"), (2_440_000, "2.4 MB"), (1.1e9, "1.1 GB"), (3e5, "300 kB")],
)
def test_amounts(number: float, words: str) -> None:
    assert amount(number, "B") == words


def test_spans() -> None:
    assert [span(3), span(99.4), span(100), span(5400)] == ["3 s", "99 s", "1.7 min", "90 min"]
    assert [span(30, 50), span(180, 540), span(600, 36000), span(120, 121)] == ["30–50 s", "3–9 min", "0.2–10 h", "2 min"]


def test_the_rate_is_that_of_late_and_the_rest_is_told_at_its_pace() -> None:
    now, told = [0.0], list[tuple[int, int, str]]()
    meter = Meter(lambda *words: told.append(words), earlier=10, total=110, clock=lambda: now[0])
    for done in range(1, 11):  # a trace of 50 tokens each 10 s
        now[0] += 10
        meter(done, 20, 50 * done)
    assert told[-1] == (20, 110, "5 tokens/s, 15 min left")
    meter.add()
    for done in range(1, 41):  # the next shard is ten times as fast
        now[0] += 1
        meter(done, 80, 50 * done)
    assert told[-1] == (60, 110, "50 tokens/s, 50 s left")
    meter.add()
    now[0] += 1
    meter(50, 50, 2500)
    assert told[-1][:2] == (110, 110)
    assert "left" not in told[-1][2]


def test_what_follows_a_shard_counts_into_its_pace() -> None:
    """Each shard has ten traces of 50 tokens, a second each, and 90 seconds of grading."""
    now, told = [0.0], list[tuple[int, int, str]]()
    meter = Meter(lambda *words: told.append(words), total=100, clock=lambda: now[0])
    for _ in range(3):
        for done in range(1, 11):
            now[0] += 1
            meter(done, 10, 50 * done)
        now[0] += 90
        meter.add()
    now[0] += 1
    meter(1, 10, 50)
    assert told[-1] == (31, 100, "5 tokens/s, 12 min left")


def test_a_meter_alone_takes_the_engine_s_totals() -> None:
    now, told = [0.0], list[tuple[int, int, str]]()
    meter = Meter(lambda *words: told.append(words), clock=lambda: now[0])
    now[0] = 2.0
    meter(1, 4, 10)
    assert told == [(1, 4, "5 tokens/s, 6 s left")]
