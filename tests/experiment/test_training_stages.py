"""Training stages of one's own: what their rung decides, what counts, and what a rehearsal makes of them. Nothing is trained."""

import dataclasses
from typing import Any

import pytest

from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.experiment import Arm, Experiment, Imitation, ModelTeacher, Rung, TrainingStage
from w2sr_jax.experiment.work import TrainedModel, TrainingWork
from w2sr_jax.graph.stage import Stage, settings
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.stages.plan import stages
from w2sr_jax.stages.train import Train
from w2sr_jax.training.settings import Training

RUNG = Rung("small", ModelConfig(), training=Training(steps=77), objective=Objective(loss=2.0 * Nll()), probe=Probe(every=5))


@dataclasses.dataclass(frozen=True)
class Bare(TrainingStage):
    """Leaves everything to its rung."""

    steps: int = 500
    rounds: int = 500

    def train(self, work: TrainingWork) -> TrainedModel:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Own(Bare):
    """Has settings of its own where they are given."""

    training: Training | None = None
    objective: Objective | None = None
    probe: Probe | None = None


@dataclasses.dataclass(frozen=True)
class Careful(Imitation):
    """A kind of imitation, which stays of its kind."""

    care: float = 1.0


class Few:
    """A rehearsal that makes trainings of one step, and of other steps at most 3."""

    def training(self, training: Training) -> Training:
        return dataclasses.replace(training, steps=1)

    def steps(self, count: int) -> int:
        return min(count, 3)


def trained(stage: TrainingStage, rung: Rung = RUNG) -> Train:
    """The stage of a run that trains with a training stage."""
    rung = dataclasses.replace(rung, arms=(Arm("mine", train=(stage,)),))
    return stages(Experiment("x", (rung,), (ModelTeacher(),))).trainings["0-small.mine"]


def test_what_is_left_open_is_the_rungs() -> None:
    taken = Own(rounds=3).resolved(RUNG)
    assert taken == Own(500, 3, RUNG.training, RUNG.objective, RUNG.probe)
    own = Own(training=Training(steps=9), objective=Objective(), probe=Probe())
    assert own.resolved(RUNG) == own
    assert Bare().resolved(RUNG) == Bare()
    careful = Careful(care=2.0).resolved(RUNG)
    assert careful == Careful(RUNG.training, RUNG.objective, RUNG.probe, 2.0)


@pytest.mark.parametrize("changed", [{"objective": Objective(loss=3.0 * Nll())}, {"probe": Probe(every=6)}])
def test_the_rungs_loss_and_looks_count_where_the_stage_has_none(changed: dict[str, Any]) -> None:
    other = dataclasses.replace(RUNG, **changed)
    for stage in (Bare(), Own()):
        assert settings(trained(stage)) != settings(trained(stage, other))
    decided = Own(training=Training(), objective=Objective(), probe=Probe())
    assert settings(trained(decided)) == settings(trained(decided, other))


def test_what_the_stage_says_itself_is_said_once() -> None:
    bare, own, built_in = trained(Bare()), trained(Own()), trained(Imitation())
    assert (bare.objective, bare.probe) == (RUNG.objective, RUNG.probe)
    assert {"objective", "probe"} <= settings(bare).keys()
    for stage in (own, built_in):
        assert (stage.objective, stage.probe) == (None, None)
        assert not {"objective", "probe"} & settings(stage).keys()


def test_a_stage_that_looks_as_its_rung_does_reads_what_looks_need() -> None:
    assert trained(Bare()).sampling is not None
    assert trained(Bare()).traces
    blind = dataclasses.replace(RUNG, probe=Probe())
    assert trained(Bare(), blind).sampling is None
    assert not trained(Bare(), blind).traces


def test_a_rehearsal_makes_training_and_steps_small() -> None:
    few: Any = Few()
    assert Bare().rehearsed(few) == Bare(3, 500)
    assert Own(steps=2, training=Training(steps=90)).rehearsed(few) == Own(2, 500, Training(steps=1))
    assert Own().rehearsed(few) == Own(3)
    assert Imitation().rehearsed(few) == Imitation()
    assert Imitation(Training(steps=90)).rehearsed(few) == Imitation(Training(steps=1))


def _names(one: Experiment, other: Experiment) -> set[str]:
    """The stages whose own settings differ, or that one of the experiments lacks."""
    before, after = ({stage.name: stage for stage in stages(each)} for each in (one, other))

    def same(name: str) -> bool:
        both: list[Stage] = [each[name] for each in (before, after) if name in each]
        return len(both) == 2 and settings(both[0]) == settings(both[1])

    return {name for name in before.keys() | after.keys() if not same(name)}


def test_a_changed_arm_changes_the_curation_of_its_rung_and_a_changed_training_stage_its_training() -> None:
    """As docs/runs.md says."""

    def experiment(arm: Arm) -> Experiment:
        return Experiment("x", (dataclasses.replace(RUNG, arms=("all", arm)),), (ModelTeacher(),))

    first = experiment(Arm("mine", train=(Bare(),)))
    assert _names(first, experiment(Arm("mine", train=(Bare(rounds=1),)))) == {"rungs/0-small/mine/train", "report"}
    assert _names(first, experiment(Arm("mine", train=(Bare(),), label="Mine"))) == {"rungs/0-small/curation", "report"}
