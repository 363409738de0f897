"""Real problems and real weak teachers: GSM8K, and the chains of thought that Gemma-2b and Llama2-7b wrote for it.

    w2sr run configs/gsm8k_recorded.py
    W2SR_DATA=/data/w2sr w2sr run configs/gsm8k_recorded.py

Reads gsm8k/{train,test}.jsonl and traces/gair_gsm8k_{gemma_2b,llama2_7b}.jsonl.gz below W2SR_DATA (default: ../shared/data); any
file can be given by path, for example --teachers.0.path FILE. The student is a small transformer from scratch: it learns how such
solutions read, and is far too small to solve GSM8K. Its accuracy is reported as it is. Hardware: 2 CPU cores, 4 GiB of memory.
"""

import dataclasses
import os

from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, Rung, Scratch
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Files, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.settings import Recorded
from w2sr_jax.text.settings import BpeTokenizer
from w2sr_jax.training.settings import Training

DATA = os.environ.get("W2SR_DATA", "../shared/data")
TEST = Files(f"{DATA}/gsm8k/test.jsonl", task="gsm8k")
TEACHERS = (
    Recorded("gemma-2b", f"{DATA}/traces/gair_gsm8k_gemma_2b.jsonl.gz"),
    Recorded("llama2-7b", f"{DATA}/traces/gair_gsm8k_llama2_7b.jsonl.gz"),
)


def experiment() -> Experiment:
    return Experiment(
        name="gsm8k-recorded",
        problems=Files(f"{DATA}/gsm8k/train.jsonl", task="gsm8k"),
        test_problems=TEST,
        splits=Splits(pool=-1, probe=300),
        tokenizer=BpeTokenizer(vocab_size=2048),
        teachers=TEACHERS,
        rungs=(
            Rung(
                name="tiny",
                model=ModelConfig(width=128, layers=4, heads=4, kv_heads=2),
                start=Scratch(),
                teachers=("gemma-2b", "llama2-7b"),
                curation=Curation(per_problem=2, keep_loops=False),
                arms=("all", "correct"),
                training=Training(steps=250, learning_rate=3e-3, weight_decay=0.5, batching=Batching(length=384, rows=8)),
            ),
        ),
        evaluation=Evaluation(samples=0, pool=100),
        decoding=Decoding(temperature=0.0, max_tokens=160, batch=128),
    )


def miniature() -> Experiment:
    """A few hundred traces and steps, for tests: every part on real files, in a minute."""
    full = experiment()
    rung = full.rungs[0]
    return dataclasses.replace(
        full,
        name="gsm8k-miniature",
        test_problems=dataclasses.replace(TEST, limit=24),
        splits=Splits(pool=-1, probe=40),
        tokenizer=BpeTokenizer(vocab_size=512),
        teachers=tuple(dataclasses.replace(teacher, limit=300) for teacher in TEACHERS),
        rungs=(
            dataclasses.replace(
                rung,
                model=ModelConfig(width=64, layers=2, heads=2, kv_heads=2),
                training=dataclasses.replace(rung.training, steps=40, batching=Batching(length=512, rows=4)),
            ),
        ),
        evaluation=Evaluation(samples=0, resamples=200, pool=8),
        decoding=Decoding(temperature=0.0, max_tokens=48, batch=24),
    )
