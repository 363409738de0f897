"""Qwen2.5 on GSM8K: the 0.5B instruct model teaches the 1.5B base, and that student teaches the 7B base.

    w2sr run configs/qwen2_5_gsm8k.py                                  # Hub ids, downloaded where they are not cached yet
    w2sr run configs/qwen2_5_gsm8k.py --shrink                         # the same ladder with tiny random weights, on a CPU
    w2sr run configs/qwen2_5_gsm8k.py --rungs.1.training.lora.rank 32  # only adapters of the 7B are trained

Without network give local directories: --teachers.0.checkpoint DIR, --tokenizer.path DIR, --rungs.0.start.path DIR and
--rungs.1.start.path DIR; for the data --problems.path hf:DIR:main:train and --test-problems.path hf:DIR:main:test. Hardware: 8
GPUs of 80 GB (the 7B is trained in full with float32 weights and optimizer state, about 16 bytes a parameter, split over all of
them); with --rungs.1.training.lora.rank 32, 2 of them (--mesh.fsdp 2). The first rung alone (w2sr train RUN --rung 0) takes 1 GPU
of 80 GB with --mesh.fsdp 1.
"""

import dataclasses

from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, FromCheckpoint, Graduate, ModelTeacher, Rung
from w2sr_jax.models import presets
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.presets import gsm8k
from w2sr_jax.problems.settings import Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import PretrainedTokenizer
from w2sr_jax.training.settings import Training

SAMPLED = Decoding(temperature=1.0, max_tokens=512, batch=256)
TEACHER = ModelTeacher(
    name="qwen2.5-0.5b-instruct",
    model=presets.QWEN2_5_0_5B,
    checkpoint="Qwen/Qwen2.5-0.5B-Instruct",
    samples=8,
    decoding=SAMPLED,
)
LEARNING = Training(
    epochs=3,
    learning_rate=2e-5,
    warmup=0.1,
    batching=Batching(length=1024, rows=16),
    accumulation=2,
    save_every=100,
)


def experiment() -> Experiment:
    rung = Rung(
        name="1.5b",
        model=presets.QWEN2_5_1_5B,
        start=FromCheckpoint("Qwen/Qwen2.5-1.5B"),
        teachers=(TEACHER.name,),
        curation=Curation(per_problem=1, keep_loops=False),
        arms=("all", "correct", "incorrect"),
        training=LEARNING,
        probe=Probe(every=100),
    )
    return Experiment(
        name="qwen2.5-gsm8k",
        problems=gsm8k("train"),
        test_problems=gsm8k("test"),
        splits=Splits(pool=-1, probe=200),
        tokenizer=PretrainedTokenizer("Qwen/Qwen2.5-1.5B-Instruct"),
        teachers=(TEACHER, Graduate("1.5b-student", arm="correct", samples=8, decoding=SAMPLED)),
        rungs=(
            rung,
            dataclasses.replace(
                rung,
                name="7b",
                model=presets.QWEN2_5_7B,
                start=FromCheckpoint("Qwen/Qwen2.5-7B"),
                teachers=("1.5b-student",),
                arms=("correct",),
            ),
        ),
        evaluation=Evaluation(samples=4, temperature=0.7, faithfulness=100, pool=300),
        decoding=Decoding(temperature=0.0, max_tokens=512, batch=256),
        mesh=Mesh(fsdp=8),
    )
