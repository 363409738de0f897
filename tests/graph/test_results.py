"""What a stage of a user's own returns, and what it is called, is refused in a sentence where no manifest could hold it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import runner
from w2sr_jax.graph.planner import Plan
from w2sr_jax.graph.stage import Context, Stage, StageResult
from w2sr_jax.graph.store import RunStore


@dataclasses.dataclass(frozen=True)
class Writes(Stage):
    """Writes one file of a name, and returns it as `returns` says."""

    file: str = "own/a.json"
    text: str = "1"
    up: Stage | None = None
    returns: Callable[[Path], Any] = dataclasses.field(
        default=lambda path: StageResult([path]), metadata={"read": False}, compare=False
    )

    def run(self, context: Context) -> Any:
        path = context.store.path(self.file)
        files.write_text(path, self.text)
        return self.returns(path)


def run(tmp_path: Path, *stages: Stage) -> RunStore:
    store = RunStore(tmp_path / "run")
    runner.run(Plan(stages), Context(store))
    return store


def result(**fields: Any) -> Callable[[Path], Any]:
    return lambda path: StageResult([path], **fields)


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        (lambda path: None, r"Writes\.run returned None \(is there a return\?\); it must return a StageResult"),
        (lambda path: {"a": 1}, r"Writes\.run returned a value of type dict; it must return a StageResult"),
        (lambda path: StageResult(str(path)), "returned outputs of type str; it must be a list of paths"),
        (lambda path: StageResult(["own/a.json"]), "returned 'own/a.json' among its files, which is no Path"),
        (lambda path: StageResult([path.with_name("never")]), "never among its files, and there is no such file"),
        (lambda path: StageResult([path.parents[2] / "b"]), "b, which does not lie in the run"),
        (lambda path: StageResult([path.parents[1] / ".." / "b"]), "b, which does not lie in the run"),
        (lambda path: StageResult([path.parents[1] / "lineage" / "b"]), "lies among the run's manifests"),
        (result(artifacts={"own": "1"}), "own among its artifacts, which is no sealed directory"),
        (result(artifacts={"../own": "1"}), "which does not lie in the run"),
        (result(artifacts=["own"]), "artifacts of type list; it must be a mapping"),
        (result(measures={"a": {1, 2}}), "measures that are no JSON"),
        (result(measures={"a": float("nan")}), "measures that are no JSON"),
        (result(note=3), "note of type int; it must be text"),
        (result(seals=[3]), "returned 3 among its files, which is no Path"),
    ],
)
def test_what_no_manifest_could_hold_is_refused(tmp_path: Path, returns: Callable[[Path], Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        run(tmp_path, Writes("own", returns=returns))
    assert Path(__file__).name in str(caught.value)
    assert RunStore(tmp_path / "run").peek("own") is None


@pytest.mark.parametrize("name", ["../a", "/a", "a//b", "a/", "", ".", "a/../b", "./a", "a\\b", "a\0b", "a.json/b", 3])
def test_a_name_that_does_not_lie_in_the_run_is_refused(name: Any) -> None:
    with pytest.raises(UserError, match=r"test_results\.py, line \d+: a stage is called"):
        Plan([Writes(name)])


def test_names_with_folders_points_and_letters_of_any_language_are_names(tmp_path: Path) -> None:
    names = ["a", "a.b", "a.b/c", "rungs/0-größe/..x", "x.json"]
    store = run(tmp_path, *(Writes(name, file=f"{index}/a.json") for index, name in enumerate(names)))
    assert all(store.manifest(name) is not None for name in names)


def test_what_another_stage_wrote_cannot_be_claimed_and_is_made_anew(tmp_path: Path) -> None:
    theirs = Writes("theirs", text="theirs")
    with pytest.raises(UserError, match=r"the stage own claims own/a\.json, which the stage theirs has written"):
        run(tmp_path, theirs, Writes("own", text="mine", up=theirs))
    store = run(tmp_path, theirs, Writes("own", text="mine", up=theirs, file="own/b.json"))
    assert store.file("own/a.json").read_text() == "theirs"
    assert store.file("own/b.json").read_text() == "mine"


def test_nor_can_what_lies_in_a_directory_that_another_stage_sealed(tmp_path: Path) -> None:
    def sealing(path: Path) -> StageResult:
        files.seal(path.parent)
        return StageResult(artifacts={path.parent.name: "1"})

    theirs = Writes("theirs", file="sealed/a.json", returns=sealing)
    with pytest.raises(UserError, match=r"the stage own claims sealed/b\.json, which the stage theirs has written"):
        run(tmp_path, theirs, Writes("own", file="sealed/b.json", up=theirs))


def test_what_a_stage_wrote_that_the_plan_has_no_more_can_be_claimed(tmp_path: Path) -> None:
    run(tmp_path, Writes("before"))
    assert run(tmp_path, Writes("own", text="2")).file("own/a.json").read_text() == "2"
