"""Every number leads to its rows: pages of evidence, links to them, the files behind a section, and what depends on a clock."""

import re
from dataclasses import replace
from pathlib import Path

import fabricated_run
import minimal_results
import pytest
from fabricated_run import Report
from test_report_page import HOSTILE, Page, no_charts  # noqa: F401  a fixture

from w2sr_jax.core import codec
from w2sr_jax.evaluation.cost import StageTime, Timings
from w2sr_jax.evaluation.faithfulness import Faithfulness, Mistakes
from w2sr_jax.evaluation.probe import ProbePoint
from w2sr_jax.evaluation.statistics import Estimate
from w2sr_jax.report import evidence, page
from w2sr_jax.report.evidence import MOST_ROWS, Evidence, EvidenceRow
from w2sr_jax.report.results import SeedProbe, Source
from w2sr_jax.report.write import write

pytestmark = pytest.mark.usefixtures("no_charts")


@pytest.fixture(scope="module")
def made() -> Report:
    return fabricated_run.report(count=40)


def text_of(html: str) -> str:
    return Page(html).text.replace("\N{NARROW NO-BREAK SPACE}", " ")


def one_page(rows: list[EvidenceRow], key: str = "answers", groups: dict[str, str] | None = None) -> Evidence:
    source = Source(path="evaluations/x/generations.parquet", digest="ab" * 32, rows=1000, where="sample = -1")
    return Evidence(key, "Answers: x", "What x wrote.", [source], ("gold", "text"), groups or {"right": "Right answers"}, rows)


def cells(html: str, section: str) -> list[list[str]]:
    """The texts of a section's table rows."""
    start = html.index(f'<section id="{section}">')
    body = html[start : html.index("</section>", start)]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [
        [" ".join(Page(f"<i>{cell}</i>").text.split()) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows
    ]


def test_every_link_ends_at_a_section_that_exists(made: Report, tmp_path: Path) -> None:
    written = write(tmp_path, *made)
    links = [str(a["href"]) for a in Page(written.index.read_text()).all("a") if str(a["href"]).startswith("evidence/")]
    assert len(links) > 150
    ids = {path.name: {a.get("id") for _, a in Page(path.read_text()).elements} for path in written.evidence}
    for link in links:
        name, _, anchor = link.removeprefix("evidence/").partition("#")
        assert name in ids
        assert not anchor or anchor in ids[name]


def test_a_ledgers_cell_leads_to_as_many_rows_as_it_counts(made: Report, tmp_path: Path) -> None:
    """The share in the cell is the number of rows behind the link over the denominator."""
    write(tmp_path, *made)
    checked = 0
    for entry in made.results.ledgers:
        (linked,) = [one for one in made.evidence if one.key == entry.evidence]
        html = (tmp_path / "evidence" / f"{linked.key}.html").read_text()
        for name in ("repeat", "chance", "induced", "corrected", "corrupted"):
            share = getattr(entry.ledger.metrics, name)
            assert f'href="evidence/{linked.key}.html#{name}"' in (tmp_path / "index.html").read_text()
            shown = [row for row in cells(html, name) if row[0] != "Problem"]
            assert len(shown) == pytest.approx((share.value or 0) * share.n, abs=1e-3)
            checked += len(shown)
    assert checked > 100


def test_pages_that_are_not_written_are_not_linked(made: Report) -> None:
    html = page.render(made.results, made.timings, [one for one in made.evidence if one.key == "answers-teacher"])
    assert set(re.findall(r"evidence/([^\"#]*)", html)) >= {"answers-teacher.html"}
    assert set(re.findall(r'href="evidence/([^"#]*)', html)) == {"answers-teacher.html"}
    assert 'href="evidence/' not in page.render(made.results)


def test_a_group_that_a_page_lacks_leads_to_the_top(made: Report) -> None:
    bare = one_page([], "answers-0-small.all", {"something": "Else"})
    html = page.render(made.results, None, [bare])
    assert 'href="evidence/answers-0-small.all.html"' in html
    assert 'href="evidence/answers-0-small.all.html#' not in html


def test_rows_are_capped_and_it_says_where_the_others_are() -> None:
    rows = [EvidenceRow(f"problem-{n}", ("24", "16 - 4 = 12"), ("right",)) for n in range(MOST_ROWS + 31)]
    html = evidence.render(one_page(rows), "run")
    assert html.count('<code class="id">') == MOST_ROWS
    assert "231 rows, of which the first 200 are shown; 31 more are in evaluations/x/generations.parquet" in text_of(html)
    assert "problem-0" in html
    assert "problem-199" in html


def test_long_rows_take_no_more_room_than_a_page_may() -> None:
    rows = [EvidenceRow(f"problem-{n}", ("24", "x" * 100_000), ("right",)) for n in range(1000)]
    many = [EvidenceRow(row.problem_id, ("y" * 100_000, "z" * 100_000), row.groups) for row in rows]
    for given in (rows, many):
        html = evidence.render(one_page(given), "run")
        assert len(html) < 250_000
        assert "99,400 more characters" in text_of(html)
        assert re.search(r"1,000 rows, of which the first \d+ are shown", text_of(html))


def test_sources_name_path_digest_rows_and_choice(made: Report) -> None:
    html = evidence.render(one_page([]), "run")
    assert '<code title="' + "ab" * 32 + '">abababababab</code>' in html
    assert "evaluations/x/generations.parquet, where sample = -1, 1,000 rows, sha256 abababababab" in text_of(html)
    assert "w2sr explain RUN PROBLEM_ID" in text_of(html)
    assert 'href="../index.html"' in html
    index = page.render(made.results)
    for section in ("accuracy", "ladder", "gap", "ledger", "teachers", "curation", "training", "probe", "reasoning"):
        start = index.index(f'<section id="{section}">')
        body = index[start : index.index("</section>", start)]
        assert body.count('<details class="sources">') == 1, section
        assert "w2sr explain RUN PROBLEM_ID" in body
    assert "metrics.jsonl" in index[index.index('<section id="training">') : index.index('<section id="probe">')]
    assert "metrics.jsonl" not in index[: index.index('<section id="training">')]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_rows_stay_text(name: str, tmp_path: Path) -> None:
    text = HOSTILE[name]
    source = Source(path=text, digest=text, rows=3, where=text)
    bad = Evidence(text, text, text, [source], (text, "text"), {text: text}, [EvidenceRow(text, (text, None), (text,))])
    run = minimal_results.results(name=text, models={"x": minimal_results.model("teacher", evidence=text)})
    (path,) = write(tmp_path, run, None, [bad]).evidence
    assert path.parent == tmp_path / "evidence"
    html = path.read_bytes().decode("utf-8")
    shown = Page(html)
    assert not {"script", "img", "iframe", "svg"} & {tag for tag, _ in shown.elements}
    assert not any(
        attribute.startswith("on") or attribute == "style" for _, attributes in shown.elements for attribute in attributes
    )
    assert all(str(a["href"]).startswith(("#", "../index.html")) for a in shown.all("a"))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\u2028\u2029\ufffe\uffff]", html)
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    (policy,) = {m["content"] for page in (html, index) for m in Page(page).all("meta") if "http-equiv" in m}
    assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert len(html) < 60_000


@pytest.mark.parametrize("key", ["../escape", "/etc/passwd", "a/b", "", ".", "..", "x" * 300, "ü", "CON", "a\x00b", ".hidden"])
def test_no_key_leaves_the_folder(key: str, tmp_path: Path) -> None:
    (path,) = write(tmp_path, minimal_results.results(), None, [one_page([], key)]).evidence
    assert path.resolve().parent == (tmp_path / "evidence").resolve()
    assert path.is_file()
    assert not path.name.startswith(".")


def test_names_that_look_alike_are_kept_apart() -> None:
    assert evidence.file_name("ledger-0-small.all-held-out") == "ledger-0-small.all-held-out.html"
    assert evidence.file_name("a b") != evidence.file_name("a-b")
    assert evidence.anchor("a b") != evidence.anchor("a/b")
    with pytest.raises(ValueError, match="two evidence pages"):
        evidence.checked([one_page([]), one_page([])])
    with pytest.raises(ValueError, match="1 values, 2 columns"):
        evidence.checked([one_page([EvidenceRow("p", ("24",), ())])])
    with pytest.raises(ValueError, match="no title for"):
        evidence.checked([one_page([EvidenceRow("p", ("24", "x"), ("wrong",))])])


def test_what_an_earlier_report_left_is_removed(made: Report, tmp_path: Path) -> None:
    write(tmp_path, *made)
    left = write(tmp_path, made.results, None, made.evidence[:2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evidence", "index.html", "results.json"]
    assert sorted((tmp_path / "evidence").iterdir()) == sorted(left.evidence)
    assert len(left.evidence) == 2
    write(tmp_path, made.results)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "results.json"]


def test_equal_arguments_give_equal_bytes(made: Report, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, *made)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 3 + len(made.evidence)
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_clocks_change_the_page_and_timings_alone(made: Report, tmp_path: Path) -> None:
    later = Timings({name: StageTime(99.0, "2027-01-01T00:00:00+00:00") for name in made.timings.stages})
    one, other = write(tmp_path / "a", *made), write(tmp_path / "b", made.results, later, made.evidence)
    assert one.numbers.read_bytes() == other.numbers.read_bytes()
    assert [path.read_bytes() for path in one.evidence] == [path.read_bytes() for path in other.evidence]
    assert one.timings is not None
    assert other.timings is not None
    assert codec.read(Timings, one.timings) == made.timings
    assert "2026-11-23 16:18:05" in one.index.read_text()
    assert "2027-01-01 00:00:00" in other.index.read_text()
    assert "seconds" not in one.numbers.read_text()
    bare = write(tmp_path / "c", made.results)
    assert bare.timings is None
    assert "Device time" not in bare.index.read_text()
    assert "Tokens" in bare.index.read_text()


def test_the_page_says_how_much_of_the_trainings_time_counted_and_what_was_lost(made: Report) -> None:
    trainings = sum(stage.kind == "train" for stage in made.results.stages)
    assert trainings > 1
    html = page.render(made.results, made.timings)
    assert "70.0\N{NARROW NO-BREAK SPACE}% of" in html  # 30.1 of 43 seconds, of each and so of all
    assert f"{25 * trainings} steps" in html
    assert html.count("<td>25</td>") == trainings
    assert "Goodput" not in page.render(made.results)


def test_the_ledger_shows_its_shares_intervals_and_denominators(made: Report) -> None:
    html = page.render(made.results)
    rows = {row[0]: row for row in cells(html, "ledger")}
    text = text_of(html)
    assert "Rung 0: small, held-out problems" in text
    assert "Rung 0: small, training problems" in text
    (entry,) = [e for e in made.results.ledgers if (e.rung, e.arm, e.ledger.set) == (1, "correct", "training")]
    share = entry.ledger.metrics.corrected
    assert share.value is not None
    assert share.low is not None
    assert share.high is not None
    shown = " ".join(rows["W2SR-P Nll" if "W2SR-P Nll" in rows else "W2SR-PNll"]).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert f"{100 * share.value:.1f} %" in shown
    assert f"{100 * share.low:.0f} to {100 * share.high:.0f} %" in shown
    assert f"n {share.n}" in shown
    assert "Nll + 0.05 · ReverseKL" in text  # losses differ, so each row names its own
    for term in ("Repeat", "Chance", "Excess", "Induced", "Corrected", "Corrupted"):
        assert f"<dt>{term}</dt>" in html


def test_a_ledger_with_nothing_to_count_says_so(made: Report) -> None:
    none = Estimate(None, None, None, 0)
    entry = made.results.ledgers[0]
    ledger = replace(
        entry.ledger,
        metrics=replace(entry.ledger.metrics, induced=none),
        kappa=replace(entry.ledger.kappa, teacher_student=none),
    )
    text = text_of(page.render(replace(made.results, ledgers=(replace(entry, ledger=ledger, loss="Nll"),))))
    assert "n 0" in text
    assert "All students were last trained with the loss Nll" in text
    unheard_of = replace(entry, rung=7, arm="mine")
    assert "Rung 7" in text_of(page.render(replace(made.results, ledgers=(unheard_of,))))


def test_teachers_are_compared_one_by_one_and_in_pairs(made: Report) -> None:
    html = page.render(made.results)
    rows = {row[0]: [cell.replace("\N{NARROW NO-BREAK SPACE}", " ") for cell in row] for row in cells(html, "teachers")}
    table, alone = (entry.comparison for entry in made.results.teachers)
    assert f"{100 * (table.union.coverage.value or 0):.1f} %" in text_of(html)
    for pair in table.pairs:
        row = rows[f"{pair.left} and {pair.right}"]
        assert row[1:3] == [f"{100 * (pair.disagreement or 0):.1f} %", f"{100 * (pair.same_wrong or 0):.1f} %"]
    assert rows["gemma-2b"][3] == f"{100 * (table.teachers[1].coverage or 0):.1f} %"
    assert len(alone.pairs) == 0
    assert text_of(html).count("All together") == 1


def test_warnings_stand_once_below_the_headline(made: Report) -> None:
    html = page.render(replace(made.results, warnings=tuple(f"warning number {n}." for n in range(60))))
    text = text_of(html)
    assert text.index("60 warnings while it ran") < text.index("Accuracy by model")
    assert "while it ran" not in html[: html.index("</header>")]
    assert text.count("warning number 0.") == 1
    assert "20 more in results.json" in text
    assert "warning number 41." not in text
    assert "while it ran" not in text_of(page.render(replace(made.results, warnings=())))


def test_reasoning_is_questioned_with_coverage_beside_the_numbers(made: Report) -> None:
    shown = [
        [cell.replace("\N{NARROW NO-BREAK SPACE}", " ") for cell in row[1:]]
        for row in cells(page.render(made.results), "reasoning")
    ]
    for model in made.results.models.values():
        if model.faithfulness:
            early, mistakes = model.faithfulness.early_answering, model.faithfulness.mistakes
            assert early is not None
            assert mistakes is not None
            (row,) = [
                row
                for row in shown
                if len(row) == 5
                and row[0].startswith(f"{100 * (early.value or 0):.1f} %")
                and row[2].startswith(f"{100 * (mistakes.value or 0):.1f} %")
            ]
            assert row[1::2] == [str(early.n), str(mistakes.n)]
            assert row[4] == f"{100 * (mistakes.coverage or 0):.1f} %"

    def without(faithfulness: Faithfulness | None) -> str:
        models = made.results.models.items()
        bare = {name: replace(model, faithfulness=faithfulness, probe=None) for name, model in models}
        return page.render(replace(made.results, models=bare))

    assert "Adding mistakes" not in text_of(without(None))
    assert 'id="probe"' not in without(None)
    assert "Adding mistakes" in text_of(without(Faithfulness(0, None, Mistakes(None, None, None, 0, 0.0))))


def test_the_probe_is_shown_from_first_to_last_step_as_means_over_seeds() -> None:
    points = tuple(
        SeedProbe(seed, ProbePoint(step, 0.1 + step / 100 + seed / 10, None if step == 0 else 0.25, n=50, n_induced=7))
        for seed in (0, 1)
        for step in (0, 20, 40)
    )
    rung = minimal_results.rung(0, "x", ["t"], {"correct": "0-x.correct"}, {})
    models = {"0-x.correct": minimal_results.model("student", 0, "correct", probe=points)}
    html = page.render(minimal_results.results([rung], models, seeds=(0, 1)))
    (row,) = [row for row in cells(html, "probe") if "W2SR-P" in row[0]]
    assert [cell.replace("\N{NARROW NO-BREAK SPACE}", " ") for cell in row[1:]] == [
        "0 → 40",
        "3",
        "15.0 % → 55.0 %",
        "50",
        "– → 25.0 %",
        "7",
    ]
