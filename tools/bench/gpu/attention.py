"""Every path of `models/attention.py` that the device has, against the dense one in float32: values, gradients, times.

    python tools/bench/gpu/attention.py --device gpu --json OUT
    python tools/bench/gpu/attention.py --device cpu --rounds 1     # does it run?

The error is the norm of the difference over the norm of the dense result, the largest of the values' and of the gradients' to
queries, keys and values. A path that is above BOUND, or not finite, makes the script end with 1; one that says that it cannot run
here does not.
"""

import functools
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import numpy as np
import options
import sizes
import standalone
import workers

from w2sr_jax.models.config import AttentionKind

ABOUT = (
    "Attention of one layer among packed rows (the documents of training.py), forward and forward with backward, in bfloat16. "
    "Errors are relative to the dense path in float32 on the same device. Torch's scaled_dot_product_attention, causal over the "
    "whole row without a mask, stands beside for its times.",
)
BOUND = {"float32": 2e-3, "bfloat16": 2e-2}
"""Largest relative error. A device's float32 products may have 10 bits."""
PEER = "torch, causal"


class Case(NamedTuple):
    """Sizes and switches of one call."""

    name: str
    rows: int
    length: int
    heads: int
    kv_heads: int
    size: int
    dtype: str = "bfloat16"
    reach: int = 0
    cap: float | None = None
    packed: bool = True
    timed: bool = False


def cases(device: str) -> list[Case]:
    if device == "cpu":
        small = Case("plain", 2, 128, 4, 2, 64, timed=True)
        return [small, small._replace(name="window, cap, float32", reach=20, cap=30.0, dtype="float32", timed=False)]
    qwen = Case("Qwen2.5-1.5B", 2, 4096, 12, 2, 128, timed=True)
    plain = qwen._replace(timed=False)
    return [
        qwen,
        qwen._replace(name="one document a row", packed=False),
        qwen._replace(name="heads of 64", size=64, heads=14),
        qwen._replace(name="window of 1,024", reach=1024),
        plain._replace(name="cap of 50", cap=50.0),
        plain._replace(name="a key head for each", kv_heads=12),
        plain._replace(name="1,000 tokens", length=1000),
        plain._replace(name="float32", dtype="float32", length=2048, rows=1),
    ]


def check(device: str, how: str, repetitions: int) -> tuple[workers.Round, dict[str, Any]]:
    """Values and gradients of one path while it sets itself up, times in the rounds."""
    standalone.prepare(device)
    import jax
    import jax.numpy as jnp
    import limits

    from w2sr_jax.models.attention import Seen, packed

    def given(case: Case) -> tuple[Any, ...]:
        counts = (case.heads, case.kv_heads, case.kv_heads, case.heads)
        shapes = [(case.rows, case.length, count, case.size) for count in counts]
        keys = jax.random.split(jax.random.key(0), 4)
        arrays = [jax.random.normal(key, shape, case.dtype) for key, shape in zip(keys, shapes, strict=True)]
        one = np.ones((case.rows, case.length), np.int32)
        segments = sizes.segments(case.rows, case.length) if case.packed else one
        reach = jnp.int32(case.reach) if case.reach else None
        return (*arrays, Seen(jnp.asarray(segments), jnp.asarray(sizes.positions(segments)), reach))

    def functions(case: Case, how: Any) -> dict[str, Callable[..., Any]]:
        def forward(query: Any, key: Any, value: Any, slope: Any, seen: Seen) -> Any:
            del slope
            return packed(query, key, value, seen, case.size**-0.5, case.cap, how)

        def both(query: Any, key: Any, value: Any, slope: Any, seen: Seen) -> Any:
            result, back = jax.vjp(lambda q, k, v: forward(q, k, v, slope, seen), query, key, value)
            return result, *back(slope)

        return {"forward": jax.jit(forward), "both": jax.jit(both)}

    def error(case: Case) -> float:
        arguments = given(case)
        wide = [array.astype(jnp.float32) for array in arguments[:-1]]
        with jax.default_matmul_precision("highest"):
            right = functions(case, "dense")["both"](*wide, arguments[-1])
        found = functions(case, how)["both"](*arguments)
        return max(distance(np.asarray(a, np.float32), np.asarray(b)) for a, b in zip(found, right, strict=True))

    errors, refused = {}, {}
    for case in cases(device):
        try:
            errors[f"{case.name}: error"] = error(case)
        except Exception as failure:  # a path that this device or shape does not have
            refused[case.name] = f"{type(failure).__name__}: {failure}"[:400]
    if not errors:
        raise SystemExit(str(refused))
    timed = {
        f"{case.name}: {kind} ms": functools.partial(call, *given(case))
        for case in cases(device)
        if case.timed and case.name not in refused
        for kind, call in functions(case, how).items()
    }

    def once() -> workers.Metrics:
        return {name: milliseconds(call, jax.block_until_ready, repetitions) for name, call in timed.items()}

    once()
    return once, {**errors, "refused": refused, "device": limits.facts()}


def sdpa(device: str, repetitions: int) -> tuple[workers.Round, dict[str, Any]]:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    place = "cuda" if device == "gpu" else "cpu"

    def forward(query: Any, key: Any, value: Any) -> Any:
        return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    def both(query: Any, key: Any, value: Any) -> Any:
        result = forward(query, key, value)
        return result, *torch.autograd.grad(result, (query, key, value), query)

    def made(case: Case) -> list[Any]:
        counts = (case.heads, case.kv_heads, case.kv_heads)
        shapes = [(case.rows, count, case.length, case.size) for count in counts]
        return [torch.randn(shape, device=place, dtype=torch.bfloat16, requires_grad=True) for shape in shapes]

    timed = {
        f"{case.name}: {kind.__name__} ms": functools.partial(kind, *made(case))
        for case in cases(device)
        if case.timed and not case.reach
        for kind in (forward, both)
    }

    def wait(result: Any) -> None:
        del result
        if device == "gpu":
            torch.cuda.synchronize()

    def once() -> workers.Metrics:
        return {name: milliseconds(call, wait, repetitions) for name, call in timed.items()}

    once()
    return once, {}


def milliseconds(call: Callable[[], Any], wait: Callable[[Any], Any], repetitions: int) -> float:
    """Of one of several calls that are queued together."""
    wait(call())
    start = time.perf_counter()
    result = None
    for _ in range(repetitions):
        result = call()
    wait(result)
    return 1e3 * (time.perf_counter() - start) / repetitions


def distance(found: np.ndarray, right: np.ndarray) -> float:
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def main() -> None:
    plan = options.parse(__doc__, WORKS)
    kinds = [how for how in get_args(AttentionKind) if how != "dense"]
    names = [f"{case.name}: {kind} ms" for case in cases(plan.device) if case.timed for kind in ("forward", "both")]
    lines = [
        workers.line(f"{name.removesuffix(' ms')}, {how}", "layer", name, "ms", better="lower", ours=how, peers=["dense", PEER])
        for name in names
        for how in kinds
    ]
    lines += [
        workers.line(f"{case.name}: error of {how}", "layer", f"{case.name}: error", "relative", better="lower", ours=how)
        for case in cases(plan.device)
        for how in kinds
    ]
    part = workers.Part("gpu_attention", "Attention on an accelerator", ABOUT, lines, {"device": plan.device})
    results = workers.Results(part, options.file(plan, part.name))
    given = {"device": plan.device, "repetitions": 20 if plan.device == "gpu" else 2}
    with tempfile.TemporaryDirectory() as cache:  # the dense reference is compiled once for all
        shared = {"JAX_COMPILATION_CACHE_DIR": cache}
        variants = [workers.Variant(how, "check", {**given, "how": how}, shared) for how in ("dense", *kinds)]
        if plan.peer:
            variants.append(workers.Variant(PEER, "sdpa", given))
        workers.interleave(results, __file__, variants, plan.rounds, plan.deadline, "layer")
    options.show(results)
    bounds = {f"{case.name}: error": BOUND[case.dtype] for case in cases(plan.device)}
    wrong = {
        f"{run['variant']}, {name} {run['found']['layer'][name]:.2g}"
        for run in results.runs
        for name, bound in bounds.items()
        if run["found"] and not run["found"]["layer"].get(name, 0.0) <= bound
    }
    if wrong:
        raise SystemExit("WRONG: " + "; ".join(sorted(wrong)))


WORKS: dict[str, Callable[..., Any]] = {"check": check, "sdpa": sdpa}

if __name__ == "__main__":
    main()
