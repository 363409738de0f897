"""What a report says of the gates of probes: by the stage that looked, whatever that learned from."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hand_made import commit

from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.arms import Nothing
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.experiment import Arm, Experiment, Imitation, ModelTeacher, Pretraining, Rung
from w2sr_jax.experiment.policy import Policy
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.stages import probing

TINY = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
LOOKS = Probe(every=5, problems=60, induced_rise=0.1, patience=2, weakest_teacher=0.0)
NONE = Probe(every=0)
QUIET = Probe(every=5, problems=60, induced_rise=0.0, weakest_teacher=0.0)
PROBLEMS = [
    Problem(id=f"p{number}", question=f"{number}?", answer=str(number), solution=None, task="", meta={}) for number in range(60)
]


def experiment(*arms: Arm | str, probe: Probe = NONE) -> Experiment:
    rung = Rung("small", TINY, start=Pretraining(), teachers=("weak",), arms=arms, gold=False, probe=probe)
    return Experiment("probed", rungs=(rung,), teachers=(ModelTeacher("weak", TINY),))


def reinforced(name: str, probe: Probe) -> Arm:
    return Arm(name, select=Nothing(), train=(Policy(probe=probe),))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """A run whose teacher is right on every other probe problem."""
    verdicts: Any = {one.id: "correct" if number % 2 else "incorrect" for number, one in enumerate(PROBLEMS)}
    first = {key: dataclasses.replace(Trace.of(key, "weak", 0, "#### 1"), verdict=verdict) for key, verdict in verdicts.items()}
    monkeypatch.setattr(probing.problems, "read", lambda *_: PROBLEMS)
    monkeypatch.setattr(probing.traces, "first_traces", lambda *_: first)
    return RunStore(tmp_path)


def looked(store: RunStore, folder: str, *induced: float) -> None:
    """The journal of a probe whose rate of induced errors was so at steps 0, 5, 10, …"""
    path = store.directory / folder / "probe.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"step": 5 * number, "accuracy": 0.5, "induced": rate, "n": 60, "n_induced": 60, "tokens": 1}
        for number, rate in enumerate(induced)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    commit(store.directory, f"{folder}/train", "train", [path])


RISE = (0.1, 0.1, 0.1, 0.6, 0.7)


def test_a_stage_with_a_probe_of_its_own_is_judged_by_that(store: RunStore) -> None:
    arms = (reinforced("rl", LOOKS), reinforced("quiet", QUIET))
    looked(store, "rungs/0-small/rl", *RISE)
    looked(store, "rungs/0-small/quiet", *RISE)
    (sentence,) = probing.warnings(store, experiment(*arms), 0)
    assert sentence.startswith("0-small.rl: induced errors are rising: 70.0% of 60 problems at step 20")
    # The rung's gates, where it has some, are not those of a stage with its own.
    (again,) = probing.warnings(store, experiment(*arms, probe=LOOKS), 0)
    assert again == sentence


def test_each_stage_of_an_arm_is_told_of_under_its_student(store: RunStore) -> None:
    arm = Arm("two", train=(Imitation(), Policy()))
    looked(store, "rungs/0-small/two/stage-1", *RISE)
    looked(store, "rungs/0-small/two", 0.1, 0.1, 0.1, 0.1)
    (sentence,) = probing.warnings(store, experiment(arm, probe=LOOKS), 0)
    assert sentence.startswith("0-small.two: stage 1 of 2: induced errors are rising")


def test_a_weak_teacher_is_told_of_once_for_each_gate(store: RunStore) -> None:
    strict = Probe(every=5, problems=60, weakest_teacher=0.9)
    arms = (reinforced("rl", strict), reinforced("more", strict))
    (sentence,) = probing.warnings(store, experiment(*arms), 0)
    assert sentence.startswith("small: teacher 'weak' is too weak: it is right on 30 of 60 probe problems")
    assert probing.warnings(store, experiment("correct"), 0) == []
