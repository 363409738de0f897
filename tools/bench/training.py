"""Training on packed rows: real tokens per second and peak memory, beside TRL and a plain torch loop.

python tools/bench/training.py              # 5 rounds, some 20 minutes on one core
python tools/bench/training.py --quick      # does it run?
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import harness
import numpy as np
from harness import Found, Job, Line, Subject
from peers import hf_model, tokenizer, trl_settings
from shapes import ROW, SHAPES, Documents, documents, row_flops

OURS, BFD, WRAPPED, PLAIN = "w2sr_jax", "TRL bfd packing", "TRL wrapped packing", "plain torch packed loop"

TARGETS = {
    "S": {BFD: 2.5, WRAPPED: 1.2, PLAIN: 1.0},
    "M": {BFD: 3.0, WRAPPED: 2.2, PLAIN: 1.25},
}
MEMORY = {"M": 0.25}
SETTINGS: dict[str, dict[str, Any]] = {"S": {"remat": "products"}, "M": {"remat": "products"}}
"""Fields of `ModelConfig` in which ours differs from its defaults, for rate and memory alike."""

ACCUMULATION = {"S": 8, "M": 8}
"""Micro-batches in which ours goes through the rows of a step."""

ABOUT = (
    "Full training steps in float32: forward pass, backward pass, clipping at norm 1, AdamW. Shapes are Qwen2 decoders: S "
    "(width 256, 6 layers, 4 heads, 2 key/value heads, vocabulary 4,096) and M (512, 8, 8, 2, 32,000). Rows of 512 tokens, 8 "
    "rows a step, filled from the same documents with lengths of real reasoning traces. Every token of a document is learnt, "
    "and real tokens are those of documents: padding earns nothing. Only ours and TRL's bfd keep documents of a row apart; "
    "TRL's wrapped packing cuts documents at row ends, and the plain loop lets documents see those before them. Ours takes the 8 "
    "rows of a step in 8 micro-batches, with the same gradient, and keeps what matrix products gave for the backward pass, which "
    "makes the rest again (`remat` products); the peers take the rows at once, as they do by default. Micro-batches would lower "
    "the peers' memory, too; that was not measured.",
    "Peers as a user who wants speed sets them up: scaled_dot_product_attention, no gradient checkpointing, no mixed "
    "precision, fused AdamW, no logging, no saving, one thread. The plain loop has our packing's rows in Hugging Face's "
    "Qwen2ForCausalLM without position ids, so that attention is causal without a mask, its fastest form. The rate leaves out "
    "imports, compilation and a warm-up: one step for ours, a small forward and backward pass for torch. Peak memory is the "
    "process's largest resident set, compilation included; above imports means less what is resident once everything is "
    "imported.",
)


def ours(shape: str, rows: int, length: int, steps: int, count: int, settings: Mapping[str, Any], accumulation: int) -> Found:
    """The train step that `fit` runs, fed with the batches that `fit` reads."""
    import jax

    from w2sr_jax.batches.batch import Batches
    from w2sr_jax.batches.packing import pack
    from w2sr_jax.batches.settings import Batching
    from w2sr_jax.core.keys import key
    from w2sr_jax.losses.objective import Objective
    from w2sr_jax.models import transformer
    from w2sr_jax.parallel import compiling
    from w2sr_jax.parallel.mesh import batch_sharding, make_mesh
    from w2sr_jax.parallel.processes import put
    from w2sr_jax.parallel.settings import Mesh
    from w2sr_jax.training.program import make_program
    from w2sr_jax.training.settings import Training

    compiling.tidy()  # as the `w2sr` command does
    imports = harness.memory()
    config, mesh = dataclasses.replace(SHAPES[shape], **settings), make_mesh(Mesh(data=1))
    batching = Batching(length, rows)
    batches = Batches(pack([encoded(ids) for ids in documents(count, config.vocab_size, length).tokens], length), batching)
    program = make_program(config, Objective(), Training(batching=batching, accumulation=accumulation), steps + 1, mesh)
    state = program.fresh(put(transformer.init(config, key(0, "bench")), program.params))

    def step(number: int) -> Any:
        nonlocal state
        batch = batches.batch_at(number)
        state, metrics = program.step(state, put(batch, batch_sharding(mesh)), None)
        return batch, metrics

    start = time.perf_counter()
    jax.block_until_ready(step(0)[1])
    first = time.perf_counter() - start
    start = time.perf_counter()
    done = [step(number + 1) for number in range(steps)]
    jax.block_until_ready((state, done[-1][1]))
    seconds = time.perf_counter() - start
    if not bool(state.sound):
        raise SystemExit("the training broke down")
    segments = np.concatenate([batch.segments for batch, _ in done])
    # A document's last token takes no position: it is only predicted.
    tokens = int((segments > 0).sum()) + int(segments.max(axis=1).sum())
    return _found(shape, tokens, segments, seconds, imports, {"first_step_s": first})


def trl(shape: str, rows: int, length: int, steps: int, count: int, packing: str) -> Found:
    """`SFTTrainer` on the same documents, as token ids."""
    from datasets import Dataset
    from transformers import Qwen2ForCausalLM, TrainerCallback
    from trl import SFTTrainer

    del Qwen2ForCausalLM  # imported only so that memory counts it among the imports
    imports = harness.memory()
    given = documents(count, SHAPES[shape].vocab_size, length)
    seen: list[Any] = []
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    sizes = {"max_length": length, "per_device_train_batch_size": rows, "max_steps": steps}
    with trl_settings(packing_strategy=packing, max_grad_norm=1.0, **sizes) as settings:
        model = hf_model(shape)
        data = Dataset.from_dict({"input_ids": [ids.tolist() for ids in given.tokens]})
        trainer = SFTTrainer(model, settings, train_dataset=data, processing_class=tokenizer(), callbacks=[Clock()])
        inside = trainer.data_collator

        def collate(examples: Sequence[Any]) -> Any:
            seen.append(examples)
            return inside(examples)

        trainer.data_collator = collate
        _warm(model)
        trainer.train()
    segments = [_segments(example, length) for examples in seen[:steps] for example in examples]
    tokens = sum(len(example["input_ids"]) for examples in seen[:steps] for example in examples)
    return _found(shape, tokens, np.stack(segments), times[-1] - times[0], imports, {})


def plain(shape: str, rows: int, length: int, steps: int, count: int) -> Found:
    """What people write themselves: rows packed beforehand, the model's own loss, AdamW."""
    import torch
    from transformers import Qwen2ForCausalLM

    from w2sr_jax.batches.packing import plan

    del Qwen2ForCausalLM  # imported only so that memory counts it among the imports
    imports = harness.memory()
    given = documents(count, SHAPES[shape].vocab_size, length)
    tokens, segments = _rows(given, plan([len(ids) for ids in given.tokens], length), length)
    order = np.random.default_rng(0).permutation(len(tokens))
    model = hf_model(shape).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)
    _warm(model)
    start = time.perf_counter()
    for number in range(steps):
        at = order[number * rows : (number + 1) * rows]
        ids = torch.from_numpy(tokens[at])
        labels = ids.masked_fill(torch.from_numpy(segments[at] == 0), -100)
        model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - start
    used = segments[order[: steps * rows]]
    return _found(shape, int((used > 0).sum()), used, seconds, imports, {})


def jobs(quick: bool) -> list[Job]:
    sizes = [("tiny", 2, 128, 1, 40)] if quick else [("S", 8, ROW, 2, 400), ("M", 8, ROW, 1, 400)]
    found = []
    for shape, rows, length, steps, count in sizes:
        options = {"shape": shape, "rows": rows, "length": length, "steps": steps, "count": count}
        found += [
            Job(
                OURS,
                "ours",
                {**options, "settings": SETTINGS.get(shape, {}), "accumulation": ACCUMULATION.get(shape, 1)},
                harness.HUGE_PAGES,
            ),
            Job(BFD, "trl", {**options, "packing": "bfd"}),
            Job(WRAPPED, "trl", {**options, "packing": "wrapped"}),
            Job(PLAIN, "plain", options),
        ]
    return found


def lines(quick: bool) -> list[Line]:
    found = []
    for shape in ["tiny"] if quick else ["S", "M"]:
        targets = TARGETS.get(shape, {})
        for peer in (BFD, WRAPPED, PLAIN):
            found.append(Line(f"{shape}: rate", shape, "tokens_per_s", "real tokens/s", peers=(peer,), target=targets.get(peer)))
        found.append(
            Line(f"{shape}: peak memory", shape, "peak_mb", "MB", "lower", peers=(BFD, WRAPPED), target=MEMORY.get(shape))
        )
        found.append(Line(f"{shape}: peak memory above imports", shape, "above_imports_mb", "MB", "lower", peers=(BFD, WRAPPED)))
        found.append(Line(f"{shape}: peak memory", shape, "peak_mb", "MB", "lower", peers=(PLAIN,)))
        found.append(Line(f"{shape}: useful arithmetic", shape, "gflops", "GFLOP/s", peers=(PLAIN,), limit="matmul_gflops"))
        found.append(Line(f"{shape}: compilation and first step", shape, "first_step_s", "s", "lower"))
    return found


def _found(shape: str, tokens: int, segments: np.ndarray, seconds: float, imports: float, more: dict[str, float]) -> Found:
    peak = harness.memory("VmHWM")
    return {
        shape: {
            "tokens_per_s": tokens / seconds,
            "gflops": row_flops(shape, segments) / seconds / 1e9,
            "peak_mb": peak,
            "above_imports_mb": peak - imports,
            "tokens": tokens,
            "seconds": seconds,
            **more,
        }
    }


def encoded(ids: np.ndarray) -> Any:
    from w2sr_jax.batches.encode import Encoded
    from w2sr_jax.text import spans

    size = len(ids)
    span = np.full(size, spans.REASONING, np.int8)
    return Encoded(ids.astype(np.int32), span, np.ones(size, bool), 1, 1.0, np.full(size, np.nan, np.float32))


def _rows(given: Documents, layout: Sequence[Sequence[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    tokens, segments = (np.zeros((len(layout), length), np.int64) for _ in range(2))
    for row, members in enumerate(layout):
        joined = np.concatenate([given.tokens[index] for index in members])
        tokens[row, : len(joined)] = joined
        sizes = [len(given.tokens[index]) for index in members]
        segments[row, : len(joined)] = np.repeat(np.arange(1, len(members) + 1), sizes)
    return tokens, segments


def _segments(example: Any, length: int) -> np.ndarray:
    """Which document each token of a row of TRL's belongs to, from the documents' lengths where TRL knows them."""
    sizes = example.get("seq_lengths") or [len(example["input_ids"])]
    found = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    return np.pad(found, (0, length - len(found)))


def _warm(model: Any) -> None:
    """A small forward and backward pass, which leaves no gradient."""
    import torch

    ids = torch.ones((1, 32), dtype=torch.long)
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    model.zero_grad(set_to_none=True)


WORKS: dict[str, Callable[..., Found]] = {"ours": ours, "trl": trl, "plain": plain}
SUBJECT = Subject("training", "Training on packed rows", ABOUT, jobs, WORKS, lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
