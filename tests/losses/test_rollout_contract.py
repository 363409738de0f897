"""A user's loss on rollouts or sequences, and a user's advantages, are refused in a sentence with file and line or they train."""

import functools
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.contract import check_objective
from w2sr_jax.losses.contract_sequences import check_sequence_loss
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.policy import K3, Dapo, DrGrpo, Grpo, Reinforce
from w2sr_jax.losses.preference import Dpo, Ipo, RobustDpo, SimPo
from w2sr_jax.losses.sequences import Gspo
from w2sr_jax.losses.shift import Shift, Verified
from w2sr_jax.losses.token import Nll, OnCorrect, ReverseKL

HEAD = """
import jax
import jax.numpy as jnp
import numpy as np
from w2sr_jax.losses.advantages import Centered
from w2sr_jax.losses.policy import DrGrpo, PolicyLoss
from w2sr_jax.losses.preference import PreferenceLoss
"""
Load = Callable[[str], Any]


@pytest.fixture
def load(user_module: Callable[..., Path], request: pytest.FixtureRequest) -> Load:
    return lambda text: usercode.load(user_module(HEAD + textwrap.dedent(text) + "\n", f"mine_{abs(hash(request.node.name))}"))


OWN = [
    DrGrpo(),
    Grpo() + 0.1 * K3(),
    Reinforce(importance=2.0),
    Dapo(clip=None),
    OnCorrect(DrGrpo()) + 0.1 * ReverseKL("teacher"),
]


@pytest.mark.parametrize("loss", [*OWN, Verified(), Shift(), Shift(negative="base", top=8)], ids=str)
def test_ours_are_accepted_on_rollouts(loss: Any) -> None:
    assert check_objective(Objective(loss, block=64), rollouts=True) == []


@pytest.mark.parametrize("loss", OWN, ids=str)
def test_in_imitation_a_loss_on_rollouts_is_refused(loss: Any) -> None:
    with pytest.raises(UserError, match=r"^arms\.0\.objective\.loss looks at rollouts, .* and this training has none"):
        check_objective(Objective(loss), where="arms.0.objective", rollouts=False)
    assert check_objective(Objective(loss, block=64)) == []  # where it is not known, the loss says so
    check_objective(Objective(Nll() + Shift()), rollouts=False)


RIGHT = {
    "a function": """
        def loss(tokens):
            rollout = tokens.drawn()
            return -rollout.advantage * jnp.exp(jnp.clip(rollout.log_ratio, -5.0, 5.0))
        loss.needs_rollouts, loss.advantages, loss.denominator = True, (lambda rewards: rewards - 0.5), 256
    """,
    "a class": """
        import dataclasses
        @dataclasses.dataclass(frozen=True)
        class Mine(PolicyLoss):
            def __call__(self, tokens):
                return -tokens.drawn().advantage * tokens.drawn().logprob
        loss = Mine(denominator="token")
    """,
    "beside another": """
        def mine(tokens):
            return jnp.maximum(tokens.drawn().log_ratio, 0.0)
        mine.needs_rollouts = True
        loss = DrGrpo() + mine
    """,
    "advantages as jax arrays": """
        def mine(rewards):
            return jnp.asarray(rewards) - 0.5
        loss = DrGrpo(advantages=mine)
    """,
}

WRONG = {
    "does not say so": (
        """
        def loss(tokens):
            return -tokens.drawn().logprob  # here
        """,
        r"looks at rollouts, .* has the attribute needs_rollouts = True",
    ),
    "reads the field": (
        """
        def loss(tokens):
            return -tokens.rollout.advantage * jax.nn.log_softmax(tokens.logits)[:, 0]  # here
        """,
        r"asks for tokens\.rollout\.advantage where there are no rollouts; .* reads tokens\.drawn\(\)",
    ),
    "no gradient": (
        """
        def loss(tokens):  # here
            return tokens.drawn().advantage * tokens.drawn().sampled
        loss.needs_rollouts = True
        """,
        r"does not depend on tokens\.logits",
    ),
    "stopped": (
        """
        def loss(tokens):  # here
            return -jax.lax.stop_gradient(tokens.drawn().logprob) * tokens.drawn().advantage
        loss.needs_rollouts = True
        """,
        r"has a gradient of 0 in tokens\.logits",
    ),
    "another field": (
        """
        def loss(tokens):
            return -tokens.drawn().advantages * tokens.drawn().logprob  # here
        loss.needs_rollouts = True
        """,
        r"asks for tokens\.rollout\.advantages, which there is not \(did you mean advantage\?\); there are advantage, ",
    ),
    "where advantages are not": (
        """
        def loss(tokens):
            return -tokens.advantage * jax.nn.log_softmax(tokens.logits)[:, 0]  # here
        loss.needs_rollouts = True
        """,
        r"asks for tokens\.advantage, .* are `tokens\.drawn\(\)\.advantage`",
    ),
    "one number": (
        """
        def loss(tokens):  # here
            return -jnp.mean(tokens.drawn().logprob * tokens.drawn().advantage)
        loss.needs_rollouts = True
        """,
        "one number for the whole block",
    ),
    "advantages of problems": (
        """
        def mine(rewards):  # here
            return rewards.mean(axis=1)
        loss = DrGrpo(advantages=mine)
        """,
        r"return shape \[4\] for rewards of shape \[4, 4\]",
    ),
    "advantages that are not finite": (
        """
        def mine(rewards):  # here
            with np.errstate(all="ignore"):
                return (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
        loss = DrGrpo(advantages=mine)
        """,
        "return nan; they must return finite numbers",
    ),
    "advantages that raise": (
        """
        def mine(rewards):
            return rewards.centred()  # here
        loss = DrGrpo(advantages=mine)
        """,
        "centred",
    ),
    "advantages by chance": (
        """
        def mine(rewards):  # here
            return np.random.default_rng().normal(size=rewards.shape)
        loss = DrGrpo(advantages=mine)
        """,
        "makes other advantages of the same rewards each time",
    ),
    "denominator": (
        """
        def loss(tokens):
            return -tokens.drawn().logprob
        loss.needs_rollouts, loss.denominator = True, "mean"
        """,
        r"loss\.denominator is 'mean'; it must be 'sequence', 'token', 'constant' or a number of tokens",
    ),
    "two denominators": (
        """
        def mine(tokens):
            return -tokens.drawn().logprob
        mine.needs_rollouts, mine.denominator = True, "token"
        loss = DrGrpo() + mine
        """,
        "terms of one loss ask for the denominator 'constant' and 'token'",
    ),
}


def check_named(said: str, source: str, module: Any, where: str) -> None:
    assert said.startswith(where)
    assert "\n" not in said
    line = next(
        (number for number, text in enumerate(Path(module.__file__).read_text().splitlines(), 1) if "# here" in text), None
    )
    if line is not None:
        assert f"{Path(module.__file__).name}, line {line}: " in said, said


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_loss_on_rollouts_is_accepted(load: Load, case: str) -> None:
    assert check_objective(Objective(load(RIGHT[case]).loss, block=64)) == []


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_loss_on_rollouts_is_refused(load: Load, case: str) -> None:
    source, words = WRONG[case]
    module = load(source)
    with pytest.raises(UserError) as caught:
        check_objective(Objective(module.loss, block=64), where="train.1.objective")
    assert re.search(words, str(caught.value)), str(caught.value)
    check_named(str(caught.value), source, module, "train.1.objective.loss: ")


def test_on_rollouts_a_loss_need_not_say_that_it_looks_at_them(load: Load) -> None:
    loss = load("def loss(tokens):\n    return -tokens.drawn().logprob").loss
    assert check_objective(Objective(loss, block=64), rollouts=True) == []


def test_a_loss_whose_tokens_depend_on_each_other_is_remarked_upon(load: Load) -> None:
    loss = load(
        """
        def loss(tokens):
            rollout = tokens.drawn()
            return -rollout.logprob * (rollout.advantage - rollout.advantage.mean())
        loss.needs_rollouts = True
        """
    ).loss
    (remark,) = check_objective(Objective(loss, block=64))
    assert "depend on the others of its block" in remark


@pytest.mark.parametrize("loss", [Dpo(), RobustDpo(), Ipo(), SimPo(), Gspo(), Gspo(clip=None)], ids=str)
def test_our_losses_on_sequences_are_accepted(loss: Any) -> None:
    assert check_sequence_loss(loss) == []


RIGHT_ON_SEQUENCES = {
    "a subclass": """
        class Hinge(PreferenceLoss):
            def of_margin(self, margin):
                return jnp.maximum(0.0, 1.0 - margin)
        loss = Hinge()
    """,
    "a function": """
        def loss(sequences):
            ratio = jnp.exp((sequences.logprob - sequences.sampled) / sequences.lengths)
            return -ratio * sequences.advantage
        loss.pairs, loss.uses_reference, loss.needs_rollouts, loss.advantages = False, False, True, Centered()
    """,
    "likelihood": """
        def loss(sequences):
            return -sequences.mean_logprob[:, 0::2]
        loss.pairs, loss.uses_reference = True, False
    """,
}
WRONG_ON_SEQUENCES = {
    "says nothing": (
        """
        def loss(sequences):  # here
            return -sequences.logprob
        """,
        r"loss\.pairs is missing; it must be True or False: whether its losses are of pairs",
    ),
    "says something else": (
        """
        def loss(sequences):  # here
            return -sequences.logprob
        loss.pairs, loss.uses_reference = False, "initial"
        """,
        r"loss\.uses_reference is 'initial'; it must be True or False",
    ),
    "of sequences": (
        """
        class Mine(PreferenceLoss):  # here
            def __call__(self, sequences):
                return -sequences.logprob
        loss = Mine()
        """,
        r"Mine returns shape \[3, 4\]; it must map 3 rows of 4 sequences to losses of shape \[3, 2\], one for each pair",
    ),
    "one number": (
        """
        def loss(sequences):  # here
            return -jnp.mean(sequences.logprob)
        loss.pairs, loss.uses_reference = False, False
        """,
        r"returns shape \[\]; it must map 3 rows of 4 sequences to losses of shape \[3, 4\], one for each sequence",
    ),
    "nothing": (
        """
        class Mine(PreferenceLoss):  # here
            def of_margin(self, margin):
                -margin
        loss = Mine()
        """,
        r"returns nothing \(None\); it must map",
    ),
    "whole numbers": (
        """
        class Mine(PreferenceLoss):  # here
            def of_margin(self, margin):
                return (margin < 0).astype(int)
        loss = Mine()
        """,
        r"returns int32, which has no gradient",
    ),
    "no gradient": (
        """
        class Mine(PreferenceLoss):  # here
            def of_margin(self, margin):
                return jnp.sign(margin)
        loss = Mine()
        """,
        r"has no gradient in sequences\.logprob",
    ),
    "another field": (
        """
        def loss(sequences):
            return -sequences.logprobs  # here
        loss.pairs, loss.uses_reference = False, False
        """,
        r"asks for sequences\.logprobs, which there is not \(did you mean logprob\?\)",
    ),
    "an unannounced reference": (
        """
        class Mine(PreferenceLoss):  # here
            uses_reference = False
            def of_margin(self, margin):
                return -margin
        loss = Mine()
        """,
        r"looks at sequences\.reference, which is 0 unless the loss has the attribute uses_reference = True",
    ),
    "unannounced rollouts": (
        """
        def loss(sequences):  # here
            return -sequences.logprob * sequences.advantage
        loss.pairs, loss.uses_reference = False, False
        """,
        r"looks at sequences\.advantage, which is 0 unless the loss has the attribute needs_rollouts = True",
    ),
    "by chance": (
        """
        import random
        def loss(sequences):  # here
            return -sequences.logprob * random.random()
        loss.pairs, loss.uses_reference = False, False
        """,
        "computes something else each time",
    ),
    "branches": (
        """
        def loss(sequences):
            return -sequences.logprob if sequences.logprob.sum() > 0 else sequences.logprob  # here
        loss.pairs, loss.uses_reference = False, False
        """,
        "branches on a value that is known only when the compiled program runs",
    ),
    "two arguments": (
        """
        def loss(right, wrong):  # here
            return wrong - right
        loss.pairs, loss.uses_reference = True, False
        """,
        r"loss\(right, wrong\) cannot be called as a loss is, with one argument: the Sequences of a step",
    ),
    "a class": ("loss = PreferenceLoss", r"it is the class PreferenceLoss; it must be a loss: write PreferenceLoss\(\)"),
    "no loss": ("loss = 3", "it is 3; it must be a loss"),
}


@pytest.mark.parametrize("case", RIGHT_ON_SEQUENCES)
def test_a_right_loss_on_sequences_is_accepted(load: Load, case: str) -> None:
    loss = load(RIGHT_ON_SEQUENCES[case]).loss
    for each in (loss, functools.partial(loss)):
        assert check_sequence_loss(each) == []


@pytest.mark.parametrize("case", WRONG_ON_SEQUENCES)
def test_a_wrong_loss_on_sequences_is_refused(load: Load, case: str) -> None:
    source, words = WRONG_ON_SEQUENCES[case]
    module = load(source)
    with pytest.raises(UserError) as caught:
        check_sequence_loss(module.loss, where="preference.loss")
    assert re.search(words, str(caught.value)), str(caught.value)
    check_named(str(caught.value), source, module, "preference.loss: ")


def test_a_loss_whose_rows_depend_on_each_other_is_remarked_upon(load: Load) -> None:
    loss = load(
        """
        def loss(sequences):
            return -sequences.logprob / jnp.sum(sequences.tokens)
        loss.pairs, loss.uses_reference = False, False
        """
    ).loss
    (remark,) = check_sequence_loss(loss)
    assert "lets the losses of one row depend on other rows" in remark
