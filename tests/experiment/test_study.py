"""Studies: which cells there are, and what is refused before anything is computed."""

import dataclasses
from functools import partial
from typing import Any

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.settings import Curation
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.experiment.study import Axis, Claim, Of, Study, cells
from w2sr_jax.models.config import ModelConfig

BASE = Experiment("base", (Rung("small", ModelConfig()),))


def rate(value: float, experiment: Experiment) -> Experiment:
    rung = experiment.rungs[0]
    return dataclasses.replace(
        experiment, rungs=(dataclasses.replace(rung, training=dataclasses.replace(rung.training, learning_rate=value)),)
    )


def kept(count: int, experiment: Experiment) -> Experiment:
    rung = dataclasses.replace(experiment.rungs[0], curation=Curation(per_problem=count))
    return dataclasses.replace(experiment, rungs=(rung,))


RATE = Axis("rate", {"low": partial(rate, 1e-5), "high": partial(rate, 1e-3)})
KEPT = Axis("kept", {"1": partial(kept, 1), "2": partial(kept, 2), "3": partial(kept, 3)})
KEPT1, KEPT2 = partial(kept, 1), partial(kept, 2)
CLAIM = Claim(
    "two are better than one",
    Of("0-small.correct", {"rate": "low", "kept": "2"}),
    Of("0-small.correct", {"rate": "low", "kept": "1"}),
)


def study(**changes: Any) -> Study:
    return dataclasses.replace(Study("example", BASE, (RATE, KEPT), CLAIM, seeds=(0, 1)), **changes)


def test_cells_are_all_combinations_the_last_axis_fastest() -> None:
    found = cells(study())
    assert [cell.name for cell in found] == [f"rate-{rate}_kept-{kept}" for rate in ("low", "high") for kept in "123"]
    for cell in found:
        rung = cell.experiment.rungs[0]
        assert rung.training.learning_rate == {"low": 1e-5, "high": 1e-3}[cell.values["rate"]]
        assert rung.curation.per_problem == int(cell.values["kept"])
        assert cell.experiment.seeds == (0, 1)


def test_combinations_can_be_left_out() -> None:
    found = cells(study(left_out=({"rate": "high", "kept": "1"}, {"kept": "3"})))
    assert [cell.name for cell in found] == ["rate-low_kept-1", "rate-low_kept-2", "rate-high_kept-2"]


def test_an_axis_with_one_value_need_not_be_named() -> None:
    claim = Claim("better", Of("0-small.correct", {"kept": "2"}), Of("0-small.correct", {"kept": "1"}))
    assert len(cells(study(axes=(Axis("rate", {"low": partial(rate, 1e-5)}), KEPT), primary=claim))) == 3


def both(experiment: Experiment) -> Experiment:
    return kept(7, rate(1e-2, experiment))


def nothing(experiment: Experiment) -> Any:
    return None


def listed(experiment: Experiment) -> Experiment:
    return dataclasses.replace(experiment, rungs=list(experiment.rungs))


def broken(experiment: Experiment) -> Experiment:
    raise KeyError("absent")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"axes": RATE}, r"study\(\)\.axes is Axis\(.*, of type Axis; it must be a tuple, each part Axis"),
        ({"seeds": 3}, r"study\(\)\.seeds is 3, of type int; it must be a tuple, each part a whole number"),
        ({"primary": "two are better"}, r"study\(\)\.primary is 'two are better', of type str; it must be Claim"),
        (
            {"axes": (Axis("kept", {1: partial(kept, 1)}),)},
            "the axis kept must have names that are text, and one is 1; write '1'",
        ),
        ({"axes": (Axis("kept", ["1"]),)}, r"the axis kept must map names to a function .*, and this is \['1'\]"),
        ({"axes": (Axis("kept", {"1": 7}),)}, "the axis kept must map names to a function .*, and 1 is 7"),
        ({"left_out": ("1",)}, "a part of left_out must map names to text, and this is '1'"),
        ({"primary": dataclasses.replace(CLAIM, left=Of("m", {"kept": 2}))}, "must map names to text, and kept is 2"),
        ({"axes": (RATE, Axis("kept", {"1": listed}))}, r"the value 1 of the axis kept returned .* whose rungs is \["),
        (
            {"axes": (Axis("rate", {**RATE.values, "Low": partial(rate, 1e-4)}), KEPT)},
            "rate-low_kept-1 and rate-Low_kept-1 would lie",
        ),
        (
            {
                "axes": (
                    Axis("a", {"1": partial(rate, 1.0), "1_b-1": partial(rate, 2.0)}),
                    Axis("b", {"1": KEPT1, "1_b-1": KEPT2}),
                )
            },
            "the cells a-1_b-1_b-1 and a-1_b-1_b-1 would lie in one folder",
        ),
        ({"axes": (RATE, Axis("kept", {"1" * 190: KEPT1}))}, "has a name of 204 bytes, and folders take at most 200"),
        ({"name": "a/b"}, r"the study is called 'a/b'; names are letters, digits, '\.', '_' and '-'"),
        ({"axes": (Axis("a b", KEPT.values),)}, "an axis is called 'a b'"),
        ({"axes": (Axis("kept", {}),)}, "the axis kept has no values"),
        ({"axes": (KEPT, KEPT)}, "two axes are called kept"),
        ({"seeds": (0, 0)}, r"the seeds of the study example are \[0, 0\]; give one or more, each once"),
        ({"axes": (RATE, KEPT, Axis("both", {"yes": both}))}, "the axes rate and both clash: rate low and both yes make another"),
        (
            {"axes": (RATE, Axis("kept", {"1": nothing}))},
            "the value 1 of the axis kept returned None; it must return an Experiment",
        ),
        ({"axes": (Axis("kept", {"1": broken}),)}, r"test_study\.py, line \d+: KeyError"),
        ({"axes": (RATE, Axis("kept", {"1": partial(kept, 1), "one": partial(kept, 1)}))}, "are one experiment"),
        ({"left_out": ({},)}, "the study example has no cell"),
        (
            {"primary": dataclasses.replace(CLAIM, left=Of("0-small.correct", {"rate": "low", "kept": "22"}))},
            "is about 0-small.correct at rate low, kept 22, and there is no such cell; did you mean kept 2",
        ),
        (
            {"primary": dataclasses.replace(CLAIM, left=Of("0-small.correct", {"kept": "2"}))},
            "which are 2 cells; say the value of rate too",
        ),
    ],
)
def test_what_is_no_study_is_refused_in_a_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        cells(study(**changes))
    assert "\n" not in str(refused.value)
