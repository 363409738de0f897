"""The README's Python is run as a user would paste it."""

import ast
import re
import shutil
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from w2sr_jax.configuration import saved
from w2sr_jax.experiment import check
from w2sr_jax.losses.token import Tokens

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def load(tmp_path):
    shutil.copy(ROOT / "configs" / "quickstart.py", tmp_path)
    before = set(sys.modules)

    def one(block):
        path = tmp_path / "readme_example.py"
        path.write_text(block)
        experiment = saved.load_config(path)
        check(experiment)
        saved.save(tmp_path / "run", experiment)
        assert saved.config_hash(saved.load(tmp_path / "run")) == saved.config_hash(experiment)
        return experiment

    yield one
    for name in set(sys.modules) - before:
        if name in ("quickstart", "readme_example"):
            del sys.modules[name]


def test_a_loss_of_your_own(load):
    loss = load(BLOCKS[0]).rungs[0].objective.loss
    logits = jnp.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    integers = jnp.array([2, 1])
    tokens = Tokens(logits, integers, integers, integers, jnp.zeros(2), logits, jnp.float32(0.5))
    logp = np.log(np.exp([2.0, 0.0]) / np.exp(np.asarray(logits)).sum(-1))
    expected = -0.5 * logp + (1 - np.exp(logp)) ** 2 * -logp  # the student is its own reference: the KL term is 0
    np.testing.assert_allclose(loss(tokens), expected, rtol=1e-5, atol=1e-6)
    assert loss.needs_reference


def test_problems_teachers_and_a_grader_of_your_own(load):
    experiment = load(BLOCKS[1])
    assert experiment.problems.fields.question == "prompt"
    assert experiment.grader.__name__ == "grader"


def test_decoding_settings_and_a_served_teacher():
    imports, values = BLOCKS[2].split("\n\n", 1)
    space = {}
    exec(f"{imports}\nmade = ({', '.join(ast.unparse(each) for each in ast.parse(values).body)})", space)  # our own README
    decoding, served = space["made"]
    decoding.check()
    assert decoding.stop == ("\n\n",)
    assert served.max_cost == 20.0
