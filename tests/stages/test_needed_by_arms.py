"""Which stages an arm's student could not have been without: by hand, for a rung with arms of every kind and a ladder."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hand_made import commit

from w2sr_jax.curation.arms import Correct, Nothing
from w2sr_jax.evaluation.arms import ArmTraining
from w2sr_jax.experiment import Arm, Experiment, Imitation, ModelTeacher, Pretraining, Rung, Teacher, TrainingStage
from w2sr_jax.experiment.policy import OnPolicy, Policy
from w2sr_jax.experiment.teachers import Graduate
from w2sr_jax.graph.store import RunStore
from w2sr_jax.losses.advantages import Fixed
from w2sr_jax.losses.inputs import TEACHER
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.shift import Shift
from w2sr_jax.losses.token import ForwardKL
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages import models
from w2sr_jax.stages.plan import stages
from w2sr_jax.stages.report import arms
from w2sr_jax.stages.report.assemble import timings
from w2sr_jax.stages.report.sources import Sources
from w2sr_jax.stages.train import Train

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


def looking(*names: str) -> OnPolicy:
    """A stage whose loss looks at the models of these names, the first of them its anchor."""
    anchor, positive, negative = names
    return OnPolicy(Shift(anchor=anchor, positive=positive, negative=negative))


def of(experiment: Experiment, tmp_path: Path, rung: int, arm: str) -> dict[str, str]:
    return parts(arms.trainings(experiment, Sources([RunStore(tmp_path)]), pool=40)[rung][arm])


def alone(*arms: Arm | str, teachers: tuple[Teacher, ...] = EXPERIMENT.teachers[:1], **changes: object) -> Experiment:
    rung = dataclasses.replace(FIRST, teachers=(teachers[-1].name,), arms=arms, **changes)  # type: ignore[arg-type]
    return Experiment("alone", rungs=(rung,), teachers=teachers)


def test_losses_look_at_models_by_their_names(tmp_path: Path) -> None:
    two = Arm("two", select=Nothing(), train=(Policy(), Policy()))
    by_name = Arm("named", select=Nothing(), train=(looking("0-small.two-1", "weak-base", "0-small.base"),))
    own = "rungs/0-small"
    assert of(alone(two, by_name), tmp_path, 0, "named") == {
        f"{own}/named/train": "own",
        f"{own}/two/stage-1/train": "before",
        "teachers/weak/base/train": "teacher",
    }


def test_losses_look_at_models_of_other_rungs(tmp_path: Path) -> None:
    arm = Arm("named", select=Nothing(), train=(looking("initial", "0-small.again-1", "0-small.rl"),))
    above = Rung("large", TINY, teachers=("weak",), arms=(arm,), gold=False)
    experiment = dataclasses.replace(EXPERIMENT, rungs=(FIRST, above))
    own = "rungs/0-small"
    names = of(experiment, tmp_path, 1, "named")
    assert names == {
        "rungs/1-large/named/train": "own",
        f"{own}/again/stage-1/train": "teacher",
        f"{own}/base/train": "teacher",
        **TAUGHT,
        f"{own}/rl/train": "teacher stages",
    }


def test_a_loss_of_imitation_looks_at_no_teacher_whose_distributions_are_recorded(tmp_path: Path) -> None:
    """The traces are those of another arm: what this one learns from, it is given by hand."""
    recording = ModelTeacher("weak", TINY, train=(Policy(),), decoding=Decoding(record_top=4))
    plain = ModelTeacher("weak", TINY, train=(Policy(),))
    distil = Objective(ForwardKL(TEACHER))
    imitates = Arm("distilled", select=Nothing(), train=(Imitation(objective=distil),))
    draws = Arm("distilled", select=Nothing(), train=(OnPolicy(ForwardKL(TEACHER)),))
    own = {"rungs/0-small/distilled/train": "own"}
    teacher = {name: part for name, part in TAUGHT.items() if part != "traces"}
    assert of(alone(imitates, teachers=(recording,)), tmp_path, 0, "distilled") == own
    assert of(alone(imitates, teachers=(plain,)), tmp_path, 0, "distilled") == {**own, **teacher}
    # Nothing is recorded with answers of its own.
    assert of(alone(draws, teachers=(recording,)), tmp_path, 0, "distilled") == {**own, **teacher}
    # Nobody wrote gold solutions.
    gold = alone("correct", teachers=(plain,), objective=distil)
    assert of(gold, tmp_path, 0, "gold") == {"rungs/0-small/gold/train": "own"}


def test_a_teacher_s_own_stages_look_at_other_teachers(tmp_path: Path) -> None:
    weak = ModelTeacher("weak", TINY, train=(Policy(),))
    strong = ModelTeacher("strong", TINY, train=(looking("initial", "weak", "weak-base"),))
    assert of(alone("correct", teachers=(weak, strong)), tmp_path, 0, "correct") == {
        "rungs/0-small/correct/train": "own",
        "rungs/0-small/traces-strong": "traces",
        "teachers/strong/train": "teacher stages",
        "teachers/strong/base/train": "teacher",
        "teachers/weak/train": "teacher stages",
        "teachers/weak/base/train": "teacher",
    }


def test_what_arms_need_agrees_with_the_plan(tmp_path: Path) -> None:
    """The trainings that a plan puts before an arm's, but for bases of the arm's own rung and what only probes look at."""
    planned = stages(EXPERIMENT)
    trained = arms.trainings(EXPERIMENT, Sources([RunStore(tmp_path)]), pool=40)

    def trainings_before(stage: Train, index: int) -> set[str]:
        if stage.model.rung == index and stage.model.arm == "base":
            return set()
        curated = [] if stage.curation is None else [one.writer for one in stage.curation.traces]
        behind = [one for one in (stage.source, *stage.others, *curated) if one is not None]
        return {stage.name}.union(*(trainings_before(one, index) for one in behind))

    for index, rung in enumerate(trained):
        for arm, training in rung.items():
            if arm != "gold":  # what was curated for it is nobody's
                stage = planned.trainings[models.student(EXPERIMENT, index, arm).name]
                needed = {need.stages[0] for need in training.needs if need.part != "traces"}
                assert needed == trainings_before(stage, index), (index, arm)


def test_each_model_is_looked_at_once_for_an_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of forty arms looks at the two before it, so that as many ways lead to the first as a Fibonacci number says."""
    count = 40
    chain = [Arm(f"a{number}", select=Nothing(), train=(Policy(),)) for number in (0, 1)]
    for number in range(2, count):
        chain.append(
            Arm(f"a{number}", select=Nothing(), train=(looking("initial", f"0-small.a{number - 1}", f"0-small.a{number - 2}"),))
        )
    looks = 0
    plainly = arms.examples.recipe_of

    def counted(*given: Any) -> Any:
        nonlocal looks
        looks += 1
        assert looks < 20 * count, "models are looked at over and over"
        return plainly(*given)

    monkeypatch.setattr(arms.examples, "recipe_of", counted)
    needed = of(alone(*chain), tmp_path, 0, f"a{count - 1}")
    assert len(needed) == count
    assert looks <= count + 1


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


def test_the_arm_before_is_the_longest_way_to_it() -> None:
    first, second, third = Policy(), Policy(steps=7), Policy(steps=9)

    def arm(name: str, *train: TrainingStage, **changes: Any) -> Arm:
        return Arm(name, **{"select": Correct(), "train": (Imitation(), *train), **changes})

    rung = dataclasses.replace(
        FIRST,
        arms=(
            arm("zero"),
            arm("one", first),
            arm("two", first, second),
            arm("three", first, second, third),
            arm("other", second, third),
            Arm("on", select=Nothing(), train=(first,), after="zero"),
            Arm("on-two", select=Nothing(), train=(first, second), after="zero"),
            Arm("on-on", select=Nothing(), train=(second, third), after="on"),
        ),
    )
    assert {one.name: arms.before(rung, one) for one in rung.trained} == {
        "zero": None,
        "one": "zero",
        "two": "one",
        "three": "two",
        "other": "zero",
        "on": "zero",
        "on-two": "on",
        "on-on": "on-two",
        "gold": None,
    }


def test_of_arms_trained_alike_the_one_before_is_the_one_that_is_named() -> None:
    twins = (Arm("twin", select=Correct()), Arm("correct", select=Correct(), label="again"))
    rung = dataclasses.replace(FIRST, arms=(*twins, Arm("on", select=Nothing(), train=(Policy(),), after="correct")))
    assert arms.before(rung, rung.arm("on")) == "correct"


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


def test_timings_hold_sittings_and_the_devices_of_the_mesh(tmp_path: Path) -> None:
    sittings = {"wall": 90.0, "stepping": 60.0, "lost_steps": 2, "lost_seconds": 5.0, "sittings": 2}
    everywhere = {"mesh": "data 2, fsdp 3, tensor 1", "devices": "8"}
    commit(tmp_path, "a/train", "train", measures={"seconds": 30.0, "goodput": sittings}, environment=everywhere)
    commit(tmp_path, "a/curation", "curate", measures={"seconds": 4.0}, environment={"mesh": "", "devices": "8"})
    commit(tmp_path, "b/train", "train", measures={"seconds": 4.0})
    found = timings(Sources([RunStore(tmp_path)])).stages
    assert {name: (time.devices, time.device_seconds) for name, time in found.items()} == {
        "a/train": (6, 540.0),
        "a/curation": (1, 4.0),  # no device does anything
        "b/train": (None, 4.0),
    }
