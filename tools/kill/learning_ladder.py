"""The smallest ladder whose models learn from their own answers and from preferences, for being killed: a teacher and arms that
are trained by policy gradients, one of which draws a step ahead, an arm that is shifted as its teacher was, and one that learns
from pairs. It learns next to nothing.

    python tools/kill/kill.py --learning
    python tools/kill/layouts.py --config tools/kill/learning_ladder.py --layouts 1x8 2x4 -- --mesh.data 2 --mesh.fsdp 4
"""

import dataclasses

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.batches.settings import Batching
from w2sr_jax.core.records import Problem, Verdict
from w2sr_jax.curation.arms import Nothing
from w2sr_jax.curation.pairs import Pairs
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Arm, Experiment, Imitation, ModelTeacher, OnPolicy, Policy, Pretraining, Rung
from w2sr_jax.experiment.preference import Preference
from w2sr_jax.losses.policy import Grpo
from w2sr_jax.losses.preference import Dpo
from w2sr_jax.losses.shift import Shift
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.policy.gates import Gates
from w2sr_jax.training.settings import Training


@dataclasses.dataclass(frozen=True)
class Grader(NumberGrader):
    """Finds answers of an even number of words right too, so that models which know nothing have answers of both kinds."""

    def __call__(self, text: str, problem: Problem) -> Verdict:
        verdict = super().__call__(text, problem)
        return verdict if len(text.split()) % 2 else dataclasses.replace(verdict, verdict="correct")


def experiment() -> Experiment:
    training = Training(steps=8, learning_rate=1e-2, batching=Batching(length=160, rows=8), save_every=4, log_every=1, keep=2)
    decoding = Decoding(temperature=1.0, max_tokens=12, batch=16)
    own = dataclasses.replace(training, warmup=0.0, save_every=3)
    small = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
    gates = Gates(truncated=0.0, looping=0.0)
    policy = Policy(steps=8, problems=4, rollouts=4, decoding=decoding, truncated="count", training=own, gates=gates)
    ahead = dataclasses.replace(policy, loss=Grpo(), ahead=True, reuse=2)
    shift = OnPolicy(Shift(positive="teacher", negative="teacher-base"), 8, 8, 1, decoding=decoding, training=own, gates=gates)
    rung = Rung(
        "small",
        small,
        start=Pretraining(training=training, facts=20),
        curation=Curation(keep_unfinished=True),
        arms=(
            Arm("policy", Nothing(), (policy,)),
            Arm("ahead", Nothing(), (ahead,)),
            Arm("shift", Nothing(), (shift,)),
            Arm("dpo", Pairs(per_problem=2), (Imitation(), Preference(Dpo()))),
        ),
        gold=False,
        training=training,
    )
    return Experiment(
        name="ladder",
        rungs=(rung,),
        teachers=(ModelTeacher("teacher", small, training, samples=4, decoding=decoding, train=(policy,)),),
        problems=Generated(seed=3, operations=(2, 3), largest=9),
        splits=Splits(pretrain=24, teacher=24, pool=24, probe=4, test=8),
        tokenizer=WordTokenizer(largest=9),
        grader=Grader(),
        evaluation=Evaluation(samples=1, resamples=20),
        decoding=dataclasses.replace(decoding, temperature=0.0),
    )
