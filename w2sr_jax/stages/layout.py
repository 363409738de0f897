"""What the files of a run are called. A name is relative to the run; the store (`graph.store`) makes paths of names.

problems/SPLIT.parquet, problems/report.json          tokenizer/
teachers/NAME/                                         a teacher's own model
teachers/NAME/rung-N/traces-*.parquet                  a teacher's traces for a rung
rungs/N-NAME/base/                                     the model that a rung's arms start from
rungs/N-NAME/ARM/{curated,dispositions}.parquet        what an arm learns from, and what became of every trace
rungs/N-NAME/ARM/{rejected,pairs}.parquet              beside them, where an arm learns from pairs
rungs/N-NAME/ARM/{checkpoints/,packing.npz,…}          its student; of earlier training stages in stage-K/
rungs/N-NAME/ARM/lessons.parquet                       what its last training stage learns from, if not from what was curated
evaluations/MODEL/{generations.parquet,scores.json,…}
report/{index.html,results.json,…}
lineage/STAGE.json                                     manifests
"""

PROBLEMS, TOKENIZER, REPORT = "problems", "tokenizer", "report"
"""Folders, and the stages that write them."""
PROBLEMS_REPORT = f"{PROBLEMS}/report.json"
RESULTS, PAGE = f"{REPORT}/results.json", f"{REPORT}/index.html"
CURATED, DISPOSITIONS, FUNNELS = "curated.parquet", "dispositions.parquet", "curation.json"
REJECTED, PAIRS = "rejected.parquet", "pairs.parquet"
"""Of an arm that learns from pairs: the examples of their rejected sides, and which belong together."""
LESSONS = "lessons.parquet"
"""The examples of a training stage that imitates others than its arm's curated ones."""
PACKING, CHECKPOINTS, METRICS, PROBE = "packing.npz", "checkpoints", "metrics.jsonl", "probe.jsonl"
DRAWN = "drawn"
GENERATIONS, SCORES = "generations.parquet", "scores.json"
HELD_OUT, FAITHFULNESS = "held_out.json", "faithfulness.json"
TRACES = "traces-"
"""What the files of a teacher's traces begin with."""


def problems(split: str) -> str:
    """The table of a split."""
    return f"{PROBLEMS}/{split}.parquet"


def teacher(name: str) -> str:
    """The folder of a teacher's own model."""
    return f"teachers/{name}"


def traces(teacher_name: str, rung: int) -> str:
    """The folder of a teacher's traces for a rung."""
    return f"{teacher(teacher_name)}/rung-{rung}"


def rung(index: int, name: str) -> str:
    """The folder of a rung."""
    return f"rungs/{index}-{name}"


def traces_stage(rung_folder: str, teacher_name: str) -> str:
    """The stage that lets a teacher write for a rung."""
    return f"{rung_folder}/{TRACES}{teacher_name}"


def curation_stage(rung_folder: str) -> str:
    """The stage that curates the traces of a rung."""
    return f"{rung_folder}/curation"


def arm(rung_folder: str, name: str, stage: int | None = None) -> str:
    """The folder of an arm's student, or of the model that an earlier one of its training stages (from 1) makes."""
    return f"{rung_folder}/{name}" if stage is None else f"{rung_folder}/{name}/stage-{stage}"


def train_stage(model_folder: str) -> str:
    """The stage that makes the model of a folder."""
    return f"{model_folder}/train"


def within(folder: str, name: str) -> str:
    """A file of a folder."""
    return f"{folder}/{name}"


def evaluation(model: str) -> str:
    """The folder of a model's evaluation, and the stage that writes it."""
    return f"evaluations/{model}"


def answers(model: str, split: str) -> str:
    """The table of a model's answers to the problems of a split other than the test split."""
    return f"{evaluation(model)}/{split}.parquet"


def seed(number: int) -> str:
    """The folder of one seed's run, in a run of several."""
    return f"seed-{number}"
