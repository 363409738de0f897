"""A user's loss is refused in a sentence with file and line, or it trains."""

import gc
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from own_losses import HEAD, OF_WEIGHTS, RIGHT, SCHEDULE, SCHEDULES, WEIGHTS, WRONG

from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses import token
from w2sr_jax.losses.contract import check_objective
from w2sr_jax.losses.inputs import models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.schedules import Constant, Cosine, Linear, WarmUp
from w2sr_jax.losses.weights import TokenWeights

Load = Callable[[str], Any]


@pytest.fixture
def load(user_module: Callable[..., Path]) -> Iterator[Load]:
    """The module of a source text; each has a name of its own."""
    count = itertools.count()
    # Where an array is kept, jax asks every object who holds it; those of all other tests would take minutes.
    gc.freeze()
    yield lambda text: usercode.load(user_module(HEAD + text + "\n", f"config_of_losses_{next(count)}"))
    gc.unfreeze()


def refusal(objective: Objective, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        check_objective(objective, where="rungs.0.objective", **settings)
    return str(caught.value)


def marked(source: str) -> int | None:
    """The line that a refusal must name."""
    lines = (HEAD + source).splitlines()
    return next((number for number, line in enumerate(lines, 1) if "# here" in line), None)


def check_named(said: str, source: str, module: Any) -> None:
    assert said.startswith("rungs.0.objective")
    assert "\n" not in said
    assert "Traceback" not in said
    assert len(said) < 900
    line = marked(source)
    if line is not None:
        # Python counts a decorated class from its decorator on, a plain one from its own line.
        lines = (line - 1, line) if "# here_class" in source else (line,)
        assert any(f"{Path(module.__file__).name}, line {number}: " in said for number in lines), said


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_loss_is_refused(load: Load, case: str) -> None:
    source, words = WRONG[case]
    module = load(source)
    said = refusal(objective_of(module))
    assert re.search(words, said), said
    if "here" not in source and "def loss" in source:
        assert f"{Path(module.__file__).name}, line " in said
    check_named(said, source, module)


def objective_of(module: Any) -> Objective:
    return Objective(module.loss, getattr(module, "weights", TokenWeights()))


@pytest.mark.parametrize("case", SCHEDULES)
def test_a_wrong_schedule_is_refused(load: Load, case: str) -> None:
    body, words = SCHEDULES[case]
    source = SCHEDULE.format(body=body)
    source = source.replace("  # here_class", "") if "# here" in body else source
    module = load(source)
    said = refusal(objective_of(module))
    assert said.startswith("rungs.0.objective.loss.coefficient: ")
    assert re.search(words, said), said
    check_named(said, source, module)


@pytest.mark.parametrize("case", OF_WEIGHTS)
def test_wrong_weights_are_refused(load: Load, case: str) -> None:
    body, words = OF_WEIGHTS[case]
    source = WEIGHTS.format(body=body)
    source = source.replace("  # here_class", "") if "# here" in body else source
    module = load(source)
    said = refusal(objective_of(module))
    assert said.startswith("rungs.0.objective.weights: ")
    assert re.search(words, said), said
    check_named(said, source, module)


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_loss_is_accepted(load: Load, case: str) -> None:
    remarks = check_objective(objective_of(load(RIGHT[case])), where="rungs.0.objective")
    assert ["depend on the others of its block" in remark for remark in remarks] == ([True] if "mixes" in case else [])


MIXING = [
    "x - x.mean()",
    "x / jnp.sum(jnp.abs(x))",
    "x * jax.nn.softmax(x)",
    "jnp.full_like(x, jnp.max(x))",
    "jnp.cumsum(x)",
    "x * jnp.mean(tokens.verdict > 0)",
    "x + tokens.logits[:, 0] @ jnp.ones(x.shape[0])",
    "x - jnp.sort(x)",
    "jax.jit(lambda y: y - jnp.median(y))(x)",
]
APART = [
    "x * tokens.progress",
    "x * jnp.asarray([1.0, 2.0, 0.0, 1.0])[tokens.span]",
    "x + tokens.logits @ jnp.ones(tokens.logits.shape[1])",
    "jnp.mean(jax.nn.log_softmax(tokens.logits), axis=1)",
    "jax.vmap(lambda logits, target: -jax.nn.log_softmax(logits)[target])(tokens.logits, tokens.target)",
    "jax.nn.one_hot(tokens.target, tokens.logits.shape[1]).T.sum(0) * x",
    "tokens.logits[jnp.arange(x.shape[0]), tokens.target]",
    "jnp.einsum('tv,tv->t', tokens.logits, jax.nn.softmax(tokens.logits))",
    "jnp.squeeze(x[:, None], 1) + jnp.sort(tokens.logits, axis=-1)[:, -1]",
    "jnp.where(tokens.verdict > 0, x, 0.1 * x)",
]


@pytest.mark.parametrize("value", MIXING + APART)
def test_it_is_remarked_where_one_token_depends_on_others(load: Load, value: str) -> None:
    module = load(f"def loss(tokens):\n    x = nll(tokens)\n    return {value}")
    remarks = check_objective(Objective(module.loss, block=77))
    assert [("objective.block (77)" in remark, ", line 15)" in remark) for remark in remarks] == [(True, True)] * (
        value in MIXING
    )


BUILT_IN = [
    token.Nll(),
    token.LabelSmoothing(),
    token.GeneralizedCrossEntropy(),
    token.GeneralizedCrossEntropy(0.0),
    token.SymmetricCrossEntropy(),
    token.Dft(),
    token.Confidence(),
    token.ForwardKL(),
    token.ReverseKL(),
    token.Jsd(),
    token.ForwardKL("teacher") + token.ReverseKL("0-small.correct"),
    token.OnCorrect(token.Jsd("teacher", beta=0.3)),
    token.Entropy(),
    token.ZLoss(),
    token.Unlikelihood(),
    token.OnCorrect(token.Nll()) + 0.1 * token.Unlikelihood(),
    token.OnIncorrect(token.Dft()) - 0.1 * token.Entropy(),
    token.OnSpans(token.Nll(), reasoning=False),
    0.5 * token.Nll() + WarmUp(0.1) * token.ReverseKL() + Cosine() * token.ZLoss(),
    Linear(0.0, 1.0) * token.Nll() + Constant(0.0) * token.Dft(),
    -token.Entropy(),
]


@pytest.mark.parametrize("loss", BUILT_IN, ids=str)
def test_all_of_ours_are_accepted(loss: token.Loss) -> None:
    for objective in (Objective(loss), Objective(loss, trim=0.1, block=4)):
        check_objective(objective, vocab_size=24)


def test_the_term_at_fault_is_named_by_its_place(load: Load) -> None:
    module = load("def mean(tokens):\n    return nll(tokens).mean()\n\n\nloss = Nll() + 0.1 * OnCorrect(mean)")
    said = refusal(Objective(module.loss))
    assert said.startswith("rungs.0.objective.loss.terms.1.loss.loss: ")


def test_a_constant_term_may_steer_which_tokens_are_trimmed(load: Load) -> None:
    module = load("def rank(tokens):\n    return -jnp.nan_to_num(tokens.teacher_logprob)\n\n\nloss = Nll() + rank")
    check_objective(Objective(module.loss, trim=0.1))
    assert "does not depend on tokens.logits" in refusal(Objective(module.loss))
    assert "nothing would be trained" in refusal(Objective(module.rank, trim=0.1))


def test_double_precision_is_refused_where_jax_has_it(load: Load) -> None:
    import jax

    module = load("def loss(tokens):  # here\n    return nll(tokens).astype(np.float64)")
    with jax.enable_x64(True):
        assert "JAX_ENABLE_X64" in refusal(Objective(module.loss))
        assert check_objective(Objective(module.nll)) == []


def test_a_loss_in_a_package_is_named_where_it_stands(load: Load, tmp_path: Path) -> None:
    (tmp_path / "config_package").mkdir()
    (tmp_path / "config_package" / "__init__.py").write_text("")
    (tmp_path / "config_package" / "deep.py").write_text("import jax.numpy as jnp\n\n\ndef deep(x):\n    return x.nothing\n")
    module = load("from config_package.deep import deep\n\n\ndef loss(tokens):\n    return deep(nll(tokens))")
    said = refusal(Objective(module.loss))
    assert f"{Path('config_package', 'deep.py')}, line 5: " in said
    assert "asks an array for .nothing" in said


def test_a_helper_is_imported_when_the_loss_is_called(load: Load, tmp_path: Path) -> None:
    (tmp_path / "helper_of_losses.py").write_text("def half(x):\n    return x / 2\n")
    check_objective(
        Objective(load("def loss(tokens):\n    from helper_of_losses import half\n\n    return half(nll(tokens))").loss)
    )


def test_looking_prints_each_size_once(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    check_objective(Objective(load("def loss(tokens):\n    print('seen', len(tokens.target))\n    return nll(tokens)").loss))
    assert capsys.readouterr().out.splitlines() == ["seen 8", "seen 24"]


def test_models_are_read_behind_wrappers(load: Load) -> None:
    module = load(
        "def inner(tokens, beta=1.0):\n    return formulas.reverse_kl(tokens)\n\n\ninner.models = ('initial',)\n"
        "wrapped = functools.wraps(inner)(lambda tokens: inner(tokens))\nbound = functools.partial(inner, beta=2.0)\n"
        "off = functools.partial(inner)\noff.models = ()"
    )
    assert models_of(module.wrapped) == models_of(module.bound) == ("initial",)
    assert models_of(module.off) == models_of(module.nll) == ()
