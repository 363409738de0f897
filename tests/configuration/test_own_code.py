"""A user's own code: saved with all that it needs, read back equal, executed only where it is trusted."""

import functools
import importlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from w2sr_jax.cli import main as cli
from w2sr_jax.configuration import encoding, saved, words
from w2sr_jax.configuration.overrides import overridden
from w2sr_jax.core import files
from w2sr_jax.core.code import copies, imports, trust, usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.token import Tokens

BASE = """
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models.config import ModelConfig


def of(loss):
    return Experiment("own", (Rung("a", ModelConfig(), objective=Objective(loss)),))
"""
HELPERS = {
    "own_base.py": BASE,
    "own_constants.py": "SCALE = 2.0\n",
    "own_lazy.py": "SHIFT = 0.0\n",
    "own_decorators.py": """
import functools
def logged(function):
    @functools.wraps(function)
    def inner(tokens):
        return function(tokens)
    return inner
""",
    "ownlosses/__init__.py": "",
    "ownlosses/deep/__init__.py": "from .nested import scaled\n",
    "ownlosses/deep/nested.py": """
from own_constants import SCALE
def scaled(tokens):
    import own_lazy
    return SCALE * tokens.logits[:, 0] + own_lazy.SHIFT
""",
    "ownspace/inside.py": "def of_space(tokens):\n    return 3.0 * tokens.logits[:, 0]\n",
}
CONFIG = """
import dataclasses
import functools
import jax
from own_base import of
from own_decorators import logged
from ownlosses.deep import scaled
from ownspace.inside import of_space
from w2sr_jax.losses import formulas
from w2sr_jax.losses.token import Loss, Nll, OnCorrect

def plain(tokens):
    return tokens.logits[:, 0]

@logged
def decorated(tokens):
    return 4.0 * tokens.logits[:, 0]

@jax.jit
def jitted(tokens):
    return 5.0 * tokens.logits[:, 0]

fast = jax.jit(plain)
unnamed = lambda tokens: 6.0 * tokens.logits[:, 0]

@jax.custom_jvp
def straight(tokens):
    return 7.0 * tokens.logits[:, 0]

straight.defjvp(lambda primals, tangents: (straight(*primals), 7.0 * tangents[0].logits[:, 0]))

@jax.custom_vjp
def backward(tokens):
    return 8.0 * tokens.logits[:, 0]

backward.defvjp(lambda tokens: (backward(tokens), None), lambda kept, slope: (None,))

def make(scale):
    return lambda tokens: scale * tokens.logits[:, 0]

made = make(9.0)

def times(tokens, scale):
    return scale * tokens.logits[:, 0]

class Plain:
    def __call__(self, tokens):
        return 10.0 * tokens.logits[:, 0]

instance = Plain()

@dataclasses.dataclass(frozen=True)
class Mine(Loss):
    power: float = 2.0
    inner: object = plain
    def __call__(self, tokens):
        return self.inner(tokens) * self.power

class Outer:
    @staticmethod
    def method(tokens):
        return 11.0 * tokens.logits[:, 0]

def experiment():
    return of({loss})
"""
FORMS = [
    "plain",
    "decorated",
    "jitted",
    "fast",
    "unnamed",
    "straight",
    "backward",
    "made",
    "instance",
    "functools.partial(times, scale=12.0)",
    "functools.partial(formulas.generalized_cross_entropy, q=0.5)",
    "formulas.z_loss",
    "Mine(3.0)",
    "Mine(3.0, fast)",
    "Outer.method",
    "scaled",
    "of_space",
    "Nll() + 0.5 * Mine() + OnCorrect(scaled)",
]
TOKENS = Tokens(jnp.arange(6.0).reshape(2, 3), *[jnp.zeros(2, int)] * 3, jnp.zeros(2), None, jnp.zeros(()))


@pytest.fixture
def folder(tmp_path):
    """A folder of a user's, with helpers beside the configuration; its modules are forgotten afterwards."""
    before, path = set(sys.modules), list(sys.path)
    for name, text in HELPERS.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    yield tmp_path / "mine"
    copies.uninstall()
    forget(before)
    sys.path[:] = path


def forget(before):
    for name in set(sys.modules) - before:
        if name.startswith("own"):
            del sys.modules[name]


def write(folder: Path, loss: str, name: str = "own_config") -> Path:
    path = folder / f"{name}.py"
    path.write_text(CONFIG.replace("{loss}", loss))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_a_loss_is_read_back_as_what_it_was_also_where_its_files_are_gone(folder, tmp_path, form):
    experiment = saved.load_config(write(folder, form))
    expected, run = experiment.rungs[0].objective.loss, tmp_path / "run"
    saved.save(run, experiment)
    numbers = expected(TOKENS)
    before = saved.config_hash(experiment)
    for path in sorted(folder.rglob("*.py")):
        path.unlink()
    looked = saved.load(run)
    assert saved.config_hash(looked) == before
    again = saved.load_trusted(run)
    assert saved.config_hash(again) == before
    assert (again.rungs[0].objective.loss(TOKENS) == numbers).all()
    assert not list(run.rglob("__pycache__"))


def test_all_files_that_a_loss_imports_are_kept_and_no_others(folder, tmp_path):
    experiment = saved.load_config(write(folder, "scaled"))
    saved.save(tmp_path / "run", experiment)
    kept = {path.relative_to(tmp_path / "run/config").as_posix() for path in (tmp_path / "run/config").rglob("*.py")}
    inside = {"ownlosses/__init__.py", "ownlosses/deep/__init__.py", "ownlosses/deep/nested.py"}
    assert kept == inside | {"own_constants.py", "own_lazy.py"}


@pytest.mark.parametrize("edited", ["ownlosses/deep/nested.py", "own_constants.py", "own_lazy.py", "ownlosses/__init__.py"])
def test_an_edit_of_any_file_that_a_loss_imports_is_noticed_and_named(folder, tmp_path, edited):
    path, run, before = write(folder, "scaled"), tmp_path / "run", set(sys.modules)
    first = saved.load_config(path)
    saved.save(run, first)
    known = saved.config_hash(first)
    forget(before - set(HELPERS) - {"own_config"})
    (folder / edited).write_text((folder / edited).read_text() + "\nNEW = 1\n")
    again = saved.load_config(path)
    assert saved.config_hash(again) != known
    assert saved.edited(run, again) == [edited]
    assert saved.edited(tmp_path / "none", again) == []
    copy = run / "config" / edited
    copy.write_text(copy.read_text() + "\nNEW = 2\n")
    for load in (saved.load, saved.load_trusted):
        with pytest.raises(UserError, match=rf"{edited} is not as it was saved"):
            load(run)


DATA = """
import importlib.util
import json
from pathlib import Path
from own_base import of
HERE = Path(__file__).parent
SCALE = json.loads((HERE / "own_scale.json").read_text())["scale"]
spec = importlib.util.spec_from_file_location("own_by_path", Path(__file__).with_name("own_by_path.py"))
by_path = importlib.util.module_from_spec(spec)
spec.loader.exec_module(by_path)
def loss(tokens):
    return SCALE * by_path.FACTOR * tokens.logits[:, 0]
def experiment():
    return of(loss)
"""


@pytest.mark.parametrize("edited", ["own_scale.json", "own_by_path.py"])
def test_a_file_that_a_loss_reads_beside_itself_is_kept_and_its_edit_is_named(folder, tmp_path, edited):
    (folder / "own_scale.json").write_text('{"scale": 2.0}')
    (folder / "own_by_path.py").write_text("FACTOR = 3.0\n")
    (folder / "own_data.py").write_text(DATA)
    run, before = tmp_path / "run", set(sys.modules)
    first = saved.load_config(folder / "own_data.py")
    saved.save(run, first)
    saved.check_read_back(run)
    forget(before)
    (folder / edited).write_text((folder / edited).read_text() + "\n")
    again = saved.load_config(folder / "own_data.py")
    assert saved.edited(run, again) == [edited]
    assert saved.edited(tmp_path / "none", again) == []
    (folder / edited).unlink()
    assert saved.load_trusted(run).rungs[0].objective.loss(TOKENS)[1] == 18.0


def test_a_run_that_could_not_be_opened_again_is_refused_at_once(folder, tmp_path):
    path = folder / "own_absolute.py"
    (tmp_path / "elsewhere.json").write_text("1")
    text = "import json, os\nfrom own_base import of\nNAME = 'elsewhere.json'\n"
    text += "VALUE = json.load(open(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), NAME)))\n"
    path.write_text(text + "def loss(tokens):\n    return VALUE * tokens.logits[:, 0]\ndef experiment():\n    return of(loss)\n")
    run = tmp_path / "runs" / "run"
    saved.save(run, saved.load_config(path))
    with pytest.raises(UserError, match=r"could not be opened again.*own_absolute\.py, line 4: FileNotFoundError"):
        saved.check_read_back(run)


REFUSED = {
    "lambda tokens: tokens.logits[:, 0]": r"own_config\.py, line \d+: .*<lambda>.*no module has at its top level",
    "make(3.0)": r"own_config\.py, line \d+: .*make\.<locals>\.<lambda>.*no module has at its top level",
    "Plain()": r"own_config\.py, line \d+: .*no module has at its top level",
    "functools.partial(make(3.0))": "no module has at its top level",
    "functools.partial(times, scale=[1])": r"scale is \[1\], of type list; settings may hold",
    "Plain": "settings may hold dataclasses",
    "print": "objective.loss is builtins:print of an installed package",
    "jax.nn.relu": "objective.loss is jax.* of an installed package|no module has",
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_could_not_be_read_back_is_refused_with_its_place(folder, form):
    experiment = saved.load_config(write(folder, form))
    with pytest.raises(UserError, match=REFUSED[form]):
        saved.config_hash(experiment)


ODD = """
import dataclasses
from own_base import of
@dataclasses.dataclass(frozen=True)
class Odd:
    scale: float = 1.0
    {more}
    def __call__(self, tokens):
        return tokens.logits[:, 0]
def experiment():
    return of(Odd())
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("def __post_init__(self): object.__setattr__(self, 'scale', self.scale + 1)", "has another scale"),
        ("hidden: int = dataclasses.field(default=1, init=False)", "cannot be made again from its fields"),
        ("wanted: dataclasses.InitVar[int] = 1\n    def __init__(self, x=1): object.__setattr__(self, 'scale', x)", "made again"),
    ],
)
def test_a_dataclass_that_its_fields_do_not_make_is_refused(folder, more, said):
    path = folder / "own_odd.py"
    path.write_text(ODD.replace("{more}", more))
    with pytest.raises(UserError, match=rf"own_odd\.py, line \d+: Odd.*{said}"):
        saved.config_hash(saved.load_config(path))


@pytest.mark.parametrize("form", ["jitted", "straight", "functools.partial(times, scale=2.0)", "instance", "Mine(3.0, fast)"])
def test_settings_are_overridden_whatever_the_loss_is(folder, form):
    experiment = saved.load_config(write(folder, form))
    changed = overridden(experiment, ["--rungs.0.objective.block", "64"], "test")
    assert changed.rungs[0].objective.loss == experiment.rungs[0].objective.loss
    assert changed.rungs[0].objective.block == 64


def foreign(folder: Path, tmp_path: Path, mark: Path) -> Path:
    """A run from somebody else, whose code leaves a mark where it is executed."""
    (folder / "own_constants.py").write_text(f"open({str(mark)!r}, 'a').write('x')\nSCALE = 2.0\n")
    run = tmp_path / "runs" / "own"
    saved.save(run, saved.load_config(write(folder, "Mine(3.0, scaled)")))
    for note in (Path(os.environ["XDG_DATA_HOME"]) / "w2sr_jax" / "trusted").glob("*"):
        note.unlink()
    mark.unlink()
    return run


def test_looking_at_a_run_executes_nothing_of_it_and_working_on_it_asks(folder, tmp_path):
    mark = tmp_path / "mark"
    run = foreign(folder, tmp_path, mark)
    before = dict.fromkeys(sys.modules)
    forget(set(before) - {name for name in before if name.startswith("own")})
    looked = saved.load(run)
    assert not mark.exists()
    with pytest.raises(UserError, match="was not executed"):
        looked.rungs[0].objective.loss(TOKENS)
    with pytest.raises(UserError, match=r"Python of its own.*own_config\.py.*owned by.*--trust"):
        saved.load_trusted(run)
    assert not mark.exists()
    saved.load_trusted(run, True)
    assert mark.read_text() == "x"
    saved.load_trusted(run)  # remembered by its digest


def test_only_listed_files_with_their_listed_bytes_are_executed(folder, tmp_path):
    """Neither a module that the run does not list, nor byte code beside one that it does."""
    (folder / "own_lazy.py").unlink()
    (folder / "own_decorators.py").write_text(
        "try:\n    import own_absent\n    FOUND = True\nexcept ImportError:\n    FOUND = False\n"
        "def logged(function):\n    return function\n"
    )
    run, before = tmp_path / "run", set(sys.modules)
    saved.save(run, saved.load_config(write(folder, "plain")))
    (run / "config/own_absent.py").write_text("")
    source = run / "config" / "own_decorators.py"
    evil = tmp_path / "evil.py"
    evil.write_text(source.read_text().replace("FOUND = False", "FOUND = 'evil'"))
    stat = source.stat()
    os.utime(evil, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    subprocess.run([sys.executable, "-m", "py_compile", str(evil)], check=True)
    planted = importlib.util.cache_from_source(str(source))
    Path(planted).parent.mkdir()
    next((tmp_path / "__pycache__").glob("evil*")).rename(planted)
    forget(before)
    sys.path[:] = [entry for entry in sys.path if entry != str(folder)]
    with pytest.raises(UserError, match=r"is not what .* was saved with"):
        saved.load_trusted(run)
    assert sys.modules["own_decorators"].FOUND is False
    assert str(sys.modules["own_decorators"].__file__) == str(source)


@pytest.mark.parametrize("name", ["../own_outside.py", "/etc/own.py", "own_linked.py", "a/../own_config.py", "own_gone.py", ""])
def test_a_runs_list_of_code_stays_inside_the_run(folder, tmp_path, name):
    run = tmp_path / "run"
    saved.save(run, saved.load_config(write(folder, "plain")))
    (tmp_path / "own_outside.py").write_text("")
    (run / "own_outside.py").write_text("")
    (run / "config/own_linked.py").symlink_to(tmp_path / "own_outside.py")
    raw = files.read_json(run / "experiment.json")
    raw["code"][name] = files.digest_bytes(b"")
    del raw["digest"]
    files.write_json(run / "experiment.json", raw | {"digest": files.digest_json(raw)})
    for load in (saved.load, saved.load_trusted):
        with pytest.raises(UserError, match="does not exist there"):
            load(run)


def test_two_files_of_one_name_are_refused(folder, tmp_path):
    (tmp_path / "other/own_package").mkdir(parents=True)
    (tmp_path / "other/own_constants.py").write_text("def g(tokens):\n    return tokens.logits[:, 0]\n")
    (folder / "own_uses.py").write_text("from own_constants import SCALE\ndef f(tokens):\n    return tokens.logits[:, 0]\n")
    sys.path[:0] = [str(folder)]
    importlib.import_module("own_uses")
    spec = importlib.util.spec_from_file_location("own_alias", tmp_path / "other/own_constants.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["own_alias"] = module
    spec.loader.exec_module(module)
    with pytest.raises(UserError, match=r"both imported as own_constants\.py"):
        imports.closure(["own_uses", "own_alias"])


def test_w2sr_asks_before_it_executes_what_a_run_brings(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    foreign(folder, tmp_path, mark)
    assert cli.run(["curate", "runs/own", "--plain"]) == 2
    said = capsys.readouterr().err
    assert "Python of its own" in said
    assert "own_constants.py" in said
    assert not mark.exists()


SOURCE = """
import dataclasses
from own_base import of
from own_lazy import SHIFT
from w2sr_jax.core.records import Problem
from w2sr_jax.losses.token import Nll
from w2sr_jax.problems.rows import Quarantine
from w2sr_jax.problems.settings import Splits
from w2sr_jax.problems.source import ProblemSource

def problem(i):
    total = i + int(SHIFT)
    return Problem.of(f"What is {i} + {int(SHIFT)} ?", str(total), f"{i} + {int(SHIFT)} = {total} #### {total}", "sums")

@dataclasses.dataclass(frozen=True)
class Sums(ProblemSource):
    def load(self, limit=None):
        return [problem(i) for i in range(min(60, limit or 60))], Quarantine()

def experiment():
    return dataclasses.replace(of(Nll()), problems=Sums(), splits=Splits(teacher=5, pool=5, test=5))
"""


def test_w2sr_names_what_was_edited_between_two_sittings_and_does_it_again(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path, before = folder / "own_source.py", set(sys.modules)
    path.write_text(SOURCE)
    assert cli.run(["sample", str(path), "--plain"]) == 2
    assert "waits for teachers/teacher/train" in capsys.readouterr().err
    named = ("own_lazy.py was edited since", "the code of source was edited")
    for text, expected in (("SHIFT = 0.0\n", ()), ("SHIFT = 1.0\n", named)):
        forget(before)
        (folder / "own_lazy.py").write_text(text)
        assert cli.run(["sample", str(path), "--plain"]) == 2
        said = capsys.readouterr().out
        assert all(sentence in said for sentence in expected)
        assert ("is done again" in said) == bool(expected)


def test_what_is_trusted_is_remembered_by_the_digests_of_all_files(tmp_path):
    here = {"XDG_DATA_HOME": str(tmp_path)}
    code = {"a.py": "1", "b.py": "2"}
    assert trust.remembered({}, here)
    assert not trust.remembered(code, here)
    trust.remember(code, here)
    assert trust.remembered(code, here)
    assert not trust.remembered({**code, "c.py": "3"}, here)
    assert not trust.remembered({**code, "b.py": "3"}, here)
    (tmp_path / "file").write_text("")
    trust.remember(code, {"XDG_DATA_HOME": str(tmp_path / "file")})  # nothing can be written there
    assert not trust.remembered(code, {"XDG_DATA_HOME": str(tmp_path / "file")})


def test_a_stand_in_of_a_users_subclass_is_one_of_what_it_extends(tmp_path, folder):
    path = folder / "own_sub.py"
    path.write_text(
        textwrap.dedent("""
        import dataclasses
        from own_base import of
        from w2sr_jax.teachers.settings import Recorded
        @dataclasses.dataclass(frozen=True)
        class Notes(Recorded):
            tone: str = "kind"
        def experiment():
            return dataclasses.replace(of(print), teachers=(Notes("teacher", "notes.jsonl"),), name="sub", rungs=of(plain).rungs)
        def plain(tokens):
            return tokens.logits[:, 0]
        """)
    )
    experiment = saved.load_config(path)
    saved.save(tmp_path / "run", experiment)
    (teacher,) = saved.load(tmp_path / "run").teachers
    assert type(teacher).__mro__[1].__name__ == "Recorded"
    assert (teacher.path, teacher.tone) == ("notes.jsonl", "kind")
    assert encoding.encode(teacher) == encoding.encode(experiment.teachers[0])


def test_functions_are_named_as_people_call_them(folder):
    loss = saved.load_config(write(folder, "functools.partial(times, scale=2.0)")).rungs[0].objective.loss
    assert words.name_of(loss) == "times(scale=2.0)"
    assert isinstance(loss, functools.partial)


@pytest.mark.parametrize("written", ["import_module('own_later')", "__import__('own_later')"])
def test_a_module_that_is_named_in_a_text_counts_before_it_is_imported(folder, written):
    (folder / "own_later.py").write_text("SCALE = 2.0\n")
    text = f"from importlib import import_module\ndef f(tokens):\n    return {written}.SCALE * tokens.logits[:, 0]\n"
    (folder / "own_texts.py").write_text(text)
    sys.path[:0] = [str(folder)]
    own = importlib.import_module("own_texts")
    before = imports.closure(["own_texts"])
    own.f(Tokens(jnp.ones((2, 3)), *[None] * 6))
    assert list(before) == ["own_later.py", "own_texts.py"]
    assert imports.closure(["own_texts"]) == before


def test_what_a_callback_of_compiled_code_raises_is_told_with_file_and_line(folder):
    (folder / "own_callback.py").write_text("def check(x):\n    assert x < 1, 'too large'\n")
    sys.path[:0] = [str(folder)]
    own = importlib.import_module("own_callback")

    def program(x):
        jax.debug.callback(own.check, x)
        return x

    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready((jax.jit(program)(2.0), jax.effects_barrier()))
    assert "own_callback.py, line 2: AssertionError: too large" in str(usercode.called_back(caught.value))
    assert usercode.called_back(ValueError("Traceback")) is None


def test_a_configuration_that_is_reached_by_a_link_of_another_name_is_the_one_it_leads_to(folder, tmp_path):
    (folder / "own_linked.py").write_text("def f(tokens):\n    return tokens.logits[:, 0]\n")
    (tmp_path / "other_name.py").symlink_to(folder / "own_linked.py")
    module = usercode.load(tmp_path / "other_name.py")
    assert module.__name__ == "own_linked"
    assert list(imports.closure([module.__name__])) == ["own_linked.py"]
