"""A run with arms of several kinds on the page: reinforcement after imitation and alone, a control, and a teacher of its own
RL."""

from dataclasses import replace
from typing import Any

import fabricated_run
import pytest
from fabricated_run import SETTINGS
from minimal_results import difference
from test_report_page import Page

from w2sr_jax.evaluation import scores
from w2sr_jax.evaluation.arms import ArmTraining, Needed, Part
from w2sr_jax.evaluation.cost import Sittings, StageTime, Timings
from w2sr_jax.evaluation.scores import HeldOut
from w2sr_jax.evaluation.watched import thinned
from w2sr_jax.report import reinforcement, wording
from w2sr_jax.report.charts import curves, drawing
from w2sr_jax.report.headline import headline
from w2sr_jax.report.page import render
from w2sr_jax.report.results import CurvePoint, Results, Rung, TrainingLog
from w2sr_jax.report.sections import gaps, ladder, models, spending, training, watched
from w2sr_jax.report.write import read, write

ARMS = {"correct-rl": 0.78, "rl": 0.66, "fixed": 0.3}
SECONDS = {"teacher": 40.0, "teacher-rl": 60.0, "correct": 100.0, "correct-rl": 300.0, "rl": 400.0, "fixed": 300.0}


def need(part: Part, stage: str, arms: int = 1, steps: float = 60, answers: float | None = None) -> Needed:
    return Needed(part, (stage,), arms, steps, 1e6, answers, 1e9 * SECONDS[stage])


def trainings() -> dict[str, ArmTraining]:
    taught = (need("teacher", "teacher", 3), need("teacher stages", "teacher-rl", 3))
    before = (need("before", "correct"), *taught)
    return {
        "correct": ArmTraining(("traces",), None, True, 500, (need("own", "correct", steps=1000), *taught)),
        "correct-rl": ArmTraining(("rewards",), "correct", False, 500, (need("own", "correct-rl", answers=960), *before)),
        "fixed": ArmTraining(("answers",), "correct", False, 500, (need("own", "fixed", answers=960), *before)),
        "rl": ArmTraining(("rewards",), None, False, 500, (need("own", "rl", answers=960),)),
    }


def log(reward: float) -> TrainingLog:
    def point(step: int) -> CurvePoint:
        seen = {"reward": reward * step / 20, "length": 20.0, "ratio_deviation": 1e-5, "ratio_far": 0.0, "looping": 0.0}
        return CurvePoint(0, step, 0.1, 0.2, 1e-4, seen)

    largest = {"ratio_deviation": 2.5e-5, "ratio_far": 0.0}
    return TrainingLog(tuple(map(point, range(1, 21))), 5000, "Policy", "rewards", largest)


@pytest.fixture(scope="module")
def results() -> Results:
    """The made-up run, whose first rung has these arms besides W2SR-P and the ceiling."""
    rates = {f"0-small.{arm}": rate for arm, rate in ARMS.items()}
    asked = fabricated_run.problems(200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fabricated_run, "RATES", fabricated_run.RATES | rates)
        run = fabricated_run.results(count=200)
        right = {name: fabricated_run.generations(name, asked, 0) for name in fabricated_run.RATES}
    outcome = {name: scores.outcomes(one.problems, one.greedy) for name, one in right.items()}
    first = run.rungs[0]
    names = {arm: name for arm, name in first.models.items() if arm not in ("all", "incorrect")}
    names |= {arm: f"0-small.{arm}" for arm in ARMS}

    def comparison(arm: str) -> scores.Comparison:
        before = ("correct", outcome["0-small.correct"]) if arm in ("correct-rl", "fixed") else None
        others = outcome["teacher"], outcome["0-small.base"], outcome["0-small.gold"] if arm != "gold" else None
        top = {} if arm == "rl" else {"rl": outcome["0-small.rl"]}
        return scores.compare(outcome[names[arm]], *others, SETTINGS, teacher_name="teacher", before=before, reinforced=top)

    compared = {arm: comparison(arm) for arm in ("correct", *ARMS, "gold")}
    rung = replace(first, models=names, comparisons=compared, arms=trainings(), labels={"rl": "RL alone"})
    by_name = {name: model for name, model in run.models.items() if name not in ("0-small.all", "0-small.incorrect")}
    for arm in ARMS:
        curve = replace(log(0.5), signal="answers") if arm == "fixed" else log(0.5)
        by_name[f"0-small.{arm}"] = replace(by_name[f"0-small.{arm}"], role="student", training=curve, held_out=None, probe=None)
    change = difference(0.1, 0.05, 0.15)
    by_name["teacher-base"] = replace(by_name["teacher"], role="teacher-base")
    by_name["teacher"] = replace(by_name["teacher"], training=log(0.5), before="teacher-base", vs_before=change)
    ledgers = tuple(entry for entry in run.ledgers if entry.student in by_name)
    return replace(run, rungs=(rung,), models=by_name, climb=None, ledgers=ledgers, seeds=(0,))


@pytest.fixture(autouse=True)
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "svg", lambda *_: "<svg></svg>")


def timings() -> Timings:
    return Timings({name: StageTime(seconds, None) for name, seconds in SECONDS.items()})


def first(results: Results) -> Rung:
    return results.rungs[0]


def test_the_headline_is_imitations_and_says_what_reinforcement_adds_and_takes(results: Results) -> None:
    made = headline(results, timings())
    assert made.rungs[0].arm == "correct"
    after, alone = (sentence.replace(wording.THIN, " ") for sentence in made.reinforced)
    change = first(results).comparisons["correct-rl"].vs_before
    assert change is not None
    assert after.startswith("Reinforcement after W2SR-P (“correct-rl”)")
    assert f"{wording.points(change.difference)} points" in after
    # 300 + 100 + 40 + 60 seconds against 100 + 40 + 60.
    assert "2.5 times the device time and 2.5 times the FLOPs" in after
    assert alone.startswith("Reinforcement without it (“RL alone”)")
    assert "2.0 times the device time" in alone
    assert all(line in made.lines() for line in made.reinforced)
    # An interrupted training bears all of its sittings: 900 + 100 + 40 + 60 on one device.
    lost = Sittings(wall=900.0, stepping=300.0, lost_steps=50, lost_seconds=500.0, sittings=4)
    times = {**timings().stages, "correct-rl": StageTime(300.0, None, lost)}
    assert "5.5 times the device time" in reinforcement.sentences(results, Timings(times))[0]
    # All but the teachers' stages on four devices.
    times = {name: replace(one, devices=1 if "teacher" in name else 4) for name, one in timings().stages.items()}
    assert "3.4 times the device time" in reinforcement.sentences(results, Timings(times))[0]
    untimed = " ".join(reinforcement.sentences(results))
    assert "device time" not in untimed
    assert "FLOPs" in untimed
    assert reinforcement.sentences(replace(results, rehearsal=True), timings()) == ()


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.01, 0.09, "adds +5.0"), (-0.01, 0.1, "no difference that shows"), (-0.2, -0.1, "makes it worse")],
)
def test_what_reinforcement_adds_is_said_as_its_interval_has_it(results: Results, low: float, high: float, words: str) -> None:
    rung = first(results)
    changed = replace(rung.comparisons["correct-rl"], vs_before=difference(0.05, low, high))
    told = replace(results, rungs=(replace(rung, comparisons={**rung.comparisons, "correct-rl": changed}),))
    assert words in reinforcement.sentences(told)[0]


def test_gaps_name_their_ceiling_and_a_ceiling_recovers_nothing(results: Results) -> None:
    gold, alone = gaps.tables(results, ladder.comparison_rows(results))
    assert (gold.ceiling, gold.from_teacher, alone.ceiling, alone.from_teacher) == ("gold SFT", "PGR", "RL alone", "RGR")
    assert [entry.row.kind for entry in gold.rows] == ["correct", "correct-rl", "fixed", "rl"]
    assert [entry.row.kind for entry in alone.rows] == ["correct", "correct-rl", "fixed", "gold"]
    own = first(results).comparisons["correct"]
    raw = own.reinforced[0].rgr_base
    assert raw is not None
    assert own.rgr_base is not None
    assert raw.value == pytest.approx((raw.raw.student - raw.raw.anchor) / (raw.raw.ceiling - raw.raw.anchor))
    assert raw.raw.anchor == own.rgr_base.raw.anchor
    assert alone.rows[0].base == raw


def test_what_arms_that_begin_alike_had_equally_much_of(results: Results) -> None:
    base, after = spending.equalities(first(results), SECONDS)
    assert "from the base on (“W2SR-P” and “RL alone”)" in base
    assert "equal problems in the pool (500)" in base
    assert "optimizer steps 60 to 1,000" in base
    assert "from W2SR-P on (“correct-rl” and “fixed”)" in after
    assert "equal answers of their own (960)" in after
    assert "equal device time" in after


def test_what_imitation_and_reinforcement_took_with_all_that_each_needs(results: Results) -> None:
    after, alone = (line.replace(wording.THIN, " ") for line in spending.against(first(results), SECONDS))
    assert after.startswith("Rung 0: small, “correct-rl” against “W2SR-P”, with all that each needs: ")
    assert "equal problems in the pool (500)" in alone
    # 60 against 1,000 and the teacher's 60 before and 60 in its own reinforcement.
    assert "; optimizer steps 60 against 1,120;" in alone
    assert "answers of models’ own 960 against 0" in alone
    assert "tokens trained on or written 1 M against 3 M" in alone
    assert "device time 6 min 40 s against 3 min 20 s" in alone
    assert "FLOPs 400 G against 200 G" in alone
    near = {**SECONDS, "rl": 205.0}
    assert "about equal device time 3 min 25 s against 3 min 20 s" in spending.against(first(results), near)[1].replace(
        wording.THIN, " "
    )


def test_each_arm_says_what_it_learned_from(results: Results) -> None:
    rung = first(results)
    assert {arm: wording.trained(arm, rung) for arm in rung.models} == {
        "base": "",
        "base-direct": "",
        "correct": "",
        "gold": "",
        "correct-rl": "after W2SR-P: reinforcement",
        "fixed": "after W2SR-P: own answers",
        "rl": "reinforcement",
    }
    arms = dict(rung.arms or {})
    arms["rl"] = replace(arms["rl"], signals=("traces", "rewards", "rewards", "pairs"))
    told = wording.trained("rl", replace(rung, arms=arms))
    assert told == "imitation, then reinforcement, 2 stages, then preference"


def test_a_gap_stands_beside_its_three_accuracies_and_its_width(results: Results) -> None:
    text = Page(render(results, timings())).text.replace(wording.THIN, " ")
    one = first(results).comparisons["correct"].reinforced[0].rgr_base
    assert one is not None
    raw = [f"{100 * share:.1f}" for share in (one.raw.anchor, one.raw.student, one.raw.ceiling)]
    assert " → ".join(raw) in text
    assert f"gap {wording.points(one.gap.value)} ({wording.points_range(one.gap)})".replace(wording.THIN, " ") in text


def test_pairs_are_told_of_margins_and_own_answers_of_ratios(results: Results) -> None:
    def words(signal: Any, **watched: float) -> str:
        curve = tuple(replace(one, watched=watched) for one in log(0.5).curve)
        seen = TrainingLog(curve, 10, "Any", signal, None)
        models = {**results.models, "0-small.rl": replace(results.models["0-small.rl"], training=seen)}
        kept = {name: one if name == "0-small.rl" else replace(one, training=None) for name, one in models.items()}
        return Page(render(replace(results, models=kept), timings())).text

    pairs, own = words("pairs", margin=0.5), words("rewards", reward=0.5)
    assert "Margin: how far" in pairs
    assert "The ratio is" not in pairs
    assert "No variance" not in pairs
    assert "The ratio is" in own
    assert "No variance" in own
    assert "Margin: how far" not in own


def test_each_arm_bears_its_teachers_whole_or_in_part(results: Results) -> None:
    section = spending.section(results, ladder.comparison_rows(results), timings())
    assert section is not None
    assert section.reinforced
    row = next(row for row in section.rows if row.row.kind == "correct-rl")
    assert (row.own.seconds, row.before.seconds, row.taught.seconds, row.teacher_stages.seconds) == (300, 100, 100, 60)
    assert (row.whole.seconds, row.spread.seconds) == (500, pytest.approx(400 + 100 / 3))
    assert row.gained is not None
    assert row.price.seconds.value == pytest.approx(500 / (100 * row.gained.difference))


def test_what_was_watched_is_told_by_its_ends_and_what_stayed_0_has_no_panel(results: Results) -> None:
    teachers, students = watched.sections(models.rows(results))
    assert teachers.title.startswith("Teachers")
    assert [row.row.kind for row in students.rows] == ["correct-rl", "fixed", "rl"]
    told = dict(zip(students.columns, students.rows[0].cells, strict=True))
    assert told["reward"] == "0.04 → 0.49"  # means of steps 1 and 2, and of 19 and 20
    assert told["ratio’s deviation"] == "2.5e-05"
    assert "looping, %" not in told
    assert "looping" in students.still


@pytest.mark.parametrize("count", [1, 2, 119, 120, 121, 239, 240, 241, 1000])
def test_a_thinned_curve_keeps_its_ends(count: int) -> None:
    kept = thinned(list(range(count)), 120)
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert kept == sorted(set(kept))
    assert len(kept) <= 120
    assert len(kept) == count or len(kept) > 60


def test_entries_of_one_look_are_drawn_apart(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine arms share eight looks, and two of them have one label."""
    drawn: dict[str, tuple[Any, Any]] = {}

    def keep(name: str, panels: Any, *_: Any, labels: Any = None, **__: Any) -> None:
        drawn[name] = (dict(panels), labels)

    monkeypatch.setattr(curves, "curves", keep)
    probe = results.models["0-small.correct"].probe
    assert probe
    made = []
    for number in range(10):
        seen = replace(log(0.5), signal="traces", curve=tuple(replace(one, nll=1.0 + number) for one in log(0.5).curve))
        model = replace(results.models["0-small.rl"], training=seen, probe=probe)
        label = "same" if number > 7 else f"arm {number}"
        row = models.ModelRow(f"m{number}", model, "Rung 0: small", False, label, "x", f"own-{number % 8 + 1}", "", None)
        made.append(row)
    training.chart(made)
    training.probe_chart(made)
    for name, per_arm in (("training", 1), ("probe", 2)):
        panels, labels = drawn[name]
        lines = [lines for entries in panels.values() for lines in entries.values()]
        assert len(lines) == 10 * per_arm
        said = sorted(labels[title, key] for title, entries in panels.items() for key in entries)
        assert said == sorted([*(f"arm {number}" for number in range(8)), "same", "same"] * per_arm)
    ends = {entry[0][-1][1] for entry in drawn["training"][0]["Rung 0: small"].values()}
    assert ends == {1.0 + number for number in range(10)}


def test_keys_of_one_kind_differ_and_keep_what_they_are_called() -> None:
    entries: dict[str, list[list[tuple[float, float]]]] = {}
    for _ in range(3):
        entries[curves.apart(entries, "correct")] = [[(0.0, 1.0)]]
    assert len(entries) == 3
    assert {curves.called(key, "panel", None) for key in entries} == {"W2SR-P"}
    dashes = {str(drawing.dash("correct", repeated)) for repeated in range(3)}
    assert len(dashes) == 3


def test_held_out_likelihood_stands_at_the_last_training_alone(results: Results) -> None:
    texts = replace(log(0.5), signal="traces", curve=tuple(replace(one, nll=1.0) for one in log(0.5).curve), stage="Imitation")
    held = HeldOut(0.61, 2.84, 311, 5400)
    model = replace(results.models["0-small.rl"], held_out=held)

    def shown(*logs: TrainingLog) -> list[tuple[str, bool, HeldOut | None]]:
        one = replace(model, training=logs[-1], earlier=logs[:-1])
        row = models.ModelRow("m", one, "Rung 0: small", False, "arm", "x", "own-1", "", None)
        return [(entry.stage, entry.last is not None, entry.held) for entry in training.trained([row])]

    other = log(0.7)
    assert shown(texts) == [("", True, held)]
    # What both have logged is equal: they are two all the same.
    assert shown(texts, replace(texts)) == [("stage 1 of 2, Imitation", True, None), ("stage 2 of 2, Imitation", True, held)]
    assert shown(texts, other) == [("stage 1 of 2, Imitation", True, None), ("stage 2 of 2, Policy", False, held)]
    assert shown(other) == [("", False, held)]


def test_what_a_probe_saw_is_told_stage_by_stage(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(
        curves, "curves", lambda name, panels, *_, labels=None, **__: drawn.update(panels=dict(panels), labels=labels)
    )
    probe = results.models["0-small.correct"].probe
    assert probe
    later = tuple(replace(one, point=replace(one.point, accuracy=0.9)) for one in probe)
    first_stage = replace(log(0.5), signal="traces", probe=probe, stage="Imitation")
    model = replace(results.models["0-small.rl"], earlier=(first_stage,), training=log(0.6), probe=later)
    row = models.ModelRow("m", model, "Rung 0: small", False, "arm", "x", "own-1", "", None)
    told = training.probed([row])
    assert [entry.stage for entry in told] == ["stage 1 of 2, Imitation", "stage 2 of 2, Policy"]
    assert told[1].accuracy_last == pytest.approx(0.9)
    assert told[0].accuracy_last != told[1].accuracy_last
    training.probe_chart([row])
    # Steps on texts and on own answers share no axis.
    titles = {title: [drawn["labels"][title, key] for key in entries] for title, entries in drawn["panels"].items()}
    assert titles["Rung 0: small, accuracy"] == ["arm, stage 1"]
    assert titles["Rung 0: small, accuracy, own answers"] == ["arm, stage 2"]


def test_the_page_holds_all_of_it_and_is_the_same_when_read_again(results: Results, tmp_path) -> None:  # type: ignore[no-untyped-def]
    page = write(tmp_path, results, timings()).index.read_text(encoding="utf-8")
    assert render(read(tmp_path), timings()) == page
    text = Page(page).text.replace(wording.THIN, " ")
    assert "Ceiling: RL alone (reinforcement)" in text
    assert "by its own stages" in text
    assert "What each arm took" in text
    assert "Gap base → reinforcement recovered (RGR)" in text
    assert "“RL alone” (reinforcement)" in text
    assert text.index("teacher-base") < text.index("by its own stages")
    looks = {wording.look(results, arm) for arm in ARMS}
    assert len(looks) == len(ARMS)
    assert looks <= set(drawing.COLOURS)
