"""Time from the start of a process to the first training step and to the first sampled tokens, with and without compiled
programs on disk.

    python tools/bench/startup.py
    python tools/bench/startup.py --quick       # does it run?
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
from harness import Found, Job, Line, Subject
from peers import hf_model, tokenizer, trl_settings
from shapes import SHAPES, documents

FIRST, SECOND, TRL, TRANSFORMERS = "first start", "second start", "TRL", "transformers"

PARTS = dict.fromkeys(("tiny", "S"), (("training", TRL), ("sampling", TRANSFORMERS))) | {"M": (("training", TRL),)}
"""What is started with each shape, and beside whom."""

ABOUT = (
    "Seconds from starting the Python process until the first step's loss is known, of `fit` with two rows of 128 tokens (so "
    "that starting and compiling are what is measured, not the step): imports, fresh parameters, packing, compilation, one "
    "step. The first start finds no compiled programs on disk, the second one finds those of the first. TRL's SFTTrainer gets "
    "the same documents. Sampling: until 16 completions of 8 tokens after prompts of 128 tokens are drawn.",
)


def training(shape: str, second: bool) -> Found:
    compiled = _cache(second)
    import jax

    from w2sr_jax.batches.batch import Batches
    from w2sr_jax.batches.packing import pack
    from w2sr_jax.batches.settings import Batching
    from w2sr_jax.core.keys import key
    from w2sr_jax.losses.objective import Objective
    from w2sr_jax.models import transformer
    from w2sr_jax.parallel.mesh import make_mesh
    from w2sr_jax.parallel.settings import Mesh
    from w2sr_jax.training.imitation import imitation
    from w2sr_jax.training.loop import fit
    from w2sr_jax.training.protocols import Hooks
    from w2sr_jax.training.settings import Training

    imported = harness.since_start()
    from training import encoded

    config, batching = SHAPES[shape], Batching(128, 2)
    batches = Batches(pack([encoded(ids) for ids in documents(16, config.vocab_size, 128).tokens], 128), batching)
    params = transformer.init(config, key(0, "bench"))
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = Training(steps=2, log_every=1, batching=batching)
        mesh = make_mesh(Mesh(data=1), jax.devices())
        program, source = imitation(config, params, batches, settings, Objective(), mesh)
        hooks = Hooks(on_event=lambda event: times.append(harness.since_start()))
        fit(program, source, Path(folder), {"config_hash": "bench"}, settings.loop, hooks)
    ended = harness.since_start()
    return {f"training, {shape}": {"seconds": times[0], "imports_s": imported, "end_s": ended, "found_programs": compiled}}


def trl(shape: str) -> Found:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTTrainer

    imported = harness.since_start()
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(harness.since_start())

    with trl_settings(max_length=128, per_device_train_batch_size=2, max_steps=1) as settings:
        data = Dataset.from_dict({"input_ids": [ids.tolist() for ids in documents(16, SHAPES[shape].vocab_size, 128).tokens]})
        model = hf_model(shape)
        SFTTrainer(model, settings, train_dataset=data, processing_class=tokenizer(), callbacks=[Clock()]).train()
    return {f"training, {shape}": {"seconds": times[0], "imports_s": imported}}


def sampling(shape: str, second: bool) -> Found:
    compiled = _cache(second)
    from w2sr_jax.core.keys import key, keys
    from w2sr_jax.models import transformer
    from w2sr_jax.sampling.engine import generate
    from w2sr_jax.sampling.settings import Decoding

    imported = harness.since_start()
    config = SHAPES[shape]
    params = transformer.init(config, key(0, "bench"))
    prompts = [[1 + index] * 128 for index in range(16)]
    drawn = keys(0, "bench", [(index,) for index in range(16)])
    generate(config, params, prompts, drawn, Decoding(max_tokens=8, batch=16), (), 0)
    return {f"sampling, {shape}": {"seconds": harness.since_start(), "imports_s": imported, "found_programs": compiled}}


def transformers(shape: str) -> Found:
    import torch
    from transformers import Qwen2ForCausalLM

    del Qwen2ForCausalLM
    imported = harness.since_start()
    model = hf_model(shape).eval()
    ids = torch.arange(1, 17)[:, None].expand(16, 128)
    with torch.inference_mode():
        model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=8, pad_token_id=0)
    return {f"sampling, {shape}": {"seconds": harness.since_start(), "imports_s": imported}}


def jobs(quick: bool) -> list[Job]:
    found = []
    for shape in ["tiny"] if quick else ["S", "M"]:
        for work, peer in PARTS[shape]:
            cache = f"{work}-{shape}-{{round}}"
            for variant, second in ((FIRST, False), (SECOND, True)):
                found.append(Job(variant, work, {"shape": shape, "second": second}, harness.HUGE_PAGES, cache))
            found.append(Job(peer, "trl" if peer == TRL else "transformers", {"shape": shape}))
    return found


def lines(quick: bool) -> list[Line]:
    found = []
    for shape in ["tiny"] if quick else ["S", "M"]:
        for work, peer in PARTS[shape]:
            case, words = f"{work}, {shape}", f"{'first step' if work == 'training' else 'first tokens'}, {shape}"
            target = 0.3 if peer == TRL and not quick else None
            found.append(Line(f"{words}: {SECOND}", case, "seconds", "s", "lower", SECOND, (FIRST,), target))
            found.append(Line(f"{words}: {SECOND}", case, "seconds", "s", "lower", SECOND, (peer,)))
            found.append(Line(f"{words}: imports", case, "imports_s", "s", "lower", SECOND, (peer,)))
    return found


def _cache(second: bool) -> float:
    """Keep compiled programs as the `w2sr` command does, in the folder that the job was given; how many are there."""
    folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    from w2sr_jax.parallel.compiling import remember

    remember()
    found = sum(1 for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    if second and not found:
        raise SystemExit("the first start has left no compiled programs")
    return float(found)


WORKS: dict[str, Callable[..., Found]] = {"training": training, "trl": trl, "sampling": sampling, "transformers": transformers}
SUBJECT = Subject("startup", "Starting", ABOUT, jobs, WORKS, lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
