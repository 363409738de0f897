"""Graders by name: those of the package with their defaults, or one of a user's own file."""

import inspect
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.answers.choice import ChoiceGrader
from w2sr_jax.answers.grade import Grader, MathGrader, NumberGrader
from w2sr_jax.answers.graders import ExactGrader, NumericGrader, RegexGrader
from w2sr_jax.core import sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError

KNOWN = {
    "math": MathGrader,
    "number": NumberGrader,
    "numeric": NumericGrader,
    "exact": ExactGrader,
    "choice": ChoiceGrader,
    "regex": RegexGrader,
}


class Named(NamedTuple):
    """A grader, its name, and the user's file that defines it; None for a grader of the package."""

    name: str
    grader: Grader
    file: Path | None = None


def named(name: str) -> Named:
    """The grader of a name: a class of the package or the first part of its name (`MathGrader`, `math`), or FILE.py:NAME, where
    NAME is a grader, or a class of graders, of that file. Raises UserError where there is none."""
    file, colon, own = name.rpartition(":")
    if colon and file.endswith(".py"):
        return _own(name, Path(file), own)
    key = name.strip().lower().removesuffix("grader")
    if key not in KNOWN:
        raise UserError(f"there is no grader {sentences.value(name)}; there are {', '.join(KNOWN)}, and FILE.py:NAME")
    return Named(KNOWN[key].__name__, KNOWN[key]())


def _own(name: str, path: Path, own: str) -> Named:
    if not path.is_file():
        raise UserError(f"{path} does not exist; a grader of your own is FILE.py:NAME")
    module = usercode.load(path)
    if not hasattr(module, own):
        raise UserError(f"{path} has no {sentences.value(own)}")
    with usercode.running(path):
        grader = getattr(module, own)
        grader = grader() if inspect.isclass(grader) else grader
    if not callable(grader):
        raise UserError(
            f"{name} is no grader: it is {sentences.value(grader, 40)}, not something to call with a text and its problem"
        )
    return Named(sentences.shown(own, 40), grader, path)
