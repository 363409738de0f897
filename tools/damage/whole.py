"""A small ladder that leaves every kind of file that a run can: a grader of the user's, looks at the probe while students train,
LoRA, chains that are cut and changed, answers to training problems. It learns next to nothing.

    w2sr run tools/damage/whole.py --name whole
"""

import dataclasses

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, FromParent, Graduate, ModelTeacher, Pretraining, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.settings import Training


@dataclasses.dataclass(frozen=True)
class Grader(NumberGrader):
    """One of the user's, so that the run keeps a copy of this file."""


def experiment() -> Experiment:
    training = Training(steps=8, learning_rate=1e-2, batching=Batching(length=112, rows=2), log_every=1, keep=2)
    decoding = Decoding(temperature=0.3, max_tokens=12, batch=32)
    tiny = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
    curation = Curation(keep_unfinished=True)
    first = Rung(
        "small",
        tiny,
        start=Pretraining(training=training, facts=20),
        pool=(0.0, 0.5),
        curation=curation,
        arms=("all",),
        training=training,
        probe=Probe(every=4),
    )
    second = Rung(
        "large",
        tiny,
        start=FromParent(arm="base"),
        teachers=("graduate",),
        pool=(0.5, 1.0),
        curation=curation,
        arms=("all",),
        gold=False,
        training=dataclasses.replace(training, lora=Lora(rank=2)),
    )
    return Experiment(
        name="whole",
        rungs=(first, second),
        teachers=(
            ModelTeacher("teacher", tiny, training, samples=2, decoding=decoding),
            Graduate("graduate", arm="all", samples=2, decoding=decoding),
        ),
        problems=Generated(seed=3, operations=(2, 3), largest=9),
        splits=Splits(pretrain=20, teacher=20, pool=32, probe=4, test=4),
        tokenizer=WordTokenizer(largest=9),
        grader=Grader(),
        evaluation=Evaluation(samples=1, resamples=20, pool=4, faithfulness=2),
        decoding=dataclasses.replace(decoding, temperature=0.0),
    )
