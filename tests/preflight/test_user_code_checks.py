"""A user's own losses, schedules and graders are looked at before a run computes anything."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from w2sr_jax.cli import main as cli

BASE = """
import jax, jax.numpy as jnp
import dataclasses
from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.batches.settings import Batching
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, Rung, Scratch
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.schedules import Schedule
from w2sr_jax.losses.token import *
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Files, Splits
from w2sr_jax.core.records import Verdict
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.settings import Recorded
from w2sr_jax.text.settings import BpeTokenizer
from w2sr_jax.training.settings import Training


def nll(tokens):
    return -jnp.take_along_axis(jax.nn.log_softmax(tokens.logits), tokens.target[:, None], axis=1)[:, 0]


def base(*losses, grader=NumberGrader()):
    training = Training(steps=2, learning_rate=1e-2, log_every=1, batching=Batching(length=96, rows=8))
    model = ModelConfig(width=16, layers=1, heads=2, kv_heads=1, mlp=32)
    rungs = tuple(
        Rung(f"r{i}", model, Scratch(), ("notes",), arms=("all",), gold=False, training=training, objective=Objective(loss))
        for i, loss in enumerate(losses)
    )
    return Experiment(
        name="own",
        problems=Files("problems.jsonl"),
        splits=Splits(pool=12, probe=2, test=4),
        tokenizer=BpeTokenizer(),
        teachers=(Recorded("notes", "traces.jsonl"),),
        rungs=rungs,
        grader=grader,
        evaluation=Evaluation(resamples=20),
        decoding=Decoding(temperature=0.0, max_tokens=8, batch=8),
    )
"""


@pytest.fixture
def begin(user_module: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a configuration's text with a command; exit code, what was printed, and the stages that were done."""
    monkeypatch.chdir(tmp_path)
    problems, traces = [], []
    for n in range(18):
        question = f"A crate holds {n + 2} melons and {n % 7 + 3} plums arrive later. How many fruits are in it?"
        said = n + 2 + n % 7 + 3 + (n % 3 == 0)
        problems.append({"question": question, "answer": str(n + n % 7 + 5)})
        traces.append({"question": question, "trace": f"{n + 2} + {n % 7 + 3} = {said}\n#### {said}", "gold": str(n + n % 7 + 5)})
    for file, rows in (("problems.jsonl", problems), ("traces.jsonl", traces)):
        (tmp_path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(text: str, command: str = "run", *options: str) -> tuple[int, str, list[str]]:
        path = user_module("from helper_base import *\n\n" + text, "mine_config")
        user_module(BASE, "helper_base")
        code = cli.run([command, str(path), "--plain", *options])
        captured = capsys.readouterr()
        lineage = tmp_path / "runs" / "own" / "lineage"
        done = sorted(path.relative_to(lineage).as_posix() for path in lineage.rglob("*.json")) if lineage.is_dir() else []
        return code, captured.out + captured.err, done

    return run


REFUSED = {
    "loss": (
        "def loss(tokens):\n    return nll(tokens).mean()\n\n\ndef experiment():\n    return base(loss)\n",
        r"rungs\.0 \(r0\): objective\.loss: mine_config\.py, line 3: loss returns shape \[\]",
    ),
    "loss of a later rung": (
        "def loss(tokens):\n    return 2 * nll(tokens) if tokens.progress > 0.5 else nll(tokens)\n\n\n"
        "def experiment():\n    return base(nll, Nll() + loss)\n",
        r"rungs\.1 \(r1\): objective\.loss\.terms\.1: mine_config\.py, line 4: loss branches",
    ),
    "helper beside it": (
        "def experiment():\n    return base(dataclasses.replace(OnCorrect(nll), loss=broken))\n\n\n"
        "def broken(tokens):\n    return nll(tokens._replace(logits=None))\n",
        r"objective\.loss\.loss: helper_base\.py, line \d+: ",
    ),
    "schedule": (
        "@dataclasses.dataclass(frozen=True)\nclass Rise(Schedule):\n    def __call__(self, progress):\n"
        "        return max(progress, 0.1)\n\n\ndef experiment():\n    return base(Rise() * Nll())\n",
        r"objective\.loss\.coefficient: mine_config\.py, line 6: Rise branches",
    ),
    "grader": (
        "def grader(text, problem):\n    return int(text) == int(problem.answer)\n\n\n"
        "def experiment():\n    return base(nll, grader=grader)\n",
        r"grader: mine_config\.py, line 4: ValueError.*while grading",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("command", ["run", "sample"])
def test_nothing_is_computed_with_wrong_code(begin, case: str, command: str, tmp_path: Path) -> None:
    text, words = REFUSED[case]
    code, said, done = begin(text, command)
    assert code == 2
    assert re.search(words, said), said
    assert "Traceback" not in said
    assert done == []
    assert not list(tmp_path.rglob("*.parquet"))


def test_all_that_is_wrong_is_said_at_once(begin) -> None:
    code, said, done = begin(
        "def mean(tokens):\n    return nll(tokens).mean()\n\n\ndef typo(tokens):\n    return tokens.logit\n\n\n"
        "def grader(text):\n    return None\n\n\ndef experiment():\n    return base(mean, nll, typo, grader=grader)\n"
    )
    assert (code, done) == (2, [])
    assert "mine_config.py, line 3: mean returns" in said
    assert "mine_config.py, line 8: typo asks for tokens.logit" in said
    assert "mine_config.py, line 11: grader(text) cannot be called" in said


def test_right_code_is_trained_and_graded_with(begin, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, done = begin(
        "@dataclasses.dataclass(frozen=True)\nclass Fall(Schedule):\n    def __call__(self, progress):\n"
        "        return 1.0 - 0.5 * progress\n\n\n@jax.jit\ndef loss(tokens):\n    return nll(tokens) ** 2\n\n\n"
        "def grader(text, problem):\n    right = text.endswith('#### ' + problem.answer)\n"
        "    return Verdict('correct' if right else 'incorrect', text[-2:], 'end', 'mine')\n\n\n"
        "def experiment():\n    return base(Fall() * Nll() + loss, grader=grader)\n"
    )
    assert code == 0, said
    assert "rungs/0-r0/all/train.json" in done


UNSAVABLE = {
    "a loss without a name": (
        "base(lambda tokens: nll(tokens))",
        r"mine_config\.py, line \d+: rungs\.0\.objective\.loss is .*<lambda>",
    ),
    "a teacher that is no dataclass": (
        "dataclasses.replace(base(nll), teachers=(Loose(),))",
        r"teachers\.0 is .*of type Loose; settings may hold dataclasses",
    ),
    "a stage with a list": (
        "dataclasses.replace(base(nll), extra=(More(),))",
        r"listed is \[1\], of type list; settings may hold",
    ),
    "a stage outside of the run": (
        "dataclasses.replace(base(nll), extra=(More('../a'),))",
        r"mine_config\.py, line \d+: a stage is called '\.\./a'; it names files in the run",
    ),
    "stages that are none": (
        "dataclasses.replace(base(nll), extra=(None_(),))",
        r"mine_config\.py, line \d+: None_\.stages returned None",
    ),
}
OWN = """
from w2sr_jax.experiment import ExtraStages
from w2sr_jax.graph.stage import Stage
from w2sr_jax.teachers.teacher import Teacher


class Loose(Teacher):
    name = "notes"

    def traces(self, work):
        return ()


@dataclasses.dataclass(frozen=True)
class Listing(Stage):
    listed: object = ()

    def run(self, context):
        raise AssertionError("nothing is computed")


@dataclasses.dataclass(frozen=True)
class More(ExtraStages):
    called: str = "own/list"

    def stages(self, plan):
        return [Listing(self.called, [1])]


@dataclasses.dataclass(frozen=True)
class None_(ExtraStages):
    def stages(self, plan):
        pass
"""


@pytest.mark.parametrize("name", UNSAVABLE)
def test_what_a_run_refuses_is_refused_by_a_check_and_a_dry_run_and_said_once(name: str, begin) -> None:
    expression, words = UNSAVABLE[name]
    for command in (("run",), ("check",), ("run", "--dry-run")):
        code, printed, done = begin(OWN + f"\n\ndef experiment():\n    return {expression}\n", *command)
        assert (code, done) == (2, []), printed
        assert len(re.findall(words, printed)) == 1, printed
