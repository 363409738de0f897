import dataclasses
import json
import sys
import textwrap

import pytest

from w2sr_jax import saved
from w2sr_jax.errors import UserError
from w2sr_jax.experiment import Experiment, FromParent, Graduate, ModelTeacher, Rung, check
from w2sr_jax.ladder import learn
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll, ReverseKL
from w2sr_jax.models.config import ModelConfig


def small(**changes):
    rung = Rung("a", ModelConfig(), objective=Objective(Nll() + 0.05 * ReverseKL()))
    return dataclasses.replace(Experiment("e", (rung,)), **changes)


@pytest.fixture
def config(tmp_path):
    """Writes a configuration file and forgets the modules afterwards."""
    before = set(sys.modules)

    def write(text, name="mine_config"):
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        return path

    yield write
    for name in set(sys.modules) - before:
        if "config" in name or "helper" in name:
            del sys.modules[name]


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
def test_a_users_own_loss_is_saved_with_its_source(tmp_path, config, loss):
    path = config(OWN_LOSS.replace("{loss}", loss))
    experiment = saved.load_config(path)
    run = tmp_path / "run"
    saved.save(run, experiment)
    expected = saved.config_hash(experiment)
    path.unlink()
    del sys.modules["mine_config"]
    again = saved.load(run)
    assert saved.config_hash(again) == expected
    assert (run / "config" / "mine_config.py").exists()


def test_a_training_recognises_its_checkpoints_in_another_process(config):
    """A function's address differs between processes; what steers a training must not."""
    path = config(OWN_LOSS.replace("{loss}", "plain"))
    digests, losses = set(), []
    for _ in range(2):
        rung = saved.load_config(path).rungs[0]
        losses.append(rung.objective.loss)
        digests.add(learn.steering(rung.model, rung.training, rung.objective, 0))
        del sys.modules["mine_config"]
    assert losses[0] is not losses[1]
    assert len(digests) == 1


def test_a_changed_function_changes_the_hash(config):
    first = saved.config_hash(saved.load_config(config(OWN_LOSS.replace("{loss}", "plain"))))
    del sys.modules["mine_config"]
    changed = OWN_LOSS.replace("{loss}", "plain").replace(
        "return Nll()(tokens)\n\n    def exp", "return 2 * Nll()(tokens)\n\n    def exp"
    )
    assert first != saved.config_hash(saved.load_config(config(changed)))


def test_configurations_import_their_siblings(config):
    config("VALUE = 7\n", "sibling_helper")
    path = config(
        """
        from sibling_helper import VALUE
        from w2sr_jax.experiment import Experiment, Rung
        from w2sr_jax.models.config import ModelConfig
        def experiment():
            return Experiment("s", (Rung("a", ModelConfig(layers=VALUE)),))
        """
    )
    assert saved.load_config(path).rungs[0].model.layers == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "must define a function experiment"),
        ("def experiment():\n    return 3\n", "not an Experiment"),
        ("import not_there_at_all\n", "line 1: ModuleNotFoundError"),
        ("def experiment(:\n", "SyntaxError"),
    ],
)
def test_a_bad_configuration_is_one_sentence(config, text, said):
    with pytest.raises(UserError, match=said):
        saved.load_config(config(text))


def test_a_configuration_may_not_hide_a_module(config):
    with pytest.raises(UserError, match="another name"):
        saved.load_config(config("def experiment(): pass\n", "json"))


def test_lambdas_cannot_be_saved():
    with pytest.raises(UserError, match="top level"):
        saved.encode(Objective(lambda tokens: tokens.target))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.update(type="os:system"), "does not exist"),
        (lambda raw: raw.update(type="w2sr_jax.files:write_text"), "not a dataclass"),
        (lambda raw: raw.update(surprise=1), "surprise"),
    ],
)
def test_a_saved_experiment_names_only_what_it_may(tmp_path, change, said):
    saved.save(tmp_path, small())
    path = tmp_path / "experiment.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=said):
        saved.load(tmp_path)


def test_the_first_difference_is_named():
    assert saved.difference(small(), small(seeds=(3,))) == "its seeds.0 is 0, not 3"


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
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(experiment, said):
    with pytest.raises(UserError, match=said):
        check(experiment)
