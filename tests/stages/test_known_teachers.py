"""A loss that looks at the teacher is refused, before anything is done, where nothing will be known of its distributions."""

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung, Teacher
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import ForwardKL, Nll
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages.plan import stages
from w2sr_jax.teachers.settings import Recorded, Served

WEAK, OTHER = ModelTeacher("weak"), ModelTeacher("other")
RECORDING = ModelTeacher("recording", decoding=Decoding(record_top=4))
SERVED, NAMING = Served("served"), Served("naming", top_logprobs=4)
FILE = Recorded("file", "traces.jsonl")


def planned(*teachers: Teacher) -> list[str]:
    """The names of the other models that the arm's training reads."""
    rung = Rung("student", ModelConfig(), teachers=tuple(each.name for each in teachers), arms=("all",))
    rung_with_loss = Rung(**{**vars(rung), "objective": Objective(Nll() + ForwardKL("teacher"))})
    return list(stages(Experiment("x", (rung_with_loss,), teachers)).trainings["0-student.all"].other_names)


@pytest.mark.parametrize("teachers", [(SERVED,), (FILE,), (WEAK, OTHER), (SERVED, WEAK)], ids=repr)
def test_teachers_of_whom_nothing_will_be_known_are_refused(teachers: tuple[Teacher, ...]) -> None:
    with pytest.raises(UserError, match=r"rungs\.0 \(student\): the loss looks at the teacher, .* records none"):
        planned(*teachers)


@pytest.mark.parametrize(
    ("teachers", "computed"),
    [((WEAK,), ["teacher"]), ((RECORDING,), []), ((NAMING,), []), ((WEAK, RECORDING), []), ((FILE, NAMING), [])],
    ids=["a model alone", "a model that records", "a server that names tokens", "one of two", "beside a file"],
)
def test_others_are_computed_or_recorded(teachers: tuple[Teacher, ...], computed: list[str]) -> None:
    assert planned(*teachers) == computed
