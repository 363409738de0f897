"""A student for which nothing is left is skipped with a note; students beside it, and the report, go on without it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.batches.settings import Batching
from w2sr_jax.cli import main as cli
from w2sr_jax.core import records
from w2sr_jax.core.errors import NothingToTrain
from w2sr_jax.core.records import Problem
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, FromParent, Graduate, Rung, Scratch
from w2sr_jax.graph import skips
from w2sr_jax.graph.stage import Silent
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.settings import Fields, Files, Splits
from w2sr_jax.report.notes import notes
from w2sr_jax.report.rule import headline_arm
from w2sr_jax.report.write import read
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages import training_work
from w2sr_jax.stages.execute import execute
from w2sr_jax.teachers.settings import Recorded
from w2sr_jax.text.settings import BpeTokenizer
from w2sr_jax.training.settings import Training

SMALL = ModelConfig(width=32, layers=1, heads=2, kv_heads=2, mlp=64)
TRAINING = Training(steps=2, batching=Batching(length=128, rows=4))


class Told(Silent):
    def __init__(self) -> None:
        self.warned: list[str] = []
        self.ended: list[tuple[str, str]] = []

    def warn(self, message: str) -> None:
        self.warned.append(message)

    def end(self, stage: str, note: str, seconds: float | None) -> None:
        self.ended.append((stage, "" if seconds is None else note))


def experiment(folder: Path, arms: tuple[str, ...] = ("all", "correct"), solutions: bool = False) -> Experiment:
    """A ladder of two rungs whose recorded teacher is always wrong; the second learns from the first one's `correct` student."""
    rows = [{"question": f"What is {n} plus {n} ?", "answer": str(2 * n), "why": f"{n} + {n} = {2 * n}"} for n in range(24)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    traces = [{**row, "trace": f"It is {int(row['answer']) + 1} . #### {int(row['answer']) + 1}"} for row in rows]
    (folder / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in traces))
    first = Rung("small", SMALL, Scratch(), ("wrong",), arms=arms, training=TRAINING)  # type: ignore[arg-type]
    start = FromParent("correct") if "correct" in arms else Scratch()
    second = Rung("large", SMALL, start, ("graduate",), arms=("all",), gold=False, training=TRAINING)
    return Experiment(
        name="wrong",
        problems=Files(str(folder / "problems.jsonl"), Fields(solution="why" if solutions else None)),
        splits=Splits(pool=12, probe=2, test=6),
        tokenizer=BpeTokenizer(vocab_size=300),
        teachers=(Recorded("wrong", str(folder / "traces.jsonl"), gold="answer"), Graduate("graduate", samples=1)),
        rungs=(first, second) if "correct" in arms else (first,),
        decoding=Decoding(temperature=0.0, max_tokens=8, batch=8),
        evaluation=Evaluation(resamples=20),
        mesh=Mesh(data=1),
    )


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiment, Told]:
    """A run whose teacher is never right and whose problems have no solutions: `correct` and `gold` of its first rung are empty,
    and its second rung has neither a teacher nor a parent."""
    folder, told = tmp_path_factory.mktemp("skips"), Told()
    made = experiment(folder)
    execute(made, folder / "run", told)
    return folder / "run", made, told


def results(directory: Path) -> dict:
    return json.loads((directory / "report" / "results.json").read_text())


def test_students_beside_it_are_trained_and_compared(climbed: tuple[Path, Experiment, Told]) -> None:
    found = results(climbed[0])
    assert set(found["models"]) == {"wrong", "0-small.base", "0-small.all"}
    assert set(found["rungs"][0]["comparisons"]) == {"all"}
    assert headline_arm(read(climbed[0] / "report").rungs[0]) == "all"
    assert found["rungs"][1]["comparisons"] == {}
    assert found["verdict"]["rungs"][1]["verdict"] == "unknown"


def test_page_console_and_results_say_what_was_skipped_and_why(
    climbed: tuple[Path, Experiment, Told], capsys: pytest.CaptureFixture[str]
) -> None:
    directory, _, told = climbed
    found = {entry["model"]: entry for entry in results(directory)["skipped"]}
    assert set(found) == {"0-small.correct", "0-small.gold", "1-large.base", "1-large.all"}
    assert "curation left nothing for the arm 'correct'" in found["0-small.correct"]["reason"]
    assert "12 incorrect" in found["0-small.correct"]["reason"]
    assert "has a worked solution" in found["0-small.gold"]["reason"]
    assert found["1-large.all"]["origin"] == "0-small.correct"
    warned = "\n".join(told.warned)
    assert "0-small.correct is skipped: curation left nothing" in warned
    assert "rung 1 will be skipped too, since it needs that student" in warned
    said = notes(read(directory / "report"))
    assert said[0].startswith("“0-small.correct” was skipped and is in no number here: curation left nothing")
    assert said[1] == "Skipped with it, since they need “0-small.correct”: “1-large.base” and “1-large.all”."
    page = (directory / "report" / "index.html").read_text()
    assert "“0-small.correct” was skipped" in page
    assert cli.run(["report", str(directory), "--plain"]) == 0
    assert "Note: “0-small.gold” was skipped" in capsys.readouterr().out


def test_a_run_with_skipped_students_is_finished(climbed: tuple[Path, Experiment, Told]) -> None:
    directory, made, first = climbed
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    again = Told()
    execute(made, directory, again)
    assert [stage for stage, _ in again.ended] == [stage for stage, _ in first.ended]
    assert not any(note for _, note in again.ended)
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert skips.of(RunStore(directory).manifest("rungs/0-small/correct/train")) is not None


def test_commands_that_look_at_it_say_that_it_was_skipped(
    climbed: tuple[Path, Experiment, Told], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = climbed[0]
    problem = records.read(directory / "problems" / "pool.parquet", Problem)[0].id
    assert cli.run(["show", str(directory), "--arm", "correct"]) == 2
    assert "0-small.correct was skipped: curation left nothing" in capsys.readouterr().err
    assert cli.run(["export", str(directory), str(tmp_path / "out"), "--model", "0-small.correct"]) == 2
    assert "0-small.correct was skipped, so that there is nothing to export" in capsys.readouterr().err
    assert cli.run(["explain", str(directory), problem]) == 0
    assert "evaluations/0-small.correct was skipped: curation left nothing" in capsys.readouterr().out
    assert cli.run(["compare", str(directory)]) == 0
    assert "Greedy accuracy of 0-small.all" in capsys.readouterr().out
    assert cli.run(["check", str(directory)]) == 0


def test_it_is_reproduced_as_skipped(climbed: tuple[Path, Experiment, Told], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["reproduce", str(climbed[0]), "--stage", "rungs/0-small/correct/train", "--plain"]) == 0, (
        capsys.readouterr().err
    )
    assert "identical" in capsys.readouterr().out


def test_a_rung_of_which_nothing_is_left_ends_the_run_in_a_sentence(tmp_path: Path) -> None:
    made = experiment(tmp_path, arms=("correct",))
    for _ in range(2):  # whoever tries again is told again
        with pytest.raises(
            NothingToTrain, match=r"rung 0 \(small\) has nothing to train on: curation left nothing .*; none of the"
        ):
            execute(made, tmp_path / "run", Silent())
    assert RunStore(tmp_path / "run").manifest("rungs/0-small/curation") is None


def test_a_training_that_finds_nothing_to_learn_is_skipped_and_the_last_one_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = experiment(tmp_path, arms=("all", "incorrect"), solutions=True)
    train, refused = training_work.fit, {"all"}

    def fit(program: Any, source: Any, directory: Path, *rest: Any) -> object:
        if directory.name in refused:
            raise NothingToTrain(f"{directory.name}: all weights are 0")
        return train(program, source, directory, *rest)

    monkeypatch.setattr(training_work, "fit", fit)
    execute(made, tmp_path / "run", Silent())
    found = results(tmp_path / "run")
    assert set(found["rungs"][0]["comparisons"]) == {"incorrect", "gold"}
    assert [(entry["model"], entry["reason"].endswith("all: all weights are 0")) for entry in found["skipped"]] == [
        ("0-small.all", True)
    ]
    refused |= {"incorrect", "gold"}
    with pytest.raises(NothingToTrain, match=r"rung 0 has no student that could be trained: .*all: .*incorrect: .*gold: "):
        execute(dataclasses.replace(made, name="other"), tmp_path / "other", Silent())
