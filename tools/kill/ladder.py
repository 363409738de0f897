"""The smallest ladder that does everything a ladder does, for being killed: a teacher, a pretrained base, an arm and its ceiling,
and a second rung that the first one teaches. It learns next to nothing. Checkpoints are saved every few steps.

    w2sr run tools/kill/ladder.py --name undisturbed
"""

import dataclasses
from collections.abc import Callable, Sequence

from w2sr_jax.answers.grade import MathGrader, NumberGrader
from w2sr_jax.batches.settings import Batching
from w2sr_jax.core.records import Problem, Verdict
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, FromParent, Graduate, ModelTeacher, Pretraining, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.settings import Training

ASKS = 64  # texts of a batch from which on a worker process is asked too


@dataclasses.dataclass(frozen=True)
class Grader(MathGrader):
    """Compares numbers, and for each large batch starts a worker process, as answers that are no numbers would."""

    workers: int = 1

    def many(
        self, texts: Sequence[str], problems: Sequence[Problem], on_progress: Callable[[int, int], None] | None = None
    ) -> list[Verdict]:
        if len(texts) >= ASKS:
            (asked,) = super().many([r"#### \sqrt{144}"], [Problem.of("?", "12")])
            assert asked.verdict == "correct", asked
        return [NumberGrader()(text, problem) for text, problem in zip(texts, problems, strict=True)]


def experiment() -> Experiment:
    training = Training(steps=40, learning_rate=1e-2, batching=Batching(length=112, rows=2), save_every=8, log_every=1, keep=2)
    decoding = Decoding(temperature=0.3, max_tokens=12, batch=32)
    small = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
    teacher = ModelTeacher("teacher", small, training, samples=4, decoding=decoding)
    graduate = Graduate("graduate", arm="all", samples=2, decoding=decoding)
    curation = Curation(keep_unfinished=True)
    first = Rung(
        "small",
        small,
        start=Pretraining(training=training, facts=20),
        pool=(0.0, 0.5),
        curation=curation,
        arms=("all",),
        training=training,
    )
    second = Rung(
        "large",
        small,
        start=FromParent(arm="base"),
        teachers=("graduate",),
        pool=(0.5, 1.0),
        curation=curation,
        arms=("all",),
        gold=False,
        training=training,
    )
    return Experiment(
        name="ladder",
        rungs=(first, second),
        teachers=(teacher, graduate),
        problems=Generated(seed=3, operations=(2, 3), largest=9),
        splits=Splits(pretrain=20, teacher=20, pool=64, probe=8, test=8),
        tokenizer=WordTokenizer(largest=9),
        grader=Grader(),
        evaluation=Evaluation(samples=1, resamples=20),
        decoding=dataclasses.replace(decoding, temperature=0.0),
    )
