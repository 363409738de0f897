"""What a run's files say of its verdicts: counted over teachers, models and seeds, and wrong traces told by what was kept."""

from pathlib import Path

import pytest
from hand_made import finish

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.core import records
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.dispositions import KEPT, Disposition
from w2sr_jax.evaluation.grading import Doubts
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.report.evidence import checked
from w2sr_jax.stages import layout
from w2sr_jax.stages.outcomes import GREEDY
from w2sr_jax.stages.report import grading
from w2sr_jax.stages.report.sources import Sources

PROBLEMS = [Problem.of(f"3 + {n}?", str(3 + n)) for n in range(4)]
STUDENT = "0-a.incorrect"
TEXTS = ["#### 9", "#### 4", "it makes 7", "I cannot"]  # wrong, right, wrong and guessed, silent


def write_traces(path: Path, author: str, sample: int, texts: list[str]) -> list[Trace]:
    made = []
    for problem, text in zip(PROBLEMS, texts, strict=True):
        identity = Trace.identity(problem.id, author, sample, text)
        trace = Trace(identity, problem.id, author, sample, text, None, "ungraded", "stop", 3, None, "")
        made.append(trace.graded(NumberGrader()(text, problem)))
    records.write(path, Trace, made)
    return made


def write_run(run: Path, misjudged: bool) -> None:
    """A rung's traces and what became of them; with `misjudged`, the grader has called a right trace incorrect."""
    records.write(run / "problems" / "pool.parquet", Problem, PROBLEMS)
    path = run / "teachers" / "teacher" / "rung-0" / "traces-00000.parquet"
    traces = write_traces(path, "teacher", 0, TEXTS)
    kept = {traces[0].id, traces[2].id, *([traces[1].id] if misjudged else [])}
    rows = [Disposition(t.id, t.problem_id, "incorrect", "last", KEPT if t.id in kept else "wrong_verdict") for t in traces]
    records.write(run / layout.within(layout.arm(layout.rung(0, "a"), "incorrect"), layout.DISPOSITIONS), Disposition, rows)
    write_traces(run / "evaluations" / "teacher" / layout.GENERATIONS, "teacher", GREEDY, TEXTS)
    records.write(run / "evaluations" / STUDENT / layout.GENERATIONS, Trace, [])
    finish(run)


@pytest.fixture
def experiment() -> Experiment:
    return Experiment("x", (Rung("a", ModelConfig(), teachers=("teacher",)),), teachers=(ModelTeacher("teacher"),))


def test_rules_graders_and_doubts_of_a_run(experiment: Experiment, tmp_path: Path) -> None:
    write_run(tmp_path, misjudged=True)
    found, pages = grading.grading(experiment, Sources([RunStore(tmp_path)]), ["teacher", STUDENT])
    traces, answers = found.readings
    assert (traces.what, traces.name, traces.rung) == ("traces", "teacher", 0)
    assert (answers.what, answers.rung, answers.evidence) == ("answers", None, "answers-teacher")
    for entry in (traces, answers):
        assert (entry.readings.texts, entry.readings.guessed) == (4, 1)
        assert {count.rule: count.n for count in entry.readings.rules} == {"####": 2, "last_number": 1, "none": 1}
        assert entry.readings.graders == {"exact": 3, "none": 1}
        assert len(entry.sources) == 1
    (wrong,) = found.wrong
    assert wrong.doubts == Doubts(traces=3, agreed=2, doubted=1, silent=0, problems=(PROBLEMS[1].id,))
    (page,) = checked(pages)
    assert page.key == wrong.evidence
    assert [row.problem_id for row in page.rows if "doubted" in row.groups] == [PROBLEMS[1].id]
    assert len(page.rows) == 3


def test_seeds_are_pooled_and_told_apart_in_the_rows(experiment: Experiment, tmp_path: Path) -> None:
    runs = [tmp_path / "seed-0", tmp_path / "seed-1"]
    for number, run in enumerate(runs):
        write_run(run, misjudged=bool(number))
    found, pages = grading.grading(experiment, Sources([RunStore(run) for run in runs]), ["teacher", STUDENT])
    assert [entry.readings.texts for entry in found.readings] == [8, 8]
    assert (found.wrong[0].doubts.traces, found.wrong[0].doubts.doubted) == (5, 1)
    assert pages[0].columns[0] == "seed"
    assert {row.values[0] for row in pages[0].rows if "doubted" in row.groups} == {"seed-1"}


def test_a_rung_without_an_arm_of_wrong_traces_has_no_doubts(tmp_path: Path) -> None:
    write_run(tmp_path, misjudged=True)
    rung = Rung("a", ModelConfig(), teachers=("teacher",), arms=("all", "correct"))
    found, pages = grading.grading(
        Experiment("x", (rung,), teachers=(ModelTeacher("teacher"),)), Sources([RunStore(tmp_path)]), []
    )
    assert found.wrong == ()
    assert pages == []
    assert [entry.what for entry in found.readings] == ["traces"]


def test_ungraded_traces_are_not_read_as_if_they_were(experiment: Experiment, tmp_path: Path) -> None:
    write_run(tmp_path, misjudged=False)
    path = tmp_path / "teachers" / "teacher" / "rung-0" / "traces-00000.parquet"
    records.write(path, Trace, [Trace("t", PROBLEMS[0].id, "teacher", 0, "#### 3", None, "ungraded", "stop", 3, None, "")])
    finish(tmp_path)
    found, _ = grading.grading(experiment, Sources([RunStore(tmp_path)]), [])
    assert found.readings == ()
    assert found.wrong == ()
