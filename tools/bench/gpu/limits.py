"""What the device can do at most: bfloat16 matrix products and memory traffic.

    python tools/bench/gpu/limits.py --device gpu --json OUT

Products of random matrices (zeros run faster than real data) of several shapes, the model's own among them; the limit is the best
of them. Traffic is that of summing a large array (read once) and of adding to it (read and written), whichever moves more bytes a
second. Several calls are queued at once, so that launching costs nothing; each figure is the median of the repetitions.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import options
import standalone
import workers

ABOUT = (
    "Matrix products are of random bfloat16 matrices, the limit is the best shape and library. Memory traffic is summing a large "
    "array, or adding to it, whichever moves more bytes a second.",
)
SHAPES = {
    "gpu": [(8192, 8192, 8192), (16384, 8192, 8192), (8192, 1536, 8960), (8192, 8960, 1536), (8192, 1536, 151_936)],
    "cpu": [(256, 256, 256)],
}
ELEMENTS = {"gpu": 2**31, "cpu": 2**20}
XLA, TORCH = "XLA", "torch"


def xla(device: str, repetitions: int) -> tuple[workers.Round, dict[str, Any]]:
    standalone.prepare(device)
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda a, b: jnp.matmul(a, b))
    total, more = jax.jit(lambda x: jnp.sum(x, dtype=jnp.float32)), jax.jit(lambda x: x + 1)

    def random(*shape: int) -> jax.Array:
        return jax.random.normal(jax.random.key(0), shape, jnp.bfloat16)

    def timed(function: Callable[..., Any], *given: Any) -> float:
        def call(times: int) -> None:
            result = None
            for _ in range(times):
                result = function(*given)
            jax.block_until_ready(result)

        return median(call, repetitions)

    def once() -> workers.Metrics:
        rates = {shape: flops(shape) / timed(product, random(*shape[:2]), random(*shape[1:])) for shape in SHAPES[device]}
        flat = random(ELEMENTS[device])
        return found(rates, flat.nbytes / timed(total, flat), 2 * flat.nbytes / timed(more, flat))

    return once, {"device": facts()}


def torch(device: str, repetitions: int) -> tuple[workers.Round, dict[str, Any]]:
    import torch

    place = "cuda" if device == "gpu" else "cpu"

    def random(*shape: int) -> Any:
        return torch.randn(*shape, device=place, dtype=torch.bfloat16)

    def timed(function: Callable[..., Any], *given: Any) -> float:
        def call(times: int) -> None:
            for _ in range(times):
                function(*given)
            if device == "gpu":
                torch.cuda.synchronize()

        return median(call, repetitions)

    def once() -> workers.Metrics:
        rates = {shape: flops(shape) / timed(torch.mm, random(*shape[:2]), random(*shape[1:])) for shape in SHAPES[device]}
        flat = random(ELEMENTS[device])
        other = torch.empty_like(flat)
        size = flat.numel() * flat.element_size()
        return found(rates, size / timed(torch.sum, flat), 2 * size / timed(other.copy_, flat))

    return once, {}


def flops(shape: tuple[int, int, int]) -> float:
    return 2.0 * shape[0] * shape[1] * shape[2]


def median(call: Callable[[int], None], repetitions: int) -> float:
    """Seconds of one of the calls that are queued together."""
    call(2)
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call(8)
        seconds.append((time.perf_counter() - start) / 8)
    return statistics.median(seconds)


def found(rates: dict[tuple[int, int, int], float], read: float, copied: float) -> workers.Metrics:
    by_shape = {f"matmul_{'x'.join(map(str, shape))}_tflops": rate / 1e12 for shape, rate in rates.items()}
    traffic = {"read_gb_s": read / 1e9, "copy_gb_s": copied / 1e9, "bandwidth_gb_s": max(read, copied) / 1e9}
    return {"matmul_tflops": max(rates.values()) / 1e12, **traffic, **by_shape}


def facts() -> dict[str, Any]:
    """The device that jax computes on."""
    import jax

    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return {"device": device.device_kind, "device_memory_gib": round(stats.get("bytes_limit", 0) / 2**30, 1), "devices": 1}


def main() -> None:
    plan = options.parse(__doc__, WORKS)
    lines = [
        workers.line(f"{words}, {variant}", "device", metric, unit, ours=variant)
        for metric, words, unit in (
            ("matmul_tflops", "matrix products, bfloat16", "TFLOP/s"),
            ("bandwidth_gb_s", "memory traffic", "GB/s"),
        )
        for variant in (XLA, TORCH)
    ]
    part = workers.Part("gpu_limits", "What the accelerator can do", ABOUT, lines, {"rounds": plan.rounds, "device": plan.device})
    results = workers.Results(part, options.file(plan, part.name))
    given = {"device": plan.device, "repetitions": 5 if plan.device == "gpu" else 2}
    variants = [workers.Variant(XLA, "xla", given), workers.Variant(TORCH, "torch", given)]
    # One after the other, since each holds large arrays.
    for variant in variants:
        workers.interleave(results, __file__, [variant], plan.rounds, plan.deadline, "device")
    options.show(results)


WORKS: dict[str, Callable[..., Any]] = {"xla": xla, "torch": torch}

if __name__ == "__main__":
    main()
