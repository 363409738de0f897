"""The headline in words: a sentence for every rung in order, then the answer to the question in the page's title.

What the answers are, and which student speaks for a rung, is `rule`'s; here they are only said.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from w2sr_jax.evaluation.cost import Timings
from w2sr_jax.evaluation.statistics import Difference
from w2sr_jax.report import hostile, reinforcement, rule, wording
from w2sr_jax.report.results import ANSWERS, Answer, Results, Rung, RungVerdict, Verdict

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
    """`overall` answers `question`; `answer` says so in words where there are several rungs or none. `reinforced` are sentences
    on how reinforcement compares, `climb` compares both ends of the ladder, `rehearsal` says that nothing of it counts; each is
    empty where there is nothing to say."""

    question: str
    overall: Answer
    rungs: tuple[Sentence, ...]
    answer: str
    climb: str
    rehearsal: str
    reinforced: tuple[str, ...] = ()

    def speaks(self, rung: int | None, arm: str | None) -> bool:
        """Whether a rung's arm is the one that the headline speaks of."""
        return any(sentence.rung == rung and sentence.arm == arm for sentence in self.rungs if arm)

    def lines(self) -> list[str]:
        """All of it as plain lines, one sentence each."""
        return [line for line in (self.rehearsal, *map(str, self.rungs), self.answer, *self.reinforced) if line]


def headline(results: Results, timings: Timings | None = None) -> Headline:
    """The headline of a run; with `timings` it also says what reinforcement took."""
    verdict = rule.verdict(results)
    rungs, many = rule.ordered(results), len(verdict.rungs) > 1
    sentences = tuple(_sentence(results, rung, answer, many) for rung, answer in zip(rungs, verdict.rungs, strict=True))
    return Headline(
        question="did the students outgrow their teachers?" if many else "did the student outgrow its teacher?",
        overall=verdict.overall,
        rungs=sentences,
        answer=_answer(verdict, results.rehearsal),
        climb=_climb(results) if many else "",
        rehearsal=REHEARSAL if results.rehearsal else "",
        reinforced=reinforcement.sentences(results, timings),
    )


def _sentence(results: Results, rung: Rung, answer: RungVerdict, many: bool) -> Sentence:
    lead = f"Rung {answer.rung}, {answer.verdict}" if many else answer.verdict.capitalize()
    return Sentence(answer.rung, answer.arm, answer.verdict, lead, _happened(results, rung))


def _happened(results: Results, rung: Rung) -> str:
    name = f"the student “{hostile.one_line(rung.name, 40)}”"
    arm, comparison = rule.headline_arm(rung), rule.headline_comparison(rung)
    if arm is None or comparison is None:
        return f"{name} has not been compared with its teacher."
    student = f"{name} ({wording.arm(arm, rung)})"
    against = _teachers(results, rung, rule.teacher_name(rung, comparison))
    difference = comparison.vs_teacher
    measured = rule.outcome(difference)
    if difference is None or measured == "unknown":
        return f"whether {student} outgrew {against} cannot be said, since {untested(results, rung)}."
    deed = {"yes": f"outgrew {against}", "no": f"stayed below {against}", "not shown": f"cannot be told apart from {against}"}
    did = f"was held against {against}" if results.rehearsal else deed[measured]
    right = f"{wording.percent(difference.left)} right against {wording.percent(difference.right)}"
    size = f"{wording.points(difference.difference)} points"
    includes = ", which includes 0" if measured == "not shown" and not results.rehearsal else ""
    level = wording.confidence(comparison.confidence)
    bounds = f"{level} interval {wording.points_range(difference)}{includes}"
    return f"{student} {did}, answering {right} {_where(results, difference)}: {size} ({bounds})."


def _teachers(results: Results, rung: Rung, held: str | None) -> str:
    """The teacher a rung's student is held against, or all of them where there is none."""
    if held:
        return f"{'its best teacher' if len(rung.teachers) > 1 else 'its teacher'} “{wording.model_title(results, held)}”"
    titles = wording.listing([f"“{wording.model_title(results, name)}”" for name in rung.teachers[:MOST_FILES]])
    return f"its teachers {titles}" if rung.teachers else "its teacher"


def untested(results: Results, rung: Rung) -> str:
    """Why a rung's teacher has no score on the test problems, and what file would give it one."""
    recorded = _recorded(results)
    paths = [recorded[name] for name in rung.teachers if name in recorded]
    if not paths or len(paths) < len(rung.teachers) or results.rehearsal:
        return "the teacher did not sit the same test"
    shown = wording.listing([hostile.one_line(path.rpartition("/")[2] or path, 60) for path in paths[:MOST_FILES]])
    more = f" and {len(paths) - MOST_FILES} more" if len(paths) > MOST_FILES else ""
    holds, file = ("holds", "the file") if len(paths) == 1 else ("hold", "a file")
    return (
        f"{shown}{more} {holds} no answers to the test problems; {file} that also has a trace for each of the "
        f"{wording.count(results.test_problems)} test questions would tell: the teacher is then evaluated on these, and no "
        "student is trained on them"
    )


def _recorded(results: Results) -> dict[str, str]:
    """The paths of the teachers that are files, by their names, from the saved settings."""
    teachers = results.experiment.get("teachers")
    settings = [one for one in teachers if isinstance(one, Mapping)] if isinstance(teachers, list | tuple) else []
    return {str(one.get("name")): str(one.get("path") or "") for one in settings if str(one.get("type")).endswith(RECORDED)}


def _answer(verdict: Verdict, rehearsal: bool) -> str:
    if not verdict.rungs:
        return "Unknown: no student has been trained yet, so there is nothing to compare with the teacher."
    if rehearsal:
        return "Answer: unknown, since this is a rehearsal."
    if len(verdict.rungs) == 1:
        return ""
    each = {"yes": "on every rung", "no": "on no rung", "not shown": "on any rung", "unknown": "on every rung"}
    if len({rung.verdict for rung in verdict.rungs}) == 1:
        return f"Answer: {verdict.overall}, {each[verdict.overall]}."
    by_answer = {answer: [rung for rung in verdict.rungs if rung.verdict == answer] for answer in ANSWERS}
    parts = [f"{answer} on {_rungs(rungs)}" for answer, rungs in by_answer.items() if rungs]
    return f"Answer: {wording.listing(parts)}; for the ladder as a whole, {verdict.overall}."


def _rungs(rungs: Sequence[RungVerdict]) -> str:
    names = [f"{rung.rung} (“{hostile.one_line(rung.name, 30)}”)" for rung in rungs]
    return f"{'rung' if len(names) == 1 else 'rungs'} {wording.listing(names)}"


def _climb(results: Results) -> str:
    """Both ends of the ladder, which no rung's sentence holds against each other."""
    if results.climb is None:
        return ""
    difference = results.climb.difference
    scores = f"{wording.percent(difference.left)} right against {wording.percent(difference.right)}"
    comparison = rule.headline_comparison(rule.ordered(results)[-1])
    level = wording.confidence(0.95 if comparison is None else comparison.confidence)
    last, first = (wording.model_title(results, name) for name in (results.climb.student, results.climb.teacher))
    return (
        f"From end to end: the last student “{last}” answered {scores} of the first teacher “{first}” "
        f"{_where(results, difference)}: {wording.points(difference.difference)} points "
        f"({level} interval {wording.points_range(difference)})."
    )


def _where(results: Results, difference: Difference) -> str:
    every = results.test_problems
    some = f"{wording.count(difference.n)} of " if 0 < difference.n < every else ""
    problems = f"on {some}{wording.count(every if some else difference.n or every)} test problems"
    seeds = difference.by_seed
    if not seeds:
        return problems
    above = sum(rule.outcome(seed) == "yes" for seed in seeds)
    return f"{problems}, {len(seeds)} seeds pooled (clearly ahead in {above} of {len(seeds)})"
