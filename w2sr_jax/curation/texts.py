"""Texts to learn from that no teacher wrote: worked solutions, answers without reasoning, plain lines."""

from collections.abc import Iterable, Iterator

from w2sr_jax.core import files
from w2sr_jax.core.records import Example, Problem


def gold(problems: Iterable[Problem]) -> Iterator[Example]:
    """The worked solutions of problems as examples; problems without one are left out."""
    for problem in problems:
        if problem.solution is not None:
            yield example(problem.id, problem.question, problem.solution, "reason")


def documents(problems: Iterable[Problem]) -> list[Example]:
    """Problems with their answers and without any reasoning, as texts to pretrain on."""
    return [
        example(problem.id, problem.question, f"#### {problem.answer}", "document")
        for problem in problems
        if problem.answer is not None
    ]


def example(problem: str, question: str, response: str, style: str, teacher: str = "gold") -> Example:
    """A text as an example: no trace, and correct. `style` is that of `Example`, `teacher` names who wrote it."""
    identity = files.digest_json([problem, question, response, style])[:16]
    return Example(identity, problem, "", teacher, question, response, style, "correct", 1.0)
