"""How far the verdicts can be trusted: which rules found the answers, what compared them, and whether a second opinion shares the
verdict on the wrong traces, on which W2SR-N lives."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from w2sr_jax.report import hostile, wording
from w2sr_jax.report.evidence import Links
from w2sr_jax.report.results import DoubtsEntry, ReadingsEntry, Results

MOST_COLUMNS = 8  # of rules; the rarest beyond it are counted together
OTHERS = "others"

RULES = {
    "tag": "in a tag",
    "####": "after ####",
    "boxed": "in a box",
    "A:": "after “Answer:”",
    "answer_is": "in a sentence",
    "last_math": "last formula",
    "last_number": "last number",
    "none": "nowhere",
    OTHERS: "elsewhere",
}
GRADERS = {
    "exact": "exactly",
    "math-verify": "by algebra",
    "none": "nothing to compare",
    "limits": "too long or large",
    "timeout": "took too long",
    "memory": "too much memory",
    "recursion": "nested too deeply",
    "crash": "process died",
}


@dataclasses.dataclass(frozen=True)
class ReadingsRow:
    """Texts of one author; `rules` and `graders` are counts in the order of the table's columns."""

    label: str
    href: str | None
    texts: int
    guessed: int
    rules: list[int]
    graders: list[int]


@dataclasses.dataclass(frozen=True)
class ReadingsTable:
    """`rules` and `graders` are the titles of columns."""

    rules: list[str]
    graders: list[str]
    rows: list[ReadingsRow]


@dataclasses.dataclass(frozen=True)
class DoubtsPart:
    n: int
    share: float
    href: str | None


@dataclasses.dataclass(frozen=True)
class DoubtsRow:
    """The wrong traces of an arm; `parts` are those that a second opinion agrees on, doubts, or says nothing of."""

    title: str
    label: str
    look: str
    traces: int
    href: str | None
    parts: list[DoubtsPart]
    problems: list[str]


@dataclasses.dataclass(frozen=True)
class Section:
    """`traces` and `answers` are None without rows; `warnings` are sentences."""

    warnings: list[str]
    traces: ReadingsTable | None
    answers: ReadingsTable | None
    wrong: list[DoubtsRow]


def section(results: Results, links: Links) -> Section | None:
    """What is known of how verdicts came about; None where nothing is."""
    grading = results.grading
    readings = [entry for entry in grading.readings if entry.readings.texts]
    traces = [entry for entry in readings if entry.what == "traces"]
    answers = [entry for entry in readings if entry.what == "answers"]
    wrong = [_doubts(entry, results, links) for entry in grading.wrong if entry.doubts.traces]
    if not readings and not wrong:
        return None
    warnings = (_warning(entry, grading.most_guessed, results) for entry in [*traces, *answers])
    return Section(
        [warning for warning in warnings if warning], _table(traces, results, links), _table(answers, results, links), wrong
    )


def rule(name: str) -> str:
    return RULES.get(name) or hostile.one_line(name, 24)


def _warning(entry: ReadingsEntry, most: float, results: Results) -> str | None:
    """A warning where guessing is common."""
    guessed, texts = entry.readings.guessed, entry.readings.texts
    if guessed <= most * texts:
        return None
    rules = [(count.rule, count.guessed) for count in entry.readings.rules if count.guessed]
    how = wording.listing([f"{rule(name)} {wording.count(n)}" for name, n in rules])
    return (
        f"{_whose(entry, results)}: {wording.count(guessed)} of {wording.count(texts)} texts "
        f"({wording.percent(guessed / texts)}) state no answer in a form that is known, and what stands last was taken for it "
        f"({how})."
    )


def _whose(entry: ReadingsEntry, results: Results) -> str:
    name = hostile.one_line(entry.name, 40)
    if entry.what != "traces":
        return f"Answers of “{name}”"
    return f"Traces of “{name}”{f' for rung {entry.rung}' if len(results.rungs) > 1 and entry.rung is not None else ''}"


def _table(entries: Sequence[ReadingsEntry], results: Results, links: Links) -> ReadingsTable | None:
    if not entries:
        return None
    rules, graders = _frequent(entries, _rules), _frequent(entries, _graders)
    return ReadingsTable(
        rules=[rule(name) for name in rules],
        graders=[GRADERS.get(name) or (OTHERS if name == OTHERS else hostile.one_line(name, 24)) for name in graders],
        rows=[
            ReadingsRow(
                label=_whose(entry, results).partition(" of ")[2].replace("“", "").replace("”", ""),
                href=links.to(entry.evidence),
                texts=entry.readings.texts,
                guessed=entry.readings.guessed,
                rules=_counts(_rules(entry), rules),
                graders=_counts(_graders(entry), graders),
            )
            for entry in entries
        ],
    )


def _rules(entry: ReadingsEntry) -> Mapping[str, int]:
    return {count.rule: count.n for count in entry.readings.rules}


def _graders(entry: ReadingsEntry) -> Mapping[str, int]:
    return entry.readings.graders


def _frequent(entries: Sequence[ReadingsEntry], of: Callable[[ReadingsEntry], Mapping[str, int]]) -> list[str]:
    """The names that occur, the most frequent first; rare ones are one."""
    total: dict[str, int] = {}
    for entry in entries:
        for name, n in of(entry).items():
            total[name] = total.get(name, 0) + n
    names = sorted(total, key=lambda name: (-total[name], name))
    return names if len(names) <= MOST_COLUMNS else [*names[: MOST_COLUMNS - 1], OTHERS]


def _counts(counts: Mapping[str, int], names: Sequence[str]) -> list[int]:
    by_name = {name: counts.get(name, 0) for name in names}
    if OTHERS in by_name:
        by_name[OTHERS] = sum(n for name, n in counts.items() if name not in names)
    return list(by_name.values())


def _doubts(entry: DoubtsEntry, results: Results, links: Links) -> DoubtsRow:
    names = {rung.index: hostile.one_line(rung.name, 30) for rung in results.rungs}
    page, doubts = entry.evidence, entry.doubts
    counts = {"agreed": doubts.agreed, "doubted": doubts.doubted, "silent": doubts.silent}
    return DoubtsRow(
        title=f"Rung {entry.rung}: {names.get(entry.rung, '')}",
        label=wording.arm_at(results, entry.rung, entry.arm),
        look=wording.look(results, entry.arm),
        traces=doubts.traces,
        href=links.to(page),
        parts=[DoubtsPart(n, n / doubts.traces, links.to(page, name)) for name, n in counts.items()],
        problems=[hostile.one_line(problem, 40) for problem in doubts.problems],
    )
