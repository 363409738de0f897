"""Qwen3 on MATH, three rungs: 0.6B teaches 1.7B, which teaches 4B, which teaches 8B.

    w2sr run configs/qwen3_math.py
    w2sr run configs/qwen3_math.py --shrink        # the same ladder with tiny random weights, on a CPU

The recipe is that of the best documented positive replication (arXiv 2609.08798, Table 3): 9,600 prompts with 8 samples each, of
every prompt one correct, well-formed, untruncated trace; full fine-tuning for 3 epochs at batch 64 and learning rate 2e-5. The
prompts are from both splits of MATH, since train alone has 7,500, without the problems of MATH-500, on which models are tested.
Hardware: 16 GPUs of 80 GB, or a TPU v5p-32; the first rung alone takes 4 GPUs (--mesh.fsdp 4). The larger students are trained
over fsdp 16, the 1.7B over 4; every model decodes with a copy of its weights on each device.
"""

import dataclasses

from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, FromCheckpoint, Graduate, ModelTeacher, Rung
from w2sr_jax.models import presets
from w2sr_jax.parallel.settings import Mesh, Meshes
from w2sr_jax.problems.presets import math, math500
from w2sr_jax.problems.settings import Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import PretrainedTokenizer
from w2sr_jax.training.settings import Training

SAMPLED = Decoding(temperature=0.6, top_p=0.95, top_k=20, max_tokens=4096, batch=256)
TEACHER = ModelTeacher(name="qwen3-0.6b", model=presets.QWEN3_0_6B, checkpoint="Qwen/Qwen3-0.6B", samples=8, decoding=SAMPLED)
RUNG = Rung(
    name="1.7b",
    model=presets.QWEN3_1_7B,
    start=FromCheckpoint("Qwen/Qwen3-1.7B-Base"),
    teachers=(TEACHER.name,),
    curation=Curation(per_problem=1, keep_loops=False),
    arms=("all", "correct"),
    training=Training(
        epochs=3,
        learning_rate=2e-5,
        warmup=0.1,
        batching=Batching(length=5120, rows=64, pack=False),
        accumulation=4,
        save_every=50,
    ),
    probe=Probe(every=50),
    meshes=Meshes(training=Mesh(fsdp=4)),
)


def graduate(size: str) -> Graduate:
    """The student of that size as the next one's teacher."""
    return Graduate(f"{size}-student", arm="correct", samples=8, decoding=SAMPLED)


def experiment() -> Experiment:
    larger = dataclasses.replace(RUNG, arms=("correct",), meshes=Meshes())
    return Experiment(
        name="qwen3-math",
        problems=math("train+test"),
        test_problems=math500(),
        splits=Splits(pool=9600, probe=300),
        tokenizer=PretrainedTokenizer("Qwen/Qwen3-1.7B"),
        teachers=(TEACHER, graduate("1.7b"), graduate("4b")),
        rungs=(
            RUNG,
            dataclasses.replace(
                larger,
                name="4b",
                model=presets.QWEN3_4B,
                start=FromCheckpoint("Qwen/Qwen3-4B-Base"),
                teachers=("1.7b-student",),
            ),
            dataclasses.replace(
                larger,
                name="8b",
                model=presets.QWEN3_8B,
                start=FromCheckpoint("Qwen/Qwen3-8B-Base"),
                teachers=("4b-student",),
            ),
        ),
        evaluation=Evaluation(samples=4, temperature=0.6, faithfulness=100, pool=300),
        decoding=Decoding(temperature=0.0, max_tokens=4096, batch=256),
        mesh=Mesh(fsdp=16),
    )
