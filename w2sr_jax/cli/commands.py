"""All commands. A new one is a line here and a file of its own."""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from w2sr_jax.core.process.stopping import Stop


class Command(NamedTuple):
    """How a command is called, what it does in a line, and where the function is that does it, as MODULE:FUNCTION. A command that
    only reads leaves nothing half done."""

    usage: str
    about: str
    function: str
    reads: bool = False

    def run(self, argv: list[str], stop: Stop) -> int:
        """Do the work; the exit code. Its module is imported here, so that nothing heavy is imported for `--help`.

        The function is called with the arguments, `about` for its own help, and what says whether it is asked to stop.
        """
        module, _, name = self.function.partition(":")
        work: Callable[[list[str], str, Stop], int] = getattr(importlib.import_module(module), name)
        return work(argv, self.about, stop)


EXPERIMENTS = {
    "run": Command("run CONFIG.py", "run a whole experiment", "w2sr_jax.cli.run:run"),
    "check": Command(
        "check CONFIG.py", "say all that stands in the way of a run, in seconds", "w2sr_jax.cli.run:check", reads=True
    ),
    "study": Command(
        "study STUDY.py --jobs 2",
        "variants of an experiment, what they share done once, and what they show",
        "w2sr_jax.cli.study:run",
    ),
    "plan": Command(
        "plan CONFIG.py --topology v5p:2x2x4",
        "memory, operations, hours and money on devices that need not be here",
        "w2sr_jax.cli.plan:run",
        reads=True,
    ),
    "launch": Command(
        "launch CONFIG.py --on slurm --nodes 4",
        "the job that runs an experiment on every host of a cluster",
        "w2sr_jax.cli.launch:run",
        reads=True,
    ),
}
"""Of a whole experiment."""
STAGES = {
    "sample": Command("sample RUN", "let teachers write traces, or read and grade recorded ones", "w2sr_jax.cli.run:sample"),
    "curate": Command(
        "curate RUN", "select each arm's traces (W2SR all, W2SR-P correct, W2SR-N incorrect)", "w2sr_jax.cli.run:curate"
    ),
    "train": Command("train RUN", "train teachers, bases and students", "w2sr_jax.cli.run:train"),
    "evaluate": Command("evaluate RUN", "let every trained model answer the test problems", "w2sr_jax.cli.run:evaluate"),
    "report": Command("report RUN", "write report/index.html and report/results.json", "w2sr_jax.cli.run:report"),
}
"""Of the stages of one kind."""
COMMANDS = {
    "show": Command(
        "show RUN --example 3",
        "one training example token by token, with spans and weights in colour",
        "w2sr_jax.cli.inspect:show",
        reads=True,
    ),
    "explain": Command(
        "explain RUN PROBLEM_ID",
        "the whole life of one problem: traces, verdicts, why kept or dropped, steps, answers",
        "w2sr_jax.cli.inspect:explain",
        reads=True,
    ),
    "compare": Command(
        "compare RUN RUN ...",
        "runs side by side, with paired tests, and how a metric moved over runs and dates",
        "w2sr_jax.cli.inspect:compare",
        reads=True,
    ),
    "grade": Command(
        "grade FILE --gold A --text B",
        "grade texts of a file: verdicts, rules, kinds, and where labels disagree",
        "w2sr_jax.cli.grade:run",
        reads=True,
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
"""Of a finished or imported thing."""


def all_commands() -> dict[str, Command]:
    """Every command by its name."""
    return {**EXPERIMENTS, **STAGES, **COMMANDS}
