"""What decides whom tools/kill/hosts.py strikes, and what it makes of how processes ended. Strikes themselves take minutes."""

import collections
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "kill"


@pytest.fixture(scope="module")
def tool() -> Iterator[Any]:
    before = set(sys.modules)
    sys.path.insert(0, str(TOOL))
    import hosts
    import joint

    yield hosts, joint
    sys.path.remove(str(TOOL))
    for name in set(sys.modules) - before:
        if str(TOOL) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def call(moment: str, stage: str, begins: float) -> dict[str, Any]:
    return {"moment": moment, "stage": stage, "call": 0, "seconds": 0.5, "begins": begins}


FIRST = [
    call("making problems", "problems", 0.0),
    call("making the tokenizer", "tokenizer", 1.0),
    call("in a training step", "teachers/teacher/train", 2.0),
    call("manifest in place", "teachers/teacher/train", 3.0),
    call("sampling", "rungs/0-small/traces-teacher", 4.0),
    call("curating", "rungs/0-small/curation", 5.0),
    call("evaluating", "evaluations/0-small.all", 6.0),
    call("intervening", "evaluations/0-small.all", 6.5),
    call("rendering the report", "report", 7.0),
]
SECOND = [each for each in FIRST if each["moment"] in ("in a training step", "sampling", "evaluating", "intervening")]


def test_every_kind_of_stage_gets_every_signal(tool: Any) -> None:
    hosts, _ = tool
    strikes = hosts.deck(60, [FIRST, SECOND], 8.0, random.Random(0), False)
    assert len(strikes) == 60
    kinds = collections.Counter((strike.kind, strike.number) for strike in strikes)
    assert set(kinds) == {(kind, number) for kind in (*hosts.KINDS, hosts.ANYWHERE) for number in hosts.SIGNALS}
    assert {strike.process for strike in strikes} == {0, 1}


def test_where_process_0_is_alone_at_work_it_is_watched_and_another_one_may_be_struck(tool: Any) -> None:
    hosts, _ = tool
    chance = random.Random(1)
    aimed = [hosts.aimed(signal.SIGKILL, "curation", [FIRST, SECOND], 8.0, chance) for _ in range(20)]
    assert {strike.watched for strike in aimed} == {0}
    assert {strike.process for strike in aimed} == {0, 1}
    both = [hosts.aimed(signal.SIGTERM, "train", [FIRST, SECOND], 8.0, chance) for _ in range(20)]
    assert all(strike.watched == strike.process and strike.label == "in a training step" for strike in both)


@pytest.mark.parametrize(
    ("number", "codes", "text", "waited", "wrong"),
    [
        (signal.SIGKILL, [75, 137], "process 1 of 2 is gone", 1.0, ""),
        (signal.SIGKILL, [134, 137], "process 1 of 2 is gone", 1.0, ""),
        (signal.SIGKILL, [2, 137], "process 1 of 2 is gone", 1.0, "ended with codes"),
        (signal.SIGKILL, [75, 137], "something is gone", 1.0, "nobody names process 1"),
        (signal.SIGSTOP, [75, 75], "process 1 of 2 has not been heard of", 121.0, "the others needed 121.0 s"),
        (signal.SIGTERM, [143, 143], "", 10.0, ""),
        (signal.SIGTERM, [143, 75], "", 1.0, "SIGTERM ended with codes"),
        (signal.SIGTERM, [143, 143], "", 16.0, "SIGTERM took 16.0 s"),
        (None, [0, 0], "", 0.0, ""),
        (None, [0, 75], "", 0.0, "undisturbed"),
    ],
)
def test_what_went_wrong_is_said(tool: Any, number: int | None, codes: list[int], text: str, waited: float, wrong: str) -> None:
    _, joint = tool
    strike = None if number is None else joint.Strike("", "train", 1, 1, number, 0.0, 0.0)
    said = joint._judged(codes, [text, ""], strike, waited)
    assert (len(said) == 1 and wrong in said[0]) if wrong else said == [], said
