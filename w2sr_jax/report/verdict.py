"""The headline in words: a sentence for every rung in order, then the answer to the question in the page's title.

What the answers are, and which student speaks for a rung, is `rule`'s; here they are only said.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from w2sr_jax.report import hostile, rule, wording
from w2sr_jax.report.schema_verdict import ANSWERS, Answer, RungVerdict

REHEARSAL = (
    "Rehearsal: tiny models that began with random weights took a few steps of training on little data. It shows that the path "
    "holds; its numbers mean nothing."
)
RECORDED = ":Recorded"  # how the type of a teacher that is a file ends in saved settings
MOST_FILES = 3


@dataclasses.dataclass(frozen=True)
class Sentence:
    """What happened on one rung: `lead` is the answer (`Rung 0, yes`), `text` the rest. `arm` speaks for the rung `rung`."""

    rung: int
    arm: str | None
    answer: Answer
    lead: str
    text: str

    def __str__(self) -> str:
        return f"{self.lead}: {self.text}"


@dataclasses.dataclass(frozen=True)
class Headline:
    """`overall` answers `question`; `answer` says so in words where there are several rungs or none. `climb` compares both ends
    of the ladder, `rehearsal` says that nothing of it counts; each is empty where there is nothing to say."""

    question: str
    overall: Answer
    rungs: tuple[Sentence, ...]
    answer: str
    climb: str
    rehearsal: str

    def speaks(self, rung: int | None, arm: str | None) -> bool:
        """Whether a rung's arm is the one that the headline speaks of."""
        return any(sentence.rung == rung and sentence.arm == arm for sentence in self.rungs if arm)

    def lines(self) -> list[str]:
        """All of it as plain lines, one sentence each."""
        return [line for line in (self.rehearsal, *map(str, self.rungs), self.answer) if line]


def headline(results: Mapping[str, Any]) -> Headline:
    """The headline of `results.json` (schema.Results)."""
    found = rule.verdict(results)
    rungs, many = rule.ordered(results), len(found["rungs"]) > 1
    sentences = tuple(_sentence(results, rung, said, many) for rung, said in zip(rungs, found["rungs"]))
    rehearsal = REHEARSAL if results.get("rehearsal") else ""
    return Headline(
        question="did the students outgrow their teachers?" if many else "did the student outgrow its teacher?",
        overall=found["overall"],
        rungs=sentences,
        answer=_answer(found["overall"], found["rungs"], bool(rehearsal)),
        climb=_climb(results) if many else "",
        rehearsal=rehearsal,
    )


def _sentence(results: Mapping[str, Any], rung: Mapping[str, Any], said: RungVerdict, many: bool) -> Sentence:
    answer = said["verdict"]
    lead = f"Rung {said['rung']}, {answer}" if many else answer.capitalize()
    text = _happened(results, rung, said["arm"], rule.outcome(rule.headline_comparison(rung).get("vs_teacher")))
    return Sentence(said["rung"], said["arm"], answer, lead, text)


def _happened(results: Mapping[str, Any], rung: Mapping[str, Any], arm: str | None, measured: Answer) -> str:
    name = f"the student “{hostile.one_line(rung.get('name'), 40)}”"
    if arm is None:
        return f"{name} has not been compared with its teacher."
    comparison = rule.headline_comparison(rung)
    student, teacher = f"{name} ({wording.arm(arm)})", rule.teacher_name(rung, comparison)
    against = _teachers(results, rung, teacher)
    difference = comparison.get("vs_teacher")
    if not difference or measured == "unknown":
        return f"whether {student} outgrew {against} cannot be said, since {untested(results, rung)}."
    deed = {"yes": f"outgrew {against}", "no": f"stayed below {against}", "not shown": f"cannot be told apart from {against}"}
    did = f"was held against {against}" if results.get("rehearsal") else deed[measured]
    right = f"{wording.percent(difference.get('left'))} right against {wording.percent(difference.get('right'))}"
    size = f"{wording.points(difference['difference'])} points"
    includes = ", which includes 0" if measured == "not shown" and not results.get("rehearsal") else ""
    bounds = f"{confidence(comparison)} interval {wording.points_range(difference)}{includes}"
    return f"{student} {did}, answering {right} {_where(results, difference)}: {size} ({bounds})."


def _teachers(results: Mapping[str, Any], rung: Mapping[str, Any], held: str | None) -> str:
    """The teacher a rung's student is held against, or all of them where there is none."""
    names = list(map(str, rung.get("teachers") or []))
    if held:
        return f"{'its best teacher' if len(names) > 1 else 'its teacher'} “{model_title(results, held)}”"
    titles = wording.listing([f"“{model_title(results, name)}”" for name in names[:MOST_FILES]])
    return f"its teachers {titles}" if names else "its teacher"


def untested(results: Mapping[str, Any], rung: Mapping[str, Any]) -> str:
    """Why a rung's teacher has no score on the test problems, and what file would give it one."""
    known = (results.get("experiment") or {}).get("teachers")
    named = {str(one.get("name")): one for one in known if isinstance(one, Mapping)} if isinstance(known, list) else {}
    own = [named[name] for name in map(str, rung.get("teachers") or []) if name in named]
    recorded = [str(one.get("path") or "") for one in own if str(one.get("type")).endswith(RECORDED)]
    if not recorded or len(recorded) < len(rung.get("teachers") or []) or results.get("rehearsal"):
        return "the teacher did not sit the same test"
    shown = wording.listing([hostile.one_line(path.rpartition("/")[2] or path, 60) for path in recorded[:MOST_FILES]])
    more = f" and {len(recorded) - MOST_FILES} more" if len(recorded) > MOST_FILES else ""
    holds, file = ("holds", "the file") if len(recorded) == 1 else ("hold", "a file")
    problems = results.get("test_problems")
    each = f"the {wording.count(problems)} test questions" if problems is not None else "the test questions"
    return (
        f"{shown}{more} {holds} no answers to the test problems; {file} that also has a trace for each of {each} would tell: the "
        "teacher is then evaluated on these, and no student is trained on them"
    )


def _answer(overall: Answer, rungs: Sequence[RungVerdict], rehearsal: bool) -> str:
    if not rungs:
        return "Unknown: no student has been trained yet, so there is nothing to compare with the teacher."
    if rehearsal:
        return "Answer: unknown, since this is a rehearsal."
    if len(rungs) == 1:
        return ""
    each = {"yes": "on every rung", "no": "on no rung", "not shown": "on any rung", "unknown": "on every rung"}
    if len({rung["verdict"] for rung in rungs}) == 1:
        return f"Answer: {overall}, {each[overall]}."
    parts = [f"{answer} on {_places(found)}" for answer in ANSWERS if (found := [r for r in rungs if r["verdict"] == answer])]
    return f"Answer: {wording.listing(parts)}; for the ladder as a whole, {overall}."


def _places(rungs: Sequence[RungVerdict]) -> str:
    names = [f"{rung['rung']} (“{hostile.one_line(rung['name'], 30)}”)" for rung in rungs]
    return f"{'rung' if len(names) == 1 else 'rungs'} {wording.listing(names)}"


def _climb(results: Mapping[str, Any]) -> str:
    """Both ends of the ladder, which no rung's sentence holds against each other."""
    found = results.get("climb") or {}
    difference = found.get("difference")
    if not difference:
        return ""
    scores = f"{wording.percent(difference.get('left'))} right against {wording.percent(difference.get('right'))}"
    size = f"{wording.points(difference.get('difference'))} points"
    level = confidence(rule.headline_comparison(rule.ordered(results)[-1]))
    last, first = (model_title(results, found.get(name)) for name in ("student", "teacher"))
    return (
        f"From end to end: the last student “{last}” answered {scores} of the first teacher “{first}” "
        f"{_where(results, difference)}: {size} ({level} interval {wording.points_range(difference)})."
    )


def _where(results: Mapping[str, Any], difference: Mapping[str, Any]) -> str:
    seeds = difference.get("by_seed") or []
    n, every = difference.get("n"), results.get("test_problems")
    some = f"{wording.count(n)} of " if n and every and n < every else ""
    problems = f"on {some}{wording.count(every if some else n or every)} test problems"
    if not seeds:
        return problems
    above = sum(rule.outcome(seed) == "yes" for seed in seeds)
    return f"{problems}, {len(seeds)} seeds pooled (clearly ahead in {above} of {len(seeds)})"


def confidence(comparison: Mapping[str, Any]) -> str:
    """The level of a comparison's intervals."""
    level = comparison.get("confidence")
    return f"{100 * (0.95 if level is None else level):g}{wording.THIN}%"


def model_title(results: Mapping[str, Any], name: str | None) -> str:
    """A model's name as readers know it: a lower rung's student as `small, W2SR-P`, others as they are called."""
    model = (results.get("models") or {}).get(name or "") or {}
    rung = next((rung for rung in results.get("rungs") or [] if rung.get("index") == model.get("rung")), None)
    if model.get("role") in ("student", "gold", "base") and rung is not None:
        return f"{hostile.one_line(rung.get('name'), 30)}, {wording.arm(model.get('arm'))}"
    return hostile.one_line(name or wording.MISSING)
