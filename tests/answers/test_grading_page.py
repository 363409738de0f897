"""Each example of docs/grading.md is as the page says."""

import re
from pathlib import Path

import pytest

from w2sr_jax.answers.grade import grade

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "grading.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(.+?)` \| `(.+?)` \| (correct|incorrect|unparsed) \| (.+?) \|$", re.M)
TEXTS = [row for row in ROW.findall(PAGE) if row[3].startswith("`")]
ANSWERS = [row for row in ROW.findall(PAGE) if not row[3].startswith("`")]


def test_the_page_has_its_tables() -> None:
    assert len(TEXTS) >= 20
    assert len(ANSWERS) >= 30
    assert {row[2] for row in TEXTS + ANSWERS} == {"correct", "incorrect", "unparsed"}


@pytest.mark.parametrize(("text", "gold", "verdict", "rule"), TEXTS)
def test_a_text_is_read_as_the_page_says(text: str, gold: str, verdict: str, rule: str) -> None:
    result = grade([(text.replace("⏎", "\n").replace("\\|", "|"), gold)], workers=1)[0]
    assert (result.verdict, f"`{result.rule}`") == (verdict, rule)


def test_answers_compare_as_the_page_says() -> None:
    verdicts = grade([(f"So it is $\\boxed{{{answer}}}$.", gold) for answer, gold, _, _ in ANSWERS], workers=1)
    assert [(row, verdict.verdict) for row, verdict in zip(ANSWERS, verdicts, strict=True) if verdict.verdict != row[2]] == []
