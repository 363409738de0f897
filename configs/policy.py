"""Reinforcement, preferences and on-policy shifts beside weak-to-strong imitation, on generated problems, in minutes on a CPU.

    w2sr run configs/policy.py
    w2sr run configs/policy.py --name longer --rungs.0.arms.1.train.0.steps 200

The teacher is the small one of the quickstart, trained further by reinforcement on its own answers, as the weak reasoners of W2SR
are (arXiv 2505.20072). The student imitates its correct traces (W2SR-P). From there it goes on in several ways, each an arm:
policy gradients on its own answers (Dr.GRPO), preference for correct traces over incorrect ones (DPO), and the weak-to-strong
shift, which moves it as the teacher's own training has moved the teacher (W2S-OPD, arXiv 2607.26246). `rl` is reinforcement of a
base that never reasons. Three controls have no teacher in them, or none that fits: `shuffled` has the shift given to other
tokens, `fixed` a fixed negative advantage, `self` imitation of the student's own correct answers. Hardware: 2 CPU cores, 3 GiB.
"""

import dataclasses

from quickstart import BATCHING, TEACHER
from quickstart import experiment as quickstart
from quickstart import miniature as quickstart_miniature
from reinforced import LEARNING, OWN, POLICY

from w2sr_jax.curation.arms import Correct, Nothing
from w2sr_jax.curation.pairs import Pairs
from w2sr_jax.curation.settings import Curation
from w2sr_jax.experiment import Arm, Experiment, TrainingStage
from w2sr_jax.experiment.policy import OnPolicy, Policy
from w2sr_jax.experiment.preference import Preference
from w2sr_jax.losses.advantages import Fixed
from w2sr_jax.losses.preference import Dpo
from w2sr_jax.losses.shift import Shift
from w2sr_jax.losses.token import Nll, OnCorrect
from w2sr_jax.training.settings import Training

SHIFT = Shift(anchor="initial", positive="teacher", negative="teacher-base", strength=1.0)
REASONER = dataclasses.replace(TEACHER, train=(dataclasses.replace(POLICY, steps=40),))
MINIATURE_TEACHER = Training(steps=120, learning_rate=2e-3, batching=BATCHING)
ON_POLICY = OnPolicy(SHIFT, steps=150, problems=64, rollouts=4, training=OWN)
PREFERENCES = Training(steps=100, learning_rate=1e-4, batching=BATCHING)


def after(name: str, label: str, stage: Policy | OnPolicy) -> Arm:
    """An arm that goes on from the student of W2SR-P, without traces."""
    return Arm(name, select=Nothing(), train=(stage,), label=label, after="correct")


ARMS = (
    Arm("correct", select=Correct()),
    after("correct-rl", "W2SR-P, then RL", POLICY),
    Arm("rl", select=Nothing(), train=(POLICY,), label="RL alone"),
    Arm("dpo", select=Pairs(), train=(Preference(Dpo(), training=PREFERENCES),), label="W2SR-P, then DPO", after="correct"),
    after("shift", "W2SR-P, then shift", ON_POLICY),
    after("shuffled", "shift, shuffled", dataclasses.replace(ON_POLICY, loss=dataclasses.replace(SHIFT, shuffle=True))),
    after("fixed", "fixed advantage", dataclasses.replace(POLICY, advantages=Fixed(-0.1), patience=0)),
    after("self", "own right answers", dataclasses.replace(ON_POLICY, loss=OnCorrect(Nll()))),
)


def experiment() -> Experiment:
    base = quickstart()
    chosen = Curation(per_problem=2)
    rung = dataclasses.replace(base.rungs[0], pool=(0.0, 1 / 6), curation=chosen, arms=ARMS, training=LEARNING)
    return dataclasses.replace(base, name="policy", teachers=(REASONER,), rungs=(rung,))


def miniature() -> Experiment:
    """The same arms in about a minute, for tests: too small to show anything but that every part works."""
    small = quickstart_miniature()
    training = dataclasses.replace(OWN, save_every=1)
    policy = dataclasses.replace(POLICY, steps=2, problems=4, rollouts=4, training=training)

    def tiny(stage: TrainingStage) -> TrainingStage:
        if isinstance(stage, Preference):
            return dataclasses.replace(stage, training=dataclasses.replace(PREFERENCES, steps=2))
        if isinstance(stage, Policy):
            return dataclasses.replace(policy, advantages=stage.advantages, patience=0)
        if isinstance(stage, OnPolicy):
            return dataclasses.replace(stage, steps=2, problems=4, training=training)
        return stage

    arms = tuple(dataclasses.replace(arm, train=tuple(map(tiny, arm.train))) for arm in ARMS)
    rung = dataclasses.replace(small.rungs[0], curation=Curation(per_problem=1), arms=arms)
    reasoner = dataclasses.replace(REASONER, model=TEACHER.model, training=MINIATURE_TEACHER, samples=2, train=(policy,))
    return dataclasses.replace(small, name="policy-miniature", teachers=(reasoner,), rungs=(rung,))
