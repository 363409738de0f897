"""A complete weak-to-strong experiment in minutes on a CPU: generated problems, a weak teacher, a ladder of two students.

    w2sr run configs/quickstart.py
    w2sr run configs/quickstart.py --name mine --rungs.0.training.learning-rate 3e-4

The teacher is small and trained on few gold solutions. The first student's base is pretrained on arithmetic facts, questions and
answers without reasoning; it is fine-tuned on the teacher's traces: all of them, the correct ones (W2SR-P), the incorrect ones
(W2SR-N). The second student is the first one with wider layers, and the first one is its teacher. `gold` is the ceiling: the same
student, problems and budget, with gold solutions. Hardware: 2 CPU cores, 3 GiB of memory.
"""

import dataclasses

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, FromParent, Graduate, ModelTeacher, Pretraining, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.settings import Training

BATCHING = Batching(length=112, rows=6)
SMALL = ModelConfig(width=96, layers=3, heads=3, kv_heads=3)
LARGE = dataclasses.replace(SMALL, mlp=384)
LOOKS = Probe(every=200, weakest_teacher=0.2, induced_rise=0.1)
SAMPLED = Decoding(temperature=0.7, max_tokens=32, batch=64)
TEACHER = ModelTeacher(
    name="teacher",
    model=ModelConfig(width=64, layers=2, heads=2, kv_heads=2),
    training=Training(steps=660, learning_rate=3e-3, weight_decay=0.5, batching=BATCHING),
    samples=6,
    decoding=SAMPLED,
)


def experiment() -> Experiment:
    pretraining = Training(steps=900, learning_rate=3e-3, weight_decay=0.5, batching=BATCHING)
    learning = Training(steps=1000, learning_rate=2e-3, weight_decay=0.5, batching=BATCHING)
    return Experiment(
        name="quickstart",
        problems=Generated(seed=1, operations=(2, 4), largest=19),
        splits=Splits(pretrain=6000, teacher=2000, pool=12000, probe=200, test=1000),
        tokenizer=WordTokenizer(largest=19),
        teachers=(
            TEACHER,
            Graduate(name="graduate", arm="correct", samples=5, decoding=dataclasses.replace(SAMPLED, temperature=1.0)),
        ),
        rungs=(
            Rung(
                name="small",
                model=SMALL,
                start=Pretraining(training=pretraining, facts=2500),
                teachers=("teacher",),
                pool=(0.0, 0.5),
                curation=Curation(per_problem=1),
                arms=("all", "correct", "incorrect"),
                training=learning,
                probe=LOOKS,
            ),
            Rung(
                name="large",
                model=LARGE,
                start=FromParent(arm="base"),
                teachers=("graduate",),
                pool=(0.5, 1.0),
                curation=Curation(per_problem=1),
                arms=("correct",),
                training=learning,
                probe=LOOKS,
            ),
        ),
        grader=NumberGrader(),
        evaluation=Evaluation(samples=4, temperature=0.7, faithfulness=100, pool=300),
        decoding=Decoding(temperature=0.0, max_tokens=32, batch=64),
    )


def miniature() -> Experiment:
    """The same ladder in half a minute, for tests: too small to show anything but that every part works."""
    full = experiment()
    short = Training(steps=30, learning_rate=2e-3, batching=BATCHING)
    teacher = dataclasses.replace(TEACHER, training=dataclasses.replace(short, steps=120), samples=2)
    first, second = full.rungs
    looks = Probe(every=15)
    return dataclasses.replace(
        full,
        name="miniature",
        splits=Splits(pretrain=200, teacher=400, pool=200, probe=20, test=40),
        teachers=(teacher, *full.teachers[1:]),
        rungs=(
            dataclasses.replace(first, start=Pretraining(training=short, facts=100), training=short, probe=looks),
            dataclasses.replace(second, training=short, probe=looks),
        ),
        evaluation=Evaluation(samples=2, temperature=0.7, resamples=200, faithfulness=10, pool=30),
    )
