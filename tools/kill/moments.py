"""The moments at which a run is killed on purpose: which function is at work, and when in it."""

import dataclasses
from typing import Final, Literal

BEFORE: Final = "before"
DURING: Final = "during"
AFTER: Final = "after"
START = ""  # the name of the stage while none has begun


@dataclasses.dataclass(frozen=True)
class Moment:
    """`target` is MODULE:NAME of a function, or MODULE:CLASS.NAME of a method. Before or after: the process kills itself there;
    during: it is killed from outside at a random instant while the function is at work (or up to `linger` seconds after it has
    returned, where work goes on in the background). With `file`, only calls with an argument that ends like this count. `alone`:
    the process is killed without the processes it has started. `within`: a pattern of the stages whose calls count."""

    name: str
    target: str
    when: Literal["before", "during", "after"] = "during"
    file: str = ""
    linger: float = 0.0
    alone: bool = False
    within: str = "*"


REPLACE = "os:replace"

MOMENTS = (
    Moment("saving the experiment", REPLACE, BEFORE, "experiment.json"),
    Moment("making problems", "w2sr_jax.stages.problems:Problems.run"),
    Moment("making the tokenizer", "w2sr_jax.stages.tokenizer:Tokenizer.run"),
    Moment("sampling", "w2sr_jax.sampling.traces:generate"),
    Moment("grading", "w2sr_jax.sampling.traces:grade_all", alone=True),
    Moment("writing Parquet", "pyarrow.parquet:ParquetWriter.write_table"),
    Moment("Parquet written, not in place", REPLACE, BEFORE, ".parquet"),
    Moment("Parquet in place, not noted", REPLACE, AFTER, ".parquet"),
    Moment("curating", "w2sr_jax.stages.curate:Curate.run"),
    Moment("packing", "w2sr_jax.batches.packing:write"),
    Moment("in a training step", "w2sr_jax.training.student:StudentProgram.step"),
    Moment("writing metrics", "w2sr_jax.training.journal:Journal.write"),
    Moment("in an asynchronous save", "w2sr_jax.training.checkpoints:Checkpoints.save", linger=0.3),
    Moment("finishing a save beside the steps", "w2sr_jax.training.checkpoints:Checkpoints._finish"),
    Moment("sealing a checkpoint", "w2sr_jax.core.files:seal"),
    Moment("checkpoint's digests not in place", REPLACE, BEFORE, "DIGESTS.json"),
    Moment("removing an old checkpoint", "w2sr_jax.training.retention:remove"),
    Moment("retiring a training's checkpoints", "w2sr_jax.training.retention:retire"),
    Moment("evaluating", "w2sr_jax.stages.evaluate:Evaluate.run"),
    Moment("committing a manifest", "w2sr_jax.graph.store:RunStore.commit"),
    Moment("manifest not in place", REPLACE, BEFORE, "lineage/*.json"),
    Moment("manifest in place", REPLACE, AFTER, "lineage/*.json"),
    Moment("rendering the report", "w2sr_jax.stages.report.assemble:pooled"),
    Moment("report not in place", REPLACE, BEFORE, "report/index.html"),
)
LEARNING = (
    Moment("drawing answers", "w2sr_jax.training.policy.drawing:Drawing.groups", linger=0.1),
    Moment("drawing and judging answers", "w2sr_jax.training.policy.source:RolloutSource._rewarded"),
    Moment("drawing answers ahead", "w2sr_jax.training.policy.source:RolloutSource._draw_ahead"),
    Moment("judging answers", "w2sr_jax.training.policy.source:RolloutSource._judge"),
    Moment("answers drawn, not written", REPLACE, BEFORE, "rollouts-*.parquet"),
    Moment("answers written, step not done", REPLACE, AFTER, "rollouts-*.parquet"),
    Moment("answers drawn ahead, not written", REPLACE, BEFORE, "drawn-*.parquet"),
    Moment("answers drawn ahead, not judged", REPLACE, AFTER, "drawn-*.parquet"),
    Moment("in a step on own answers", "w2sr_jax.training.policy.program:RolloutProgram.step", linger=0.02),
    Moment("references of pairs", "w2sr_jax.training.preference.program:sequence_references"),
    Moment("a pair's references not in place", REPLACE, BEFORE, "piece-*.npy"),
    Moment("reading pairs", "w2sr_jax.training.preference.program:PairSource.batch_at"),
    Moment("in a step on pairs", "w2sr_jax.training.student:StudentProgram.step", within="*/dpo/train", linger=0.02),
)
"""Of trainings on a model's own answers and on pairs."""
INTERVENING = Moment("intervening", "w2sr_jax.stages.faithfulness:intervene")
"""Only where an evaluation measures faithfulness."""
TAKEN = Moment("a file taken from another run, others not", "os:link", AFTER)
"""Only where a run has another one beside it."""

EVERY = (*MOMENTS, *LEARNING, INTERVENING, TAKEN)
