"""Whether a grader of a user's own is sound, tried on a few texts before anything is computed."""

import contextlib
import copy
import dataclasses
import inspect
import io
import itertools
import time
from collections.abc import Iterator, Sequence

from w2sr_jax.answers.grade import Grader
from w2sr_jax.core import sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.core.records import Problem, Verdict

SLOW = 1.0
"""Seconds for a text from which on it is said how long a grader takes."""
PATIENCE = 10.0
"""Seconds after which no further text is tried."""
SOME = 4
"""Problems that are tried, and as many of the texts that belong to them."""

_RIGHT = 'a grader returns a w2sr_jax.core.records.Verdict, as in Verdict("correct", answer, "last number", "mine")'
_STAND_INS = (
    Problem.of("What is 2 + 3?", "5", "2 + 3 = 5\n#### 5"),
    Problem.of("What is half of x + 1?", r"\frac{x+1}{2}", r"It is $\boxed{\frac{x+1}{2}}$."),
)
_SAYING = ("So the answer is {0}.\n#### {0}", "The answer is $\\boxed{{{0}}}$.", "{0}")
_OTHERS = ("", "I do not know.", "<think>12 + 1 = 13", "So it is -7.25.\n#### -7.25", "الجواب هو ٧ \U0001f642")
_CODE = (NameError, ImportError, AttributeError, NotImplementedError, SyntaxError, SystemExit)  # wrong whatever the problem is


def check_grader(
    grader: Grader, problems: Sequence[Problem] = (), texts: Sequence[tuple[str, Problem]] = (), where: str = "grader"
) -> list[str]:
    """Sentences about what is slow or odd in a grader of a user's own; none for the graders of this package.

    It is tried on right and wrong answers to some of the `problems`, and on `texts`, each with its problem. Without problems it
    is tried on made-up ones, and an exception that these may have caused is one of the sentences. `where` names the setting.
    Raises UserError where the grader cannot be called with a text and its problem, raises, returns anything but a sound
    `Verdict`, gives another verdict when it is called again, or changes the problem.
    """
    if isinstance(grader, type):
        raise UserError(f"{where} is the class {grader.__name__}; it must be a grader: write {grader.__name__}()")
    if usercode.is_ours(grader):
        return []
    location, name = usercode.defined(grader), _name(grader)
    try:
        _check_arguments(grader)
        with contextlib.redirect_stdout(io.StringIO()):  # what it prints is seen when it grades
            remarks, tried = _tried(grader, problems, texts)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if len(tried) > 2 and set(tried.values()) == {"correct"}:
        remarks.append("it calls every text correct, also an empty one")
    saying = [verdict for (text, gold), verdict in tried.items() if gold and gold in text]
    if saying and "correct" not in saying and "ungraded" not in saying:
        remarks.append(f"it calls none of {len(saying)} texts correct that state the gold answer")
    return [f"{where} ({name}, {location}): {remark}" for remark in remarks]


def _tried(
    grader: Grader, problems: Sequence[Problem], texts: Sequence[tuple[str, Problem]]
) -> tuple[list[str], dict[tuple[str, str | None], str]]:
    """Sentences about what is odd, and the verdict on each (text, gold) that was tried."""
    slowest, began, written = 0.0, time.monotonic(), sentences.value(grader, 10_000)
    verdicts: dict[tuple[str, str | None], str] = {}
    for text, problem in _samples(problems, texts):
        before, started = copy.deepcopy(problem), time.monotonic()
        try:
            verdict = _graded(grader, text, problem)
        except _OfStandIn as doubt:
            return [
                f"it raises with a problem that was invented ({doubt}); whether it does with the run's is not known yet"
            ], verdicts
        slowest = max(slowest, time.monotonic() - started)
        again = _graded(grader, text, problem)
        if again != verdict:
            raise UserError(
                f"{_location(grader)} says {verdict.verdict} ({sentences.value(verdict.answer, 40)}), and "
                f"{again.verdict} ({sentences.value(again.answer, 40)}) when it is asked again, of the text "
                f"{sentences.value(text, 60)}; a grader depends on the text and its problem alone"
            )
        if problem != before:
            raise UserError(
                f"{_location(grader)} changes the problem that it is given; it must leave problem.meta as it is, or copy it"
            )
        verdicts[text, problem.answer] = verdict.verdict
        if time.monotonic() - began > PATIENCE:
            break
    if dataclasses.is_dataclass(grader) and sentences.value(grader, 10_000) != written:
        raise UserError(
            f"{_location(grader)} changes its own fields when it grades; it is a setting of the run and stays as it is"
        )
    return ([f"it takes {slowest:.1f} s for a text, and a run grades every trace and answer"] if slowest > SLOW else []), verdicts


class _OfStandIn(Exception):
    """The grader raised on a made-up problem, which may be the cause."""


def _graded(grader: Grader, text: str, problem: Problem) -> Verdict:
    raised: list[BaseException] = []
    try:
        with usercode.calling(grader):
            try:
                verdict = grader(text, problem)
            except BaseException as error:
                raised.append(error)
                raise
    except UserError as error:
        if problem in _STAND_INS and not isinstance(raised[0], _CODE):
            raise _OfStandIn(str(error)) from None
        raise UserError(f"{error}; this was while grading {sentences.value(text, 60)}") from None
    wrong = mistyped(verdict, Verdict, "what it returns")
    if inspect.iscoroutine(verdict):
        verdict.close()
        wrong = "it is an async function, and nobody awaits it"
    if wrong:
        raise UserError(f"{_location(grader)} gives no sound verdict: {wrong}; {_RIGHT}")
    return verdict


def _samples(problems: Sequence[Problem], texts: Sequence[tuple[str, Problem]]) -> Iterator[tuple[str, Problem]]:
    """Texts with their problems: those of the run, then right and wrong answers to a few problems of different kinds."""
    yield from itertools.islice(texts, SOME)
    for number, problem in enumerate(_few(problems) or _STAND_INS):
        if problem.answer:
            yield from ((form.format(problem.answer), problem) for form in _SAYING)
        if problem.solution:
            yield problem.solution, problem
        if number == 0:
            yield from ((text, problem) for text in _OTHERS)


def _few(problems: Sequence[Problem]) -> list[Problem]:
    """The first problem of each kind of answer: a number, words, anything else, none."""
    kinds: dict[str, Problem] = {}
    for problem in problems:
        answer = (problem.answer or "").strip()
        plain = answer.lstrip("-").replace(".", "", 1).isdigit()
        kinds.setdefault("none" if not answer else "number" if plain else "words" if " " in answer else "other", problem)
    return list(kinds.values())[:SOME]


def _check_arguments(grader: Grader) -> None:
    try:
        signature = inspect.signature(grader)
    except (TypeError, ValueError):  # Python does not know
        return
    try:
        signature.bind("", _STAND_INS[0])
    except TypeError:
        raise UserError(
            f"{_location(grader)}({', '.join(signature.parameters)}) cannot be called as a grader is, with "
            "two arguments: a text and its problem"
        ) from None


def _location(grader: Grader) -> str:
    return f"{usercode.defined(grader)}: {_name(grader)}"


def _name(grader: object) -> str:
    while hasattr(grader, "func"):
        grader = grader.func
    return sentences.shown(str(getattr(grader, "__name__", type(grader).__name__)), 60)
