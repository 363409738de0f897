"""The commands that take a finished or imported thing, not an experiment. A new one is a line here and a file of its own."""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from w2sr_jax.core.process.stopping import Stop


class Command(NamedTuple):
    """How a command is called, what it does in a line, and where the function is that does it, as MODULE:FUNCTION."""

    usage: str
    about: str
    function: str

    def run(self, argv: list[str], stop: Stop) -> int:
        """Do the work; the exit code. Its module is imported here, so that nothing heavy is imported for `--help`.

        The function is called with the arguments, `about` for its own help, and what says whether it is asked to stop.
        """
        module, _, name = self.function.partition(":")
        work: Callable[[list[str], str, Stop], int] = getattr(importlib.import_module(module), name)
        return work(argv, self.about, stop)


COMMANDS = {
    "show": Command(
        "show RUN --example 3",
        "one training example token by token, with spans and weights in colour",
        "w2sr_jax.cli.inspect:show",
    ),
    "explain": Command(
        "explain RUN PROBLEM_ID",
        "the whole life of one problem: traces, verdicts, why kept or dropped, steps, answers",
        "w2sr_jax.cli.inspect:explain",
    ),
    "compare": Command(
        "compare RUN RUN ...",
        "runs side by side, with paired tests, and how a metric moved over runs and dates",
        "w2sr_jax.cli.inspect:compare",
    ),
    "grade": Command(
        "grade FILE --gold A --text B",
        "grade texts of a file: verdicts, rules, kinds, and where labels disagree",
        "w2sr_jax.cli.grade:run",
    ),
    "reproduce": Command(
        "reproduce RUN [--stage NAME]",
        "run a finished experiment again, or one stage of it, and compare digests",
        "w2sr_jax.cli.reproduce:run",
    ),
    "import": Command(
        "import MODEL OUT", "a Hub id or Hugging Face directory becomes an Orbax checkpoint", "w2sr_jax.cli.convert:import_"
    ),
    "export": Command(
        "export RUN/rungs/0-x/ARM OUT", "a student as safetensors with tokenizer and model card", "w2sr_jax.cli.convert:export_"
    ),
    "publish": Command(
        "publish RUN --out DIR", "a teacher's traces as a TFDS data set in ArrayRecord files", "w2sr_jax.cli.convert:publish_"
    ),
}
