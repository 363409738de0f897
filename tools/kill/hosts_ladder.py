"""The smallest experiment that has every kind of stage, for processes that are killed singly. It learns next to nothing."""

from ladder import Grader

from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, ModelTeacher, Pretraining, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.settings import Training


def experiment() -> Experiment:
    training = Training(steps=12, learning_rate=1e-2, batching=Batching(length=112, rows=4), save_every=4, log_every=1, keep=2)
    decoding = Decoding(temperature=0.3, max_tokens=12, batch=16)
    small = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
    rung = Rung(
        "small",
        small,
        start=Pretraining(training=training, facts=20),
        curation=Curation(keep_unfinished=True),
        arms=("all",),
        gold=False,
        training=training,
        probe=Probe(every=6),
    )
    return Experiment(
        name="ladder",
        rungs=(rung,),
        teachers=(ModelTeacher("teacher", small, training, samples=4, decoding=decoding),),
        problems=Generated(seed=3, operations=(2, 3), largest=9),
        splits=Splits(pretrain=20, teacher=20, pool=48, probe=4, test=8),
        tokenizer=WordTokenizer(largest=9),
        grader=Grader(),
        evaluation=Evaluation(samples=1, resamples=20, faithfulness=4),
        decoding=decoding,
        mesh=Mesh(fsdp=2),
    )
