"""The configurations of real models in full size: what `--shrink` makes small fits what the data sets and machines have."""

from pathlib import Path

import pytest

from w2sr_jax.configuration import saved
from w2sr_jax.experiment import Experiment, Graduate, ModelTeacher, check
from w2sr_jax.problems import presets
from w2sr_jax.problems.reference import parse
from w2sr_jax.problems.settings import Files

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("qwen2_5_gsm8k", "qwen3_math", "llama3_recorded")
# Rows of each split on the Hub; MATH without MATH-500's and without the 100 others that nearly equal a test problem.
GIVEN = {("gsm8k", "train"): 7_473, ("math", "train"): 7_400, ("math", "test"): 4_400}
PROMPT = 300  # tokens of a chat template, its wording and a question of the usual length


@pytest.fixture(scope="module", params=NAMES)
def full(request) -> Experiment:
    experiment = saved.load_config(ROOT / "configs" / f"{request.param}.py")
    check(experiment)
    return experiment


def test_its_splits_ask_for_no_more_problems_than_there_are(full):
    assert isinstance(full.problems, Files)
    given = sum(GIVEN[full.problems.task, part.name] for part in parse(full.problems.path).parts)
    splits = full.splits
    assert full.test_problems is not None
    assert splits.test == 0
    assert splits.pretrain + splits.teacher + max(splits.pool, 0) + splits.probe <= given
    assert splits.pool == -1 or full.evaluation.pool <= splits.pool
    assert all(not rung.probe.every or splits.probe for rung in full.rungs)


def test_its_batches_and_widths_divide_over_its_devices(full):
    devices = max(1, full.mesh.fsdp)
    drawn = [teacher.decoding for teacher in full.teachers if isinstance(teacher, ModelTeacher | Graduate)]
    assert all(decoding.batch % devices == 0 for decoding in [full.decoding, *drawn])
    for rung in full.rungs:
        assert rung.training.batching.rows % (rung.training.accumulation * devices) == 0
        assert rung.model.width % devices == 0


def test_what_a_teacher_writes_fits_into_a_row(full):
    teachers = {teacher.name: teacher for teacher in full.teachers}
    for rung in full.rungs:
        drawn = [teachers[name] for name in rung.teachers if isinstance(teachers[name], ModelTeacher | Graduate)]
        assert all(teacher.decoding.max_tokens + PROMPT <= rung.training.batching.length for teacher in drawn)
        assert all(teacher.decoding.max_tokens == full.decoding.max_tokens for teacher in drawn)


def test_both_splits_of_math_are_read_of_every_subject():
    reference = parse(presets.math("train+test").path)
    assert (reference.configs, [part.name for part in reference.parts]) == (presets.MATH_SUBJECTS, ["train", "test"])
