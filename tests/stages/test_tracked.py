"""Trackers are no part of what a run is: with them the same is due, the same comes out, and the settings are kept."""

import dataclasses
import textwrap
from pathlib import Path

import pytest

from w2sr_jax.configuration import saved
from w2sr_jax.configuration.encoding import encode
from w2sr_jax.configuration.overrides import overridden
from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung, check
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.preflight import checks, disk_and_servers
from w2sr_jax.preflight.findings import Findings
from w2sr_jax.preflight.subject import Subject
from w2sr_jax.stages.plan import plan
from w2sr_jax.trackers.mlflow import Mlflow
from w2sr_jax.trackers.tracker import Tracker
from w2sr_jax.trackers.trackio import Trackio
from w2sr_jax.trackers.wandb import Wandb

BARE = Experiment("x", (Rung("small", ModelConfig()),), (ModelTeacher(),))
TRACKED = dataclasses.replace(BARE, trackers=(Wandb(project="p"), Mlflow(uri="https://host"), Trackio()))


def test_every_stage_is_what_it_is_without_trackers(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    bare, tracked = plan(BARE), plan(TRACKED)
    assert [bare.identity(stage, store) for stage in bare] == [tracked.identity(stage, store) for stage in tracked]
    assert saved.config_hash(BARE) == saved.config_hash(TRACKED)
    assert TRACKED.untracked == BARE
    assert "trackers" not in encode(BARE)


def test_a_saved_run_keeps_its_trackers(tmp_path: Path) -> None:
    check(TRACKED)
    saved.save(tmp_path, TRACKED)
    assert saved.load(tmp_path) == TRACKED


def test_their_settings_can_be_overridden() -> None:
    changed = overridden(TRACKED, ["--trackers.0.mode", "offline", "--trackers.2.project", "q"], "w2sr run")
    assert changed.trackers == (Wandb(project="p", mode="offline"), Mlflow(uri="https://host"), Trackio(project="q"))
    assert overridden(BARE, [], "w2sr run") == BARE


OWN = """
    import dataclasses
    from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
    from w2sr_jax.models.config import ModelConfig

    def silent(training):
        raise RuntimeError("nothing")

    def experiment():
        return Experiment("x", (Rung("small", ModelConfig()),), (ModelTeacher(),), trackers=(silent,))
"""


def test_a_function_of_ones_own_is_a_tracker(tmp_path: Path) -> None:
    config = tmp_path / "silently_tracked.py"
    config.write_text(textwrap.dedent(OWN))
    experiment = saved.load_config(config)
    check(experiment)
    saved.save(tmp_path / "run", experiment)
    (tracker,) = saved.load_trusted(tmp_path / "run", True).trackers
    with pytest.raises(RuntimeError, match="nothing"):
        tracker(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["wandb", 1, (3,)])
def test_what_is_no_tracker_is_refused_in_a_sentence(wrong: object) -> None:
    with pytest.raises(UserError, match="trackers"):
        check(dataclasses.replace(BARE, trackers=wrong if isinstance(wrong, tuple) else (wrong,)))


@dataclasses.dataclass(frozen=True)
class Absent(Wandb):
    package = "w2sr_no_such_package"  # type: ignore[misc]


@pytest.mark.parametrize(("tracker", "refused"), [(Absent(), ["trackers.0 needs the package w2sr_no_such_package"]), (print, [])])
def test_a_package_that_is_not_installed_is_named_before_the_run(tmp_path: Path, tracker: Tracker, refused: list[str]) -> None:
    findings = Findings()
    subject = Subject(dataclasses.replace(BARE, trackers=(tracker,)), tmp_path / "run")
    disk_and_servers.trackers(subject, findings)
    assert [words.partition(":")[0] for words in findings.refused] == refused
    assert ("trackers", disk_and_servers.trackers) in checks.CHECKS
