"""When an answer was guessed: taken because it stands last, in a text that states none."""

from w2sr_jax.answers.extract import GUESSES, tidy

MOST = 0.1
"""Share of texts whose answers may be guessed before a warning says so."""


def guessed(text: str, answer: str | None, rule: str) -> bool:
    """Whether a rule guessed at an answer. A text that is nothing but its answer, as when the answer alone was asked for, states
    it."""
    return answer is not None and rule in GUESSES and tidy(text.strip()) != answer
