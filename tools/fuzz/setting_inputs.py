"""A sound configuration for the fuzzer to spoil, and what it spoils it with."""

CONFIG = '''"""A configuration with a loss and a grader of its own."""
import dataclasses

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.experiment import Experiment, FromParent, Graduate, ModelTeacher, Pretraining, Rung
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.schedules import Linear
from w2sr_jax.losses.token import Loss, Nll, ReverseKL
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Fields, Files, Generated, Splits
from w2sr_jax.teachers.settings import Recorded
from w2sr_jax.training.settings import Training


@dataclasses.dataclass(frozen=True)
class Mine(Loss):
    power: float = 2.0

    def __call__(self, tokens):
        return Nll()(tokens) ** self.power


def own_grader(text, problem):
    return None


def put(value, path, new):
    """`value` with `new` at a path."""
    if not path:
        return new
    if isinstance(value, tuple):
        at = int(path[0])
        return (*value[:at], put(value[at], path[1:], new), *value[at + 1 :])
    return dataclasses.replace(value, **{path[0]: put(getattr(value, path[0]), path[1:], new)})


def base():
    first = Rung(
        "small",
        ModelConfig(width=64, layers=2, heads=2, kv_heads=2),
        start=Pretraining(training=Training(steps=30)),
        teachers=("teacher", "notes"),
        objective=Objective(loss=0.5 * Nll() + Mine(3.0) + Linear(0.0, 0.1) * ReverseKL()),
    )
    return Experiment(
        name="fuzz",
        rungs=(first, dataclasses.replace(first, name="large", start=FromParent("base"), teachers=("graduate",))),
        teachers=(ModelTeacher(samples=2), Recorded("notes", "notes.jsonl"), Graduate()),
        problems=Generated(seed=1, operations=(2, 4)),
        splits=Splits(pool=200, test=40),
        grader=own_grader,
    )


def experiment():
    return base()
'''
VALUES = (
    *(
        "'5'",
        "None",
        "[1]",
        "{}",
        "float('nan')",
        "float('inf')",
        "10**30",
        "10**5000",
        "-1",
        "0",
        "True",
        "object()",
        "()",
        "('a',)",
        "3.5",
    ),
    *(
        "b'x'",
        "chr(0xd800)",
        "'a' + chr(0)",
        "Nll()",
        "print",
        "2**63",
        "Mine",
        "base()",
        "lambda: 0",
        "1j",
        "''",
        "'../x'",
        "'x' * 400",
    ),
    *(
        "exit(3)",
        "1 / 0",
        "put(put, put, put)",
        "Training(steps='5')",
        "Files('x')",
        "Files('x', fields=Fields(question=3))",
        "(1, 2, 3)",
        "own_grader",
    ),
)
TEXTS = (
    "",
    " ",
    "nan",
    "inf",
    "1e999",
    "-5",
    "0",
    "9" * 30,
    "abc",
    "'",
    "\x01",
    "\u202e",
    "\udcff",
    "None",
    "True",
    "[1]",
    "--",
    "-",
    "1.5",
    "x" * 300,
)
NAMES = (
    *(
        "os:system",
        "w2sr_jax.core.files:os.system",
        "w2sr_jax.configuration.encoding:importlib.import_module",
        "w2sr_jax.core.files:write_text",
        "fuzz_evil:fire",
        "json:loads",
    ),
    *(
        "../fuzz_evil:fire",
        "../../fuzz_evil:fire",
        "/fuzz_evil:fire",
        "w2sr_jax.nothing:X",
        "w2sr_jax..files:x",
        "w2sr_jax:",
        "w2sr_jax",
        ":",
        "",
    ),
    *(
        "a\0b:c",
        "x" * 5000 + ":y",
        "w2sr_jax.experiment.experiment:Experiment.__init__",
        "w2sr_jax.experiment.experiment:Rung",
        "w2sr_jax.losses.token:Nll",
        "fuzz_config:put",
    ),
)
EVIL = "import sys\nsys.fuzz_evil = True\ndef fire(*_):\n    pass\n"
