"""Fields of rows: nested, joined, and what is taken of an answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.problems.files import load
from w2sr_jax.problems.settings import Fields, Files


def test_fields_can_be_nested_joined_and_transformed(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    row = {
        "a": {"b": ["x", {"text": "Q"}]},
        "c.d": "R",
        "gold": "So \\boxed{3} or rather $\\boxed{\\frac{1}{2}}$.",
        "extra": {"k": "v"},
        "other": "o",
    }
    path.write_text(json.dumps(row))
    fields = Fields(question="a.b.1.text + c.d", answer="gold", solution="gold", answer_by=("boxed",), meta=("extra.k", "none"))
    ((problem,), _) = load(Files(str(path), fields))
    assert (problem.question, problem.answer, problem.solution) == ("Q R", "\\frac{1}{2}", row["gold"])
    assert problem.meta == {"extra.k": "v", "file": "p.jsonl", "line": 1}


@pytest.mark.parametrize(
    ("steps", "text", "answer"),
    [
        (("hashes",), "work #### 1 #### 2", "2"),
        (("hashes",), "work", "has no answer after a ####"),
        (("boxed",), "\\boxed{1} then \\boxed{2}", "2"),
        (("boxed",), "2", "has no answer in a \\boxed{}"),
        (("boxed",), "\\boxed{}", "has no answer in a \\boxed{}"),
        (("last_line",), "one\n two \n", "two"),
        (("last_line", "tidy"), "one\n$2$.", "2"),
        (("extract",), "Hence the answer is 7.", "7"),
        (("extract",), "Hence.", "has nothing that reads as a final answer"),
        (("tidy",), "$x+1$", "x+1"),
        ((), "one #### 2", "2"),
        (("tidy",), "one #### 2", "one #### 2"),
    ],
)
def test_named_transforms(tmp_path: Path, steps: tuple[Any, ...], text: str, answer: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps({"question": "q", "answer": fields}) for fields in ("#### 1 \\boxed{1}\n1", text)))
    problems, quarantine = load(Files(str(path), Fields(answer_by=steps)))
    assert (problems[-1].answer if not quarantine.rows else quarantine.rows[0].reason).endswith(answer)
    assert len(problems) + len(quarantine) == 2
