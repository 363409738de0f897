"""Problems by their questions, as texts of other files are matched to them."""

from collections.abc import Iterable

from w2sr_jax.problems.copies.duplicates import normalised
from w2sr_jax.records import Problem


class Questions:
    """Finds the problem that a question is: the first one with the same text, white space aside, else the only one with the same
    text in another dress (`normalised`)."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self._written: dict[str, Problem] = {}
        for problem in problems:
            self._written.setdefault(written(problem.question), problem)
        self._dressed: dict[str, Problem | None] | None = None
        self._found: dict[str, Problem | None] = {}

    def find(self, question: str) -> Problem | None:
        """The problem, or None where there is none, or where several questions differ in nothing but dress."""
        text = written(question)
        if text in self._written:
            return self._written[text]
        if text not in self._found:
            self._found[text] = self._in_other_dress(text) if self._written else None
        return self._found[text]

    def _in_other_dress(self, question: str) -> Problem | None:
        if self._dressed is None:  # a look at the text alone is enough for most files
            self._dressed = {}
            for problem in self._written.values():
                key = normalised(problem.question)
                self._dressed[key] = None if key in self._dressed else problem
        return self._dressed.get(normalised(question))


def written(question: str) -> str:
    """A question's text with single spaces."""
    return " ".join(question.split())
