"""Configuration files: what they may do, and what a broken one says."""

import sys

import pytest

from w2sr_jax.configuration import saved
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.process.stopping import Terminated

HEAD = """
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.training.settings import Training
"""
RUNG = HEAD + "def experiment():\n    return Experiment('e', (Rung('a', {}),))\n"
MODEL = "    return Experiment('s', (Rung('a', ModelConfig(layers=VALUE)),))\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "must define a function experiment"),
        ("experiment = 3\n", "must define a function experiment"),
        ("def experiment():\n    return 3\n", r"experiment\(\) returned a int, not an Experiment"),
        ("import not_there_at_all\n", "line 1: ModuleNotFoundError"),
        ("def experiment(:\n", "line 1: SyntaxError: invalid syntax"),
        ("x = 1\x00\n", "null bytes"),
        ("def experiment():\n    return missing\n", "line 2: NameError: name 'missing' is not defined"),
        ("def experiment(x):\n    return x\n", "missing 1 required positional argument"),
        ("def experiment():\n    raise SystemExit(0)\n", "line 2: SystemExit: 0"),
        ("import sys\nsys.exit()\n", "line 2: SystemExit"),
        ("def experiment():\n    return experiment()\n", "line 2: RecursionError"),
        ("import sys\nsys.path = []\ndef experiment():\n    return None\n", "returned a NoneType"),
        ("class E(Exception):\n    def __str__(self):\n        raise E\nraise E\n", "line 4: E"),
        ("raise ValueError('one' + chr(10) + 'two' + chr(27) + 'x' * 9999)\n", "line 1: ValueError: one two"),
        (
            RUNG.format("ModelConfig(), training=Training(steps='5')"),
            "Training.steps is '5'",
        ),
        (
            RUNG.format("ModelConfig(), training=Training(step=5)"),
            "keyword argument 'step'",
        ),
        (
            RUNG.format("ModelConfig(), training=Training(steps=0)"),
            "line 6: training.steps is 0",
        ),
        (
            RUNG.format("ModelConfig(layers='2')"),
            "rungs.0.model.layers is '2', of type str",
        ),
        (HEAD + "def experiment():\n    return Experiment('e', [Rung('a', ModelConfig())])\n", r"rungs is \[Rung.*of type list"),
        (
            RUNG.format("ModelConfig(norm_eps=float('nan'))"),
            "norm_eps is nan; it must be finite",
        ),
    ],
)
def test_a_bad_configuration_is_one_sentence(user_module, text, said):
    path_before = list(sys.path)
    try:
        path = user_module("")
        path.write_text(text)
        with pytest.raises(UserError, match=said) as error:
            saved.load_config(path)
    finally:
        sys.path[:] = path_before
    assert str(path) in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


def test_a_configuration_that_is_not_utf8_is_one_sentence(user_module):
    path = user_module("")
    path.write_bytes(b"name = '\xff'\n")
    with pytest.raises(UserError, match="utf-8"):
        saved.load_config(path)


@pytest.mark.parametrize("signal", [KeyboardInterrupt, Terminated, Stopped])
def test_being_asked_to_stop_is_no_mistake_of_a_configuration(user_module, monkeypatch, signal):
    monkeypatch.setattr(sys, "asked_to_stop", signal, raising=False)
    with pytest.raises(signal):
        saved.load_config(user_module("import sys\nraise sys.asked_to_stop()\n"))
    with pytest.raises(signal):
        saved.load_config(user_module("import sys\ndef experiment():\n    raise sys.asked_to_stop()\n", "other_config"))


@pytest.mark.parametrize("late", [False, True])
def test_configurations_import_their_siblings(user_module, late):
    user_module("VALUE = 7\n", "sibling_helper")
    line = "from sibling_helper import VALUE"
    path = user_module(f"{'' if late else line}{HEAD}def experiment():\n    {line if late else 'pass'}\n" + MODEL)
    assert saved.load_config(path).rungs[0].model.layers == 7


def test_a_configuration_may_not_hide_a_module(user_module):
    with pytest.raises(UserError, match="another name"):
        saved.load_config(user_module("def experiment(): pass\n", "json"))
    with pytest.raises(UserError, match="another name"):
        saved.load_config(user_module("def experiment(): pass\n", "w2sr_jax"))


@pytest.mark.parametrize("late", [False, True])
def test_a_configuration_leaves_no_byte_code_beside_it(user_module, late, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    user_module("VALUE = 7\n", "sibling_helper")
    line = "from sibling_helper import VALUE"
    path = user_module(f"{'' if late else line}{HEAD}def experiment():\n    {line if late else 'pass'}\n" + MODEL)
    saved.load_config(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["mine_config.py", "sibling_helper.py"]
    assert not sys.dont_write_bytecode
