"""What one core of this machine can do at most: float32 matrix products and memory traffic, by XLA, torch and NumPy.

python tools/bench/limits.py
"""

import time
from collections.abc import Callable

import harness
import numpy as np
from harness import Found, Job, Line, Subject

XLA, TORCH, NUMPY = "XLA", "torch", "NumPy"

ABOUT = (
    "The best of several sizes and repetitions, one process each; the largest median of the three is the limit that other "
    "tables state percentages of. Bandwidth is that of summing 256 MB (read once), or of copying them (read and written), "
    "whichever moves more bytes a second.",
)


def xla(sizes: list[int], megabytes: int) -> Found:
    import jax
    import jax.numpy as jnp

    product, total, copy = jax.jit(jnp.matmul), jax.jit(jnp.sum), jax.jit(lambda x: x + 1)

    def waited(function: Callable[..., jax.Array], *given: jax.Array) -> Callable[[], object]:
        return lambda: jax.block_until_ready(function(*given))

    square = {size: jnp.ones((size, size), jnp.float32) for size in sizes}
    flat = jnp.ones(megabytes * 250_000, jnp.float32)
    return _found({n: waited(product, x, x) for n, x in square.items()}, waited(total, flat), waited(copy, flat), flat.nbytes)


def torch(sizes: list[int], megabytes: int) -> Found:
    import torch

    torch.set_num_threads(1)
    square = {size: torch.ones(size, size) for size in sizes}
    flat, other = torch.ones(megabytes * 250_000), torch.zeros(megabytes * 250_000)
    products = {size: (lambda x=x: torch.mm(x, x)) for size, x in square.items()}
    return _found(products, flat.sum, lambda: other.copy_(flat), flat.nbytes)


def numpy(sizes: list[int], megabytes: int) -> Found:
    square = {size: np.ones((size, size), np.float32) for size in sizes}
    flat, other = np.ones(megabytes * 250_000, np.float32), np.zeros(megabytes * 250_000, np.float32)
    products = {size: (lambda x=x: x @ x) for size, x in square.items()}
    return _found(products, flat.sum, lambda: np.copyto(other, flat), flat.nbytes)


def jobs(quick: bool) -> list[Job]:
    options = {"sizes": [256], "megabytes": 16} if quick else {"sizes": [1024, 2048, 3072], "megabytes": 256}
    return [Job(XLA, "xla", options), Job(TORCH, "torch", options), Job(NUMPY, "numpy", options)]


def lines(quick: bool) -> list[Line]:
    del quick
    sizes = {"matmul_gflops": ("matrix products, float32", "GFLOP/s"), "bandwidth_gb_s": ("memory traffic", "GB/s")}
    return [
        Line(f"{words}, {variant}", "one core", name, unit, ours=variant)
        for name, (words, unit) in sizes.items()
        for variant in (XLA, TORCH, NUMPY)
    ]


def _found(
    products: dict[int, Callable[[], object]], total: Callable[[], object], copy: Callable[[], object], size: int
) -> Found:
    rates = [2 * n**3 / _best(product, 4) / 1e9 for n, product in products.items()]
    moved = max(size / _best(total, 8), 2 * size / _best(copy, 8)) / 1e9
    return {"one core": {"matmul_gflops": max(rates), "bandwidth_gb_s": moved}}


def _best(function: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest call, the first left out."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


SUBJECT = Subject("limits", "What the machine can do", ABOUT, jobs, {"xla": xla, "torch": torch, "numpy": numpy}, lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
