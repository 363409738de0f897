"""Training on packed rows in bfloat16, beside torch with scaled_dot_product_attention and `torch.compile`.

    python tools/bench/gpu/training.py --device gpu --json OUT                  # the shape of Qwen2.5-1.5B
    python tools/bench/gpu/training.py --device gpu --remat layers --rows 8 --no-peer
    python tools/bench/gpu/training.py --device cpu --rounds 1                  # does it run?

The percentage of the device's matrix-product rate is given where `limits.py` has put its results into the same folder.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import options
import sizes
import standalone
import workers

ABOUT = (
    "Full training steps (forward, backward, clipping at norm 1, AdamW) of a Qwen2.5-1.5B shape with random weights on packed "
    "rows of 4,096 tokens that documents of some 600 tokens fill to their ends. Matrix products in bfloat16; parameters and "
    "AdamW's moments are kept in float32 on both sides (torch: autocast), then in bfloat16 on both sides. Ours keeps documents "
    "apart; the peer is Hugging Face's Qwen2ForCausalLM with scaled_dot_product_attention, causal over the whole row without a "
    "mask, which is its fastest form, under torch.compile, with fused AdamW. Useful arithmetic is three times the forward pass "
    "over each document alone, for both: what the peer spends on attention across documents does not count. Compilation is left "
    "out. Peak memory is the framework's own count.",
)
NAMES = {"float32": "w2sr_jax", "bfloat16": "w2sr_jax, bf16 parameters"}
PEERS = {"float32": "torch, autocast", "bfloat16": "torch, bf16 parameters"}


class Batch(NamedTuple):
    """As `w2sr_jax.batches.batch.Batch`, which needs more packages."""

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    target: np.ndarray
    span: np.ndarray
    verdict: np.ndarray
    teacher_logprob: np.ndarray
    weight: np.ndarray


def batch(vocabulary: int, rows: int, length: int, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    tokens, target = rng.integers(1, vocabulary, (2, rows, length)).astype(np.int32)
    segments, ones = sizes.segments(rows, length, seed), np.ones((rows, length), np.int32)
    unknown = np.full((rows, length), np.nan, np.float32)
    return Batch(tokens, sizes.positions(segments), segments, target, ones, ones, unknown, ones.astype(np.float32))


def ours(
    device: str, shape: str, rows: int, parameters: str, attention: str, remat: str, block: int
) -> tuple[workers.Round, dict[str, Any]]:
    """The step that `training.loop.fit` runs for imitation."""
    standalone.prepare(device)
    import jax
    import limits

    from w2sr_jax.losses.objective import Objective
    from w2sr_jax.models import transformer
    from w2sr_jax.parallel.mesh import batch_sharding, make_mesh
    from w2sr_jax.parallel.settings import Mesh
    from w2sr_jax.training.program import make_program
    from w2sr_jax.training.settings import Training

    size = sizes.SIZES[shape]
    config = sizes.config(shape, parameters, attention=attention, remat=remat)
    mesh = make_mesh(Mesh(data=1))
    program = make_program(config, Objective(block=block) if block else Objective(), Training(), 1000, mesh)
    initial = jax.jit(functools.partial(transformer.init, config), out_shardings=program.params)(jax.random.key(0))
    state = program.fresh(initial)
    jax.tree.map(lambda leaf: leaf.delete(), initial)
    batches = [batch(config.vocab_size, rows, size.length, seed) for seed in range(size.steps)]
    placed = jax.device_put(batches, batch_sharding(mesh))

    def once() -> workers.Metrics:
        nonlocal state
        start = time.perf_counter()
        for given in placed:
            state, metrics = program.step(state, given, None)
        jax.block_until_ready((state, metrics))
        seconds = time.perf_counter() - start
        if not bool(state.sound):
            raise SystemExit("the training broke down")
        stats = jax.devices()[0].memory_stats() or {}
        return {**rates(shape, parameters, batches, seconds), "peak_gb": stats.get("peak_bytes_in_use", 0) / 1e9}

    start = time.perf_counter()
    state, metrics = program.step(state, placed[0], None)
    jax.block_until_ready(metrics)
    first = time.perf_counter() - start
    once()
    return once, {"first_step_s": first, "device": limits.facts()}


def loop(device: str, shape: str, rows: int, parameters: str) -> tuple[workers.Round, dict[str, Any]]:
    """A torch loop as people write it."""
    import torch
    from transformers import Qwen2ForCausalLM

    place = "cuda" if device == "gpu" else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    size = sizes.SIZES[shape]
    with torch.device(place):
        model: Any = Qwen2ForCausalLM(sizes.hf_config(shape))
    model = model.to(getattr(torch, parameters)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)
    batches = [batch(model.config.vocab_size, rows, size.length, seed) for seed in range(size.steps)]
    placed = [torch.from_numpy(given.tokens.astype(np.int64)).to(place) for given in batches]

    def loss(ids: Any) -> Any:
        with torch.autocast(place, torch.bfloat16, enabled=parameters == "float32"):
            return model(input_ids=ids, labels=ids, use_cache=False).loss

    compiled = torch.compile(loss) if device == "gpu" else loss

    def step(ids: Any) -> None:
        compiled(ids).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def once() -> workers.Metrics:
        start = time.perf_counter()
        for ids in placed:
            step(ids)
        if device == "gpu":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated() if device == "gpu" else 0
        return {**rates(shape, parameters, batches, seconds), "peak_gb": peak / 1e9}

    start = time.perf_counter()
    step(placed[0])
    first = time.perf_counter() - start
    once()
    return once, {"first_step_s": first}


def rates(shape: str, parameters: str, batches: list[Batch], seconds: float) -> workers.Metrics:
    flops = sum(sizes.training_flops(sizes.config(shape, parameters), given.segments) for given in batches)
    tokens = sum(given.tokens.size for given in batches)
    return {"tokens_per_s": tokens / seconds, "step_s": seconds / len(batches), "useful_tflops": flops / seconds / 1e12}


def lines(kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    found = []
    for kind in kinds:
        who, peers = {"ours": NAMES[kind]}, {"ours": NAMES[kind], "peers": [PEERS[kind]]}
        name = f"parameters in {kind}"
        found += [
            workers.line(f"{name}: rate", "step", "tokens_per_s", "tokens/s", target=1.3, **peers),
            workers.line(f"{name}: of the matrix-product rate", "step", "of_matmul_percent", "%", target=55, **who),
            workers.line(f"{name}: peak memory", "step", "peak_gb", "GB", better="lower", **peers),
            workers.line(f"{name}: compilation and first step", "step", "first_step_s", "s", better="lower", **peers),
        ]
    return found


def main() -> None:
    plan = options.parse(__doc__, WORKS)
    rows, best = plan.rows or sizes.SIZES[plan.shape].rows, options.limits(plan)
    settings = {"device": plan.device, "shape": plan.shape, "rows": rows, "rounds": plan.rounds}
    settings |= {"attention": plan.attention, "remat": plan.remat, "block": plan.block}
    part = workers.Part("gpu_training", "Training on an accelerator", ABOUT, lines(plan.parameters), settings)
    results = workers.Results(part, options.file(plan, part.name))

    def share(found: workers.Metrics) -> workers.Metrics:
        if "matmul_tflops" not in best:
            return found
        return {**found, "of_matmul_percent": 100 * found["useful_tflops"] / best["matmul_tflops"]}

    for number, kind in enumerate(plan.parameters):
        common = {"device": plan.device, "shape": plan.shape, "rows": rows, "parameters": kind}
        more = {"attention": plan.attention, "remat": plan.remat, "block": plan.block}
        variants = [workers.Variant(NAMES[kind], "ours", {**common, **more})]
        if plan.peer:
            variants.append(workers.Variant(PEERS[kind], "loop", common))
        deadline = time.monotonic() + (plan.deadline - time.monotonic()) / (len(plan.parameters) - number)
        workers.interleave(results, __file__, variants, plan.rounds, deadline, "step", share)
    options.show(results)


WORKS: dict[str, Callable[..., Any]] = {"ours": ours, "loop": loop}

if __name__ == "__main__":
    main()
