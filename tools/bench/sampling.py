"""Sampling: new tokens per second beside transformers' `generate` and its continuous batching.

python tools/bench/sampling.py              # 5 rounds, some 12 minutes on one core
python tools/bench/sampling.py --quick      # does it run?
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import harness
import numpy as np
from harness import Found, Job, Line, Metrics, Subject
from peers import hf_model
from shapes import SHAPES

OURS, DYNAMIC, STATIC = "w2sr_jax", "transformers generate", "transformers generate, static cache"
IN_ORDER, SORTED, CONTINUOUS = (
    "transformers, same slots in order",
    "transformers, sorted by known length",
    "transformers, continuous batching",
)
SEVERAL = "transformers, num_return_sequences"

Case = dict[str, Any]
"""What is asked of both sides, see `_case`; plain values, since it travels on a command line."""

ABOUT = (
    "Random weights in float32, prompts of random tokens, temperature 1 (and greedy in a line of its own) over the whole "
    "vocabulary. No end token, so that every completion has exactly the length asked for, on both sides. Uniform: all prompts "
    "have 128 tokens and 128 new ones are drawn; the batch is given. Ragged: 64 requests of which half end after 64 new "
    "tokens and half after 256, in random order, over 16 slots; only tokens that were asked for count. transformers' batch "
    "takes as long as its longest row; its best schedule sorts by lengths that a user does not know beforehand. Shared: 8 "
    "samples of one prompt of 256 tokens, 128 new ones each.",
    "transformers as a user who wants speed sets it up: scaled_dot_product_attention, `torch.inference_mode`, no logits "
    "processors, the better of dynamic and static cache. Ours also gives every token's log-probability, which generate does "
    "not. The rate leaves out imports, compilation and a warm-up. Bytes per second count the weights once a step and the "
    "cache that is live; shape S (22 MB of weights) fits into a processor's cache, so that its share of the memory bandwidth "
    "may exceed 100 %.",
)


def ours(cases: Sequence[Case]) -> Found:
    """Each case once to compile and warm up, then timed."""
    import jax

    found = {}
    for case in cases:
        found[case["name"]] = _ours(case)
        jax.clear_caches()
    return found


def _ours(case: Case) -> Metrics:
    from w2sr_jax.core.keys import key, keys
    from w2sr_jax.models import transformer
    from w2sr_jax.sampling.engine import generate
    from w2sr_jax.sampling.settings import Decoding

    config, rows, limits = SHAPES[case["shape"]], _prompts(case), _limits(case)
    params = transformer.init(config, key(0, "bench"))
    drawn = keys(0, "bench", [(index,) for index in range(len(rows))])
    decoding = Decoding(temperature=case["temperature"], max_tokens=max(limits), batch=case["slots"])

    def once() -> int:
        done = generate(config, params, rows, drawn, decoding, (), 0, limits=limits)
        return sum(len(one.tokens) for one in done)

    start = time.perf_counter()
    if once() != sum(limits):
        raise SystemExit(f"{case['name']}: other than {sum(limits)} tokens were drawn")
    first = time.perf_counter() - start
    metrics = _timed(once, case)
    uniform = len(set(limits)) == 1 and len(rows) == case["slots"] and not case["shared"]
    return {**metrics, "first_s": first, **(_traffic(case, metrics["seconds"]) if uniform else {})}


def transformers(cases: Sequence[Case], cache: str | None = None, schedule: str = "order") -> Found:
    """`generate` on batches of `slots` rows; the schedule "sorted" puts requests of one length together."""
    return {case["name"]: _transformers(case, cache, schedule) for case in cases}


def _transformers(case: Case, cache: str | None, schedule: str) -> Metrics:
    import torch
    from transformers import GenerationConfig

    model = hf_model(case["shape"]).eval()
    rows, limits, slots = torch.tensor(_prompts(case)), _limits(case), case["slots"]
    order = sorted(range(len(rows)), key=limits.__getitem__) if schedule == "sorted" else list(range(len(rows)))
    batches = [order[at : at + slots] for at in range(0, len(order), slots)]
    several = slots if case["shared"] else 1
    drawn = {"do_sample": True, "temperature": case["temperature"], "top_k": 0, "top_p": 1.0}

    def draw(ids: Any, new: int) -> None:
        settings = GenerationConfig(
            max_new_tokens=new,
            num_return_sequences=several,
            pad_token_id=0,
            cache_implementation=cache,
            **(drawn if case["temperature"] else {"do_sample": False}),
        )
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        if tuple(out.shape) != (len(ids) * several, ids.shape[1] + new):
            raise SystemExit(f"{case['name']}: generate gave {tuple(out.shape)}")

    def once() -> int:
        if case["shared"]:
            draw(rows[:1], max(limits))
        else:
            for batch in batches:
                draw(rows[batch], max(limits[row] for row in batch))
        return sum(limits)

    draw(rows[:1] if case["shared"] else rows[batches[0]], 8)
    return _timed(once, case)


def continuous(cases: Sequence[Case]) -> Found:
    """transformers' own continuous batching, with a maximum for each request."""
    return {case["name"]: _continuous(case) for case in cases}


def _continuous(case: Case) -> Metrics:
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    model = hf_model(case["shape"]).eval()
    rows, limits = _prompts(case), _limits(case)
    pages = case["slots"] * -(-(len(rows[0]) + max(limits)) // 64) + 16
    settings = GenerationConfig(max_new_tokens=max(limits), do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0)
    serving = ContinuousBatchingConfig(
        page_size=64, num_blocks=pages, max_batch_tokens=1024, max_requests_per_batch=case["slots"]
    )

    def once(requests: Sequence[tuple[list[int], int]]) -> int:
        # Its own thread computes, and turns gradients off itself.
        opened = model.continuous_batching_context_manager(
            generation_config=settings, continuous_batching_config=serving, block=True, timeout=5
        )
        with opened as manager:
            for row, limit in requests:
                manager.add_request(input_ids=row, max_new_tokens=limit)
            tokens = done = 0
            while done < len(requests):
                result = manager.get_result(timeout=1)
                if result is None:
                    if not manager.is_running():
                        raise SystemExit("the continuous batching ended early")
                elif result.error is not None:
                    raise SystemExit(f"the continuous batching failed: {result.error}")
                elif result.is_finished():
                    done, tokens = done + 1, tokens + len(result.generated_tokens)
        return tokens

    once([(row, 4) for row in rows[:2]])
    return _timed(lambda: once(list(zip(rows, limits, strict=True))), case)


def cases(quick: bool) -> dict[str, list[Case]]:
    """The cases of each group; a group is measured by one process of each variant."""
    if quick:
        uniform = [_case("uniform, batch 2, tiny", "tiny", 2, 2, 16, (8,))]
        return {
            "uniform": uniform,
            "ragged": [_case("ragged, tiny", "tiny", 2, 6, 16, (4, 12))],
            "shared": [_case("8 samples of one problem, tiny", "tiny", 8, 8, 32, (8,), shared=True)],
        }
    return {
        "uniform": [
            _case("uniform, batch 1, S", "S", 1, 1, 128, (128,), repeats=3),
            _case("uniform, batch 16, S", "S", 16, 16, 128, (128,), repeats=2),
            _case("uniform, batch 64, S", "S", 64, 64, 128, (128,)),
            _case("greedy, batch 16, S", "S", 16, 16, 128, (128,), temperature=0.0, repeats=2),
            _case("uniform, batch 16, M", "M", 16, 16, 128, (64,)),
        ],
        "ragged": [_case("ragged, 16 slots, S", "S", 16, 64, 128, (64, 256))],
        "shared": [_case("8 samples of one problem, S", "S", 8, 8, 256, (128,), shared=True, repeats=2)],
    }


def jobs(quick: bool) -> list[Job]:
    groups = cases(quick)
    found = []
    for group, given in groups.items():
        found.append(Job(OURS, "ours", {"cases": given}, harness.HUGE_PAGES, cache=f"xla-{group}"))
        if group == "uniform":
            found.append(Job(DYNAMIC, "transformers", {"cases": given}))
            # Slower than the dynamic cache on a CPU: measured where it comes nearest.
            found.append(Job(STATIC, "transformers", {"cases": given[:2], "cache": "static"}))
        elif group == "ragged":
            found.append(Job(IN_ORDER, "transformers", {"cases": given}))
            found.append(Job(SORTED, "transformers", {"cases": given, "schedule": "sorted"}))
            found.append(Job(CONTINUOUS, "continuous", {"cases": given}, once=True))
        else:
            found.append(Job(SEVERAL, "transformers", {"cases": given}))
    return found


def lines(quick: bool) -> list[Line]:
    groups, found, unit = cases(quick), [], "new tokens/s"
    targets = {"uniform, batch 1, S": 3.0, "uniform, batch 16, S": 2.0, "uniform, batch 64, S": 2.0}
    for case in groups["uniform"]:
        name = case["name"]
        found.append(Line(name, name, "tokens_per_s", unit, peers=(DYNAMIC, STATIC), target=targets.get(name)))
    for case in groups["ragged"]:
        name = case["name"]
        for peer, target in ((IN_ORDER, 2.5), (SORTED, 1.7), (CONTINUOUS, None)):
            found.append(Line(name, name, "tokens_per_s", unit, peers=(peer,), target=None if quick else target))
    for case in groups["shared"]:
        name = case["name"]
        found.append(Line(name, name, "tokens_per_s", unit, peers=(SEVERAL,), target=None if quick else 3.0))
    for case in groups["uniform"]:
        name = case["name"]
        found.append(Line(f"{name}: memory traffic", name, "gb_per_s", "GB/s", limit="bandwidth_gb_s"))
        found.append(Line(f"{name}: useful arithmetic", name, "gflops", "GFLOP/s", limit="matmul_gflops"))
    return found


def _case(
    name: str,
    shape: str,
    slots: int,
    requests: int,
    prompt: int,
    new: tuple[int, ...],
    shared: bool = False,
    temperature: float = 1.0,
    repeats: int = 1,
) -> Case:
    """`new` are the lengths of the completions, each for as many requests, in random order."""
    return {
        "name": name,
        "shape": shape,
        "slots": slots,
        "requests": requests,
        "prompt": prompt,
        "new": list(new),
        "shared": shared,
        "temperature": temperature,
        "repeats": repeats,
    }


def _prompts(case: Case) -> list[list[int]]:
    rng = np.random.default_rng(1)
    rows = rng.integers(1, SHAPES[case["shape"]].vocab_size, (case["requests"], case["prompt"])).tolist()
    return [rows[0]] * len(rows) if case["shared"] else rows


def _limits(case: Case) -> list[int]:
    each = np.resize(np.asarray(case["new"]), case["requests"])
    return np.random.default_rng(2).permutation(each).tolist()


def _timed(once: Callable[[], int], case: Case) -> Metrics:
    start = time.perf_counter()
    tokens = sum(once() for _ in range(case["repeats"]))
    seconds = time.perf_counter() - start
    return {"tokens_per_s": tokens / seconds, "tokens": tokens, "seconds": seconds / case["repeats"]}


def _traffic(case: Case, seconds: float) -> Metrics:
    """What a call must move and compute at least, over its time: weights and the live cache of every step, float32, and the
    FLOPs of prompts and completions. Only the last token of a prompt needs the output matrix."""
    config, new = SHAPES[case["shape"]], max(case["new"])
    token = 2 * config.layers * config.kv_heads * config.head_size * 4
    cached = sum(case["prompt"] + step for step in range(new)) * token * case["slots"]
    output = 2 * config.width * config.vocab_size
    flops = sum(config.flops_per_token(at + 1) for at in range(case["prompt"] + new - 1)) - output * (case["prompt"] - 1)
    return {
        "gb_per_s": (4 * config.parameters() * new + cached) / seconds / 1e9,
        "gflops": flops * case["slots"] / seconds / 1e9,
    }


WORKS: dict[str, Callable[..., Found]] = {"ours": ours, "transformers": transformers, "continuous": continuous}
SUBJECT = Subject("sampling", "Sampling", ABOUT, jobs, WORKS, lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
