"""Sampling in bfloat16, beside transformers' `generate` with a static cache.

    python tools/bench/gpu/sampling.py --device gpu --json OUT       # the shape of Qwen2.5-1.5B, 256 slots, 512 + 1,024 tokens
    python tools/bench/gpu/sampling.py --device cpu --rounds 1       # does it run?

The percentage of the bound is given where `limits.py` has put its results into the same folder.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import options
import sizes
import standalone
import workers

ABOUT = (
    "256 prompts of 512 tokens, 1,024 new tokens each at temperature 1, a Qwen2.5-1.5B shape with random weights in bfloat16, "
    "all rows in one batch. The peer is transformers' generate with a static cache, whose steps it compiles itself. The bound is "
    "the time in which the memory could read all weights and the live keys and values once for each step, at the rate measured "
    "by limits.py; its percentage is given of the whole call, and of the call without reading the prompts, which is timed by a "
    "call for one token each. Compilation is left out.",
)
OURS, PEER = "w2sr_jax", "transformers, static cache"


def ours(device: str, shape: str, attention: str) -> tuple[workers.Round, dict[str, Any]]:
    """`sampling.engine.generate`."""
    standalone.prepare(device)
    import jax
    import limits

    from w2sr_jax.models import transformer
    from w2sr_jax.sampling.engine import generate
    from w2sr_jax.sampling.settings import Decoding

    size = sizes.SIZES[shape]
    config = sizes.config(shape, "bfloat16", attention=attention)
    params = jax.jit(functools.partial(transformer.init, config))(jax.random.key(0))
    asked = prompts(shape).tolist()
    keys = jax.random.split(jax.random.key(1), size.slots)
    decoding = Decoding(max_tokens=size.new, batch=size.slots)

    def call(new: int) -> float:
        start = time.perf_counter()
        found = generate(config, params, asked, keys, decoding, (), 0, limits=[new] * size.slots)
        seconds = time.perf_counter() - start
        if any(len(completion.tokens) != new for completion in found):
            raise SystemExit("a completion has not as many tokens as were asked for")
        return seconds

    def once() -> workers.Metrics:
        first, seconds = call(1), call(size.new)
        stats = jax.devices()[0].memory_stats() or {}
        more = {"decode_s": seconds - first, "prefill_s": first, "peak_gb": stats.get("peak_bytes_in_use", 0) / 1e9}
        return {**rates(shape, seconds), **more}

    start = time.perf_counter()
    once()
    return once, {"first_call_s": time.perf_counter() - start, "device": limits.facts()}


def generated(device: str, shape: str) -> tuple[workers.Round, dict[str, Any]]:
    """transformers' `generate`."""
    import torch
    from transformers import GenerationConfig, Qwen2ForCausalLM

    place = "cuda" if device == "gpu" else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    size = sizes.SIZES[shape]
    with torch.device(place):
        model: Any = Qwen2ForCausalLM(sizes.hf_config(shape))
    model = model.to(torch.bfloat16).eval()
    ids = torch.from_numpy(prompts(shape)).to(place)
    how = GenerationConfig(
        max_new_tokens=size.new,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        cache_implementation="static",
        disable_compile=device == "cpu",
        pad_token_id=0,
        eos_token_id=None,
    )

    def once() -> workers.Metrics:
        start = time.perf_counter()
        with torch.inference_mode():
            found = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)
        if device == "gpu":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        if tuple(found.shape) != (size.slots, size.prompt + size.new):
            raise SystemExit("a completion has not as many tokens as were asked for")
        peak = torch.cuda.max_memory_allocated() if device == "gpu" else 0
        return {**rates(shape, seconds), "peak_gb": peak / 1e9}

    start = time.perf_counter()
    once()
    return once, {"first_call_s": time.perf_counter() - start}


def prompts(shape: str) -> np.ndarray:
    size = sizes.SIZES[shape]
    return np.random.default_rng(0).integers(1, size.vocabulary, (size.slots, size.prompt))


def rates(shape: str, seconds: float) -> workers.Metrics:
    size = sizes.SIZES[shape]
    return {"tokens_per_s": size.slots * size.new / seconds, "seconds": seconds}


def main() -> None:
    plan = options.parse(__doc__, WORKS)
    size, best = sizes.SIZES[plan.shape], options.limits(plan)
    lines = [
        workers.line("rate", "call", "tokens_per_s", "new tokens/s", peers=[PEER], target=8),
        workers.line("of the memory's bound, whole call", "call", "of_bound_percent", "%", target=50),
        workers.line("of the memory's bound, without reading prompts", "call", "of_bound_decoding_percent", "%"),
        workers.line("peak memory", "call", "peak_gb", "GB", better="lower", peers=[PEER]),
        workers.line("compilation and first calls", "call", "first_call_s", "s", better="lower", peers=[PEER]),
    ]
    settings = {"device": plan.device, "shape": plan.shape, "rounds": plan.rounds, "attention": plan.attention}
    part = workers.Part("gpu_sampling", "Sampling on an accelerator", ABOUT, lines, settings)
    results = workers.Results(part, options.file(plan, part.name))
    needed = sizes.decoding_bytes(sizes.config(plan.shape, "bfloat16"), size.slots, size.prompt, size.new)

    def share(found: workers.Metrics) -> workers.Metrics:
        if "bandwidth_gb_s" not in best:
            return found
        bound = needed / best["bandwidth_gb_s"] / 1e9
        shares = {"of_bound_percent": "seconds", "of_bound_decoding_percent": "decode_s"}
        return {
            **found,
            "bound_s": bound,
            **{name: 100 * bound / found[of] for name, of in shares.items() if found.get(of, 0) > 0},
        }

    common = {"device": plan.device, "shape": plan.shape}
    variants = [workers.Variant(OURS, "ours", {**common, "attention": plan.attention})]
    if plan.peer:
        variants.append(workers.Variant(PEER, "generated", common))
    workers.interleave(results, __file__, variants, plan.rounds, plan.deadline, "call", share)
    options.show(results)


WORKS: dict[str, Callable[..., Any]] = {"ours": ours, "generated": generated}

if __name__ == "__main__":
    main()
