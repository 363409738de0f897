"""A small ladder whose uses of models each have a mesh of their own, against the same ladder on one device."""

import dataclasses

import pytest

from w2sr_jax.batches.settings import Batching
from w2sr_jax.core import records
from w2sr_jax.core.records import Trace
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.graph.stage import Silent, settings
from w2sr_jax.graph.store import RunStore
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll, ReverseKL
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh, Meshes
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages.execute import execute
from w2sr_jax.stages.plan import stages
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training import journal
from w2sr_jax.training.settings import Training

TRAINING = Training(steps=4, learning_rate=3e-3, log_every=1, batching=Batching(length=64, rows=8), reference_top=4)
DRAWN = Decoding(temperature=0.0, max_tokens=8, batch=8)
TEACHER = ModelTeacher("teacher", ModelConfig(width=32, layers=1, heads=2, kv_heads=2), TRAINING, samples=1, decoding=DRAWN)
STUDENT = Rung(
    "student",
    ModelConfig(width=32, layers=2, heads=4, kv_heads=4),
    curation=Curation(keep_unfinished=True, keep_loops=True),
    arms=("all",),
    gold=False,
    training=TRAINING,
    objective=Objective(Nll() + 0.1 * ReverseKL()),
    probe=Probe(every=4),
)
ALONE = Experiment(
    "alone",
    (STUDENT,),
    (TEACHER,),
    problems=Generated(),
    splits=Splits(teacher=24, pool=12, probe=4, test=8),
    tokenizer=WordTokenizer(),
    evaluation=Evaluation(resamples=20),
    decoding=DRAWN,
    mesh=Mesh(data=1),
)
APART = dataclasses.replace(
    ALONE,
    mesh=Mesh(),
    rungs=(
        dataclasses.replace(
            STUDENT,
            meshes=Meshes(
                training=Mesh(data=1, fsdp=8),
                reference=Mesh(data=4, tensor=2),
                evaluation=Mesh(data=1, fsdp=4, tensor=2),
            ),
        ),
    ),
)
PLACED = {
    "teachers/teacher/train": "data 8, fsdp 1, tensor 1",
    "rungs/0-student/traces-teacher": "data 8, fsdp 1, tensor 1",
    "rungs/0-student/all/train": "data 1, fsdp 8, tensor 1",
    "evaluations/0-student.all": "data 1, fsdp 4, tensor 2",
    "evaluations/teacher": "data 8, fsdp 1, tensor 1",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunStore, RunStore]:
    made = []
    for name, experiment in (("alone", ALONE), ("apart", APART)):
        directory = tmp_path_factory.mktemp(name) / "run"
        execute(experiment, directory, Silent())
        made.append(RunStore(directory))
    return made[0], made[1]


def test_each_use_is_computed_where_it_is_placed(runs: tuple[RunStore, RunStore]) -> None:
    meshes = {manifest.stage: manifest.environment["mesh"] for manifest in runs[1].manifests()}
    assert {stage: meshes[stage] for stage in PLACED} == PLACED
    assert (stored := list((runs[1].directory / "references").glob("*/reference.json")))
    assert '"tensor": 2' in stored[0].read_text()


def test_greedy_answers_are_those_of_one_device_and_losses_agree(runs: tuple[RunStore, RunStore]) -> None:
    for name in ("teachers/teacher/rung-0/traces-00000.parquet", "evaluations/0-student.all/generations.parquet"):
        one, eight = ([(row.id, row.token_ids) for row in records.read(run.file(name), Trace)] for run in runs)
        assert one == eight, name
    for model in ("teachers/teacher", "rungs/0-student/all"):
        one, eight = ([line["loss"] for line in journal.read(run.file(f"{model}/metrics.jsonl"))] for run in runs)
        assert eight == pytest.approx(one, rel=1e-4), model
    one, eight = ([line["accuracy"] for line in journal.read(run.file("rungs/0-student/all/probe.jsonl"))] for run in runs)
    assert one == eight


def test_another_mesh_makes_no_stage_another_one() -> None:
    one, other = ({stage.name: settings(stage) for stage in stages(each) if stage.name != "report"} for each in (ALONE, APART))
    assert one == other
