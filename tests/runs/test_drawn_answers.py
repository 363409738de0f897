"""`w2sr explain` and `w2sr show` of a student that learns from its own answers, on journals made by hand."""

import dataclasses
from pathlib import Path

import pytest
from hand_made import commit, finish

from w2sr_jax.configuration import saved
from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Rollout
from w2sr_jax.curation.arms import Nothing
from w2sr_jax.experiment import Arm, Experiment, ModelTeacher, Pretraining, Rung
from w2sr_jax.experiment.policy import Policy
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.runs import drawn_answers
from w2sr_jax.runs.explain import explain
from w2sr_jax.runs.show import show
from w2sr_jax.stages import models

TINY = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
EXPERIMENT = Experiment(
    "drawn",
    rungs=(
        Rung(
            "small",
            TINY,
            start=Pretraining(),
            teachers=("weak",),
            arms=("correct", Arm("rl", select=Nothing(), train=(Policy(reuse=2), Policy()))),
        ),
    ),
    teachers=(ModelTeacher("weak", TINY, train=(Policy(),)),),
)
ASKED, OTHER = (Problem.of(f"How many are {n} ?", str(n), f"#### {n}", "made up") for n in (3, 4))


def rollout(draw: int, sample: int, problem: Problem = ASKED, **more: object) -> Rollout:
    right = sample == 0
    own = Rollout(
        id=f"{draw}-{problem.id}-{sample}",
        step=draw,
        problem_id=problem.id,
        sample=sample,
        text=f"so #### {problem.answer if right else 9}",
        answer=problem.answer if right else "9",
        verdict="correct" if right else "incorrect",
        finish="stop",
        tokens=2,
        token_ids=(1, 2),
        logprobs=(-1.0, -2.0),
        sampled=(-1.0, -2.0),
        reward=float(right),
        rewards={"IsCorrect": float(right)},
        advantage=0.5 if right else -0.5,
    )
    return dataclasses.replace(own, **more)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two draws of the arm's first stage and one of its second, of which the latter has not finished; one of the teacher's."""
    made = tmp_path / "made"
    saved.save(made, EXPERIMENT)
    for split in ("pretrain", "teacher", "pool", "probe", "test"):
        records.write(made / "problems" / f"{split}.parquet", Problem, {"pool": [ASKED], "teacher": [OTHER]}.get(split, []))
    finish(made)
    first, last = models.students(EXPERIMENT, 0, EXPERIMENT.rungs[0].arm("rl"))
    teacher = models.teacher_chain(EXPERIMENT.teachers[0])[-1]
    flat = [rollout(0, k, OTHER, left_out="no variance", advantage=0.0) for k in (1, 2)]
    hot = {"sampled": (-0.5, -1.0), "rewards": {"IsCorrect": 1.0, "IsFormed": 0.25}, "reward": 1.25}
    journals = {
        first: [[*flat, rollout(0, 1), rollout(0, 0)], [rollout(1, 0, **hot)]],
        last: [[rollout(0, 1, finish="length", left_out="truncated")]],
        teacher: [[rollout(0, 0, OTHER)]],
    }
    for model, draws in journals.items():
        paths = [made / model.directory / "drawn" / f"rollouts-{number:06d}.parquet" for number in range(len(draws))]
        for path, rows in zip(paths, draws, strict=True):
            records.write(path, Rollout, rows)
        if model is not last:
            commit(made, model.stage, "train", paths)
    return made


def told(run: Path, problem: Problem, model: str | None = None) -> str:
    lines: list[str] = []
    explain(run, problem.id, lines.append, model)
    return "\n".join(lines)


def test_each_answer_is_told_with_its_steps_and_what_it_was_worth(run: Path) -> None:
    text = told(run, ASKED)
    part = text.partition("    0-small.rl-1, from 3 answers of its own in 2 draws\n")[2].partition("    0-small.rl,")[0]
    lines = [line.strip() for line in part.splitlines() if line.strip().startswith("step")]
    assert [line.partition("  ")[0] for line in lines] == [
        "steps 1 to 2, sample 0",
        "steps 1 to 2, sample 1",
        "steps 3 to 4, sample 0",
    ]
    assert "✓ correct, answer 3" in lines[0]
    assert "reward 1, advantage +0.5, mean log-probability -1.50)" in lines[0]
    assert "reward 0, advantage -0.5" in lines[1]
    assert "reward 1.25 (IsCorrect 1, IsFormed 0.25), advantage +0.5, mean log-probability -1.50, -0.75 as sampled" in lines[2]
    assert "│ so #### 3" in part
    assert "drawn/rollouts-000000.parquet row 3, digest" in part  # sample 0 is the last row


def test_a_training_that_has_not_finished_is_read_as_it_lies_there(run: Path) -> None:
    part = told(run, ASKED).partition("    0-small.rl, from 1 answers of its own in 1 draw\n")[2]
    assert "cut off at the token limit" in part
    assert "left out: truncated" in part
    assert "without a manifest" in part


def test_a_teachers_own_answers_are_told_of_problems_of_its_split(run: Path) -> None:
    text = told(run, OTHER)
    assert "    weak, from 1 answers of its own in 1 draw\n      step 1, sample 0  ✓ correct" in text
    assert "Students neither learn from this problem nor answer it." in text


def test_a_model_can_be_asked_for_alone(run: Path) -> None:
    alone = told(run, ASKED, "0-small.rl-1")
    assert "0-small.rl-1, from" in alone
    assert "0-small.rl, from" not in alone
    assert "0-small.correct" not in alone
    with pytest.raises(UserError, match=r"there is no model 'rl'; there are weak-base, weak, 0-small\.base, .*0-small\.rl-1"):
        told(run, ASKED, "rl")


def test_show_says_how_many_answers_there_are(run: Path) -> None:
    first, last = models.students(EXPERIMENT, 0, EXPERIMENT.rungs[0].arm("rl"))
    store = RunStore(run)
    assert drawn_answers.counted(store, first) == (2, 5, 2, {"no variance": 2})
    assert drawn_answers.counted(store, last) == (1, 1, 0, {"truncated": 1})
    with pytest.raises(UserError, match=r"learns from what it draws itself; so far 1 answers of its own in 1 draws, 0 of them"):
        show(run, 0, 0, "rl")


def test_nothing_drawn_is_said(run: Path) -> None:
    other = Problem.of("How many are 7 ?", "7", "#### 7", "made up")
    records.write(run / "problems" / "pool.parquet", Problem, [ASKED, other])
    (run / "lineage" / "by-hand.json").unlink(missing_ok=True)
    finish(run)
    text = told(run, other)
    assert "0-small.rl-1: none, it never drew an answer to it" in text
    assert "not there yet: rungs/0-small/rl/train has not finished" in text
