"""Llama 3.2 taught by recorded traces: what Gemma-2b and Llama2-7b wrote for GSM8K questions teaches the 1B base, and that
student teaches the 3B base, both through LoRA.

    w2sr run configs/llama3_recorded.py
    W2SR_DATA=/data/w2sr w2sr run configs/llama3_recorded.py
    w2sr run configs/llama3_recorded.py --shrink      # the same ladder with tiny random weights and invented traces, on a CPU

Reads traces/gair_gsm8k_{gemma_2b,llama2_7b}.jsonl.gz below W2SR_DATA (default: ../shared/data); any file or data set of traces
can be given instead: --teachers.0.path FILE, hf:NAME or tfds:DIR. The base models have never seen the end-of-turn token
<|eot_id|>, so embeddings are trained beside the adapters. The weights are gated: accept Meta's licence on the Hub and log in
(hf auth login), or give local directories. Hardware: 1 GPU of 80 GB (--mesh.data 1).
"""

import dataclasses
import os

from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, FromCheckpoint, Graduate, Rung
from w2sr_jax.models import presets
from w2sr_jax.problems.presets import gsm8k
from w2sr_jax.problems.settings import Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.settings import Recorded
from w2sr_jax.text.settings import PretrainedTokenizer
from w2sr_jax.training.settings import Lora, Training

DATA = os.environ.get("W2SR_DATA", "../shared/data")
RUNG = Rung(
    name="1b",
    model=presets.LLAMA3_2_1B,
    start=FromCheckpoint("meta-llama/Llama-3.2-1B"),
    teachers=("gemma-2b", "llama2-7b"),
    curation=Curation(per_problem=2, keep_loops=False),
    arms=("all", "correct", "incorrect"),
    training=Training(
        epochs=3,
        learning_rate=1e-4,
        warmup=0.05,
        batching=Batching(length=1024, rows=16),
        accumulation=2,
        lora=Lora(rank=32, alpha=64.0, embeddings=True),
    ),
)


def experiment() -> Experiment:
    sampled = Decoding(temperature=0.7, max_tokens=400, batch=256)
    return Experiment(
        name="llama3-recorded",
        problems=gsm8k("train"),
        test_problems=gsm8k("test"),
        splits=Splits(pool=-1, probe=300),
        tokenizer=PretrainedTokenizer(
            "meta-llama/Llama-3.2-1B-Instruct",
            reason="{question}\nPlease reason step by step, and put your final answer after ####.",  # as the traces do
            pad="<|finetune_right_pad_id|>",
        ),
        teachers=(
            Recorded("gemma-2b", f"{DATA}/traces/gair_gsm8k_gemma_2b.jsonl.gz"),
            Recorded("llama2-7b", f"{DATA}/traces/gair_gsm8k_llama2_7b.jsonl.gz"),
            Graduate("1b-student", arm="correct", samples=4, decoding=sampled),
        ),
        rungs=(
            RUNG,
            dataclasses.replace(
                RUNG,
                name="3b",
                model=presets.LLAMA3_2_3B,
                start=FromCheckpoint("meta-llama/Llama-3.2-3B"),
                teachers=("1b-student",),
                arms=("correct",),
            ),
        ),
        evaluation=Evaluation(samples=4, temperature=0.7, faithfulness=100, pool=300),
        decoding=Decoding(temperature=0.0, max_tokens=400, batch=256),
    )
