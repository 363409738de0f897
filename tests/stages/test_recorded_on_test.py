"""A recorded teacher whose file answers test problems: evaluated on these, compared on these, and never a student's lesson."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.cli import main as cli
from w2sr_jax.core import records
from w2sr_jax.core.records import Example, Problem, Trace
from w2sr_jax.graph.store import RunStore

CONFIG = """
from w2sr_jax.batches.settings import Batching
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Files, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.settings import Recorded
from w2sr_jax.text.settings import BpeTokenizer
from w2sr_jax.training.settings import Training


def experiment():
    return Experiment(
        name="staff",
        problems=Files({problems!r}),
        test_problems={test},
        splits={splits},
        teachers=tuple(Recorded(name, path) for name, path in {teachers!r}),
        tokenizer=BpeTokenizer(vocab_size=300),
        rungs=(
            Rung(
                "student",
                ModelConfig(width=16, layers=1, heads=2, kv_heads=2, mlp=32),
                teachers=tuple(name for name, _ in {teachers!r}),
                arms=("all",),
                gold=False,
                training=Training(steps=2, batching=Batching(length=256, rows=8)),
            ),
        ),
        decoding=Decoding(temperature=0.0, max_tokens=4, batch=8),
        evaluation=Evaluation(samples=0, resamples=50),
    )
"""


def question(number: int) -> str:
    return f"A shelf holds {number} red books and {number + 3} blue books. How many books does it hold?"


def row(number: int, answer: int | None = None, dress: str = "{}") -> dict[str, Any]:
    given = 2 * number + 3 if answer is None else answer
    text = f"There are {number} + {number + 3} = {given} books. #### {given}"
    return {"question": dress.format(question(number)), "trace": text, "gold": str(2 * number + 3)}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(path)


def problem(number: int) -> dict[str, str]:
    return {"question": question(number), "answer": str(2 * number + 3)}


POOL, TEST = range(10, 22), range(50, 56)
LEARNT = [row(number) for number in POOL]
SIX = "Files({test!r})"


def run(folder: Path, files: dict[str, list[dict[str, Any]]], own_test: bool = True) -> Path:
    problems = write(folder / "problems.jsonl", [problem(number) for number in (*POOL, *(() if own_test else TEST))])
    test = write(folder / "test.jsonl", [problem(number) for number in TEST])
    teachers = [(name, write(folder / f"{name}.jsonl", rows)) for name, rows in files.items()]
    config = folder / "staff_config.py"
    splits = "Splits(pool=-1, probe=2)" if own_test else "Splits(pool=-1, probe=2, test=6)"
    own = f"Files({test!r})" if own_test else "None"
    config.write_text(CONFIG.format(problems=problems, test=own, splits=splits, teachers=teachers))
    assert cli.run(["run", str(config), "--root", str(folder / "runs"), "--plain"]) == 0
    return folder / "runs" / "staff"


def results(run: Path) -> Any:
    return json.loads((run / "report" / "results.json").read_text())


def questions(run: Path, split: str) -> set[str]:
    return {problem.question for problem in records.read(run / "problems" / f"{split}.parquet", Problem)}


@pytest.fixture(scope="module")
def partly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with answers to four of six test problems: right, wrong, one of each, and right in another dress."""
    answers = [
        row(50),
        row(51, 1),
        row(52),
        row(52, 1),
        row(53, dress="Problem 4. {} (5 points)"),
        row(80, dress="Not asked: {}"),
    ]
    return run(tmp_path_factory.mktemp("partly"), {"staff": LEARNT + answers})


def test_it_is_scored_on_the_problems_that_it_answered(partly: Path) -> None:
    found = results(partly)
    teacher = found["models"]["staff"]
    assert (teacher["role"], teacher["rung"], teacher.get("parameters")) == ("teacher", None, None)
    assert teacher["scores"]["accuracy"]["n"] == 4
    assert teacher["scores"]["accuracy"]["value"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert teacher["on_file"] == {
        "path": str(partly.parents[1] / "staff.jsonl"),
        "answers": 5,
        "problems": 4,
        "test_problems": 6,
    }


def test_the_student_is_compared_on_the_same_problems(partly: Path) -> None:
    found = results(partly)
    comparison = found["rungs"][0]["comparisons"]["all"]
    assert comparison["teacher"] == "staff"
    assert (comparison["vs_teacher"]["n"], comparison["vs_base"]["n"]) == (4, 6)
    assert comparison["vs_teacher"]["right"] == pytest.approx(0.625)
    traces = records.read(partly / "evaluations" / "0-student.all" / "generations.parquet", Trace)
    answered = {trace.problem_id for trace in records.read(partly / "evaluations" / "staff" / "generations.parquet", Trace)}
    assert len(answered) == 4
    mean = sum(trace.verdict == "correct" for trace in traces if trace.problem_id in answered) / 4
    assert comparison["vs_teacher"]["left"] == pytest.approx(mean)
    assert found["verdict"]["rungs"][0]["teacher"] == "staff"
    assert found["verdict"]["overall"] in ("no", "not shown")


def test_no_student_learns_from_them(partly: Path) -> None:
    test = {question(number) for number in TEST}
    assert questions(partly, "test") == test
    assert not test & (questions(partly, "pool") | questions(partly, "probe"))
    assert not any("Problem 4" in text for text in questions(partly, "pool"))
    lessons = records.read(partly / "rungs" / "0-student" / "all" / "curated.parquet", Example)
    assert lessons
    assert not any("There are 5" in example.response for example in lessons)
    traces = records.read(partly / "teachers" / "staff" / "rung-0" / "traces-00000.parquet", Trace)
    assert {trace.problem_id for trace in traces}.isdisjoint(
        problem.id for problem in records.read(partly / "problems" / "test.parquet", Problem)
    )


def test_manifests_and_page_say_how_many(partly: Path) -> None:
    made = RunStore(partly).manifest("evaluations/staff")
    assert made is not None
    assert {name: made.measures[name] for name in ("traces", "problems", "test_problems")} == {
        "traces": 5,
        "problems": 4,
        "test_problems": 6,
    }
    read = RunStore(partly).manifest("rungs/0-student/traces-staff")
    assert read is not None
    assert read.measures["of_test_problems"] == 5
    page = " ".join((partly / "report" / "index.html").read_text().split())
    assert "on 4 of 6 test problems" in page
    assert "5 answers to 4 of 6 test problems" in page
    assert "did not sit the same test" not in page
    rows = (partly / "report" / "evidence" / "answers-staff.html").read_text()
    assert all(f"There are {number} " in rows for number in range(50, 54))
    assert not any(f"There are {number} " in rows for number in (54, 55))


def test_explain_and_compare_know_its_answers(partly: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tested = records.read(partly / "problems" / "test.parquet", Problem)
    ids = {number: next(one.id for one in tested if one.question == question(number)) for number in (52, 55)}
    assert cli.run(["explain", str(partly), ids[52]]) == 0
    said = capsys.readouterr().out
    assert "Teacher staff, a file" in said
    assert "There are 52 + 55 = 107 books" in said
    assert "There are 52 + 55 = 1 books" in said
    assert cli.run(["explain", str(partly), ids[55]]) == 0
    assert "it has no answer to this problem" in capsys.readouterr().out
    shutil.copytree(partly, tmp_path / "again")
    assert cli.run(["compare", str(partly), str(tmp_path / "again")]) == 0
    assert "no graded" not in capsys.readouterr().out


def test_a_file_without_answers_to_the_test_leaves_the_question_open(tmp_path: Path) -> None:
    found_run = run(tmp_path, {"staff": LEARNT})
    found = results(found_run)
    assert "staff" not in found["models"]
    assert found["rungs"][0]["comparisons"]["all"]["vs_teacher"] is None
    assert found["verdict"]["overall"] == "unknown"
    page = " ".join((found_run / "report" / "index.html").read_text().split())
    assert "staff.jsonl holds no answers to the test problems; the file that also has a trace for each of the 6 test" in page
    made = RunStore(found_run).manifest("evaluations/staff")
    assert made is not None
    assert made.measures["traces"] == 0
    assert not (found_run / "evaluations" / "staff").exists()
    command = ["run", str(tmp_path / "staff_config.py"), "--root", str(tmp_path / "runs"), "--plain"]
    stamp = (found_run / "lineage" / "evaluations" / "staff.json").stat().st_mtime_ns
    assert cli.run(command) == 0  # a stage without outputs is not done again
    assert (found_run / "lineage" / "evaluations" / "staff.json").stat().st_mtime_ns == stamp


def test_answers_to_problems_that_the_split_keeps_for_the_test_are_found(tmp_path: Path) -> None:
    """Without a test set of its own, the test problems are some of those that the file answers."""
    found_run = run(tmp_path, {"staff": [*LEARNT, *(row(number) for number in TEST)]}, own_test=False)
    found = results(found_run)
    assert found["models"]["staff"]["on_file"]["problems"] == found["test_problems"] == 6
    assert found["models"]["staff"]["scores"]["accuracy"]["value"] == 1.0
    assert not questions(found_run, "test") & questions(found_run, "pool")
    page = " ".join((found_run / "report" / "index.html").read_text().split())
    assert "6 answers to 6 of 6 test problems" in page
    assert "held against it on these" not in page


def test_of_several_files_the_best_on_what_all_answered_counts(tmp_path: Path) -> None:
    """The third has only an easy problem, and is right on it; on that problem the second is right, too, and came first."""
    right, wrong = [row(number) for number in TEST], [row(number, 1) for number in TEST]
    files = {"low": [*LEARNT, *wrong], "high": [*LEARNT, *right[:5], wrong[5]], "few": [*LEARNT, right[0]]}
    found = results(run(tmp_path, files))
    teachers = {name: model for name, model in found["models"].items() if model["role"] == "teacher"}
    assert {name: model["scores"]["accuracy"]["n"] for name, model in teachers.items()} == {"low": 6, "high": 6, "few": 1}
    comparison = found["rungs"][0]["comparisons"]["all"]
    assert (comparison["teacher"], comparison["vs_teacher"]["n"]) == ("high", 6)
