"""Reinforcement after weak-to-strong imitation, with three seeds: what policy gradients add to W2SR-P.

    w2sr run configs/reinforced.py

The teacher and the base are those of the quickstart's first rung. The student imitates the teacher's correct traces of a sixth of
the pool (W2SR-P) and goes on by Dr.GRPO on its own answers to the same problems: 150 steps of 32 problems with 8 answers each.
What came out is in docs/policy.md. Hardware: 2 CPU cores, 3 GiB of memory; some five minutes a seed.
"""

import dataclasses

from quickstart import BATCHING
from quickstart import experiment as quickstart

from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.arms import Correct, Nothing
from w2sr_jax.curation.settings import Curation
from w2sr_jax.experiment import Arm, Experiment, Policy
from w2sr_jax.losses.policy import DrGrpo
from w2sr_jax.training.settings import Training

LEARNING = Training(steps=500, learning_rate=2e-3, weight_decay=0.5, batching=BATCHING)
OWN = Training(
    learning_rate=3e-4,
    warmup=0.05,
    final_fraction=0.2,
    accumulation=32,
    log_every=1,
    save_every=25,
    batching=Batching(length=80),
)
POLICY = Policy(DrGrpo(), steps=150, problems=32, rollouts=8, training=OWN)
ARMS = (
    Arm("correct", select=Correct()),
    Arm("correct-rl", select=Nothing(), train=(POLICY,), label="W2SR-P, then RL", after="correct"),
)


def experiment() -> Experiment:
    base = quickstart()
    chosen = Curation(per_problem=2)
    rung = dataclasses.replace(base.rungs[0], pool=(0.0, 1 / 6), curation=chosen, arms=ARMS, training=LEARNING)
    return dataclasses.replace(base, name="reinforced", teachers=base.teachers[:1], rungs=(rung,), seeds=(0, 1, 2))
