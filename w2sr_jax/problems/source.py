"""What a source of problems is: `Generated`, `Files`, or a frozen dataclass of a user's own in the configuration."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from w2sr_jax.core import files, sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.core.records import Problem
from w2sr_jax.problems.rows import Quarantine

if TYPE_CHECKING:
    from w2sr_jax.problems.settings import Files

_LONGEST_DESCRIPTION = 100  # characters


@runtime_checkable
class ProblemSource(Protocol):
    """Where the problems of an experiment come from.

    A source of one's own is a frozen dataclass that extends this class and defines `load`; everything else has a default. Its
    fields are its settings, so equal fields (and equal files at `paths`) must give equal problems.
    """

    @abstractmethod
    def load(self, limit: int | None = None) -> tuple[list[Problem], Quarantine]:
        """The problems in order, and the rows that cannot be used, each with its reason.

        `limit`: at most this many rows from the top, usable or not; None: all of them. A smaller limit gives the beginning of
        what a larger one gives. An endless source is always given a limit. Raises UserError where nothing can be read.
        """

    def is_endless(self) -> bool:
        """Whether the source makes as many problems as are asked for. A run asks such a source for as many as its splits need,
        and any other one for all that it has."""
        return False

    def available(self) -> int | None:
        """The largest number of problems that `load` can give; None where it is endless, or where only reading all would tell."""
        return None

    def paths(self) -> tuple[str, ...]:
        """What the source reads: files, or `hf:` and `tfds:` data sets as in `Files.path`. A run records their digests, and loads
        the problems again when one of them changes."""
        return ()

    def at_hand(self) -> bool:
        """Whether `load` needs no download. Raises UserError where a download would be refused."""
        return True

    def facts(self, lines: int) -> list[str]:
        """At most `lines` lines of text besides the problems on which a base can be pretrained; empty where there are none."""
        return []

    def rehearsed(self, stand_ins: "Callable[[Files], str]") -> "ProblemSource":
        """The source of a rehearsal, which downloads nothing. `stand_ins` writes problems under the fields of a file or data set
        and gives their path."""
        return self

    def describe(self) -> str:
        """The source in a few words for messages, such as its path."""
        return sentences.shown(repr(self), _LONGEST_DESCRIPTION)


def load(source: ProblemSource, limit: int | None = None) -> tuple[list[Problem], Quarantine]:
    """`source.load(limit)`; what a source of a user's own returns is checked, and what it raises is a UserError with file and
    line. UserError too where it has no problems."""
    if usercode.is_ours(source):
        return source.load(limit)
    with usercode.calling(source):
        loaded: Any = source.load(limit)
    where = f"{usercode.defined(source)}: {type(source).__name__}.load"
    if not (isinstance(loaded, tuple) and len(loaded) == 2 and isinstance(loaded[1], Quarantine)):
        raise UserError(
            f"{where} returned {sentences.value(loaded, 60)}; it must return a tuple of a list of problems and a Quarantine "
            "(w2sr_jax.problems.rows), which may be empty: Quarantine()"
        )
    problems, quarantine = loaded
    if not isinstance(problems, Sequence) or not problems:
        raise UserError(f"{where} returned {sentences.value(problems, 60)}; it must return a list of at least one problem")
    if limit is not None and len(problems) > limit:
        raise UserError(f"{where} returned {len(problems):,} problems; its limit was {limit:,}")
    for number, problem in enumerate(problems, 1):
        fault = _fault(problem)
        if fault is not None:
            raise UserError(f"{where}: problem {number:,} {fault}")
    return list(problems), quarantine


def _fault(problem: Any) -> str | None:
    """What is wrong with a problem that a user's code made, in words that follow its number."""
    wrong = mistyped(problem, Problem, "it")
    if wrong is not None:
        return f"is no sound problem: {wrong}"
    if not problem.question.strip():
        return "has an empty question"
    try:
        files.canonical_json(problem.meta)
    except (TypeError, ValueError) as error:
        return f"has a meta that is no JSON object: {sentences.cause(error)}"
    if problem.id != Problem.of(problem.question, problem.answer, problem.solution, problem.task).id:
        return f"has the id {sentences.value(problem.id, 40)}, which is not the digest of its content; make it with Problem.of(…)"
    return None
