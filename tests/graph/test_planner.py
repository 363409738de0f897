"""Plans of stages that fit together, and of an experiment: what a changed setting makes due."""

import dataclasses
import sys
from pathlib import Path

import pytest
from numbers_stages import Sum

from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment import Experiment, check
from w2sr_jax.graph.planner import Plan
from w2sr_jax.graph.stage import Stage, stages_of
from w2sr_jax.graph.store import RunStore
from w2sr_jax.stages.plan import plan, stages

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = RunStore(Path("/nowhere"))


def test_stages_come_after_what_they_read():
    a = Sum("a", 1)
    b = Sum("b", 2, (a,))
    assert [stage.name for stage in Plan([b, a])] == ["a", "b"]


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: [Sum("b", 1, (Sum("a", 1),))], "stage b reads a, which no stage of the run makes"),
        (lambda: [Sum("a", 1), Sum("a", 2)], "two stages are called a; give each its own name"),
        (lambda: [Stage("a")], r"the stage a defines no run; define run\(context\) -> StageResult"),
    ],
    ids=["nobody makes it", "two of one name", "no work"],
)
def test_stages_that_do_not_fit_are_one_sentence(made, sentence):
    with pytest.raises(UserError, match=sentence):
        Plan(made())


def test_a_circle_of_stages_is_one_sentence():
    @dataclasses.dataclass(frozen=True)
    class Late(Sum):
        wanted: list = dataclasses.field(default_factory=list, metadata={"read": False}, compare=False)

        @property
        def after(self):
            return tuple(self.wanted)

    first = Late("first", 1)
    second = Sum("second", 2, (first,))
    first.wanted.append(second)
    with pytest.raises(UserError, match="stages read each other in a circle: first → second → first"):
        Plan([first, second])


def test_an_identity_counts_every_field_and_every_input():
    a = Sum("a", 1)
    own = Plan([a, Sum("b", 2, (a,))])
    known = {stage.name: own.identity(stage, NOWHERE) for stage in own}
    other = Sum("a", 5)
    changed = Plan([other, Sum("b", 2, (other,))])
    assert {
        name: own.identity(stage, NOWHERE) == changed.identity(changed.by_name[name], NOWHERE)
        for name, stage in own.by_name.items()
    } == {
        "a": False,
        "b": False,
    }
    again = Plan([Sum("a", 1), Sum("b", 2, (Sum("a", 1),))])
    assert {stage.name: again.identity(stage, NOWHERE) for stage in again} == known


@pytest.fixture(scope="module")
def miniature():
    sys.path.insert(0, str(ROOT / "configs"))
    try:
        import quickstart

        return dataclasses.replace(quickstart.miniature())
    finally:
        sys.path.remove(str(ROOT / "configs"))


def leaves(value, path=()):
    """Every setting of an experiment: the path to it, and its value."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def others(value):
    """Values that a setting might have instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value + 2, value * 2, 1]
    if isinstance(value, float):
        return [value * 0.5, value + 0.25, 0.25, 2 * value + 1]
    if value is None:
        return [1, 1.0, "x"]
    return [
        "mix",
        "loss",
        "warn",
        "stop",
        "none",
        "float32",
        "bfloat16",
        "nf4",
        "int8",
        "layers",
        "dots",
        "dense",
        "blocks",
        f"{value}x",
    ]


def replaced(value, path, new):
    if not path:
        return new
    head, *rest = path
    if isinstance(value, tuple):
        return tuple(replaced(item, rest, new) if index == head else item for index, item in enumerate(value))
    return dataclasses.replace(value, **{head: replaced(getattr(value, head), rest, new)})


def changed(experiment: Experiment, path):
    """The experiment with another value of one setting; None where no other value is sound."""
    value = dict(leaves(experiment))[path]
    for new in others(value):
        try:
            other = replaced(experiment, path, new)
            check(other)
        except (UserError, TypeError, ValueError):
            continue
        if new != value:
            return other
    return None


RUNGS = ("0-small", "1-large")
TRAINED = {0: ("all", "correct", "incorrect", "gold"), 1: ("correct", "gold")}
LEDGER = {index: (*arms, "base-direct") for index, arms in TRAINED.items()}


def evaluations(index, arms):
    return {f"evaluations/{RUNGS[index]}.{arm}" for arm in arms}


def students(index):
    return {f"rungs/{RUNGS[index]}/{arm}/train" for arm in TRAINED[index]}


EVERY_EVALUATION = {"evaluations/teacher"} | {
    name for index in TRAINED for name in evaluations(index, (*TRAINED[index], "base", "base-direct"))
}
EVERY_TRAINING = {"teachers/teacher/train"} | {
    name for index in TRAINED for name in {*students(index), f"rungs/{RUNGS[index]}/base/train"}
}
TRACES = {"teacher": "rungs/0-small/traces-teacher", "graduate": "rungs/1-large/traces-graduate"}


def readers(path):
    """The stages that a setting steers, as a person knows them from what they do; all that follows from them comes besides."""
    head, *rest = path
    match head:
        case "name" | "rehearsal" | "mesh":
            return set()
        case "seeds":
            return EVERY_TRAINING | set(TRACES.values()) | EVERY_EVALUATION
        case "problems":
            return {"problems", "tokenizer", "rungs/0-small/base/train"}
        case "splits":
            return {"problems"}
        case "tokenizer":
            return {"tokenizer"} | (EVERY_EVALUATION if rest == ["largest"] else set())
        case "grader":
            return set(TRACES.values()) | EVERY_EVALUATION | students(0) | students(1)
        case "evaluation":
            return EVERY_EVALUATION
        case "decoding":
            return EVERY_EVALUATION | students(0) | students(1)
        case "teachers":
            return of_teacher(*rest)
        case "rungs":
            return of_rung(*rest)
    raise AssertionError(f"nobody has said who reads {path}")


def of_teacher(index, field, *_):
    name = ("teacher", "graduate")[index]
    if field == "model":
        return {"teachers/teacher/train", "evaluations/teacher"}
    if field == "training":
        return {"teachers/teacher/train"}
    if field == "meshes":
        return set()  # where something is computed is no part of what it is
    if field == "weight":
        return {f"rungs/{RUNGS[index]}/curation"}
    return {TRACES[name]}


def of_rung(index, field, *rest):
    base, curation = f"rungs/{RUNGS[index]}/base/train", f"rungs/{RUNGS[index]}/curation"
    match field:
        case "model":
            return {base, *students(index), *evaluations(index, (*TRAINED[index], "base", "base-direct"))}
        case "start":
            return {base} | ({"tokenizer"} if rest[0] == "facts" else set())
        case "pool":
            traces = TRACES[("teacher", "graduate")[index]]
            return {traces, curation, *students(index), *evaluations(index, LEDGER[index])}
        case "curation":
            return {curation}
        case "training" | "objective" | "probe":
            return students(index)
        case "meshes":
            return set()
    raise AssertionError(f"nobody has said who reads {field} of a rung")


def downstream(made: Plan, names):
    due = set(names)
    for stage in made:
        if any(need.name in due for need in stages_of(stage)):
            due.add(stage.name)
    return due


STRUCTURE = {
    *(("teachers", index, "name") for index in (0, 1)),
    *(("rungs", index, "name") for index in (0, 1)),
    ("teachers", 0, "checkpoint"),
}
"""Settings that name stages, or weights that are not there."""


def test_a_changed_setting_makes_due_exactly_who_reads_it_and_what_follows(miniature):
    before = plan(miniature)
    known = {stage.name: before.identity(stage, NOWHERE) for stage in before}
    looked_at = 0
    for path, _ in leaves(miniature):
        other = None if path in STRUCTURE else changed(miniature, path)
        if other is None:
            continue
        after = plan(other)
        if {stage.name for stage in after} != set(known):
            continue  # another arm, or none: other stages, not the same ones made anew
        due = {stage.name for stage in after if after.identity(stage, NOWHERE) != known[stage.name]}
        expected = downstream(before, readers(path)) | {"report"}
        assert due == expected, f"{'.'.join(map(str, path))}: not due {expected - due}, due besides {due - expected}"
        looked_at += 1
    assert looked_at > 150


def test_no_stage_holds_more_of_the_experiment_than_it_reads(miniature):
    """Only the report sees the whole; every other stage has fields of its own."""
    holders = [
        stage.name
        for stage in stages(miniature)
        if any(isinstance(getattr(stage, field.name), Experiment) for field in dataclasses.fields(stage))
    ]
    assert holders == ["report"]
