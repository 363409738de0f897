"""The loss head: output matrix and cross entropy with their gradients, in blocks against full logits.

python tools/bench/loss_memory.py                # memory and time beside full logits in JAX and in torch
python tools/bench/loss_memory.py --quick        # does it run?
python tools/bench/loss_memory.py blocks         # temporary memory by block size, for 152,064 tokens (compiled, not run)
python tools/bench/loss_memory.py exact          # largest differences from full logits, by block size
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import harness
import numpy as np
from harness import Found, Job, Line, Subject

OURS, FULL, TORCH = "w2sr_jax", "full logits, JAX", "full logits, torch"

ABOUT = (
    "Value and both gradients (hidden state and output matrix) of the mean cross entropy of 4,096 tokens of width 512 over a "
    "vocabulary of 32,000, float32. Ours goes through the tokens in blocks and makes the gradient in the forward pass, and "
    "also gives NLL and accuracy for the log; JAX's full logits are `jax.value_and_grad` of log-softmax, torch's are "
    "`torch.nn.functional.cross_entropy`. Temporary memory is what XLA says the program needs beside arguments and results "
    "(torch has no such figure); resident memory is by how much the process grows while it runs, results included. Time is "
    "that of the second run.",
)


def ours(tokens: int, width: int, vocabulary: int) -> Found:
    return _jax(_in_blocks(None), tokens, width, vocabulary)


def full(tokens: int, width: int, vocabulary: int) -> Found:
    return _jax(_full, tokens, width, vocabulary)


def torch(tokens: int, width: int, vocabulary: int) -> Found:
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(1)
    hidden, output, target, _ = (torch.from_numpy(array) for array in _arrays(tokens, width, vocabulary))
    hidden, output = hidden.requires_grad_(), output.requires_grad_()
    before = harness.memory()

    def run() -> None:
        hidden.grad = output.grad = None
        cross_entropy(hidden @ output, target).backward()

    return _timed(run, before)


def jobs(quick: bool) -> list[Job]:
    sizes = {"tokens": 256, "width": 64, "vocabulary": 512} if quick else {"tokens": 4096, "width": 512, "vocabulary": 32_000}
    return [
        Job(OURS, "ours", sizes, harness.HUGE_PAGES),
        Job(FULL, "full", sizes, harness.HUGE_PAGES),
        Job(TORCH, "torch", sizes),
    ]


def lines(quick: bool) -> list[Line]:
    def line(name: str, metric: str, unit: str, peer: str, target: float | None = None) -> Line:
        return Line(name, "loss head", metric, unit, "lower", peers=(peer,), target=None if quick else target)

    return [
        line("temporary memory", "temporary_mb", "MB", FULL, 0.12),
        line("growth of resident memory", "resident_mb", "MB", FULL),
        line("growth of resident memory", "resident_mb", "MB", TORCH),
        line("time", "seconds", "s", FULL, 1.0),
        line("time", "seconds", "s", TORCH),
        Line("arithmetic", "loss head", "gflops", "GFLOP/s", limit="matmul_gflops"),
    ]


def blocks(tokens: int = 4096, width: int = 64, vocabulary: int = 152_064) -> None:
    """Print the temporary memory of each block size, compiled and never run."""
    import jax

    shapes = jax.eval_shape(lambda: _given(tokens, width, vocabulary))
    logits, whole = 4 * tokens * vocabulary, _temporary(_compiled(_full, shapes))
    print(f"temporary memory, T = {tokens:,}, V = {vocabulary:,}, D = {width}; one copy of the logits: {logits / 1e6:,.1f} MB")
    for block in (64, 128, 256, 512, 1024, 2048, None):
        used = _temporary(_compiled(_in_blocks(block), shapes))
        print(f"block {block or 'default':>8}: {used / 1e6:>10,.1f} MB, {used / whole:.3f} of full logits", flush=True)
    print(f"full logits   : {whole / 1e6:>10,.1f} MB")


def exact(tokens: int = 1024, width: int = 128, vocabulary: int = 32_000) -> None:
    """Print the largest differences of value and gradients from full logits, relative to the largest entry."""
    import jax

    given = _given(tokens, width, vocabulary)
    value, slopes = jax.tree.map(np.asarray, _compiled(_full, given)(*given))
    for block in (64, 256, 1024, None):
        other, others = jax.tree.map(np.asarray, _compiled(_in_blocks(block), given)(*given))
        found = [float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip((value, *slopes), (other, *others), strict=True)]
        words = "value {:.1e}, gradient of the hidden state {:.1e}, of the output matrix {:.1e}".format(*found)
        print(f"block {block or 'default':>8}: {words}")


def _full(hidden: Any, output: Any, target: Any, weight: Any) -> Any:
    import jax
    import jax.numpy as jnp

    logits = jax.nn.log_softmax(hidden @ output)
    return -jnp.sum(weight * jnp.take_along_axis(logits, target[:, None], axis=1)[:, 0])


def _in_blocks(block: int | None) -> Callable[..., Any]:
    """The loss as the train step has it; None: blocks of the size that `Objective` chooses."""
    import jax.numpy as jnp

    from w2sr_jax.losses.blocks import TokenData, blocked
    from w2sr_jax.losses.objective import Objective

    objective = Objective()

    def loss(hidden: Any, output: Any, target: Any, weight: Any) -> Any:
        ones = jnp.ones_like(target)
        data = TokenData(target, ones, ones, jnp.zeros(target.shape), weight)
        tokens = objective.block if block is None else block
        return blocked(objective.loss, hidden, output, data, 0.0, block=tokens).loss_sum

    return loss


def _compiled(loss: Callable[..., Any], given: Any) -> Any:
    import jax

    return jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*given).compile()


def _temporary(program: Any) -> int:
    analysis = program.memory_analysis()
    if analysis is None:
        raise SystemExit("this backend does not analyse memory")
    return int(analysis.temp_size_in_bytes)


def _jax(loss: Callable[..., Any], tokens: int, width: int, vocabulary: int) -> Found:
    import jax

    given = _given(tokens, width, vocabulary)
    program = _compiled(loss, given)
    jax.block_until_ready(given)
    before = harness.memory()
    found = _timed(lambda: jax.block_until_ready(program(*given)), before)
    found["loss head"]["temporary_mb"] = _temporary(program) / 1e6
    found["loss head"]["gflops"] = 6 * tokens * width * vocabulary / found["loss head"]["seconds"] / 1e9
    return found


def _timed(run: Callable[[], Any], before: float) -> Found:
    run()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    return {"loss head": {"seconds": seconds, "resident_mb": harness.memory("VmHWM") - before}}


def _given(tokens: int, width: int, vocabulary: int) -> tuple[Any, ...]:
    import jax.numpy as jnp

    hidden, output, target, weight = _arrays(tokens, width, vocabulary)
    return jnp.asarray(hidden), jnp.asarray(output), jnp.asarray(target, jnp.int32), jnp.asarray(weight)


def _arrays(tokens: int, width: int, vocabulary: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((tokens, width), np.float32)
    output = rng.standard_normal((width, vocabulary), np.float32) / np.float32(width**0.5)
    return hidden, output, rng.integers(0, vocabulary, tokens), np.full(tokens, 1 / tokens, np.float32)


WORKS: dict[str, Callable[..., Found]] = {"ours": ours, "full": full, "torch": torch}
SUBJECT = Subject("loss_memory", "The loss head", ABOUT, jobs, WORKS, lines)

if __name__ == "__main__":
    if sys.argv[1:] in (["blocks"], ["exact"]):
        {"blocks": blocks, "exact": exact}[sys.argv[1]]()
    else:
        harness.main(SUBJECT)
