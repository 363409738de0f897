"""Results of runs of which next to nothing is known: tests state what they are about, the rest is the least that there is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from w2sr_jax.core import codec
from w2sr_jax.evaluation.process import Length, Process, Rate, StepValidity
from w2sr_jax.evaluation.scores import Comparison, Scores
from w2sr_jax.evaluation.statistics import Difference, Gap, Interval, Triple, Width
from w2sr_jax.report.results import Device, Model, Problems, Results, Rung, Student, TeacherTraces

NONE = Rate(None, 0)
PROCESS = Process(StepValidity(None, 0, 0, None), NONE, NONE, NONE, NONE, NONE, Length("tokens", None, None))


def results(rungs: Sequence[Rung] = (), models: Mapping[str, Model] | None = None, **more: Any) -> Results:
    fields: dict[str, Any] = {
        "name": "x",
        "rehearsal": False,
        "experiment": {},
        "config_hash": "",
        "versions": {},
        "device": Device("cpu", 1, {}),
        "seeds": (0,),
        "test_problems": 600,
        "problems": Problems({}, 0, {}, 0, ()),
    }
    return Results(rungs=tuple(rungs), models=models or {}, **{**fields, **more})


def edited(found: Results, edit: Callable[[dict[str, Any]], object]) -> Results:
    """The results with a change made in their JSON."""
    fields = codec.encode(found)
    edit(fields)
    return codec.decode(Results, fields, "edited results")


def rung(
    index: int,
    name: str,
    teachers: Sequence[str],
    models: Mapping[str, str],
    comparisons: Mapping[str, Comparison],
    traces: Sequence[TeacherTraces] = (),
) -> Rung:
    student = Student(1000, width=8, layers=1)
    return Rung(index, name, student, tuple(teachers), None, models, comparisons, {}, {}, tuple(traces), ())


def model(role: str, rung: int | None = None, arm: str | None = None, accuracy: Interval | None = None, **more: Any) -> Model:
    fields: dict[str, Any] = dict.fromkeys(("training", "held_out", "faithfulness", "probe", "evidence"))
    found = scores(accuracy or Interval(0.5, 0.4, 0.6, 600))
    return Model(role=role, rung=rung, arm=arm, **{**fields, "scores": found, "sources": (), **more})


def scores(accuracy: Interval) -> Scores:
    return Scores(
        problems=accuracy.n,
        ungraded=0,
        seeds=1,
        accuracy=accuracy,
        by_seed=(accuracy.value,),
        avg_at_k=None,
        pass_at_k=(),
        maj_at_k=(),
        unparsed=Rate(0.0, accuracy.n),
        process=PROCESS,
        mean_tokens=None,
        confidence=0.95,
    )


def comparison(**found: Any) -> Comparison:
    fields: dict[str, Any] = dict.fromkeys(("vs_teacher", "vs_base", "vs_ceiling", "rgr_base", "pgr", "teacher"))
    return Comparison(**{**fields, "ceiling": "gold SFT", "confidence": 0.95, **found})


def difference(value: float, low: float, high: float, **more: Any) -> Difference:
    fields: dict[str, Any] = {"n": 600, "left": 0.6 + value, "right": 0.6, "mcnemar_p": None, "permutation_p": 0.01}
    counts: dict[str, Any] = dict.fromkeys(("both", "only_left", "only_right", "neither"))
    return Difference(difference=value, low=low, high=high, **{**fields, **counts, **more})


def gap(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    suppressed: str | None = None,
    raw: Triple | None = None,
) -> Gap:
    return Gap(value, low, high, suppressed, raw or Triple(0.7, 0.1, 0.85), Width(0.75, 0.7, 0.8))
