"""A run of the version before is refused by every command that opens one, in a sentence that says what to do, and left alone."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hand_made import finish

from w2sr_jax.cli import main as cli
from w2sr_jax.configuration import saved
from w2sr_jax.core import files
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.models.config import ModelConfig

CONFIG = """
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.models.config import ModelConfig

def experiment():
    return Experiment("old", (Rung("a", ModelConfig()),))
"""
COMMANDS = (
    "run CONFIG",
    "run CONFIG --dry-run",
    "run CONFIG --fresh",
    "run RUN",
    "check CONFIG",
    "check RUN",
    "sample CONFIG",
    *(f"{stage} RUN" for stage in ("sample", "curate", "train", "evaluate", "report")),
    "show RUN",
    "explain RUN 0123",
    "compare RUN",
    "export RUN OUT --model 0-a.all",
    "export RUN/rungs/0-a/all OUT",
    "publish RUN --out OUT",
    "reproduce RUN",
    "reproduce RUN --stage report",
)


def unnumbered(path: Path, key: str) -> None:
    """A JSON file with a digest, as it was before there were formats."""
    raw: dict[str, Any] = json.loads(path.read_text())
    raw = {name: value for name, value in raw.items() if name not in (key, "format")}
    files.write_json(path, raw | {key: files.digest_json(raw)})


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run whose manifests and experiment have no format; its types have the names that they had."""
    run = tmp_path / "runs" / "old"
    saved.save(run, Experiment("old", (Rung("a", ModelConfig()),)))
    (run / "report").mkdir()
    (run / "report" / "results.json").write_text("{}")
    (run / "rungs" / "0-a" / "all").mkdir(parents=True)
    finish(run)
    for path in (run / "lineage").rglob("*.json"):
        unnumbered(path, "manifest_digest")
    experiment = run / "experiment.json"
    experiment.write_text(experiment.read_text().replace("w2sr_jax.experiment.experiment:", "w2sr_jax.experiment:"))
    unnumbered(experiment, "digest")
    return run


@pytest.mark.parametrize("line", COMMANDS)
def test_it_is_refused_by_every_command_and_left_as_it_is(
    old: Path, line: str, tmp_path: Path, user_module: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    named = {"CONFIG": str(user_module(CONFIG, "old_config")), "RUN": str(old), "OUT": str(tmp_path / "out")}
    words = []
    for word in shlex.split(line):
        head, slash, tail = word.partition("/")
        words.append(named.get(head, head) + slash + tail)
    root = ["--root", str(old.parent)] if "CONFIG" in line else []
    assert cli.run([*words, *root]) == 2
    said = capsys.readouterr()
    assert said.err == (
        f"w2sr: {old} was written by another version of w2sr_jax (format 1; this one reads {files.FORMAT}): open it with that "
        "version, or run its configuration under another --name\n"
    )
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "out").exists()


def test_damage_to_it_is_still_called_damage(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = old / "experiment.json"
    path.write_text(path.read_text().replace('"name": "old"', '"name": "new"'))
    assert cli.run(["show", str(old)]) == 2
    assert "experiment.json is not as it was saved" in capsys.readouterr().err


def test_under_another_name_its_configuration_runs(old: Path, user_module: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(user_module(CONFIG, "old_config"))
    assert cli.run(["run", config, "--root", str(old.parent), "--name", "new", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "it is not done yet" in said.out
    assert "another version" not in said.err
