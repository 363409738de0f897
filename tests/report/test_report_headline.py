"""The top of the page: what happened on every rung, the answer, the picture of the ladder, and nothing between them."""

import copy
from typing import Any

import fabricated_run
import pytest
from test_report_page import Page
from test_report_verdict import BETWEEN, YES, ladder

from w2sr_jax.report import climb, drawing, rule, wording
from w2sr_jax.report.page import render
from w2sr_jax.report.verdict import headline
from w2sr_jax.report.warned import warned


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return fabricated_run.results(count=60)


@pytest.fixture(autouse=True)
def no_charts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(drawing, "svg", lambda *_: "<svg></svg>")


@pytest.fixture
def drawn() -> None:
    """Asks for charts as they are."""


def text(html: str) -> str:
    return Page(html).text.replace(wording.THIN, " ")


def header(html: str) -> str:
    return html[html.index("<header>") : html.index("</header>")]


def test_sentences_answer_and_picture_come_first_and_in_order(results: dict[str, Any]) -> None:
    top = header(render(results))
    found = headline(results)
    places = [top.index(f"<b>{sentence.lead}:</b>") for sentence in found.rungs]
    places += [top.index(found.answer), top.index("<figure>"), top.index("From end to end")]
    assert places == sorted(places)
    assert top.count("<figure>") == 1
    between = top[top.index(found.answer) + len(found.answer) : top.index("<figure>")]
    assert between.split() == ["</p>", "</section>"]


def test_warnings_come_after_the_picture_those_of_unused_arms_last(results: dict[str, Any]) -> None:
    said = ["0-small.incorrect: aside.", "0-small.correct: of the headline.", "small: of its teacher.", "of the run"]
    html = render({**results, "warnings": said})
    assert not any(one in header(html) for one in said)
    shown = text(html)
    assert shown.index("of the headline.") < shown.index("of its teacher.") < shown.index("of the run") < shown.index("aside.")
    assert "3 warnings while it ran" in shown
    assert "1 warning about arms that the answer does not use" in shown
    assert "about arms that the answer" not in text(render({**results, "warnings": said[1:]}))


@pytest.mark.parametrize(
    ("warning", "aside"),
    [
        ("0-small.incorrect: x", True),
        ("seed 3, 1-medium.all: x", True),
        ("1-medium.gold: x", True),
        ("0-small.correct: x", False),  # speaks for its rung, and teaches the next
        ("0-small.base: x", False),
        ("medium: teacher 'a' is too weak", False),
        ("0-small.incorrect is odd", False),
        ("0-small.unheard-of: x", False),
    ],
)
def test_a_warning_is_about_the_model_that_it_begins_with(results: dict[str, Any], warning: str, aside: bool) -> None:
    found = warned({**results, "warnings": [warning]})
    assert (warning in found.aside, warning in found.headline) == (aside, not aside)


def test_a_student_that_teaches_is_not_aside_though_another_arm_speaks(results: dict[str, Any]) -> None:
    other = copy.deepcopy(results)
    other["rungs"][1]["teachers"] = ["0-small.all"]
    assert warned({**other, "warnings": ["0-small.all: x"]}).headline == ["0-small.all: x"]


def test_the_rule_is_on_the_page_word_for_word(results: dict[str, Any]) -> None:
    assert rule.RULE in text(render(results))


def test_every_headline_student_is_marked_in_the_tables(results: dict[str, Any]) -> None:
    rows = [row for row in render(results).split("<tr") if row.startswith(' class="headline"') and "W2SR-P" in row]
    assert len(rows) == 4  # both rungs, among all models and among the comparisons
    other = copy.deepcopy(results)
    del other["rungs"][1]["comparisons"]["correct"]
    assert len([row for row in render(other).split("<tr") if row.startswith(' class="headline"') and "W2SR<" in row]) == 2


def test_a_rehearsal_is_announced_above_everything(results: dict[str, Any]) -> None:
    html = render({**results, "rehearsal": True})
    top = header(html)
    assert top.index("Rehearsal: ") < top.index('aria-label="Verdict"')
    assert "outgrew" not in top
    assert 'class="verdict unknown"' in top
    assert "its numbers mean nothing" not in render(results)


def test_sections_that_have_nothing_to_say_disappear(results: dict[str, Any]) -> None:
    bare = copy.deepcopy(results)
    for rung in bare["rungs"]:
        rung.update(curation={}, curation_evidence={}, traces=[])
        for comparison in rung["comparisons"].values():
            comparison.update(vs_teacher=None, pgr=None, rgr_base=None, vs_ceiling=None, vs_base=None)
    for model in bare["models"].values():
        model.update(training=None, held_out=None, faithfulness=None, probe=None)
        model["scores"]["process"] = None
    bare.update(ledgers=[], teachers=[], grading={}, warnings=[], stages=[], samples=[], climb=None)
    page = Page(render(bare))
    kept = {section.get("id") for section in page.all("section")} - {None}
    assert kept == {"qualified", "accuracy", "ladder", "run"}
    assert {str(link["href"])[1:] for link in page.all("a")} == kept
    for words in ("Against teacher", "Gap recovered", "PGR", "From end to end", "while it ran", "McNemar"):
        assert words not in page.text
    for model in bare["models"].values():
        model["scores"]["accuracy"] = None
    assert 'id="accuracy"' not in render(bare)
    assert "<figure>" not in render(bare)


def test_a_run_of_recorded_teachers_says_what_is_missing_once_and_shows_no_empty_columns(results: dict[str, Any]) -> None:
    bare = copy.deepcopy(results)
    bare["experiment"] = {"teachers": [{"type": "w2sr_jax.teachers.settings:Recorded", "name": "staff", "path": "staff.jsonl"}]}
    bare["rungs"] = bare["rungs"][:1]
    bare["rungs"][0]["teachers"] = ["staff"]
    for comparison in bare["rungs"][0]["comparisons"].values():
        comparison.update(vs_teacher=None, pgr=None, teacher=None)
    shown = text(render(bare))
    assert shown.count("staff.jsonl holds no answers to the test problems") == 1
    assert "Against teacher, points" not in shown
    assert "Gap teacher → ceiling" not in shown
    assert "Against own base, points" in shown


def test_the_picture_has_teacher_base_student_and_ceiling_of_every_rung(results: dict[str, Any]) -> None:
    found = climb.panels(results)
    assert [panel.title for panel in found] == ["Rung 0: small", "Rung 1: medium"]
    assert [[step.kind for step in panel.steps] for panel in found] == [["teacher", "base", "correct", "gold"]] * 2
    assert [step.name for step in found[1].steps] == ["0-small.correct", "1-medium.base", "1-medium.correct", "1-medium.gold"]
    for panel in found:
        for step in panel.steps:
            accuracy = results["models"][step.name]["scores"]["accuracy"]
            assert (step.value, step.low, step.high) == tuple(100 * accuracy[key] for key in ("value", "low", "high"))


def test_the_picture_says_in_words_what_it_shows(results: dict[str, Any], drawn: None) -> None:
    chart = climb.picture(climb.panels(results))
    assert chart is not None
    for name in ("teacher", "0-small.base", "0-small.correct", "1-medium.gold"):
        assert wording.percent(results["models"][name]["scores"]["accuracy"]["value"]) in chart.alt
    again = climb.picture(climb.panels(copy.deepcopy(results)))
    assert again == chart
    for svg in (chart.wide, chart.narrow):
        assert "Rung 1: medium" in svg


def test_what_was_not_measured_is_said_in_the_picture(drawn: None) -> None:
    results = ladder({"vs_teacher": None})
    results["models"]["0-small.correct"]["scores"] = {"accuracy": {"value": 0.4, "low": None, "high": None}}
    chart = climb.picture(climb.panels(results))
    assert chart is not None
    assert "teacher not measured, W2SR-P 40.0" in chart.alt
    assert "not measured" in chart.wide


@pytest.mark.parametrize("rungs", [1, 3, 4, 5, 40])
def test_ladders_of_any_height_are_drawn(rungs: int, results: dict[str, Any], drawn: None) -> None:
    panels = [climb.panels(results)[0]] * rungs
    chart = climb.picture(panels)
    assert chart is not None
    assert chart.wide.count("Rung 0: small") >= min(rungs, climb.MOST_RUNGS)


def test_without_scores_there_is_no_picture() -> None:
    assert climb.picture(climb.panels({})) is None
    assert climb.picture(climb.panels(ladder({"vs_teacher": YES}, {"vs_teacher": BETWEEN}))) is None


def test_scores_of_zero_are_drawn(results: dict[str, Any], drawn: None) -> None:
    nothing = copy.deepcopy(results)
    for model in nothing["models"].values():
        model["scores"]["accuracy"] = {"value": 0.0, "low": 0.0, "high": 0.0, "n": 60}
    assert climb.picture(climb.panels(nothing)) is not None
