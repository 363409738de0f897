"""Tokens, operations and time of stages, against sums made by hand."""

import dataclasses
from typing import Any

import pytest

from w2sr_jax.batches.settings import Batching
from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.arms import Nothing
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, Imitation, ModelTeacher, Policy, Rung
from w2sr_jax.experiment.arms import Arm
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.losses.sequences import Gspo
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.accelerators import ACCELERATORS
from w2sr_jax.planning import rates
from w2sr_jax.planning.rates import Decoding
from w2sr_jax.planning.work import Assumed, Counted, Passed, Sampled, Work
from w2sr_jax.problems.settings import Files, Splits
from w2sr_jax.sampling import settings as sampling
from w2sr_jax.stages.plan import stages
from w2sr_jax.training.settings import Training

MODEL = ModelConfig(vocab_size=128, width=32, layers=2, heads=2, kv_heads=2, mlp=64)
HOW = Training(epochs=2, batching=Batching(length=256, rows=8, pack=False))
RUNG = Rung("small", MODEL, arms=("correct",), training=HOW, curation=Curation(per_problem=2), pool=(0.0, 0.5))
TEACHER = ModelTeacher(model=MODEL, training=HOW, samples=3, decoding=sampling.Decoding(max_tokens=100, batch=16))
EXPERIMENT = Experiment(
    "counts",
    (RUNG,),
    (TEACHER,),
    splits=Splits(teacher=40, pool=200, probe=10, test=30),
    evaluation=Evaluation(samples=4, pool=20),
    decoding=sampling.Decoding(temperature=0.0, max_tokens=100),
)
ASSUMED = Assumed(prompt=50, completion=80)


def counted(experiment: Experiment = EXPERIMENT, assumed: Assumed = ASSUMED) -> dict[str, Work]:
    counts = Counted(experiment, assumed, lambda config: config)
    works = [counts.work(stage) for stage in stages(experiment)]
    return {work.stage: work for work in works if work is not None}


def test_a_training_goes_through_its_examples_in_whole_steps() -> None:
    works = counted()
    student, gold = (works[f"rungs/0-small/{arm}/train"].passed for arm in ("correct", "gold"))
    assert student.positions == 2 * 200 * 256, "half the pool, two traces of each, twice, each in a row of its own"
    assert gold.positions == 2 * 13 * 8 * 256, "100 solutions are 12 and a half batches"
    assert student.flops == 3 * student.positions * MODEL.flops_per_token(128)
    assert works["teachers/teacher/train"].passed.positions == 2 * 5 * 8 * 256
    assert works["rungs/0-small/correct/train"].counted == 8.0 * MODEL.parameters() * student.positions  # remat: attention


def test_packing_fills_rows_and_a_limit_holds() -> None:
    packed = dataclasses.replace(HOW, batching=dataclasses.replace(HOW.batching, pack=True))
    rung = dataclasses.replace(RUNG, training=packed, curation=Curation(per_problem=2, limit=120))
    works = counted(dataclasses.replace(EXPERIMENT, rungs=(rung,)))
    assert works["rungs/0-small/correct/train"].passed.positions == 2 * 8 * 8 * 256, "120 × 130 tokens are 61 rows, 8 batches"


def test_adapters_need_no_gradients_of_what_is_frozen() -> None:
    lora = Arm("lora", train=(Imitation(training=dataclasses.replace(HOW, lora=Lora(rank=2))),))
    works = counted(dataclasses.replace(EXPERIMENT, rungs=(dataclasses.replace(RUNG, arms=("all", lora)),)))
    plain, adapters = (works[f"rungs/0-small/{name}/train"].passed for name in ("all", "lora"))
    assert adapters.flops == pytest.approx(plain.flops * 2 / 3)


def test_own_answers_fill_as_few_rows_as_hold_the_longest() -> None:
    training = Training(accumulation=2, batching=Batching(length=320))
    own = Policy(steps=5, problems=6, rollouts=3, training=training, watch_start=False)
    arms = (Arm("rl", Nothing(), (own,)), Arm("gspo", Nothing(), (dataclasses.replace(own, loss=Gspo()),)))
    works = counted(dataclasses.replace(EXPERIMENT, rungs=(dataclasses.replace(RUNG, arms=arms, gold=False),)))
    policy, alone = (works[f"rungs/0-small/{name}/train"] for name in ("rl", "gspo"))
    assert policy.passed.positions == 5 * 10 * 320, "two of 50 + 99 positions to a row are 9 rows for 18, in two parts 10"
    assert alone.passed.positions == 5 * 18 * 320
    assert [each.completions for each in policy.sampled] == [5 * 18]


def test_a_teacher_and_an_evaluation_draw_what_their_settings_say() -> None:
    works = counted()
    (drawn,) = works["rungs/0-small/traces-teacher"].sampled
    assert (drawn.completions, drawn.prompts, drawn.tokens) == (300, 100, 100 * 50 + 300 * 80)
    student = works["evaluations/0-small.correct"]
    assert [each.completions for each in student.sampled] == [30 + 20, 30 * 4]
    assert student.passed.positions == 10 * 3 * 256, "the likelihood of the teacher's traces on the probe problems"
    assert [each.completions for each in works["evaluations/teacher"].sampled] == [30, 30 * 4]


def test_a_budget_bounds_a_teacher() -> None:
    few = dataclasses.replace(TEACHER, token_budget=8_000)
    (drawn,) = counted(dataclasses.replace(EXPERIMENT, teachers=(few,)))["rungs/0-small/traces-teacher"].sampled
    assert drawn.completions * drawn.drawn == 8_000


def test_problems_that_nobody_can_count_are_asked_for() -> None:
    absent = Files("hf:nobody/nothing:main:train")
    rest = dataclasses.replace(EXPERIMENT, problems=absent, splits=Splits(pool=-1, teacher=40))
    with pytest.raises(UserError, match="--problems"):
        counted(rest)
    works = counted(rest, dataclasses.replace(ASSUMED, problems=1000))
    assert works["rungs/0-small/traces-teacher"].sampled[0].prompts == 500


def test_time_is_that_of_the_slower_of_operations_and_memory() -> None:
    chip, half = ACCELERATORS["v5p"], 0.5
    trained = Work("t", "train", Passed(10, 4 * chip.flops), (), 1.0)
    assert rates.seconds(trained, chip, 4, half, []) == pytest.approx(2.0)
    drawn = Sampled(MODEL, TEACHER.decoding, completions=160, prompts=0, prompt=50, drawn=80)
    work = Work("s", "sample", Passed(0, 0.0), (drawn,), 1.0)
    slow = Decoding(weights=int(chip.bandwidth), cache_per_token=0.0)
    assert rates.seconds(work, chip, 4, half, [slow]) == pytest.approx(160 / 16 * 80 * 1.0 / half)
    assert rates.waiting(work, chip, 4, [slow]) == pytest.approx(1.0)
    fast = Decoding(weights=0, cache_per_token=0.0)
    assert rates.seconds(work, chip, 4, half, [fast]) == pytest.approx(drawn.drawn_flops / 4 / chip.flops / half)
    assert rates.waiting(work, chip, 4, [fast]) == 0.0


def test_rates_are_those_of_stages_that_ran_on_such_devices() -> None:
    def manifest(kind: str, device: str, flops: float | None, shared: str = "") -> Manifest:
        measures: dict[str, Any] = {"seconds": 10.0} | ({"flops": flops} if flops else {})
        where = {"device": device, "devices": "4"}
        return Manifest("s", kind, "", None, {}, {}, {}, {}, measures, {}, where, shared_from=shared)

    run = [
        manifest("train", "TPU v5", 4e15),
        manifest("train", "TPU v5", 8e15),
        manifest("train", "TPU v5", 9e18, shared="other"),
        manifest("evaluate", "cpu", 1e9),
        manifest("prepare", "cpu", None),
    ]
    measured = rates.measured(run, ACCELERATORS["v5p"])
    assert measured.rates == {"train": 12e15 / 20 / 4}
    assert measured.others == ("cpu",)
    assert rates.measured(run, ACCELERATORS["v5e"]).rates == {}
