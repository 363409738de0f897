"""How training grows with the vocabulary, the length of rows and the number of devices.

python tools/bench/growth_models.py
python tools/bench/growth_models.py --quick         # does it run?
"""

import time
from collections.abc import Callable
from typing import Any

import harness
import numpy as np
from harness import Found, Job, Line, Subject
from shapes import SHAPES
from shapes import lengths as drawn

ABOUT = (
    "Vocabulary: value and both gradients of the loss head for 4,096 tokens of width 128, in blocks of the product's size, "
    "from 4,096 to 262,144 tokens of vocabulary; temporary memory is what XLA says the program needs beside arguments and "
    "results, also as a part of what one copy of all logits takes.",
    "Length: training steps of the S shape on 8,192 tokens, as 16 rows of 512 to one row of 8,192; filled with documents that "
    "do not grow (the lengths of real traces), and with one document to a row, whose attention must grow. Temporary memory is "
    "of the whole step.",
    "Devices: the same step on 8 rows of 512, which 1 to 8 virtual devices share, by data or with parameters split (fsdp). All "
    "devices are threads on one core, so that the rate shows only what splitting costs, not what it gains; memory is per device.",
)
WIDTH, TOKENS, STEP_TOKENS = 128, 4096, 8192
PACKED, WHOLE = "documents of real lengths", "one document to a row"


def loss_head(vocabulary: int, tokens: int, width: int) -> Found:
    import jax
    import jax.numpy as jnp

    from w2sr_jax.losses.blocks import TokenData, blocked
    from w2sr_jax.losses.objective import Objective

    objective = Objective()

    def total(hidden: Any, output: Any, data: TokenData) -> Any:
        return blocked(objective.loss, hidden, output, data, jnp.float32(0), block=objective.block).loss_sum

    rng, ones = np.random.default_rng(0), jnp.ones(tokens, jnp.int32)
    hidden = jnp.asarray(rng.standard_normal((tokens, width), np.float32))
    output = jnp.asarray(rng.standard_normal((width, vocabulary), np.float32) / width**0.5)
    target = jnp.asarray(rng.integers(0, vocabulary, tokens), jnp.int32)
    data = TokenData(target, ones, ones, jnp.zeros(tokens), jnp.ones(tokens))
    program = jax.jit(jax.value_and_grad(total, (0, 1))).lower(hidden, output, data).compile()
    seconds = timed(lambda: jax.block_until_ready(program(hidden, output, data)), 2)
    temporary = temporary_mb(program)
    memory = {"temporary_mb": temporary, "of_logits": temporary * 1e6 / (4 * tokens * vocabulary)}
    return {"vocabulary": {"seconds": seconds, "ns_per_token_and_entry": 1e9 * seconds / tokens / vocabulary, **memory}}


def rows(length: int, documents: str, tokens: int, shape: str) -> Found:
    found = step(shape, tokens // length, length, documents, {"data": 1})
    return {f"length, {documents}": found}


def devices(count: int, axis: str, shape: str, rows: int, length: int) -> Found:
    import jax

    if len(jax.devices()) != count:
        raise SystemExit(f"there are {len(jax.devices())} devices, not {count}")
    return {f"devices, {axis}": step(shape, rows, length, PACKED, {"data": 1, axis: count})}


def step(shape: str, rows: int, length: int, documents: str, mesh: dict[str, int]) -> dict[str, float]:
    import jax

    from w2sr_jax.core.keys import key
    from w2sr_jax.losses.objective import Objective
    from w2sr_jax.models import transformer
    from w2sr_jax.parallel.mesh import batch_sharding, make_mesh
    from w2sr_jax.parallel.processes import put
    from w2sr_jax.parallel.settings import Mesh
    from w2sr_jax.training.program import make_program
    from w2sr_jax.training.settings import Training

    config, devices = SHAPES[shape], make_mesh(Mesh(**mesh))
    program = make_program(config, Objective(), Training(), 100, devices)
    state = program.fresh(put(transformer.init(config, key(0, "bench")), program.params))
    given = put(batch(config.vocab_size, rows, length, documents), batch_sharding(devices))
    compiled = program.step.lower(program.like, given, None).compile()

    def once() -> None:
        nonlocal state
        state, metrics = compiled(state, given, None)
        jax.block_until_ready((state, metrics))

    seconds = timed(once, 3)
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    rate = {"tokens_per_s": rows * length / seconds, "us_per_token": 1e6 * seconds / rows / length}
    return {**rate, "temporary_mb": temporary_mb(compiled), "memory_per_device_mb": held / 1e6}


def batch(vocabulary: int, rows: int, length: int, documents: str) -> Any:
    """Rows that are full, their last document cut at the end."""
    from w2sr_jax.batches.batch import Batch

    rng = np.random.default_rng(0)
    tokens, target = rng.integers(1, vocabulary, (2, rows, length)).astype(np.int32)
    segments = np.ones((rows, length), np.int32)
    if documents == PACKED:
        ends = np.cumsum(drawn(rows * length // 16, 512))
        segments = np.searchsorted(ends, np.arange(rows * length), side="right").reshape(rows, length).astype(np.int32)
        segments = segments - segments[:, :1] + 1
    starts = np.where(np.diff(segments, axis=1, prepend=0) > 0, np.arange(length), 0)
    positions = (np.arange(length) - np.maximum.accumulate(starts, axis=1)).astype(np.int32)
    ones = np.ones((rows, length), np.int32)
    unknown, weight = np.full((rows, length), np.nan, np.float32), ones.astype(np.float32)
    named = {"tokens": tokens, "target": target, "segments": segments, "positions": positions, "weight": weight}
    return Batch(**named, span=ones, verdict=ones, teacher_logprob=unknown)


def timed(run: Callable[[], Any], times: int) -> float:
    """Seconds of the fastest of some runs after the first, which may compile."""
    run()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def temporary_mb(program: Any) -> float:
    return float(program.memory_analysis().temp_size_in_bytes / 1e6)


VOCABULARIES, LENGTHS, COUNTS = (4096, 16_384, 65_536, 262_144), (512, 1024, 2048, 4096, 8192), (1, 2, 4, 8)


def sizes(quick: bool) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return ((64, 256), (32, 64), (1, 2)) if quick else (VOCABULARIES, LENGTHS, COUNTS)


def jobs(quick: bool) -> list[Job]:
    vocabularies, lengths, counts = sizes(quick)
    head = {"tokens": 64, "width": 16} if quick else {"tokens": TOKENS, "width": WIDTH}
    long = {"tokens": 64, "shape": "tiny"} if quick else {"tokens": STEP_TOKENS, "shape": "S"}
    many = {"shape": "tiny", "rows": 2, "length": 32} if quick else {"shape": "S", "rows": 8, "length": 512}
    found = [Job(f"vocabulary {size:,}", "loss_head", {"vocabulary": size, **head}, harness.HUGE_PAGES) for size in vocabularies]
    for documents in (PACKED, WHOLE):
        for size in lengths:
            found.append(Job(f"length {size:,}", "rows", {"length": size, "documents": documents, **long}, harness.HUGE_PAGES))
    for axis in ("data", "fsdp"):
        for count in counts:
            split = {**harness.HUGE_PAGES, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
            found.append(Job(many_devices(count), "devices", {"count": count, "axis": axis, **many}, split))
    return found


def lines(quick: bool) -> list[Line]:
    vocabularies, lengths, counts = sizes(quick)
    found = []
    for size in vocabularies[1:]:
        beside: dict[str, Any] = {"ours": f"vocabulary {size:,}", "peers": (f"vocabulary {vocabularies[0]:,}",)}
        name = f"loss head, {size:,} tokens of vocabulary"
        found.append(Line(f"{name}: time per entry", "vocabulary", "ns_per_token_and_entry", "ns", "lower", **beside))
        found.append(Line(f"{name}: temporary memory", "vocabulary", "temporary_mb", "MB", "lower", **beside))
    for documents in (PACKED, WHOLE):
        for size in lengths[1:]:
            beside = {"ours": f"length {size:,}", "peers": (f"length {lengths[0]:,}",)}
            name, case = f"rows of {size:,}, {documents}", f"length, {documents}"
            found.append(Line(f"{name}: time per token", case, "us_per_token", "µs", "lower", **beside))
            found.append(Line(f"{name}: temporary memory", case, "temporary_mb", "MB", "lower", **beside))
    for count in counts[1:]:
        for axis in ("data", "fsdp"):
            found.append(Line(f"{count} devices, {axis}: rate", f"devices, {axis}", "tokens_per_s", "tokens/s", **_one(count)))
            memory = ("memory_per_device_mb", "MB", "lower")
            found.append(Line(f"{count} devices, {axis}: memory of one", f"devices, {axis}", *memory, **_one(count)))
    return found


def many_devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _one(count: int) -> dict[str, Any]:
    return {"ours": many_devices(count), "peers": (many_devices(1),)}


WORKS: dict[str, Callable[..., Found]] = {"loss_head": loss_head, "rows": rows, "devices": devices}
SUBJECT = Subject("growth_models", "Vocabulary, length, devices", ABOUT, jobs, WORKS, lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
