"""Every Python example of README and docs/ is run as it is printed."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import doc_pages
import doc_runs
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doc_pages import ROOT, Block

from w2sr_jax.configuration import saved
from w2sr_jax.configuration.overrides import overridden
from w2sr_jax.core import files
from w2sr_jax.experiment import check
from w2sr_jax.graph.stage import Silent
from w2sr_jax.losses.inputs import Distribution, Tokens
from w2sr_jax.preflight import checks
from w2sr_jax.stages.execute import execute

EXAMPLES = [block for block in doc_pages.every("python") if not block.reason]
CONFIGURATIONS = [block for block in EXAMPLES if "def experiment(" in block.text]
OTHERS = [block for block in EXAMPLES if block not in CONFIGURATIONS]


def test_the_readme_has_its_examples() -> None:
    assert {block.file for block in EXAMPLES if block.page == "README.md"} == {"configs/focal.py", "configs/mine.py"}


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.where)
def test_an_example_is_formatted_as_the_package_is(block: Block) -> None:
    command = [sys.executable, "-m", "ruff", "format", "--config", ROOT / "pyproject.toml", "-"]
    done = subprocess.run(command, input=block.text, capture_output=True, text=True, check=True)
    assert done.stdout == block.text


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=lambda block: block.where)
def test_a_configuration_is_an_experiment(block: Block, directory: Path) -> None:
    assert block.file, f"{block.where}: the first line must say the file, as in '# configs/mine.py'"
    experiment = doc_runs.load(block.page, block.file, directory)
    check(experiment)
    saved.save(directory / "run", experiment)
    assert saved.config_hash(saved.load(directory / "run")) == saved.config_hash(experiment)


@pytest.mark.parametrize("block", OTHERS, ids=lambda block: block.where)
def test_any_other_example_runs(block: Block, directory: Path) -> None:
    exec(compile(block.text, block.where, "exec"), {"__name__": "example"})  # our own page


def test_a_loss_of_your_own(directory: Path) -> None:
    experiment = doc_runs.load("README.md", "configs/focal.py", directory)
    loss: Any = experiment.rungs[0].objective.loss
    logits = jnp.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    integers = jnp.array([2, 1])
    models = {"initial": Distribution(logits)}
    tokens = Tokens(logits, integers, integers, integers, jnp.zeros(2), models, jnp.float32(0.5))
    logp = np.log(np.exp([2.0, 0.0]) / np.exp(np.asarray(logits)).sum(-1))
    expected = -0.5 * logp + (1 - np.exp(logp)) ** 2 * -logp  # the student is its own reference: the KL term is 0
    np.testing.assert_allclose(loss(tokens), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=lambda block: block.where)
def test_nothing_stands_in_the_way_of_a_configuration(block: Block, directory: Path) -> None:
    """As `w2sr check` says of it, where the files lie that it names."""
    _questions(directory, 500)
    experiment = overridden(doc_runs.load(block.page, block.file, directory), ["--mesh.data", "1"], "w2sr check")
    said: list[str] = []
    assert checks.report(experiment, directory / "runs" / experiment.name, said.append) == 0, said


def test_problems_traces_and_a_grader_of_your_own(directory: Path) -> None:
    """The whole run, with fewer problems and steps than the page has."""
    _questions(directory, 60)
    experiment = doc_runs.load("README.md", "configs/mine.py", directory)
    few = ["--mesh.data", "1", "--splits.probe", "6", "--splits.test", "12"]
    short = ["--rungs.0.training.steps", "2", "--rungs.0.model.width", "24"]
    page = execute(overridden(experiment, [*few, *short], "w2sr run"), directory / "runs" / "mine", Silent())
    assert page is not None
    results = files.read_json(page.with_name("results.json"))
    teacher = results["models"]["notes"]["scores"]["accuracy"]
    right = [row["right"] for row in json.loads((directory / "written.json").read_text())]
    assert teacher["n"] == 12
    assert 0 < teacher["value"] < 1
    assert 0 < sum(right) < len(right)


def _questions(directory: Path, count: int) -> None:
    """Files as the page's example names them: questions with their answers, and two traces of each, of which some are wrong."""
    rng = random.Random(0)
    problems, traces, written = [], [], []
    for index in range(count):
        left, right = rng.randrange(10, 100), rng.randrange(10, 100)
        question = f"Box {index} has {left} marbles and gets {right} more. How many marbles are in it?"
        problems.append({"prompt": question, "target": str(left + right)})
        for sample in range(2):
            stated = left + right + ((index + sample) % 3 == 0)
            traces.append({"prompt": question, "response": f"{left} + {right} = {stated}. The answer is {stated}."})
            written.append({"right": stated == left + right})
    Path(directory, "problems.jsonl").write_text("\n".join(map(json.dumps, problems)), encoding="utf-8")
    Path(directory, "written.json").write_text(json.dumps(written), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(traces), directory / "traces.parquet")


def test_settings_of_a_served_teacher_are_sound(directory: Path) -> None:
    (block,) = doc_pages.blocks(ROOT / "docs" / "sampling.md", "python")
    space: dict[str, Any] = {}
    exec(block.text, space)  # our own page
    space["decoding"].check()
    assert space["decoding"].stop == ("\n\n",)
    assert space["served"].max_cost == 20.0
