"""Memory, speed and exactness of the blocked loss against full logits.

    python tools/bench/blocked_loss.py                  # memory at T = 4,096 and V = 152,064 (compiled, not run); speed, smaller
    python tools/bench/blocked_loss.py --check          # also run value and gradient there, both ways (some 10 GB of memory)

Memory is the temporary memory of the compiled value-and-gradient program, so that it excludes arguments and results. Times are
medians of interleaved runs and compare programs with each other; the machine decides what they are.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from w2sr_jax.losses.blocks import TokenData, blocked
from w2sr_jax.losses.token import Nll, Tokens

LOSS = Nll()


@dataclass(frozen=True)
class Bench:
    """Blocked loss against full logits: a table of memory by block, then of time by block."""

    tokens: int = 4096
    """Tokens, for memory and exactness."""
    vocabulary: int = 152_064
    """Vocabulary, for memory and exactness."""
    width: int = 64
    """Width of the hidden state, for memory and exactness."""
    blocks: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    """Block sizes."""
    timed_tokens: int = 2048
    """Tokens, for time (0: do not time)."""
    timed_vocabulary: int = 16_384
    """Vocabulary, for time."""
    timed_width: int = 256
    """Width of the hidden state, for time."""
    rounds: int = 7
    """Interleaved runs of each program."""
    check: bool = False
    """Run both at full size and compare value and gradient."""


def full(hidden: jax.Array, output: jax.Array, data: TokenData) -> jax.Array:
    logits = jnp.matmul(hidden, output, preferred_element_type=jnp.float32)
    tokens = Tokens(logits, data.target, data.span, data.verdict, data.teacher_logprob, None, jnp.float32(0))
    return jnp.sum(data.weight * LOSS(tokens))


def in_blocks(block: int) -> Callable[..., jax.Array]:
    return lambda hidden, output, data: blocked(LOSS, hidden, output, data, 0.0, None, block).loss_sum


def compiled(objective: Callable[..., jax.Array], arguments: Any) -> jax.stages.Compiled:
    return jax.jit(jax.value_and_grad(objective, (0, 1))).lower(*arguments).compile()


def temporary_bytes(program: jax.stages.Compiled) -> int:
    analysis = program.memory_analysis()
    if analysis is None:
        raise SystemExit(f"the {jax.default_backend()} backend does not analyse memory")
    return int(analysis.temp_size_in_bytes)


def arguments(tokens: int, width: int, vocabulary: int) -> tuple[jax.Array, jax.Array, TokenData]:
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(tokens, width)), jnp.float32)
    output = jnp.asarray(rng.normal(size=(width, vocabulary)) / width**0.5, jnp.float32)
    ones = jnp.ones(tokens, jnp.int32)
    target = jnp.asarray(rng.integers(0, vocabulary, tokens), jnp.int32)
    return hidden, output, TokenData(target, ones, ones, jnp.zeros(tokens), jnp.asarray(rng.random(tokens) < 0.9, jnp.float32))


def memory(bench: Bench) -> None:
    shapes = jax.eval_shape(lambda: arguments(bench.tokens, bench.width, bench.vocabulary))
    logits = 4 * bench.tokens * bench.vocabulary
    whole = temporary_bytes(compiled(full, shapes))
    sizes = f"T = {bench.tokens:,}, V = {bench.vocabulary:,}, D = {bench.width}"
    print(f"temporary memory, {sizes}; one copy of the logits: {mb(logits)}")
    print(f"{'block':>8} {'temporary':>12} {'of full logits':>15} {'of one copy':>12}")
    for block in bench.blocks:
        used = temporary_bytes(compiled(in_blocks(block), shapes))
        print(f"{block:>8} {mb(used):>12} {used / whole:>15.3f} {used / logits:>12.3f}")
    print(f"{'full':>8} {mb(whole):>12} {1.0:>15.3f} {whole / logits:>12.3f}\n")


def speed(bench: Bench) -> None:
    given = arguments(bench.timed_tokens, bench.timed_width, bench.timed_vocabulary)
    programs = {"full": compiled(full, given)} | {
        str(b): compiled(in_blocks(b), given) for b in bench.blocks if b <= len(given[0])
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for program in programs.values():
        jax.block_until_ready(program(*given))
    for _ in range(bench.rounds):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*given))
            seconds[name].append(time.perf_counter() - start)
    whole = statistics.median(seconds["full"])
    print(f"time, T = {bench.timed_tokens:,}, V = {bench.timed_vocabulary:,}, D = {bench.timed_width} ({jax.default_backend()})")
    print(f"{'block':>8} {'median':>12} {'of full logits':>15}")
    for name, runs in seconds.items():
        print(f"{name:>8} {1e3 * statistics.median(runs):>9.1f} ms {statistics.median(runs) / whole:>15.3f}")


def check(bench: Bench) -> None:
    given = arguments(bench.tokens, bench.width, bench.vocabulary)
    value, slopes = jax.tree.map(np.asarray, compiled(full, given)(*given))
    print(f"\nexactness, float32, T = {bench.tokens:,}, V = {bench.vocabulary:,}: relative difference from full logits")
    print(f"{'block':>8} {'value':>12} {'to hidden':>12} {'to output':>12}   (gradients: largest difference / largest entry)")
    for block in bench.blocks:
        other, other_slopes = jax.tree.map(np.asarray, compiled(in_blocks(block), given)(*given))
        differences = [
            np.abs(a - b).max() / np.abs(a).max() for a, b in zip((value, *slopes), (other, *other_slopes), strict=True)
        ]
        print(f"{block:>8} " + " ".join(f"{difference:>12.1e}" for difference in differences))


def mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def main(bench: Bench) -> None:
    memory(bench)
    if bench.timed_tokens:
        speed(bench)
    if bench.check:
        check(bench)


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
