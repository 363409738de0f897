"""Arms that learn from no traces stand beside those that do: they are not curated, not skipped, and everything that goes over
arms takes them as they are."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from w2sr_jax.batches.settings import Batching
from w2sr_jax.cli import main as cli
from w2sr_jax.core import files, records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.arms import Correct, Nothing
from w2sr_jax.curation.texts import gold
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Arm, Experiment, Imitation, Rung, Scratch, TrainingStage, check
from w2sr_jax.experiment.work import TrainedModel, TrainingWork
from w2sr_jax.graph.stage import Context, Silent
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.preflight import checks
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages.execute import execute
from w2sr_jax.stages.plan import stages
from w2sr_jax.stages.training_work import Work
from w2sr_jax.teachers.teacher import Teacher
from w2sr_jax.teachers.work import TeacherWork
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.settings import Training

SMALL = ModelConfig(width=16, layers=1, heads=2, kv_heads=2, mlp=32)
TRAINING = Training(steps=2, batching=Batching(length=96, rows=4))


@dataclasses.dataclass(frozen=True)
class Own(TrainingStage):
    """Stands for a training that makes its own texts: it imitates worked solutions."""

    training: Training | None = None

    def train(self, work: TrainingWork) -> TrainedModel:
        assert self.training is not None
        return work.imitate(list(gold(work.problems("pool"))), work.initial, self.training)


@dataclasses.dataclass(frozen=True)
class Wrong(Teacher):
    """Is never right."""

    name: str = "wrong"

    def traces(self, work: TeacherWork) -> Iterator[Trace]:
        return (Trace.of(problem.id, self.name, 0, "#### -1") for problem in work.problems)


def experiment(*arms: Arm, **rung: object) -> Experiment:
    """A rung with these arms and no teacher, unless the rung's settings name one."""
    settings = {"arms": arms, "gold": False, "training": TRAINING, "teachers": (), **rung}
    return Experiment(
        name="own",
        problems=Generated(operations=(2, 2), largest=9),
        splits=Splits(pool=8, probe=2, test=4),
        tokenizer=WordTokenizer(largest=9),
        teachers=(Wrong(),) if settings["teachers"] else (),
        rungs=(Rung("small", SMALL, Scratch(), **settings),),  # type: ignore[arg-type]
        decoding=Decoding(temperature=0.0, max_tokens=8, batch=8),
        evaluation=Evaluation(samples=0, resamples=20, faithfulness=0),
        mesh=Mesh(data=1),
    )


OWN = Arm("own", select=Nothing(), train=(Own(),))


def test_an_arm_of_its_own_texts_is_trained_without_a_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, directory = experiment(OWN), tmp_path / "own"
    check(settings)
    planned = stages(settings)
    assert not planned.curations
    assert not planned.traces
    assert not [line for checked in checks.check(settings, directory) for line in checked.refused]
    execute(settings, directory, Silent())
    run = RunStore(directory)
    results = files.read_json(run.file("report/results.json"))
    assert "0-small.own" in results["models"]
    assert "skipped" not in results
    assert results["rungs"][0]["curation"] == {}
    assert set(results["rungs"][0]["comparisons"]) == {"own"}
    assert run.manifest("rungs/0-small/own/train") is not None
    assert run.optional("rungs/0-small/own/curated.parquet") is None
    problem = records.read(run.file("problems/pool.parquet"), Problem)[0].id
    assert cli.run(["explain", str(directory), problem]) == 0
    assert "in all, of 2" in capsys.readouterr().out  # steps: what the stage chose itself is shown
    assert cli.run(["show", str(directory), "--arm", "own"]) == 0
    assert cli.run(["export", str(directory), str(tmp_path / "out"), "--model", "0-small.own"]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "the student of arm own (own: no traces)" in card
    assert "It imitates chains of thought" not in card
    capsys.readouterr()


def test_beside_arms_that_are_empty_it_is_the_one_that_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = Arm("correct", select=Correct())
    settings, directory = experiment(empty, OWN, teachers=("wrong",), gold=False), tmp_path / "own"
    planned = stages(settings)
    assert [arm.name for arm in planned.curations[0].arms] == ["correct"]
    assert planned.trainings["0-small.own"].curation is None
    assert planned.trainings["0-small.correct"].curation is not None
    execute(settings, directory, Silent())
    results = files.read_json(RunStore(directory).file("report/results.json"))
    assert [entry["model"] for entry in results["skipped"]] == ["0-small.correct"]
    assert set(results["rungs"][0]["curation"]) == {"correct"}
    assert set(results["rungs"][0]["comparisons"]) == {"own"}
    assert cli.run(["compare", str(directory)]) == 0
    assert cli.run(["reproduce", str(directory), "--stage", "rungs/0-small/own/train", "--plain"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arms", "sentence"),
    [
        (
            (Arm("own", select=Nothing()),),
            r"rungs\.0 \(small\): arm 'own' imitates traces, and Nothing\(\) selects none: select some, such as All\(\)",
        ),
        ((Arm("own", select=Nothing(), train=(Own(), Imitation())),), r"arm 'own' imitates traces, and Nothing\(\)"),
        ((OWN, Arm("correct", select=Correct())), r"teachers is empty, and the arm 'correct' learns from their traces; name one"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_computed(arms: tuple[Arm, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check(experiment(*arms))


def test_a_stage_that_asks_for_examples_which_nobody_selected_is_told_so(tmp_path: Path) -> None:
    planned = stages(experiment(OWN)).trainings["0-small.own"]
    with pytest.raises(UserError, match=r"0-small\.own: a training stage asked for examples, and its arm selects none"):
        Work(planned, Context(RunStore(tmp_path))).examples()
