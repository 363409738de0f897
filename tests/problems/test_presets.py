"""Each preset on a table with the columns that its data set has on the Hub."""

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from w2sr_jax.answers.grade import MathGrader
from w2sr_jax.answers.graders import ChoiceGrader
from w2sr_jax.core.records import Problem
from w2sr_jax.problems import presets
from w2sr_jax.problems.files import load
from w2sr_jax.problems.reference import parse
from w2sr_jax.problems.settings import Files

GPQA = {"Question": "Which?", "Correct Answer": "fermion", "Incorrect Answer 1": "boson", "Incorrect Answer 2": "anyon"}
OLYMPIAD = {
    "id": 1606,
    "question": "Find $T$.",
    "solution": ["First.", "Second."],
    "final_answer": ["$\\frac{1}{2}$"],
    "context": None,
}

CASES: dict[str, tuple[Files, dict[str, Any], dict[str, Any]]] = {
    "gsm8k": (
        presets.gsm8k(),
        {"question": "How many?", "answer": "2+3=<<2+3=5>>5\n#### 5"},
        {"answer": "5", "solution": "2+3=5\n#### 5"},
    ),
    "math": (
        presets.math("test"),
        {"problem": "Find.", "level": "Level 5", "type": "Algebra", "solution": "So $\\boxed{3}$, no, $\\boxed{\\frac{1}{2}}$."},
        {"question": "Find.", "answer": "\\frac{1}{2}", "level": "Level 5", "type": "Algebra"},
    ),
    "math500": (
        presets.math500(),
        {
            "problem": "Find.",
            "solution": "\\boxed{7}",
            "answer": "7",
            "subject": "Algebra",
            "level": 3,
            "unique_id": "test/algebra/1.json",
        },
        {"answer": "7", "solution": "\\boxed{7}", "level": 3, "subject": "Algebra", "id": "test/algebra/1.json"},
    ),
    "aime2024": (
        presets.aime2024(),
        {"id": 60, "problem": "Find.", "solution": "Long.", "answer": "204", "url": "https://x", "year": "2024"},
        {"answer": "204", "solution": "Long.", "id": "60", "year": "2024"},
    ),
    "aime2025": (presets.aime2025(), {"problem": "Find.", "answer": "070", "id": "0"}, {"answer": "070", "id": "0"}),
    "olympiadbench": (
        presets.olympiadbench(),
        {
            **OLYMPIAD,
            "image_1": None,
            "modality": "Text-only",
            "difficulty": "Competition",
            "is_multiple_answer": False,
            "unit": None,
            "answer_type": "Numerical",
            "error": None,
            "question_type": "Open-ended",
            "subfield": "Algebra",
            "subject": "Math",
            "language": "English",
        },
        {"answer": "\\frac{1}{2}", "subfield": "Algebra", "answer_type": "Numerical", "is_multiple_answer": False, "id": "1606"},
    ),
    "minerva": (presets.minerva(), {"question": "How far?", "answer": "1.6e5"}, {"answer": "1.6e5"}),
    "svamp": (
        presets.svamp(),
        {
            "ID": "chal-1",
            "Body": "He has 5 apples. He eats 2.",
            "Question": "How many are left?",
            "Equation": "( 5.0 - 2.0 )",
            "Answer": "3.0",
            "Type": "Subtraction",
            "question_concat": "He has 5 apples. He eats 2. How many are left?",
        },
        {"question": "He has 5 apples. He eats 2. How many are left?", "answer": "3.0", "Type": "Subtraction", "id": "chal-1"},
    ),
    "mmlu": (
        presets.mmlu(),
        {"question": "Find the degree.", "subject": "abstract_algebra", "choices": ["0", "4", "2", "6"], "answer": 1},
        {"right": "4", "subject": "abstract_algebra"},
    ),
    "gpqa": (
        presets.gpqa(),
        {**GPQA, "Incorrect Answer 3": "plekton", "Record ID": "rec1", "Subdomain": "Physics", "High-level domain": "Physics"},
        {"right": "fermion", "Subdomain": "Physics", "id": "rec1"},
    ),
}


def local(preset: Files, directory: Path, row: dict[str, Any]) -> Problem:
    """The one problem of a table in a local directory, read through a preset with its own split."""
    (split,) = parse(preset.path).parts
    directory.mkdir()
    pq.write_table(pa.Table.from_pylist([row]), directory / f"{split.name}-00000-of-00001.parquet")
    ((problem,), quarantine) = load(dataclasses.replace(preset, path=f"hf:{directory}::{split.name}"))
    assert len(quarantine) == 0
    return problem


@pytest.mark.parametrize("name", CASES)
def test_a_preset_reads_the_columns_of_its_data_set(tmp_path: Path, name: str) -> None:
    preset, row, wanted = CASES[name]
    problem = local(preset, tmp_path / "data", row)
    assert problem.task == name
    problems = {"question": problem.question, "answer": problem.answer, "solution": problem.solution, **problem.meta}
    if "right" in wanted:
        problems["right"] = problem.meta["options"][ord(str(problem.answer)) - 65]
        assert ChoiceGrader()(f"The answer is {problems['right']}.", problem).verdict == "correct"
        assert ChoiceGrader()(f"The answer is ({problem.answer}).", problem).verdict == "correct"
    else:
        assert MathGrader()(f"So \\boxed{{{problem.answer}}}", problem).verdict == "correct"
    assert {key: problems[key] for key in wanted} == wanted
    assert wanted.keys() - {"question", "answer", "solution", "right"} <= problem.meta.keys()
    problem.row()


def test_every_preset_names_a_data_set_of_the_hub() -> None:
    for preset, _, _ in CASES.values():
        named = parse(preset.path)
        assert (named.kind, named.name.count("/")) == ("hf", 1)
        assert all(part.name for part in named.parts)
    assert parse(presets.math().path).configs == presets.MATH_SUBJECTS
    assert parse(presets.gpqa().path).configs == ("gpqa_diamond",)


def test_gsm8k_real_rows(shared_data: Path) -> None:
    problems, quarantine = load(dataclasses.replace(presets.gsm8k(), path=f"{shared_data}/gsm8k/test.jsonl"))
    assert (len(problems), len(quarantine)) == (1319, 0)
    assert all("<<" not in str(problem.solution) and "#" not in str(problem.answer) for problem in problems)


def test_math_answers_are_those_of_the_carrier(shared_data: Path, tmp_path: Path) -> None:
    """The last box of 12,500 real solutions, against another project's reading of them."""
    for part in ("train", "test"):
        with gzip.open(shared_data / "math" / f"math_{part}.jsonl.gz", "rt") as lines:
            rows = [json.loads(line) for line in lines]
        renamed = [
            {"problem": row["question"], "solution": row["solution"], "level": row["level"]}
            for row in rows
            if row.get("solution")
        ]
        path = tmp_path / f"{part}.jsonl"
        path.write_text("\n".join(map(json.dumps, renamed)))
        problems, quarantine = load(dataclasses.replace(presets.math(), path=str(path)))
        carrier = [row["answer"] for row in rows if row.get("solution")]
        assert len(problems) + len(quarantine) == len(carrier)
        ours = {problem.meta["line"]: problem.answer for problem in problems}
        other = [line for line, answer in enumerate(carrier, 1) if ours.get(line) != (answer.strip() or None)]
        assert len(other) <= 5, [(carrier[line - 1], ours.get(line)) for line in other[:10]]
