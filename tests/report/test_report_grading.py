"""The section on reading and grading: warnings where guessing is common, the doubts about wrong traces, and silence elsewhere."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabricated_grading
import fabricated_run
import pytest
from fabricated_run import Report
from test_report_page import HOSTILE, Page, no_charts  # noqa: F401  a fixture

from w2sr_jax.answers.extract import guessed
from w2sr_jax.core.records import Problem, Trace, Verdict
from w2sr_jax.evaluation.grading import Doubts, Readings, RuleCount, doubt, readings
from w2sr_jax.report import page
from w2sr_jax.report.evidence import Links
from w2sr_jax.report.results import DoubtsEntry, Grading, ReadingsEntry, Results
from w2sr_jax.report.sections import grading
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


def changed(made: Report, **parts: Any) -> Results:
    return replace(made.results, grading=replace(made.results.grading, **parts))


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
    for entry in made.results.grading.wrong:
        counts = {"agreed": entry.doubts.agreed, "doubted": entry.doubts.doubted, "silent": entry.doubts.silent}
        assert sum(counts.values()) == entry.doubts.traces
        rows = (tmp_path / "evidence" / f"{entry.evidence}.html").read_text()
        for group, count in counts.items():
            link = re.search(rf'href="evidence/{entry.evidence}.html#{group}">([\d,]+)</a>', html)
            assert link is not None
            assert int(link[1]) == count
            start = rows.index(f'<section id="{group}">')
            assert rows[start : rows.index("</section>", start)].count('<code class="id">') == count
    first, second = (entry.doubts for entry in made.results.grading.wrong)
    assert (first.doubted, second.doubted) == (0, 3)
    text = shown(html)
    assert f"Rung 1: medium, graded incorrect and right by the second opinion: {', '.join(second.problems)}." in text
    assert "Rung 0: small, graded incorrect" not in text


def test_rules_and_graders_are_shares_of_all_texts(made: Report) -> None:
    found = rows(page.render(*made))
    exactly, nothing = "Compared: exactly", "Compared: nothing to compare"
    assert ["Whose", "Texts", "after ####", "last number", "nowhere", "Guessed", exactly, nothing] in found
    assert ["teacher for rung 0", "40", "36 90.0 %", "–", "4 10.0 %", "–", "36 90.0 %", "4 10.0 %"] in found
    assert ["graduate for rung 1", "40", "27 67.5 %", "9 22.5 %", "4 10.0 %", "9 22.5 %", "36 90.0 %", "4 10.0 %"] in found


def test_rules_that_the_page_has_no_words_for_are_named_and_rare_ones_counted_together(made: Report) -> None:
    rules = tuple(RuleCount(f"rule_{n}", 20 - n, 0, 1) for n in range(12))
    texts = sum(rule.n for rule in rules)
    entry = ReadingsEntry("traces", "x", 0, Readings(texts, 0, rules, {"odd": 1}), None, ())
    heading, shares = rows(page.render(changed(made, readings=(entry,), wrong=())))
    assert heading == ["Whose", "Texts", *(f"rule_{n}" for n in range(7)), "elsewhere", "Guessed", "Compared: odd"]
    rare = sum(rule.n for rule in rules[7:])
    assert shares[9] == f"{rare} {100 * rare / texts:.1f} %"


NOTHING = ReadingsEntry("traces", "x", 0, Readings(0, 0, (), {}), None, ())
NO_DOUBTS = DoubtsEntry(0, "incorrect", Doubts(0, 0, 0, 0, ()), None, ())


@pytest.mark.parametrize("found", [Grading(), Grading((NOTHING,), (NO_DOUBTS,))])
def test_the_section_is_left_out_where_there_is_nothing_to_say(made: Report, found: Grading) -> None:
    html = page.render(replace(made.results, grading=found))
    assert shown(html) == ""
    assert "#grading" not in html


def test_without_an_arm_of_wrong_traces_nothing_is_said_of_them(made: Report) -> None:
    text = shown(page.render(changed(made, wrong=())))
    assert "W2SR-N" not in text
    assert "Where answers stood" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(made: Report, name: str) -> None:
    text, found = HOSTILE[name], made.results.grading
    spoilt = tuple(
        replace(entry, name=text, readings=Readings(n, n, (RuleCount(text, n, n, 0),), {text: n}))
        for entry in found.readings
        if (n := entry.readings.texts)
    )
    wrong = tuple(replace(entry, arm=text, doubts=replace(entry.doubts, problems=(text,) * 3)) for entry in found.wrong)
    results = changed(made, readings=spoilt, wrong=wrong)
    before, after = Page(page.render(made.results)), Page(page.render(results))
    assert {tag for tag, _ in after.elements} <= {tag for tag, _ in before.elements}
    assert not [name for _, attributes in after.elements for name in attributes if name.startswith("on")]
    assert len("".join(after.texts)) < len("".join(before.texts)) + 20_000


def test_results_hold_it_and_give_it_back(made: Report, tmp_path: Path) -> None:
    write(tmp_path, *made)
    assert read(tmp_path).grading.wrong[1].doubts.doubted == 3
    assert grading.section(read(tmp_path), Links.of([])) is not None


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
