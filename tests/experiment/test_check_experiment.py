"""Experiments that cannot work are refused in one sentence that names the setting, before anything is computed."""

import dataclasses
from typing import Any

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.arms import Correct, Select
from w2sr_jax.experiment import (
    GOLD,
    Arm,
    Experiment,
    FromParent,
    Graduate,
    Imitation,
    ModelTeacher,
    Rung,
    Start,
    Teacher,
    TrainingStage,
    check,
)
from w2sr_jax.experiment.experiment import ExtraStages
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.training.settings import Training

SMALL = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)


def experiment(**rung: Any) -> Experiment:
    return Experiment("x", (Rung("small", SMALL, **rung),))


@dataclasses.dataclass(frozen=True)
class SilentTeacher(Teacher):
    name: str = "teacher"


@dataclasses.dataclass(frozen=True)
class Nothing(Select):
    pass


@dataclasses.dataclass(frozen=True)
class Idle(TrainingStage):
    steps: int = 1


@dataclasses.dataclass(frozen=True)
class Nowhere(Start):
    pass


@dataclasses.dataclass(frozen=True)
class NoMore(ExtraStages):
    pass


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            lambda: experiment(arms=("best",)),
            r"the arm 'best' is unknown; arms with a name are all, correct, incorrect, m",
        ),
        (lambda: experiment(arms=(), gold=False), r"rungs\.0 \(small\): arms is empty and gold is off"),
        (lambda: experiment(arms=("all", Arm("all"))), r"arms need distinct names, not all, all"),
        (
            lambda: experiment(arms=(Arm("gold"),)),
            r"an arm is called 'gold'; its name must .* none of base, base-direct and gold",
        ),
        (lambda: experiment(arms=(Arm("a/b"),)), r"an arm is called 'a/b'; its name must consist of letters"),
        (
            lambda: experiment(arms=(Arm("mine", train=()),)),
            r"arm 'mine' has no training stage; give it one, such as Im",
        ),
        (lambda: experiment(start=FromParent("correct")), r"start needs a previous rung, but this is the first"),
        (lambda: experiment(teachers=("other",)), r"teacher 'other' is not among the experiment's teachers \(teacher\)"),
        (
            lambda: experiment(arms=(Arm("mine", select=Nothing()),)),
            r"rungs\.0\.arms\.0\.select is a Nothing.* no reason",
        ),
        (
            lambda: experiment(arms=(Arm("mine", train=(Idle(),)),)),
            r"rungs\.0\.arms\.0\.train\.0 is a Idle.* no train",
        ),
        (lambda: experiment(start=Nowhere()), r"rungs\.0\.start is a Nowhere, which defines no make"),
        (
            lambda: dataclasses.replace(experiment(), teachers=(SilentTeacher(),)),
            r"teachers\.0 is a SilentTeacher, which defines no traces",
        ),
        (lambda: dataclasses.replace(experiment(), extra=(NoMore(),)), r"extra\.0 is a NoMore, which defines no stages"),
    ],
)
def test_what_cannot_work_is_one_sentence(given: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        check(given())
    assert "\n" not in str(error.value)


def test_a_teacher_needs_an_arm_that_the_rung_before_trains() -> None:
    first = Rung("small", SMALL, arms=("all", Arm("mine", select=Correct())))
    second = Rung("large", SMALL, teachers=("graduate",))
    both = (ModelTeacher(), Graduate("graduate", arm="mine"))
    check(Experiment("x", (first, second), both))
    wrong = (ModelTeacher(), Graduate("graduate", arm="correct"))
    with pytest.raises(UserError, match=r"needs arm 'correct' of the previous rung, which trains all, mine"):
        check(Experiment("x", (first, second), wrong))


def test_an_arm_is_its_name_its_selection_and_its_training() -> None:
    rung = Rung("small", SMALL, arms=("correct", Arm("mine", label="Mine")), training=Training(steps=7))
    correct, mine = rung.selected_arms
    assert correct == Arm("correct", select=Correct(), train=(Imitation(),))
    assert (correct.title, mine.title, Arm("bare").title) == ("W2SR-P", "Mine", "bare")
    assert [arm.name for arm in rung.trained] == ["correct", "mine", GOLD]
    assert rung.arm(GOLD).title == "Gold"


def test_an_imitation_takes_from_its_rung_what_it_leaves_open() -> None:
    own = Training(steps=3)
    rung = Rung("small", SMALL, training=Training(steps=7))
    arm = Arm("twice", train=(Imitation(), Imitation(training=own)))
    first, second = rung.stages_of(arm)
    assert first == Imitation(rung.training, rung.objective, rung.probe)
    assert second == Imitation(own, rung.objective, rung.probe)
    assert dataclasses.replace(rung, arms=(arm,)).stages_of(arm) == (first, second)


@dataclasses.dataclass(frozen=True)
class Short(TrainingStage):
    steps: int = 1

    def train(self) -> Any:  # type: ignore[override]
        return None


@dataclasses.dataclass(frozen=True)
class Roomy(TrainingStage):
    steps: int = 1

    def train(self, job: Any, *more: Any, quick: bool = False) -> Any:
        return None


def test_a_member_that_cannot_be_called_is_refused_where_it_is_defined() -> None:
    words = r"test_check_experiment\.py, line \d+: rungs\.0\.arms\.0\.train\.1 is a Short, which defines train\(self\)"
    with pytest.raises(UserError, match=words) as caught:
        check(experiment(arms=(Arm("own", train=(Imitation(), Short())),)))
    assert str(caught.value).endswith("it must be train(self, work)")
    check(experiment(arms=(Arm("own", train=(Imitation(), Roomy())),)))
