"""Grading on real answers and traces: agreement with labels that were checked by hand or by another program."""

import json
from collections import Counter
from pathlib import Path

import pytest

from w2sr_jax.answers.grade import MathGrader, grade
from w2sr_jax.core import files
from w2sr_jax.core.records import Problem


def lines(path: Path) -> list[dict]:
    with files.open_lines(path) as file:
        return [json.loads(line) for line in file]


def test_agreement_with_audited_answer_pairs(shared_data: Path) -> None:
    rows = [
        r for r in lines(shared_data / "answers" / "answer_pairs.jsonl") if r["audit"] in ("agrees", "corrected", "test_author")
    ]
    assert len(rows) == 2210
    texts = [r["prediction"] if r["kind"] == "text_with_answer" else f"#### {r['prediction']}" for r in rows]
    verdicts = grade([(text, r["gold"]) for text, r in zip(texts, rows, strict=True)], timeout=30)
    agree = [(v.verdict == "correct") == r["equal"] for v, r in zip(verdicts, rows, strict=True)]
    disagreeing = [
        f"{r['id']}: gold {r['gold']!r}, prediction {r['prediction'][-80:]!r}, label {r['equal']}, {v}"
        for v, r, a in zip(verdicts, rows, agree, strict=True)
        if not a
    ]
    assert sum(agree) / len(agree) >= 0.999, "\n".join(disagreeing)


@pytest.mark.parametrize(
    ("name", "accuracy", "unmarked"),
    [("gair_gsm8k_gemma_2b", {"gemma_2b": 33.07}, 5.66), ("gair_gsm8k_llama2_7b", {"llama2_7b": 41.63}, 1.34)],
)
def test_teachers_are_as_accurate_as_they_are(shared_data: Path, name: str, accuracy: dict[str, float], unmarked: float) -> None:
    rows = lines(shared_data / "traces" / f"{name}.jsonl.gz")
    verdicts = grade([(r["trace"], r["gold"]) for r in rows], timeout=30)
    correct = Counter(r["teacher"] for r, v in zip(rows, verdicts, strict=True) if v.verdict == "correct")
    count = Counter(r["teacher"] for r in rows)
    for teacher, expected in accuracy.items():
        assert 100 * correct[teacher] / count[teacher] == pytest.approx(expected, abs=0.05)
    assert 100 * sum(v.rule != "####" for v in verdicts) / len(rows) == pytest.approx(unmarked, abs=0.1)


def test_gold_solutions_are_right_about_their_own_problems(shared_data: Path) -> None:
    """GSM8K and MATH, whole; two problems of MATH have an empty gold answer, so that nothing can be right about them."""
    rows = [row for name in ("train", "test") for row in lines(shared_data / "gsm8k" / f"{name}.jsonl")]
    assert {verdict.verdict for verdict in grade([(row["answer"], row["answer"]) for row in rows])} == {"correct"}
    rows = [row for name in ("train", "test") for row in lines(shared_data / "math" / f"math_{name}.jsonl.gz")]
    problems = [Problem.of(row["question"], row["answer"], row["solution"]) for row in rows]
    verdicts = MathGrader(workers=2, timeout=30).many([row["solution"] for row in rows], problems)
    wrong = [(row["id"], verdict) for row, verdict in zip(rows, verdicts, strict=True) if verdict.verdict != "correct"]
    assert [verdict.verdict for _, verdict in wrong] == ["ungraded"] * 2, wrong


@pytest.mark.parametrize(
    "form",
    [
        "So it is $\\boxed{%s}$.",
        "The answer is $%s$. I hope it is correct.",
        "<think>It may be 17.</think>\nThe final answer is:\n\\[\n%s\n\\]",
        "**Answer:** \\(%s\\)",
    ],
)
def test_gold_answers_are_right_in_other_dress(shared_data: Path, form: str) -> None:
    golds = list(dict.fromkeys(row["answer"] for row in lines(shared_data / "math" / "math_test.jsonl.gz")))
    verdicts = grade([(form % gold, gold) for gold in golds], workers=2, timeout=30)
    assert [(gold, v) for gold, v in zip(golds, verdicts, strict=True) if v.verdict != "correct"] == []


def test_every_label_of_openai_traces_is_met(shared_data: Path) -> None:
    rows = lines(shared_data / "traces" / "openai_gsm8k_test.jsonl.gz")
    verdicts = grade([(r["trace"], r["gold"]) for r in rows], timeout=30)
    assert all((v.verdict == "correct") == r["is_correct"] for r, v in zip(rows, verdicts, strict=True))


def test_math_traces_agree_with_their_labels(shared_data: Path) -> None:
    rows = lines(shared_data / "traces" / "qwen_math100x8.jsonl.gz")
    verdicts = grade([(r["trace"], r["gold"]) for r in rows], timeout=30)
    agree = [(v.verdict == "correct") == r["is_correct"] for r, v in zip(rows, verdicts, strict=True)]
    assert sum(agree) / len(agree) >= 0.995
    assert {v.rule for v in verdicts} == {"boxed"}
