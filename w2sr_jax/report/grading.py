"""How far the verdicts can be trusted: which rules found the answers, what compared them, and whether a second opinion shares the
verdict on the wrong traces, on which W2SR-N lives."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from w2sr_jax.answers.extract import MOST_GUESSED
from w2sr_jax.report import hostile, sources, wording
from w2sr_jax.report.links import Links

Row = dict[str, Any]

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


class Section(NamedTuple):
    """`traces` and `answers` are tables (None without rows), `wrong` the rows about wrong traces; `warnings` are sentences."""

    warnings: list[str]
    traces: Row | None
    answers: Row | None
    wrong: list[Row]
    sources: list[Row]


def section(data: Mapping[str, Any], links: Links) -> Section | None:
    """What `results.json` says of how verdicts came about; None where it says nothing."""
    found = data.get("grading") or {}
    readings = [entry for entry in found.get("readings") or [] if entry.get("texts")]
    traces = [entry for entry in readings if entry.get("what") == "traces"]
    answers = [entry for entry in readings if entry.get("what") != "traces"]
    wrong = [_wrong(entry, data, links) for entry in found.get("wrong") or [] if entry.get("traces")]
    if not readings and not wrong:
        return None
    most = found.get("most_guessed")
    return Section(
        [said for entry in [*traces, *answers] if (said := _warning(entry, MOST_GUESSED if most is None else most, data))],
        _table(traces, data, links),
        _table(answers, data, links),
        wrong,
        sources.listed(source for entry in [*readings, *(found.get("wrong") or [])] for source in entry.get("sources") or []),
    )


def rule(name: str) -> str:
    return RULES.get(name) or hostile.one_line(name, 24)


def _warning(entry: Mapping[str, Any], most: float, data: Mapping[str, Any]) -> str | None:
    """A warning where guessing is common."""
    guessed, texts = entry.get("guessed") or 0, entry["texts"]
    if guessed <= most * texts:
        return None
    rules = [(count["rule"], count["guessed"]) for count in entry.get("rules") or [] if count.get("guessed")]
    how = wording.listing([f"{rule(name)} {wording.count(n)}" for name, n in rules])
    return (
        f"{_whose(entry, data)}: {wording.count(guessed)} of {wording.count(texts)} texts ({wording.percent(guessed / texts)}) "
        f"state no answer in a form that is known, and what stands last was taken for it ({how})."
    )


def _whose(entry: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    name, rung = hostile.one_line(entry.get("name") or "", 40), entry.get("rung")
    if entry.get("what") != "traces":
        return f"Answers of “{name}”"
    several = len(data.get("rungs") or []) > 1
    return f"Traces of “{name}”{f' for rung {rung}' if several and rung is not None else ''}"


def _table(readings: Sequence[Mapping[str, Any]], data: Mapping[str, Any], links: Links) -> Row | None:
    if not readings:
        return None
    rules, graders = _frequent(readings, _rules), _frequent(readings, _graders)
    return {
        "rules": [rule(name) for name in rules],
        "graders": [GRADERS.get(name) or (OTHERS if name == OTHERS else hostile.one_line(name, 24)) for name in graders],
        "rows": [
            {
                "label": _whose(entry, data).partition(" of ")[2].replace("“", "").replace("”", ""),
                "href": links.to(entry.get("evidence")),
                "texts": entry["texts"],
                "guessed": entry.get("guessed") or 0,
                "rules": _counts(_rules(entry), rules),
                "graders": _counts(_graders(entry), graders),
            }
            for entry in readings
        ],
    }


def _rules(entry: Mapping[str, Any]) -> dict[str, int]:
    return {str(count["rule"]): count["n"] for count in entry.get("rules") or []}


def _graders(entry: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): n for name, n in (entry.get("graders") or {}).items()}


def _frequent(readings: Sequence[Mapping[str, Any]], of: Any) -> list[str]:
    """The names that occur, the most frequent first; rare ones are one."""
    total: dict[str, int] = {}
    for entry in readings:
        for name, n in of(entry).items():
            total[name] = total.get(name, 0) + n
    names = sorted(total, key=lambda name: (-total[name], name))
    return names if len(names) <= MOST_COLUMNS else [*names[: MOST_COLUMNS - 1], OTHERS]


def _counts(counts: Mapping[str, int], names: Sequence[str]) -> list[int]:
    known = {name: counts.get(name, 0) for name in names}
    if OTHERS in known:
        known[OTHERS] = sum(n for name, n in counts.items() if name not in names)
    return list(known.values())


def _wrong(entry: Mapping[str, Any], data: Mapping[str, Any], links: Links) -> Row:
    names = {rung.get("index"): hostile.one_line(rung.get("name", ""), 30) for rung in data.get("rungs") or []}
    page, total = entry.get("evidence"), entry["traces"]
    return {
        "title": f"Rung {entry.get('rung', 0)}: {names.get(entry.get('rung'), '')}",
        "label": wording.arm(entry.get("arm")),
        "arm": entry.get("arm"),
        "traces": total,
        "href": links.to(page),
        "parts": [
            {"n": entry.get(name) or 0, "share": (entry.get(name) or 0) / total, "href": links.to(page, name)}
            for name in ("agreed", "doubted", "silent")
        ],
        "problems": [hostile.one_line(problem, 40) for problem in entry.get("problems") or []],
        "doubted_href": links.to(page, "doubted"),
    }
