"""W2SR as in its paper: a weak reasoner that reinforcement has made, and a student that learns from it beside reinforcement.

    w2sr run configs/simplerl_w2sr.py
    w2sr run configs/simplerl_w2sr.py --shrink        # the same experiment with tiny random weights, on a CPU

The teacher is Qwen2.5-0.5B after Dr.GRPO on MATH (arXiv 2505.20072 takes its teachers from SimpleRL-Zoo, arXiv 2503.18892), the
student Qwen2.5-7B: on all traces (W2SR), on the correct ones (W2SR-P), by reinforcement alone, and by reinforcement after W2SR-P.
What the teacher's reinforcement costs is charged to it. Its published checkpoint, hkust-nlp/Qwen-2.5-0.5B-SimpleRL-Zoo, can be
given instead (--teachers.0.checkpoint) in a copy of this file without `train`. Hardware: 16 GPUs of 80 GB; reinforcement of the
7B dominates.
"""

from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.arms import Correct, Nothing
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Arm, Experiment, FromCheckpoint, ModelTeacher, Policy, Rung
from w2sr_jax.losses.policy import DrGrpo
from w2sr_jax.models import presets
from w2sr_jax.parallel.settings import Mesh, Meshes
from w2sr_jax.problems.presets import math, math500
from w2sr_jax.problems.settings import Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import PretrainedTokenizer
from w2sr_jax.training.settings import Training

TOKENS = 2048
SAMPLED = Decoding(temperature=1.0, max_tokens=TOKENS, batch=512)
ROWS = Batching(length=3072)
OWN = Training(learning_rate=1e-6, warmup=0.0, final_fraction=1.0, log_every=1, save_every=20, accumulation=8, batching=ROWS)
POLICY = Policy(DrGrpo(), steps=100, problems=64, rollouts=8, decoding=SAMPLED, training=OWN)
TEACHER = ModelTeacher(
    name="qwen2.5-0.5b",
    model=presets.QWEN2_5_0_5B,
    checkpoint="Qwen/Qwen2.5-0.5B",
    train=(POLICY,),
    samples=8,
    decoding=SAMPLED,
    meshes=Meshes(training=Mesh(fsdp=4)),
)


def experiment() -> Experiment:
    arms = (
        Arm("all"),
        Arm("correct", select=Correct()),
        Arm("rl", select=Nothing(), train=(POLICY,), label="RL alone"),
        Arm("correct-rl", select=Nothing(), train=(POLICY,), after="correct", label="W2SR-P, then RL"),
    )
    rung = Rung(
        name="7b",
        model=presets.QWEN2_5_7B,
        start=FromCheckpoint("Qwen/Qwen2.5-7B"),
        teachers=(TEACHER.name,),
        curation=Curation(per_problem=1, keep_loops=False),
        arms=arms,
        gold=False,
        training=Training(
            epochs=3,
            learning_rate=2e-5,
            batching=Batching(length=3072, rows=64, pack=False),
            accumulation=4,
            save_every=50,
        ),
        probe=Probe(every=50),
    )
    return Experiment(
        name="simplerl-w2sr",
        problems=math("train+test"),
        test_problems=math500(),
        splits=Splits(teacher=2400, pool=7200, probe=300),
        tokenizer=PretrainedTokenizer("Qwen/Qwen2.5-1.5B-Instruct"),
        teachers=(TEACHER,),
        rungs=(rung,),
        evaluation=Evaluation(samples=4, temperature=0.7, faithfulness=100, pool=300),
        decoding=Decoding(temperature=0.0, max_tokens=TOKENS, batch=256),
        mesh=Mesh(fsdp=16),
    )
