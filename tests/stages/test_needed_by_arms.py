"""Which stages an arm's student could not have been without: by hand, for a rung with arms of every kind and a ladder."""

import dataclasses
from pathlib import Path

import pytest
from hand_made import commit

from w2sr_jax.curation.arms import Correct, Nothing
from w2sr_jax.evaluation.arms import ArmTraining
from w2sr_jax.experiment import Arm, Experiment, Imitation, ModelTeacher, Pretraining, Rung
from w2sr_jax.experiment.policy import OnPolicy, Policy
from w2sr_jax.experiment.teachers import Graduate
from w2sr_jax.graph.store import RunStore
from w2sr_jax.losses.advantages import Fixed
from w2sr_jax.losses.shift import Shift
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.stages.report import arms
from w2sr_jax.stages.report.sources import Sources

TINY = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
SHIFT = OnPolicy(Shift(positive="teacher", negative="teacher-base"))
FIRST = Rung(
    "small",
    TINY,
    start=Pretraining(),
    teachers=("weak",),
    pool=(0.0, 0.5),
    arms=(
        "correct",
        Arm("correct-rl", select=Nothing(), train=(Policy(),), after="correct"),
        Arm("again", select=Correct(), train=(Imitation(), Policy())),
        Arm("rl", select=Nothing(), train=(Policy(),)),
        Arm("shift", select=Nothing(), train=(SHIFT,)),
        Arm("fixed", select=Nothing(), train=(Policy(advantages=Fixed(-0.1)),)),
    ),
)
EXPERIMENT = Experiment(
    "needs",
    rungs=(FIRST, Rung("large", TINY, teachers=("graduate",), pool=(0.5, 1.0), arms=("correct",))),
    teachers=(ModelTeacher("weak", TINY, train=(Policy(),)), Graduate(arm="correct-rl")),
)
TAUGHT = {"rungs/0-small/traces-weak": "traces", "teachers/weak/train": "teacher stages", "teachers/weak/base/train": "teacher"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, ArmTraining]]:
    return arms.trainings(EXPERIMENT, Sources([RunStore(tmp_path_factory.mktemp("run"))]), pool=40)


def parts(training: ArmTraining) -> dict[str, str]:
    return {need.stages[0]: need.part for need in training.needs}


def test_each_stage_is_needed_for_a_reason(trained: list[dict[str, ArmTraining]]) -> None:
    small = trained[0]
    own = "rungs/0-small"
    assert parts(small["correct"]) == {f"{own}/correct/train": "own", **TAUGHT}
    assert parts(small["correct-rl"]) == {f"{own}/correct-rl/train": "own", f"{own}/correct/train": "before", **TAUGHT}
    assert parts(small["again"]) == {f"{own}/again/train": "own", f"{own}/again/stage-1/train": "own", **TAUGHT}
    assert parts(small["rl"]) == {f"{own}/rl/train": "own"}
    assert parts(small["gold"]) == {f"{own}/gold/train": "own"}
    # It learns from no traces, but its loss looks at the teacher before and after its own reinforcement.
    looked_at = {name: part for name, part in TAUGHT.items() if part != "traces"}
    assert parts(small["shift"]) == {f"{own}/shift/train": "own", **looked_at}


def test_a_graduate_is_a_teacher_with_all_that_made_it(trained: list[dict[str, ArmTraining]]) -> None:
    own = "rungs/0-small"
    assert parts(trained[1]["correct"]) == {
        "rungs/1-large/correct/train": "own",
        "rungs/1-large/traces-graduate": "traces",
        f"{own}/correct-rl/train": "teacher stages",
        f"{own}/correct/train": "teacher",
        f"{own}/base/train": "teacher",
        **TAUGHT,
    }


def test_what_several_arms_need_is_counted_over_the_whole_run(trained: list[dict[str, ArmTraining]]) -> None:
    def counts(training: ArmTraining) -> dict[str, int]:
        return {need.stages[0]: need.arms for need in training.needs}

    small = counts(trained[0]["correct-rl"])
    # correct, correct-rl, again, shift and, through its teacher, the second rung's; the traces serve all of them but shift.
    assert (small["teachers/weak/base/train"], small["teachers/weak/train"]) == (5, 5)
    assert small["rungs/0-small/traces-weak"] == 4
    assert small["rungs/0-small/correct/train"] == 1


def test_signals_and_problems(trained: list[dict[str, ArmTraining]]) -> None:
    small = trained[0]
    assert {name: training.signals for name, training in small.items()} == {
        "correct": ("traces",),
        "correct-rl": ("rewards",),
        "again": ("traces", "rewards"),
        "rl": ("rewards",),
        "shift": ("answers",),
        "fixed": ("answers",),  # its advantages read no reward
        "gold": ("traces",),
    }
    assert {training.problems for training in small.values()} == {20}
    assert [name for name, training in small.items() if training.traces] == ["correct", "again"]


def test_an_arm_goes_on_from_what_it_says_or_repeats() -> None:
    assert arms.before(FIRST, FIRST.arm("correct-rl")) == "correct"
    assert arms.before(FIRST, FIRST.arm("again")) == "correct"
    for name in ("correct", "rl", "shift", "gold"):
        assert arms.before(FIRST, FIRST.arm(name)) is None
    other = dataclasses.replace(FIRST.arm("again"), select=Nothing())
    assert arms.before(FIRST, other) is None


def test_counts_are_means_over_seeds_and_unknown_where_one_lacks_them(tmp_path: Path) -> None:
    runs = [tmp_path / f"seed-{seed}" for seed in (0, 1)]
    for number, run in enumerate(runs):
        path = run / "rungs/0-small/rl/metrics.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("{}\n")
        commit(run, "rungs/0-small/rl/train", "train", [path], measures={"steps": 10 + number, "flops": 4.0})
    (need,) = arms.trainings(EXPERIMENT, Sources([RunStore(run) for run in runs]), pool=40)[0]["rl"].needs
    assert (need.steps, need.flops, need.tokens) == (10.5, 4.0, None)
    assert need.stages == ("seed-0/rungs/0-small/rl/train", "seed-1/rungs/0-small/rl/train")
