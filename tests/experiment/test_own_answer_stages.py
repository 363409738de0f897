"""Stages on a student's own answers in an experiment: what is planned, and what is refused in one sentence."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from w2sr_jax.batches.settings import Batching
from w2sr_jax.core.code.unloaded import Reference, stand_in
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.arms import Nothing
from w2sr_jax.experiment import Arm, Experiment, Imitation, ModelTeacher, OnPolicy, Policy, Rung, check
from w2sr_jax.losses.advantages import Centered
from w2sr_jax.losses.inputs import INITIAL
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.policy import DrGrpo, Grpo
from w2sr_jax.losses.preference import Dpo
from w2sr_jax.losses.sequences import Gspo
from w2sr_jax.losses.shift import Shift
from w2sr_jax.losses.token import Nll
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages.plan import stages
from w2sr_jax.stages.train import Train
from w2sr_jax.training.settings import Training

MODEL = ModelConfig(width=16, layers=1, heads=2, kv_heads=2, mlp=32)
POLICY = Policy(steps=3, problems=4, rollouts=2)
SHIFT = OnPolicy(Shift(anchor="initial", positive="teacher", negative="teacher-base"), steps=3, problems=4)
REASONER = ModelTeacher("reasoner", MODEL, train=(Imitation(), POLICY))
ARMS = (Arm("correct"), Arm("shift", select=Nothing(), train=(SHIFT,), after="correct"), Arm("rl", Nothing(), (POLICY,)))


def experiment(teacher: ModelTeacher = REASONER, arms: tuple[Arm | str, ...] = ARMS, **settings: Any) -> Experiment:
    rung = Rung("small", MODEL, teachers=(teacher.name,), arms=arms, gold=False, **settings)
    return Experiment("own-answers", (rung,), (teacher,), splits=Splits(pretrain=0, teacher=20, pool=20, probe=4, test=4))


def trainings(experiment: Experiment) -> dict[str, Train]:
    check(experiment)
    return dict(stages(experiment).trainings)


def test_a_teacher_goes_through_training_stages() -> None:
    planned = trainings(experiment())
    base, imitated, reasoner = (planned[name] for name in ("reasoner-base", "reasoner-1", "reasoner"))
    assert (imitated.source, reasoner.source) == (base, imitated)
    assert isinstance(reasoner.recipe, Policy)
    assert reasoner.sampling is not None
    assert stages(experiment()).traces[0, "reasoner"].writer == reasoner
    assert {"reasoner-base", "reasoner"} <= set(stages(experiment()).evaluations)
    assert "reasoner-1" not in stages(experiment()).evaluations


def test_a_teacher_without_training_stages_is_planned_as_before() -> None:
    planned = trainings(experiment(ModelTeacher("reasoner", MODEL), ("correct",)))
    assert [name for name in planned if name.startswith("reasoner")] == ["reasoner"]


def test_an_arm_goes_on_from_another_arms_student() -> None:
    planned = trainings(experiment())
    shift, correct, policy = (planned[f"0-small.{name}"] for name in ("shift", "correct", "rl"))
    assert shift.source == correct
    assert policy.source == planned["0-small.base"]
    assert dict(zip(shift.other_names, shift.others, strict=True)) == {
        "teacher": planned["reasoner"],
        "teacher-base": planned["reasoner-base"],
    }
    assert shift.curation is None
    assert shift.recipe.training is not None
    assert (shift.recipe.training.steps, shift.recipe.training.batching.rows) == (3, 4)


def refused(make: Callable[[], object]) -> str:
    with pytest.raises(UserError) as raised:
        make()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Policy(Nll()), "in which nothing depends on rewards; give it a loss on rollouts"),
        (lambda: Policy(rollouts=1), "answers to a problem are compared with each other"),
        (lambda: Policy(rewards=()), "Policy.rewards is empty"),
        (lambda: Policy(steps=0), "Policy.steps is 0; it must be at least 1"),
        (lambda: Policy(denominator=0), "Policy.denominator is 0; it must be 'sequence', 'token', 'constant' or a number"),
        (lambda: Policy(denominator="tokens"), "Policy.denominator is 'tokens'; it must be"),  # type: ignore[arg-type]
        (lambda: OnPolicy(denominator="mean"), "OnPolicy.denominator is 'mean'; it must be"),  # type: ignore[arg-type]
        (lambda: Policy(advantages=Centered), "it must be a function from rewards to advantages: write Centered()"),  # type: ignore[arg-type]
        (lambda: Policy(advantages=0.5), "Policy.advantages is 0.5; it must be a function"),  # type: ignore[arg-type]
        (lambda: OnPolicy(Dpo()), "which looks at pairs; answers that are drawn while the student trains have none"),  # type: ignore[arg-type]
        (lambda: Policy(ahead=True, redraws=1), "exclude each other"),
        (lambda: Policy(decoding=Decoding(temperature=0.0)), "answers that are learned from must be drawn"),
        (lambda: Policy(decoding=Decoding(repetition_penalty=1.2)), "decoding.repetition_penalty is 1.2; it must be 1"),
        (lambda: OnPolicy(training=Training(reference_top=4)), "reference_top is 4; it must be 0"),
        (lambda: Shift(strength=math.inf), "strength"),
        (lambda: trainings(experiment(objective=Objective(DrGrpo()))), "a loss on rollouts, which are a student's own answers"),
        (
            lambda: check(dataclasses.replace(experiment(), teachers=(REASONER, ModelTeacher("reasoner-1", MODEL)))),
            "is what a model of the teacher 'reasoner' is called",
        ),
        (
            lambda: trainings(experiment(arms=(Arm("rl", Nothing(), (POLICY,), after="correct"),))),
            "no arm stated before it (none)",
        ),
        (lambda: trainings(experiment(ModelTeacher("reasoner", MODEL))), "has no training stages (train) before which its model"),
        (
            lambda: trainings(experiment(arms=(Arm("w", Nothing(), (OnPolicy(Shift(negative="reasoner-bse")),)),))),
            "did you mean 'reasoner-base'",
        ),
    ],
)
def test_what_cannot_work_is_one_sentence(make: Callable[[], object], words: str) -> None:
    assert words in refused(make)


def test_a_loss_on_sequences_has_each_answer_alone_and_nothing_watched_beside_it() -> None:
    for stage in (Policy(Gspo()), OnPolicy(Gspo())):  # type: ignore[arg-type]
        assert stage.draws.alone
        assert not stage.keeps_initial
        assert stage.learning(Decoding(), None).models == ()
    for plain in (Policy(), OnPolicy()):
        assert not plain.draws.alone
        assert plain.keeps_initial
    assert INITIAL in Policy().learning(Decoding(), None).models


def test_code_that_was_not_executed_is_asked_nothing() -> None:
    loss = stand_in(Reference("own:Loss", None, None, "loss"), [])()
    stage = Policy(loss, advantages=Centered())
    assert (stage.sequence_loss, stage.keeps_initial) == (None, True)


def test_a_stage_that_says_how_long_answers_are_knows_its_rows() -> None:
    training = Training(accumulation=2, batching=Batching(length=128))
    stage = dataclasses.replace(POLICY, problems=5, training=training)
    planned = {"open": stage, "own": dataclasses.replace(stage, decoding=Decoding(temperature=1.0, max_tokens=30))}
    arms = tuple(Arm(name, Nothing(), (each,)) for name, each in planned.items())
    recipes = {name: trainings(experiment(arms=arms))[f"0-small.{name}"].recipe for name in planned}
    assert {name: recipe.training.batching.rows for name, recipe in recipes.items() if recipe.training} == {"open": 10, "own": 4}


def test_answers_are_drawn_without_what_their_loss_does_not_know() -> None:
    odd = Decoding(temperature=0.3, repetition_penalty=1.3, record_top=8, max_tokens=77, top_k=5)
    assert POLICY.drawn_as(odd) == Decoding(max_tokens=77, top_k=5, temperature=1.0)
    own = Decoding(temperature=0.7, max_tokens=9, record_top=4)
    assert dataclasses.replace(POLICY, decoding=own).drawn_as(odd) == dataclasses.replace(own, record_top=0)


def shouting(trace: Trace, problem: Problem) -> float:
    return float(trace.text.upper())


def test_rewards_and_advantages_of_ones_own_are_tried_beforehand() -> None:
    problems = [Problem.of("1 + 1 ?", "2")]
    said = refused(lambda: dataclasses.replace(POLICY, rewards=(shouting,)).try_own_code(problems))
    assert "test_own_answer_stages.py, line" in said
    said = refused(lambda: dataclasses.replace(POLICY, advantages=lambda rewards: rewards[0]).try_own_code(problems))
    assert "one number for each rollout" in said
    dataclasses.replace(POLICY, loss=Grpo()).try_own_code(problems)
