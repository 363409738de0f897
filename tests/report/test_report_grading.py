"""The section on reading and grading: warnings where guessing is common, the doubts about wrong traces, and silence elsewhere."""

import copy
import re
from pathlib import Path
from typing import Any

import fabricated_grading
import fabricated_run
import pytest
from fabricated_run import Report
from test_report_page import HOSTILE, Page, no_charts  # noqa: F401  a fixture

from w2sr_jax.answers.extract import guessed
from w2sr_jax.core.records import Problem, Trace, Verdict
from w2sr_jax.evaluation.grading import doubt, readings
from w2sr_jax.report import grading, page
from w2sr_jax.report.links import links
from w2sr_jax.report.write import read, write

pytestmark = pytest.mark.usefixtures("no_charts")


@pytest.fixture(scope="module")
def made() -> Report:
    return fabricated_run.report(count=40)


def shown(html: str) -> str:
    """The text of the section; empty where there is none."""
    start = html.find('<section id="grading">')
    if start < 0:
        return ""
    text = Page(html[start : html.index("</section>", start) + len("</section>")]).text
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ")


def rows(html: str) -> list[list[str]]:
    """The cells of the section's tables, headings too."""
    start = html.index('<section id="grading">')
    body = html[start : html.index("</section>", start)].replace("\N{NARROW NO-BREAK SPACE}", " ")
    return [
        [
            Page(f"<i>{cell.replace('<span', ' <span')}</i>").text
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def changed(made: Report, **parts: Any) -> dict[str, Any]:
    results = copy.deepcopy(made.results)
    results["grading"].update(parts)
    return results


def trace(text: str, verdict: Verdict, problem: str = "p") -> Trace:
    return Trace("t", problem, "teacher", 0, text, None, "ungraded", "stop", 1, None, "").graded(verdict)


def test_a_teacher_that_guesses_is_warned_of_with_its_numbers_and_others_are_not(made: Report) -> None:
    text = shown(page.render(*made))
    assert "1 warning: many answers are guessed" in text
    assert "Traces of “graduate” for rung 1: 9 of 40 texts (22.5 %) state no answer" in text
    assert "(last number 9)" in text
    assert "Traces of “teacher”" not in text


def test_the_limit_is_the_results_own(made: Report) -> None:
    assert "warning" not in shown(page.render(changed(made, most_guessed=0.3), None, made.evidence))
    assert "Traces of “graduate”" in shown(page.render(changed(made, most_guessed=0.22), None, made.evidence))
    assert "Traces of “graduate”" not in shown(page.render(changed(made, most_guessed=0.225), None, made.evidence))


def test_wrong_traces_lead_to_as_many_rows_as_they_count(made: Report, tmp_path: Path) -> None:
    written = write(tmp_path, *made)
    html = written.index.read_text()
    for entry in made.results["grading"]["wrong"]:
        assert entry["agreed"] + entry["doubted"] + entry["silent"] == entry["traces"]
        rows = (tmp_path / "evidence" / f"{entry['evidence']}.html").read_text()
        for group in ("agreed", "doubted", "silent"):
            link = re.search(rf'href="evidence/{entry["evidence"]}.html#{group}">([\d,]+)</a>', html)
            assert link is not None
            assert int(link[1]) == entry[group]
            start = rows.index(f'<section id="{group}">')
            assert rows[start : rows.index("</section>", start)].count('<code class="id">') == entry[group]
    first, second = made.results["grading"]["wrong"]
    assert (first["doubted"], second["doubted"]) == (0, 3)
    text = shown(html)
    assert f"Rung 1: medium, graded incorrect and right by the second opinion: {', '.join(second['problems'])}." in text
    assert "Rung 0: small, graded incorrect" not in text


def test_rules_and_graders_are_shares_of_all_texts(made: Report) -> None:
    found = rows(page.render(*made))
    exactly, nothing = "Compared: exactly", "Compared: nothing to compare"
    assert ["Whose", "Texts", "after ####", "last number", "nowhere", "Guessed", exactly, nothing] in found
    assert ["teacher for rung 0", "40", "36 90.0 %", "–", "4 10.0 %", "–", "36 90.0 %", "4 10.0 %"] in found
    assert ["graduate for rung 1", "40", "27 67.5 %", "9 22.5 %", "4 10.0 %", "9 22.5 %", "36 90.0 %", "4 10.0 %"] in found


def test_rules_that_the_page_has_no_words_for_are_named_and_rare_ones_counted_together(made: Report) -> None:
    rules = [{"rule": f"rule_{n}", "n": 20 - n, "guessed": 0, "correct": 1} for n in range(12)]
    entry = {
        "what": "traces",
        "name": "x",
        "rung": 0,
        "texts": sum(rule["n"] for rule in rules),
        "rules": rules,
        "graders": {"odd": 1},
    }
    heading, shares = rows(page.render(changed(made, readings=[entry], wrong=[])))
    assert heading == ["Whose", "Texts", *(f"rule_{n}" for n in range(7)), "elsewhere", "Guessed", "Compared: odd"]
    rare = sum(rule["n"] for rule in rules[7:])
    assert shares[9] == f"{rare} {100 * rare / entry['texts']:.1f} %"


@pytest.mark.parametrize(
    "found", [None, {}, {"readings": [], "wrong": []}, {"readings": [{"texts": 0}], "wrong": [{"traces": 0}]}]
)
def test_the_section_is_left_out_where_there_is_nothing_to_say(made: Report, found: Any) -> None:
    results = copy.deepcopy(made.results)
    results["grading"] = found
    html = page.render(results)
    assert shown(html) == ""
    assert "#grading" not in html
    del results["grading"]
    assert shown(page.render(results)) == ""


def test_without_an_arm_of_wrong_traces_nothing_is_said_of_them(made: Report) -> None:
    text = shown(page.render(changed(made, wrong=[])))
    assert "W2SR-N" not in text
    assert "Where answers stood" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(made: Report, name: str) -> None:
    text, results = HOSTILE[name], copy.deepcopy(made.results)
    for entry in results["grading"]["readings"]:
        counts = {"rule": text, "n": entry["texts"], "guessed": entry["texts"], "correct": 0}
        entry.update(name=text, graders={text: entry["texts"]}, rules=[counts], guessed=entry["texts"])
    for entry in results["grading"]["wrong"]:
        entry.update(problems=[text] * 3, arm=text)
    before, after = Page(page.render(made.results)), Page(page.render(results))
    assert {tag for tag, _ in after.elements} <= {tag for tag, _ in before.elements}
    assert not [name for _, attributes in after.elements for name in attributes if name.startswith("on")]
    assert len("".join(after.texts)) < len("".join(before.texts)) + 20_000


def test_results_hold_it_and_give_it_back(made: Report, tmp_path: Path) -> None:
    write(tmp_path, *made)
    assert read(tmp_path)["grading"]["wrong"][1]["doubted"] == 3
    assert grading.section(read(tmp_path), links([])) is not None


def test_readings_count_rules_and_what_was_guessed() -> None:
    found = readings(
        [
            trace("#### 7", Verdict("correct", "7", "####", "exact")),
            trace("it makes 8", Verdict("incorrect", "8", "last_number", "exact")),
            trace("7", Verdict("correct", "7", "last_number", "exact")),  # the answer alone, as it was asked for
            trace("hm", Verdict("unparsed", None, "none", "none")),
            trace("#### 7", Verdict("ungraded", "7", "####", "none")),
            Trace("t", "p", "x", 0, "#### 7", None, "incorrect", "stop", 1, None, ""),  # of a table without rules
        ]
    )
    assert found.texts == 4
    assert found.guessed == 1
    assert [(rule.rule, rule.n, rule.guessed, rule.correct) for rule in found.rules] == [
        ("last_number", 2, 1, 1),
        ("####", 1, 0, 1),
        ("none", 1, 0, 0),
    ]
    assert found.graders == {"exact": 3, "none": 1}


@pytest.mark.parametrize(
    ("text", "answer", "rule", "expected"),
    [
        ("so it makes 8", "8", "last_number", True),
        ("so it makes $8$", "8", "last_math", True),
        ("8", "8", "last_number", False),
        ("**8**.", "8", "last_number", False),
        ("#### 8", "8", "####", False),
        ("no number", None, "last_number", False),
    ],
)
def test_what_counts_as_a_guess(text: str, answer: str | None, rule: str, expected: bool) -> None:
    assert guessed(text, answer, rule) is expected


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("#### 8", "7", "agreed"),
        ("#### 7", "7", "doubted"),
        ("hm", "7", "silent"),
        ("#### 8", "\\pi", "silent"),
        ("#### 8", None, "silent"),
    ],
)
def test_a_second_opinion_agrees_doubts_or_is_silent(text: str, gold: str | None, expected: str) -> None:
    said, _ = doubt(trace(text, Verdict("incorrect", "8", "####", "exact")), Problem.of("q", gold))
    assert said == expected


def test_the_made_up_traces_are_what_they_are_said_to_be() -> None:
    asked = fabricated_run.problems(40)
    found = readings(fabricated_grading.traces(asked, "teacher", 0.25))
    assert (found.texts, found.guessed) == (40, 9)
