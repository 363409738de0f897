"""The page as a reader's browser would take it: well formed, closed to the network, safe against what models write."""

import base64
import hashlib
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fabricated_run
import minimal_results
import pytest
from minimal_results import edited

from w2sr_jax.core.errors import UserError
from w2sr_jax.report import rule
from w2sr_jax.report.charts import drawing
from w2sr_jax.report.page import render
from w2sr_jax.report.results import FORMAT, Model, Results, Sample, SampleStep
from w2sr_jax.report.write import read, write

VOID = {"meta", "link", "img", "source", "br", "hr", "input"}
SHAPES = {"rect"}


class Page(HTMLParser):
    """Collects elements and text; complains where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID | SHAPES
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def results() -> Results:
    return fabricated_run.results(count=60)


@pytest.fixture(scope="module")
def html(results: Results) -> str:
    return render(results)


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where charts are not the subject, they are not drawn: that takes most of the time."""
    monkeypatch.setattr(drawing, "svg", lambda *_: "<svg></svg>")


def test_the_page_is_well_formed_and_has_every_section(html: str) -> None:
    page = Page(html)
    found = {attributes.get("id") for attributes in page.all("section")}
    assert {"accuracy", "ladder", "gap", "curation", "training", "reasoning", "cost", "traces", "run"} <= found
    assert {"ledger", "teachers", "probe"} <= found
    targets = {str(a["href"])[1:] for a in page.all("a")}
    assert targets <= found
    assert len(page.all("h1")) == 1


def test_nothing_is_fetched_and_no_script_runs(html: str) -> None:
    page = Page(html)
    assert not page.all("script")
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "srcset", "href", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_the_policy_allows_this_style_and_images_in_the_page_alone(html: str) -> None:
    (policy,) = [m["content"] for m in Page(html).all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_charts_have_alternatives_in_words_and_are_sound_svg(html: str) -> None:
    page = Page(html)
    assert len(page.all("img")) == 2 * 8  # each chart for a page and for a phone
    for image in page.all("img"):
        uri = str(image["src"])
        svg = base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,")).decode()
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        addresses = set(re.findall(r"https?://[^\"'\s>]+", svg))
        assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert "<script" not in svg
    assert all(len(str(image["alt"])) > 40 for image in page.all("img"))
    assert any("W2SR-P" in str(image["alt"]) and "%" in str(image["alt"]) for image in page.all("img"))


def test_equal_results_give_equal_bytes(results: Results, html: str, tmp_path: Path) -> None:
    one = write(tmp_path, results)
    numbers = one.numbers.read_bytes()
    assert one.index.read_text(encoding="utf-8") == html
    again = write(tmp_path, read(tmp_path))
    assert again.numbers.read_bytes() == numbers
    assert again.index.read_text(encoding="utf-8") == html


def test_the_page_is_the_same_in_another_process(results: Results, html: str, tmp_path: Path) -> None:
    write(tmp_path, results)
    code = (
        "import sys, hashlib; from pathlib import Path; from w2sr_jax.report import page, write;"
        f"print(hashlib.sha256(page.render(write.read(Path({str(tmp_path)!r}))).encode()).hexdigest(), 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [hashlib.sha256(html.encode()).hexdigest(), "False"]


@pytest.mark.usefixtures("no_charts")
def test_results_json_holds_the_same_numbers(results: Results, tmp_path: Path) -> None:
    written = write(tmp_path, results)
    assert read(tmp_path) == replace(results, verdict=rule.verdict(results))
    assert json.loads(written.numbers.read_text())["format"] == FORMAT
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.html", "results.json"]


def test_results_of_another_format_are_refused(tmp_path: Path) -> None:
    for other in ("1", "99", '"\\u001b[2J"', "null"):
        (tmp_path / "results.json").write_text(f'{{"format": {other}}}')
        with pytest.raises(UserError, match=r"results\.json has format .*; this version of w2sr_jax reads format 2") as error:
            read(tmp_path)
        assert str(error.value).isprintable()
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(UserError, match="JSON object"):
        read(tmp_path)


@pytest.mark.usefixtures("no_charts")
def test_results_of_another_shape_are_refused_by_the_field(results: Results, tmp_path: Path) -> None:
    path = write(tmp_path, results).numbers
    sound = json.loads(path.read_text())

    def refusal(**changes: Any) -> str:
        path.write_text(json.dumps({**sound, **changes}))
        with pytest.raises(UserError) as error:
            read(tmp_path)
        return str(error.value).removeprefix(str(path))

    teacher = sound["models"]["teacher"]
    assert refusal(seeds="many") == ", seeds is 'many'; it must be a list"
    assert refusal(models={"teacher": {**teacher, "scores": None}}) == ", models.teacher.scores is None; it must be an object"
    accuracy = {**teacher["scores"]["accuracy"], "low": "x"}
    scores = {**teacher["scores"], "accuracy": accuracy}
    assert refusal(models={"t": {**teacher, "scores": scores}}).startswith(", models.t.scores.accuracy.low is 'x'")
    assert refusal(mine=1) == " has an unknown field 'mine'"
    path.write_text(json.dumps({key: value for key, value in sound.items() if key != "rungs"}))
    with pytest.raises(UserError, match=r"results\.json has no field 'rungs'"):
        read(tmp_path)
    path.write_text(json.dumps({key: value for key, value in sound.items() if key != "warnings"}))
    assert read(tmp_path).warnings == ()


def test_accuracies_and_intervals_are_on_the_page(results: Results, html: str) -> None:
    text = Page(html).text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    for model in results.models.values():
        accuracy = model.scores.accuracy
        assert f"{100 * accuracy.value:.1f} %" in text
        assert f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f} %" in text


def test_an_arm_is_called_what_its_user_calls_it(results: Results) -> None:
    """In tables, charts and their words, of its rung alone, and as text."""
    first, *others = results.rungs
    html = render(replace(results, rungs=(replace(first, labels={"all": "Mine <i>$x$"}), *others)))
    page, usual = Page(html), Page(render(results))
    assert "<i>" not in html

    def called(of: Page, label: str) -> int:
        return sum(text.strip() == label for text in of.texts)

    assert called(page, "W2SR") < called(usual, "W2SR")
    assert called(page, "W2SR") + called(page, "Mine <i>$x$") >= called(usual, "W2SR")
    assert called(page, "W2SR")  # of the other rungs
    words = [str(attributes.get("alt")) for tag, attributes in page.elements if tag == "img"]
    assert sum("Mine <i>$x$" in each for each in words) >= 4


def test_each_step_is_marked_by_sign_and_class(html: str) -> None:
    assert '<mark class="wrong">16 - 4 = 11<span class="sign" role="img" aria-label="wrong">✗</span></mark>' in html
    assert '<mark class="right">16 - 4 = 12<span class="sign" role="img" aria-label="right">✓</span></mark>' in html


HOSTILE = {
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "attribute": "\" onmouseover=\"alert(1)' autofocus='",
    "bidi": "safe \u202e 21 = 6 * 2 \u2066 hidden \u200b\u200b",
    "null": "a\x00b\x1b[31mred\x7f\r\x85",
    "entity": "&lt;b&gt; &amp; &#60;",
    "template": "{{ 7 * 7 }} {% raw %}",
    "surrogate": "\ud800 lone",
    "zalgo": "Z" + "\u0301\u0317" * 300,
    "comment": "--><!-- ]]> </style></pre></details>",
    "separators": "line\u2028paragraph\u2029nonchar\ufffe\uffff",
    "formula": r"$\frac{1}{0$ $x_$",
    "huge": "9" * 100_000,
}


DRAWN = ("script", "formula", "surrogate", "bidi")  # what charts might stumble over


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_stays_text_wherever_it_comes_from(
    name: str, results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = HOSTILE[name]
    if name not in DRAWN:
        monkeypatch.setattr(drawing, "svg", lambda *_: "<svg></svg>")

    def spoil(bad: dict[str, Any]) -> None:
        bad["name"] = text
        bad["rungs"][1]["name"] = text
        bad["rungs"][0]["teachers"] = [text]
        bad["rungs"][0]["curation"]["all"]["rejections"] = {text: 3}
        bad["rungs"][0]["curation"]["all"]["steps"][0]["name"] = text
        bad["models"][text] = bad["models"]["teacher"]
        bad["versions"] = {text: text}
        bad["experiment"] = {text: [text]}
        bad["device"].update(kind=text, mesh={text: 1})
        bad["stages"][0].update(name=text, kind=text)
        bad["warnings"] = [text]
        bad["ledgers"][0].update(loss=text, sources=[{"path": text, "digest": text, "rows": None, "where": text}])
        bad["teachers"][0]["pairs"][0]["left"] = text
        bad["samples"][0]["problem"].update(question=text, answer=text)
        steps = [{"start": 0, "end": 2, "valid": True}]
        bad["samples"][0]["traces"][0].update(text=text, model=text, rule=text, role=text, steps=steps)

    bad = edited(results, spoil)
    html = write(tmp_path, bad).index.read_bytes().decode("utf-8")
    page = Page(html)
    assert not page.all("script")
    assert not any(attribute.startswith("on") for _, attributes in page.elements for attribute in attributes)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\u2028\u2029\ufffe\uffff]", html)
    assert [tag for tag, _ in page.elements if tag == "img"] == ["img"] * 16
    assert replace(read(tmp_path), verdict=None) == bad
    assert len(html) < 1_500_000


def with_text(results: Results, text: str, *spans: tuple[int, int]) -> Results:
    """The results with another text in the first sample, whose equations are these spans."""
    sample = results.samples[0]
    marks = tuple(SampleStep(start, end, valid=True) for start, end in spans)
    trace = replace(sample.traces[0], text=text, steps=marks)
    return replace(results, samples=(Sample(sample.problem, (trace, *sample.traces[1:])), *results.samples[1:]))


@pytest.mark.usefixtures("no_charts")
def test_hidden_characters_are_spelt_out(results: Results) -> None:
    assert "a⟨U+202E⟩b␀c" in Page(render(with_text(results, "a\u202eb\x00c"))).text


@pytest.mark.usefixtures("no_charts")
def test_long_traces_are_cut_and_say_so(results: Results) -> None:
    text = Page(render(with_text(results, "x" * 100_000, (5998, 6003)))).text
    assert "94,000 more characters not shown" in text
    assert "x" * 6000 in text
    assert "x" * 6001 not in text


@pytest.mark.usefixtures("no_charts")
def test_spans_that_make_no_sense_are_ignored(results: Results) -> None:
    bad = with_text(results, "0123456789abcdef", (0, 5), (3, 8), (-4, 2), (9, 9), (12, 5000))
    assert "0123456789abcdef" in Page(render(bad)).text.replace("✓", "")


OPTIONAL = (
    "models",
    "rungs",
    "ledgers",
    "teachers",
    "grading",
    "warnings",
    "stages",
    "samples",
    "seeds",
    "experiment",
    "name",
    "versions",
)


@pytest.mark.parametrize("empty", OPTIONAL)
@pytest.mark.usefixtures("no_charts")
def test_an_empty_part_leaves_the_rest(empty: str, results: Results) -> None:
    nothing = getattr(minimal_results.results(name="", seeds=()), empty)
    assert "Verdict" in str(Page(render(replace(results, **{empty: nothing}))).elements)


@pytest.mark.usefixtures("no_charts")
def test_nothing_at_all_is_still_a_page() -> None:
    assert "no student has been trained yet" in Page(render(minimal_results.results(name="", seeds=(), test_problems=0))).text


def test_what_may_be_empty_is_named(results: Results) -> None:
    every = {field.name for field in fields(results)}
    assert every - set(OPTIONAL) == {
        "rehearsal", "config_hash", "device", "test_problems", "problems", "climb", "skipped", "verdict",
    }  # fmt: skip


@pytest.mark.usefixtures("no_charts")
def test_a_run_of_recorded_teachers_without_ceiling(results: Results) -> None:
    def bare(fields: dict[str, Any]) -> None:
        for rung in fields["rungs"]:
            rung["teachers"] = ["gemma", "llama"]
            rung["traces"] = [
                {"teacher": "gemma", "traces": 9, "graded": 9, "correct": 3, "accuracy": 0.329},
                {"teacher": "llama", "traces": 9, "graded": 0, "correct": 0, "accuracy": None},
            ]
            for comparison in rung["comparisons"].values():
                comparison.update(vs_teacher=None, pgr=None, rgr_base=None, vs_ceiling=None, teacher=None)
        del fields["models"]["teacher"]

    def plain(model: Model) -> Model:
        scores = replace(model.scores, avg_at_k=None, pass_at_k=(), maj_at_k=(), mean_tokens=None)
        return replace(model, training=None, held_out=None, scores=scores)

    found = edited(results, bare)
    text = Page(render(replace(found, models={name: plain(model) for name, model in found.models.items()}))).text
    assert "cannot be said" in text
    assert "gemma" in text


@pytest.mark.usefixtures("no_charts")
def test_pooled_seeds_are_shown_one_by_one() -> None:
    text = Page(render(fabricated_run.results((3, 5), count=40))).text
    assert "seeds 3, 5" in text
    assert "Seed 3" in text
    assert "2 seeds pooled" in text
