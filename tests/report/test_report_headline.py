"""The top of the page: what happened on every rung, the answer, the picture of the ladder, and nothing between them."""

from dataclasses import replace

import fabricated_run
import pytest
from minimal_results import results as minimal
from test_report_page import Page
from test_report_verdict import ladder

from w2sr_jax.evaluation.statistics import Interval
from w2sr_jax.report import rule, wording
from w2sr_jax.report.charts import climb, drawing
from w2sr_jax.report.headline import headline
from w2sr_jax.report.notes import warned
from w2sr_jax.report.page import render
from w2sr_jax.report.results import Grading, Model, Results


@pytest.fixture(scope="module")
def results() -> Results:
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


def test_sentences_answer_and_picture_come_first_and_in_order(results: Results) -> None:
    top = header(render(results))
    found = headline(results)
    places = [top.index(f"<b>{sentence.lead}:</b>") for sentence in found.rungs]
    places += [top.index(found.answer), top.index("<figure>"), top.index("From end to end")]
    assert places == sorted(places)
    assert top.count("<figure>") == 1
    between = top[top.index(found.answer) + len(found.answer) : top.index("<figure>")]
    assert between.split() == ["</p>", "</section>"]


def test_warnings_come_after_the_picture_those_of_unused_arms_last(results: Results) -> None:
    said = ["0-small.incorrect: aside.", "0-small.correct: of the headline.", "small: of its teacher.", "of the run"]
    html = render(replace(results, warnings=tuple(said)))
    assert not any(one in header(html) for one in said)
    shown = text(html)
    assert shown.index("of the headline.") < shown.index("of its teacher.") < shown.index("of the run") < shown.index("aside.")
    assert "3 warnings while it ran" in shown
    assert "1 warning about arms that the answer does not use" in shown
    assert "about arms that the answer" not in text(render(replace(results, warnings=tuple(said[1:]))))


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
def test_a_warning_is_about_the_model_that_it_begins_with(results: Results, warning: str, aside: bool) -> None:
    found = warned(replace(results, warnings=(warning,)))
    assert (warning in found.aside, warning in found.headline) == (aside, not aside)


def test_a_student_that_teaches_is_not_aside_though_another_arm_speaks(results: Results) -> None:
    taught = replace(results.rungs[1], teachers=("0-small.all",))
    other = replace(results, rungs=(results.rungs[0], taught), warnings=("0-small.all: x",))
    assert warned(other).headline == ["0-small.all: x"]


def test_the_rule_is_on_the_page_word_for_word(results: Results) -> None:
    assert rule.RULE in text(render(results))


def test_every_headline_student_is_marked_in_the_tables(results: Results) -> None:
    rows = [row for row in render(results).split("<tr") if row.startswith(' class="headline"') and "W2SR-P" in row]
    assert len(rows) == 4  # both rungs, among all models and among the comparisons
    without = {arm: found for arm, found in results.rungs[1].comparisons.items() if arm != "correct"}
    other = replace(results, rungs=(results.rungs[0], replace(results.rungs[1], comparisons=without)))
    assert len([row for row in render(other).split("<tr") if row.startswith(' class="headline"') and "W2SR<" in row]) == 2


def test_a_rehearsal_is_announced_above_everything(results: Results) -> None:
    html = render(replace(results, rehearsal=True))
    top = header(html)
    assert top.index("Rehearsal: ") < top.index('aria-label="Verdict"')
    assert "outgrew" not in top
    assert 'class="verdict unknown"' in top
    assert "its numbers mean nothing" not in render(results)


def untested(results: Results) -> Results:
    """Nothing is compared with anything."""
    nothing = {"vs_teacher": None, "vs_base": None, "vs_ceiling": None, "rgr_base": None, "pgr": None}
    rungs = (
        replace(rung, comparisons={arm: replace(found, **nothing) for arm, found in rung.comparisons.items()})
        for rung in results.rungs
    )
    return replace(results, rungs=tuple(rungs), climb=None)


def unwatched(model: Model) -> Model:
    return replace(model, training=None, held_out=None, faithfulness=None, probe=None)


def test_sections_that_have_nothing_to_say_disappear(results: Results) -> None:
    bare = untested(results)
    rungs = tuple(replace(rung, curation={}, curation_evidence={}, traces=()) for rung in bare.rungs)
    models = {name: unwatched(model) for name, model in bare.models.items()}
    bare = replace(
        bare, rungs=rungs, models=models, ledgers=(), teachers=(), grading=Grading(), warnings=(), stages=(), samples=()
    )
    page = Page(render(bare))
    kept = {section.get("id") for section in page.all("section")} - {None}
    assert kept == {"qualified", "accuracy", "ladder", "reasoning", "run"}
    assert {str(link["href"])[1:] for link in page.all("a")} == kept
    for words in ("Against teacher", "Gap recovered", "PGR", "From end to end", "while it ran", "McNemar"):
        assert words not in page.text
    nothing = render(replace(bare, models={}))
    assert 'id="accuracy"' not in nothing
    assert 'id="reasoning"' not in nothing
    assert "<figure>" not in nothing


def test_a_run_of_recorded_teachers_says_what_is_missing_once_and_shows_no_empty_columns(results: Results) -> None:
    settings = {"type": "w2sr_jax.teachers.settings:Recorded", "name": "staff", "path": "staff.jsonl"}
    rung = results.rungs[0]
    comparisons = {arm: replace(found, vs_teacher=None, pgr=None, teacher=None) for arm, found in rung.comparisons.items()}
    rung = replace(rung, teachers=("staff",), comparisons=comparisons)
    shown = text(render(replace(results, experiment={"teachers": [settings]}, rungs=(rung,))))
    assert shown.count("staff.jsonl holds no answers to the test problems") == 1
    assert "Against teacher, points" not in shown
    assert "Gap teacher → ceiling" not in shown
    assert "Against own base, points" in shown


def test_the_picture_has_teacher_base_student_and_ceiling_of_every_rung(results: Results) -> None:
    found = climb.panels(results)
    assert [panel.title for panel in found] == ["Rung 0: small", "Rung 1: medium"]
    assert [[step.kind for step in panel.steps] for panel in found] == [["teacher", "base", "correct", "gold"]] * 2
    assert [step.name for step in found[1].steps] == ["0-small.correct", "1-medium.base", "1-medium.correct", "1-medium.gold"]
    for panel in found:
        for step in panel.steps:
            accuracy = results.models[step.name].scores.accuracy
            assert (step.value, step.low, step.high) == tuple(100 * x for x in (accuracy.value, accuracy.low, accuracy.high))


def test_the_picture_says_in_words_what_it_shows(results: Results, drawn: None) -> None:
    chart = climb.picture(climb.panels(results))
    assert chart is not None
    for name in ("teacher", "0-small.base", "0-small.correct", "1-medium.gold"):
        assert wording.percent(results.models[name].scores.accuracy.value) in chart.alt
    again = climb.picture(climb.panels(fabricated_run.results(count=60)))
    assert again == chart
    for svg in (chart.wide, chart.narrow):
        assert "Rung 1: medium" in svg


def test_what_was_not_measured_is_said_in_the_picture(drawn: None) -> None:
    chart = climb.picture(climb.panels(ladder({"vs_teacher": None})))
    assert chart is not None
    assert "teacher not measured, W2SR-P 50.0" in chart.alt
    assert "not measured" in chart.wide


@pytest.mark.parametrize("rungs", [1, 3, 4, 5, 40])
def test_ladders_of_any_height_are_drawn(rungs: int, results: Results, drawn: None) -> None:
    panels = [climb.panels(results)[0]] * rungs
    chart = climb.picture(panels)
    assert chart is not None
    assert chart.wide.count("Rung 0: small") >= min(rungs, climb.MOST_RUNGS)


def test_without_scores_there_is_no_picture() -> None:
    assert climb.picture(climb.panels(minimal())) is None
    assert climb.picture(climb.panels(replace(ladder({"vs_teacher": None}), models={}))) is None


def test_scores_of_zero_are_drawn(results: Results, drawn: None) -> None:
    none = Interval(0.0, 0.0, 0.0, 60)
    models = {name: replace(model, scores=replace(model.scores, accuracy=none)) for name, model in results.models.items()}
    assert climb.picture(climb.panels(replace(results, models=models))) is not None
