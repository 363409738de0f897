import dataclasses
import json
import sys

import pytest

from w2sr_jax.configuration import encoding, saved
from w2sr_jax.core import files
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment import Experiment, FromParent, Graduate, ModelTeacher, Pretraining, Rung, check
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll, ReverseKL
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.stages.imitating import steering
from w2sr_jax.training.settings import Training


def small(**changes):
    rung = Rung("a", ModelConfig(), objective=Objective(Nll() + 0.05 * ReverseKL()))
    return dataclasses.replace(Experiment("e", (rung,)), **changes)


OWN_LOSS = """
    import dataclasses
    from w2sr_jax.experiment import Experiment, Rung
    from w2sr_jax.losses.objective import Objective
    from w2sr_jax.losses.token import Loss, Nll
    from w2sr_jax.models.config import ModelConfig

    @dataclasses.dataclass(frozen=True)
    class Mine(Loss):
        power: float = 2.0
        def __call__(self, tokens):
            return Nll()(tokens) ** self.power

    def plain(tokens):
        return Nll()(tokens)

    def experiment():
        return Experiment("own", (Rung("a", ModelConfig(), objective=Objective({loss})),))
"""


def test_an_experiment_survives_being_saved(tmp_path):
    saved.save(tmp_path, small())
    assert saved.load(tmp_path) == small()


def test_the_hash_is_of_settings_and_not_of_the_name():
    assert saved.config_hash(small()) == saved.config_hash(small(name="other"))
    assert saved.config_hash(small()) != saved.config_hash(small(seeds=(1,)))


@pytest.mark.parametrize("loss", ["Mine(3.0)", "plain", "Nll() + 0.5 * Mine()"])
def test_a_users_own_loss_is_saved_with_its_source(tmp_path, user_module, loss):
    path = user_module(OWN_LOSS.replace("{loss}", loss))
    experiment = saved.load_config(path)
    run = tmp_path / "run"
    saved.save(run, experiment)
    expected = saved.config_hash(experiment)
    path.unlink()
    del sys.modules["mine_config"]
    for again in (saved.load(run), saved.load_trusted(run)):
        assert saved.config_hash(again) == expected
    assert (run / "config" / "mine_config.py").exists()


def test_a_training_recognises_its_checkpoints_in_another_process(user_module):
    """A function's address differs between processes; what steers a training must not."""
    path = user_module(OWN_LOSS.replace("{loss}", "plain"))
    digests, losses = set(), []
    for _ in range(2):
        rung = saved.load_config(path).rungs[0]
        losses.append(rung.objective.loss)
        digests.add(steering(rung.model, rung.training, rung.objective, 0))
        del sys.modules["mine_config"]
    assert losses[0] is not losses[1]
    assert len(digests) == 1


def test_a_changed_function_changes_the_hash(user_module):
    first = saved.config_hash(saved.load_config(user_module(OWN_LOSS.replace("{loss}", "plain"))))
    del sys.modules["mine_config"]
    changed = OWN_LOSS.replace("{loss}", "plain").replace(
        "return Nll()(tokens)\n\n    def exp", "return 2 * Nll()(tokens)\n\n    def exp"
    )
    assert first != saved.config_hash(saved.load_config(user_module(changed)))


DEEP = ("[" * 100_000, "[" * 900 + "]" * 900, '{"a": ' * 900 + "1" + "}" * 900)


def test_lambdas_cannot_be_saved():
    with pytest.raises(UserError, match="top level"):
        encoding.encode(Objective(lambda tokens: tokens.target))


def rewrite(run, change, seal):
    """Change RUN/experiment.json as JSON, with a digest that fits or without one."""
    path = run / "experiment.json"
    raw = json.loads(path.read_text())
    del raw["digest"]
    change(raw)
    path.write_text(json.dumps(raw | {"digest": files.digest_json(raw)} if seal else raw))


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Modules outside the run that must never be imported, wherever they might be found."""
    monkeypatch.setattr(sys, "trapped", [], raising=False)
    run = tmp_path / "a" / "run"
    for place in (tmp_path, tmp_path / "a", run):
        place.mkdir(exist_ok=True)
        (place / "trap_config.py").write_text("import sys\nsys.trapped.append(__file__)\ndef fire(*_): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield run
    assert sys.trapped == []


NAMES = [
    ("os:system", "does not exist"),
    ("trap_config:fire", "does not exist"),
    ("../trap_config:fire", "does not exist"),
    ("../../trap_config:fire", "does not exist"),
    ("linked_config:fire", "does not exist"),
    ("w2sr_jax.core.files:os.system", "is not defined there"),
    ("w2sr_jax.configuration.saved:shutil.rmtree", "is not defined there"),
    ("w2sr_jax.configuration.saved:Experiment", "is not defined there"),
    ("w2sr_jax.nothing:X", "does not exist"),
    ("w2sr_jax..files:read_json", "does not exist"),
    ("w2sr_jax.core.files:nothing", "does not exist"),
    ("w2sr_jax.core.files:sweep", "is not a loss|is not a dataclass"),
    ("w2sr_jax.cli.main:main", "is not a loss|is not a dataclass"),
    ("w2sr_jax.core.files", "must be MODULE:NAME"),
    ("w2sr_jax.core.files:", "must be MODULE:NAME"),
    (":x", "must be MODULE:NAME"),
    ("a\0b:c", "does not exist"),
    ("x" * 5000 + ":y", "does not exist"),
    (5, "must be MODULE:NAME"),
    (None, "must be MODULE:NAME"),
    (["w2sr_jax.core.files:read_json"], "must be MODULE:NAME"),
]


@pytest.mark.parametrize("field", ["type", "function"])
@pytest.mark.parametrize(("name", "said"), NAMES)
def test_a_saved_experiment_imports_only_ours_and_its_own(trap, name, said, field):
    saved.save(trap, small())
    (trap / "config").mkdir()
    (trap / "config" / "linked_config.py").symlink_to(trap / "trap_config.py")
    for seal in (True, False):
        rewrite(trap, lambda raw: raw.update(grader={field: name}), seal)
        with pytest.raises(UserError, match=said) as error:
            saved.load(trap)
        assert str(error.value).isprintable()
        assert "experiment.json, grader" in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.update(type="w2sr_jax.core.files:write_text"), "is not a dataclass"),
        (lambda raw: raw.update(grader={"function": "w2sr_jax.experiment.experiment:Rung"}), "is not a loss|is not a function"),
        (lambda raw: raw.update(surprise=1), "has no field 'surprise'"),
        (lambda raw: raw.pop("type"), "must say its type"),
        (lambda raw: raw.pop("rungs"), "missing 1 required positional argument: 'rungs'"),
        (lambda raw: raw.update(rungs=3), "rungs is 3, of type int; it must be a tuple, each part Rung"),
        (lambda raw: raw["rungs"][0].update(name=["a"]), r"rungs.0.name is \('a',\), of type tuple; it must be text"),
        (lambda raw: raw["rungs"][0]["training"].update(steps="5"), "rungs.0.training: Training.steps is '5', of type str"),
        (lambda raw: raw["rungs"][0]["training"].update(steps=0), "rungs.0.training: training.steps is 0"),
        (lambda raw: raw["rungs"][0]["training"].update(warmup=10**4200), "rungs.0.training: training.warmup is 1000"),
        (lambda raw: raw["rungs"][0]["model"].update(layers=True), "rungs.0.model.layers is True, of type bool"),
        (lambda raw: raw["rungs"][0]["model"].update(layers=10**30), r"between -2\*\*63 and 2\*\*63"),
        (
            lambda raw: raw["rungs"][0].update(start={"type": "w2sr_jax.experiment.teachers:Graduate"}),
            "rungs.0.start is Graduate.*must be Start",
        ),
        (lambda raw: raw.update(teachers=[]), "is not among the experiment's teachers"),
    ],
)
def test_a_saved_experiment_of_the_wrong_shape_is_one_sentence(tmp_path, change, said):
    saved.save(tmp_path, small())
    rewrite(tmp_path, change, True)
    with pytest.raises(UserError, match=said) as error:
        saved.load(tmp_path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1500


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", "9" * 5000, '{"type": "\ud800"}', "NaN", *DEEP])
def test_a_saved_experiment_that_is_none_is_one_sentence(tmp_path, text):
    (tmp_path / "experiment.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(UserError, match=r"experiment\.json") as error:
        saved.load(tmp_path)
    assert str(error.value).isprintable()


def refused(run):
    """What loading says, or None where it gives the experiment that was saved."""
    try:
        found = saved.load(run)
    except UserError as error:
        return str(error)
    assert found == small()
    return None


def test_no_flipped_bit_changes_a_saved_experiment_unnoticed(tmp_path):
    saved.save(tmp_path, small())
    path = tmp_path / "experiment.json"
    data, said = path.read_bytes(), []
    for at in range(0, len(data), 11):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        said.append(refused(tmp_path))
    assert all(text is None or text.isprintable() for text in said)
    assert len([text for text in said if text]) > len(said) / 2
    path.write_text(data.decode().replace('"layers": 3', '"layers": 2'))
    assert "not as it was saved" in refused(tmp_path)


def test_values_that_are_never_saved_are_not_as_saved(tmp_path):
    saved.save(tmp_path, small())
    path = tmp_path / "experiment.json"
    for value in ("NaN", '"\\ud800"', "[" * 900 + "]" * 900):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "?"}).replace('"?"', value))
        with pytest.raises(UserError):
            saved.load(tmp_path)


def test_a_field_that_occurs_twice_is_refused(tmp_path):
    saved.save(tmp_path, small())
    path = tmp_path / "experiment.json"
    path.write_text(path.read_text().replace('"name": "e"', '"name": "e", "name": "f"'))
    with pytest.raises(UserError, match="occurs twice"):
        saved.load(tmp_path)


@pytest.mark.parametrize("loss", ["Mine(3.0)", "plain"])
def test_a_runs_own_code_that_changed_is_refused(tmp_path, user_module, loss):
    path = user_module(OWN_LOSS.replace("{loss}", loss))
    run = tmp_path / "run"
    saved.save(run, saved.load_config(path))
    del sys.modules["mine_config"]
    copy = run / "config" / "mine_config.py"
    copy.write_text(copy.read_text().replace("tokens)", "tokens) + 1"))
    with pytest.raises(UserError, match=r"mine_config\.py is not as it was saved"):
        saved.load(run)
    copy.unlink()
    with pytest.raises(UserError, match="does not exist"):
        saved.load(run)


def test_a_changed_method_of_a_loss_changes_the_hash(user_module):
    source = OWN_LOSS.replace("{loss}", "Mine(3.0)")
    first = saved.config_hash(saved.load_config(user_module(source)))
    del sys.modules["mine_config"]
    assert first != saved.config_hash(saved.load_config(user_module(source.replace("** self.power", "* self.power"))))


def test_settings_without_a_digest_or_newer_fields_still_load(tmp_path):
    saved.save(tmp_path, small())
    rewrite(tmp_path, lambda raw: raw["rungs"][0]["training"].pop("seed"), False)
    assert saved.load(tmp_path) == small()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": float("nan")}, "name is nan; it must be finite"),
        ({"seeds": (10**30,)}, r"seeds.0 is 1000.*between"),
        ({"name": "\ud800"}, "half surrogate pairs"),
        ({"grader": [1]}, r"grader is \[1\], of type list; settings may hold"),
    ],
)
def test_what_cannot_be_saved_is_named(fields, said):
    with pytest.raises(UserError, match=said):
        encoding.encode(small(**fields))


def test_names_that_a_saved_experiment_uses_itself_are_refused(user_module):
    text = "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Odd:\n    source: int = 1\n"
    odd = usercode.load(user_module(text, "odd_config")).Odd()
    with pytest.raises(UserError, match="odd_config:Odd has a field 'source'"):
        encoding.encode(odd)


def test_a_dataclass_inside_a_function_cannot_be_saved():
    @dataclasses.dataclass(frozen=True)
    class Inside:
        x: int = 1

    with pytest.raises(UserError, match="top level"):
        encoding.encode(Inside())


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        (small(name="a/b"), "letters"),
        (small(rungs=()), "rungs is empty"),
        (small(seeds=(0, 0)), "distinct"),
        (small(rungs=(Rung("a", ModelConfig(), teachers=("x",)),)), "'x' is not among"),
        (small(rungs=(Rung("a", ModelConfig(), start=FromParent()),)), "previous rung"),
        (small(teachers=(Graduate("teacher"),)), "previous rung"),
        (small(rungs=(Rung("a", ModelConfig(), pool=(0.5, 0.5)),)), "pool"),
        (small(teachers=(ModelTeacher("t"), ModelTeacher("t"))), "distinct names"),
        (
            small(rungs=(Rung("a", ModelConfig(), arms=("all",)), Rung("b", ModelConfig(), start=FromParent("correct")))),
            "arm 'correct'",
        ),
        (small(teachers=(ModelTeacher("t", training=Training(lora=Lora(rank=2))),)), "adapters need a pretrained model"),
        (
            small(rungs=(Rung("a", ModelConfig(), start=Pretraining(training=Training(lora=Lora(rank=2)))),)),
            "start.training.lora.rank is 2",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(experiment, said):
    with pytest.raises(UserError, match=said):
        check(experiment)
