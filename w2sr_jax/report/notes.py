"""What qualifies the headline: how much of the gap each student recovered, what its base and its texts were worth, of how many
seeds and problems all of it speaks, and what was warned of while the run went on. Every note states the number it rests on."""

import re
from typing import NamedTuple

from w2sr_jax.evaluation.scores import Comparison
from w2sr_jax.evaluation.statistics import Gap
from w2sr_jax.report import hostile, rule, wording
from w2sr_jax.report.results import Model, OnFile, Results, Rung, TeacherTraces

FEW_SEEDS = 10
SMALL_TEST = 200
LONGEST_REASON = 400
SMALL_GAP = 0.02  # a share of fewer points than two says nothing to a reader
_ABOUT = re.compile(r"(?:seed -?\d+, )?([^\s:]+): ")


class Warnings(NamedTuple):
    """Sentences as the run said them. Those of `aside` are about arms that speak for no rung."""

    headline: list[str]
    aside: list[str]


def notes(results: Results) -> tuple[str, ...]:
    """The notes on a run: what was skipped, then rung by rung, then on the run."""
    rungs = rule.ordered(results)
    of_rungs: list[str] = []
    for rung in rungs:
        comparison = rule.headline_comparison(rung)
        if comparison is not None:
            whose = f"“{hostile.one_line(rung.name, 40)}” " if len(rungs) > 1 else "It "
            of_rungs += [
                f"{whose}{sentence}"
                for sentence in (recovery(comparison), *_reinforced(rung), *_base_notes(comparison))
                if sentence
            ]
            of_rungs += _trace_notes(results, rung)
    if not of_rungs:
        return skipped(results)
    return (*skipped(results), *of_rungs, *_file_notes(results), *_run_notes(results))


def skipped(results: Results) -> tuple[str, ...]:
    """The models that the run has skipped: those without anything to learn from, and those that needed them."""
    sentences = []
    several = len(results.seeds) > 1
    for entry in (entry for entry in results.skipped if entry.model == entry.origin):
        name, why = hostile.one_line(entry.model), hostile.one_line(entry.reason, LONGEST_REASON)
        where = f" with seed {wording.listing([str(seed) for seed in entry.seeds])}" if several else ""
        sentences.append(f"“{name}” was skipped{where} and is in no number here: {why}.")
        needing = [
            f"“{hostile.one_line(other.model)}”" for other in results.skipped if other.origin == entry.model != other.model
        ]
        if needing:
            sentences.append(f"Skipped with it, since they need “{name}”: {wording.listing(needing)}.")
    return tuple(sentences)


def warned(results: Results) -> Warnings:
    """The warnings of a run, each on the side of the model that its first word names."""
    unused = _unused(results)
    warnings = Warnings([], [])
    for text in results.warnings:
        about = _ABOUT.match(text)
        (warnings.aside if about and about[1] in unused else warnings.headline).append(text)
    return warnings


def recovery(comparison: Comparison) -> str:
    """What share of the gap from its base to the ceiling the student that speaks for a rung recovered, as the rest of a sentence
    about it; empty where that is not known."""
    return _recovered(comparison, comparison.rgr_base, hostile.one_line(comparison.ceiling))


def _recovered(comparison: Comparison, gap: Gap | None, ceiling: str) -> str:
    if gap is None:
        return ""
    base, top = wording.percent(gap.raw.anchor), wording.percent(gap.raw.ceiling)
    if gap.suppressed or gap.value is None:
        why = "lies below" if gap.suppressed == "ceiling below anchor" else "cannot be told apart from"
        return f"is given no share of the gap recovered, because {ceiling} ({top}) {why} its own base ({base})."
    if gap.raw.ceiling - gap.raw.anchor < SMALL_GAP:
        return f"had too little to recover between its own base ({base}) and {ceiling} ({top}) for a share to mean anything."
    path = f"the gap between its own base ({base}) and {ceiling} ({top})"
    n = rule.problems(comparison)
    bounds = f"{wording.confidence(comparison.confidence)} interval {wording.percent_range(gap, 0)}"
    share = f"{wording.percent(gap.value, 0)} ({bounds}{'' if n is None else f', n = {wording.count(n)}'})"
    if gap.low is not None and gap.low > 1:
        return f"recovered more than all of {path}: {share}."
    if gap.low is not None and gap.low > 0:
        return f"recovered {share} of {path}."
    if gap.high is not None and gap.high < 0:
        return f"recovered nothing of {path}, but fell below its base: {share}."
    return f"cannot be said to have recovered any of {path}: {share}."


def _reinforced(rung: Rung) -> list[str]:
    """The same with reinforcement arms as ceilings."""
    comparison, arm = rule.headline_comparison(rung), rule.headline_arm(rung)
    if comparison is None:
        return []
    others = rule.against_reinforcement(rung, arm)
    return [_recovered(comparison, one.rgr_base, f"“{wording.arm(one.arm, rung)}” (reinforcement)") for one in others]


def _base_notes(comparison: Comparison) -> list[str]:
    """What would make outgrowing the teacher say less than it seems to."""
    teacher, base = comparison.vs_teacher, comparison.vs_base
    if base is None:
        return []
    n = f"n = {wording.count(base.n)}"
    sentences = []
    if teacher is not None and base.right >= teacher.right:
        scores = f"{wording.percent(base.right)} against {wording.percent(teacher.right)}, {n}"
        sentences.append(f"was already no worse than its teacher before fine-tuning ({scores}).")
    if rule.outcome(base) in ("no", "not shown"):
        how = "fell below" if rule.outcome(base) == "no" else "is not clearly above"
        sentences.append(f"{how} its own base ({wording.points(base.difference)} points, {wording.points_range(base)}, {n}).")
    return sentences


def _trace_notes(results: Results, rung: Rung) -> list[str]:
    """How good the texts were that it learned from."""
    shares = [_right(results, name, traces) for name, traces in zip(rung.teachers, rung.traces) if traces.accuracy is not None]
    return [f"Right among the sampled traces that it could learn from: {wording.listing(shares)}."] if shares else []


def _right(results: Results, name: str, traces: TeacherTraces) -> str:
    return f"“{wording.model_title(results, name)}” {wording.percent(traces.accuracy)} of {wording.count(traces.graded)}"


def _file_notes(results: Results) -> list[str]:
    """On each recorded teacher whose file holds answers to test problems: how many, to how many problems, how good they are, and
    that students are held against it on these alone."""
    return [_file_note(name, model, model.on_file) for name, model in sorted(results.models.items()) if model.on_file]


def _file_note(name: str, model: Model, on_file: OnFile) -> str:
    file = hostile.one_line(on_file.path.rpartition("/")[2] or on_file.path, 60)
    problems, every = wording.count(on_file.problems), wording.count(on_file.test_problems)
    accuracy, level = model.scores.accuracy, wording.confidence(model.scores.confidence)
    right = f"{wording.percent(accuracy.value)} right ({level} interval {wording.percent_range(accuracy)})"
    sentence = f"The teacher “{hostile.one_line(name, 40)}” is a file: {file} holds {wording.count(on_file.answers)} answers to "
    sentence += f"{problems} of {every} test problems, {right}. No student was trained on them"
    if on_file.problems == on_file.test_problems:
        return f"{sentence}."
    return f"{sentence}; students are held against it on these {problems} problems, and against the others on all."


def _run_notes(results: Results) -> list[str]:
    seeds, sentences = len(results.seeds), []
    if seeds == 1:
        sentences.append(
            "One seed: the intervals cover the choice of test problems, not chance in training; another seed may differ."
        )
    elif 1 < seeds < FEW_SEEDS:
        sentences.append(f"{seeds} seeds are few: the intervals cover chance in training only roughly.")
    if results.test_problems < SMALL_TEST:
        sentences.append(f"Only {results.test_problems} test problems: intervals are wide.")
    return sentences


def _unused(results: Results) -> set[str]:
    """The students that speak for no rung, nor teach one that does, by their names."""
    names: set[str] = set()
    used: set[str] = set()
    for rung in rule.ordered(results):
        speaks = {rule.headline_arm(rung), "base", "base-direct"}
        names |= {name for arm, name in rung.models.items() if arm not in speaks}
        used |= {name for arm, name in rung.models.items() if arm in speaks} | set(rung.teachers)
    return names - used
