"""The policy and preference losses against TRL's own, on the same batch: values and gradients.

TRL's loss functions are called as they are, on stand-ins for its trainers which hand them the log-probabilities of a linear
model, so that no model, data set or accelerator is needed.
"""

import types
from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from w2sr_jax.losses.advantages import Standardized, advantages
from w2sr_jax.losses.blocks import Frozen, TokenData, blocked
from w2sr_jax.losses.logprobs import logprobs
from w2sr_jax.losses.policy import K3, Dapo, DrGrpo, Grpo, token_weights
from w2sr_jax.losses.preference import Dpo, Ipo, RobustDpo, SimPo
from w2sr_jax.losses.sequences import Gspo, of_tokens

torch = pytest.importorskip("torch")
pytest.importorskip("trl", reason="TRL is not installed (pip install trl); its losses are compared where it is")
from trl import DPOTrainer, GRPOTrainer  # noqa: E402
from trl.trainer.utils import nanstd  # noqa: E402

PROBLEMS, EACH, LENGTH, WIDTH, VOCABULARY = 3, 4, 9, 5, 7
COUNT = PROBLEMS * EACH
CLIP = (0.2, 0.28)


class Batch:
    """Completions of a step, one to a row, and a linear model of them; the third and the eighth were cut off."""

    def __init__(self, drift: float) -> None:
        rng = np.random.default_rng(0)
        self.hidden = rng.normal(size=(COUNT, LENGTH, WIDTH)).astype(np.float32)
        self.output = rng.normal(size=(WIDTH, VOCABULARY)).astype(np.float32)
        self.initial = self.output + 0.3 * rng.normal(size=self.output.shape).astype(np.float32)
        self.target = rng.integers(0, VOCABULARY, (COUNT, LENGTH))
        self.lengths = rng.integers(1, LENGTH + 1, COUNT)
        self.written = np.arange(LENGTH) < self.lengths[:, None]
        self.counted = ~np.isin(np.arange(COUNT), (2, 7))
        self.rewards = np.array([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [0.5, 1.0, 0.0, 0.25]])
        self.advantage = advantages(Standardized(1e-4), self.rewards).reshape(-1).astype(np.float32)
        now = self.torch_logprobs(torch.tensor(self.output)).numpy()
        self.sampled = (now + drift * rng.normal(size=now.shape)).astype(np.float32)

    def torch_logprobs(self, output: Any) -> Any:
        every = torch.log_softmax(torch.tensor(self.hidden) @ output, dim=-1)
        return every.gather(-1, torch.tensor(self.target)[..., None])[..., 0]

    def jax_tokens(self) -> tuple[Any, Any]:
        """Hidden states and targets as [N, D] and [N]."""
        return jnp.asarray(self.hidden.reshape(-1, WIDTH)), jnp.asarray(self.target.reshape(-1), jnp.int32)

    def per_token(self, of_rollouts: np.ndarray) -> Any:
        return jnp.asarray(np.where(self.written, of_rollouts[:, None], 0.0).reshape(-1), jnp.float32)


def grpo_of_trl(batch: Batch, kind: str, level: str = "token", beta: float = 0.0) -> tuple[float, np.ndarray]:
    output = torch.tensor(batch.output, requires_grad=True)
    mask = torch.tensor(batch.written & batch.counted[:, None]).int()
    settings = types.SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1)
    alone = types.SimpleNamespace(num_processes=1, reduce=lambda value, reduction: value, gather=lambda value: value)
    trainer = types.SimpleNamespace(
        model=types.SimpleNamespace(training=True),
        args=settings,
        accelerator=alone,
        loss_type=kind,
        beta=beta,
        importance_sampling_level=level,
        epsilon_low=3e-4 if level == "sequence" else CLIP[0],
        epsilon_high=4e-4 if level == "sequence" else CLIP[1],
        max_completion_length=LENGTH,
        current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0,
        aux_loss_enabled=False,
        off_policy_mask_threshold=None,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _get_per_token_logps_and_entropies=lambda *_, **__: (batch.torch_logprobs(output), torch.zeros(mask.shape), None),
    )
    prompt = torch.zeros((COUNT, 1), dtype=torch.long)
    inputs = {
        "prompt_ids": prompt,
        "prompt_mask": prompt + 1,
        "completion_ids": torch.tensor(batch.target),
        "completion_mask": mask,
        "advantages": torch.tensor(batch.advantage),
        "old_per_token_logps": torch.tensor(batch.sampled),
        "ref_per_token_logps": batch.torch_logprobs(torch.tensor(batch.initial)),
        "num_items_in_batch": mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    return loss.item(), output.grad.numpy()


def close(ours: tuple[Any, Any], trl: tuple[float, np.ndarray]) -> None:
    np.testing.assert_allclose(ours[0], trl[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours[1], trl[1], rtol=1e-5, atol=1e-5 * np.abs(trl[1]).max())


@pytest.mark.parametrize("drift", [0.0, 0.4], ids=["own rollouts", "older rollouts"])
@pytest.mark.parametrize(
    ("loss", "kind", "beta"),
    [
        (Grpo(clip=CLIP), "grpo", 0.0),
        (Grpo(clip=CLIP) + 0.3 * K3(), "grpo", 0.3),
        (DrGrpo(clip=CLIP), "dr_grpo", 0.0),
        (Dapo(clip=CLIP), "dapo", 0.0),
        (Dapo(clip=CLIP), "bnpo", 0.0),
        (Dapo(clip=CLIP) + 0.01 * K3(), "dapo", 0.01),
    ],
    ids=["grpo", "grpo and kl", "dr. grpo", "dapo", "bnpo", "dapo and kl"],
)
def test_policy_losses_are_those_of_trl(loss: Any, kind: str, beta: float, drift: float) -> None:
    batch = Batch(drift)
    denominator = (loss.terms[0] if beta else loss).denominator
    weights = batch.per_token(token_weights(denominator, batch.lengths, batch.counted, LENGTH))
    hidden, target = batch.jax_tokens()
    whole = jnp.ones(target.shape, jnp.int32)
    advantage, sampled = batch.per_token(batch.advantage), jnp.asarray(batch.sampled.reshape(-1))
    data = TokenData(target, whole, whole, jnp.zeros(whole.shape), weights, advantage, sampled)
    models = {"initial": Frozen(hidden, jnp.asarray(batch.initial))}

    def total(output: Any) -> Any:
        return blocked(loss, hidden, output, data, 0.0, models, block=16).loss_sum

    ours, trl = jax.value_and_grad(total)(jnp.asarray(batch.output)), grpo_of_trl(batch, kind, beta=beta)
    if drift:  # where nothing drifts, the values nearly cancel
        assert abs(trl[0]) > 1e-3
    close(ours, trl)


@pytest.mark.parametrize("drift", [0.0, 2e-3])
def test_gspo_is_that_of_trl(drift: float) -> None:
    batch = Batch(drift)
    hidden, target = batch.jax_tokens()
    weights = jnp.asarray(token_weights("sequence", np.ones(COUNT, int), batch.counted, LENGTH), jnp.float32)

    def total(output: Any) -> Any:
        values = logprobs(hidden, output, target, jnp.asarray(batch.written.reshape(-1)), block=16)
        given = of_tokens(
            values.logprob.reshape(COUNT, LENGTH),
            jnp.asarray(batch.written),
            jnp.ones((COUNT, LENGTH), jnp.int32),
            1,
            advantage=jnp.asarray(batch.advantage[:, None]),
            sampled=jnp.asarray(batch.sampled),
        )
        return jnp.sum(weights * Gspo()(given)[:, 0])

    close(jax.value_and_grad(total)(jnp.asarray(batch.output)), grpo_of_trl(batch, "grpo", "sequence"))


def test_the_standard_deviation_is_that_of_trl() -> None:
    rewards = torch.tensor(Batch(0.0).rewards)
    scaled = (rewards - rewards.mean(dim=1, keepdim=True)) / (nanstd(rewards, dim=1)[:, None] + 1e-4)
    np.testing.assert_allclose(advantages(Standardized(1e-4), rewards.numpy()), scaled, rtol=1e-6)


def dpo_of_trl(batch: Batch, kind: str, beta: float, smoothing: float) -> tuple[float, np.ndarray]:
    """The first half of the rows is chosen, the second rejected."""
    output = torch.tensor(batch.output, requires_grad=True)
    mask = torch.tensor(batch.written).int()
    zeros = torch.zeros(mask.shape)

    def model_of(output: Any) -> Any:
        def model(**_: Any) -> Any:
            values = batch.torch_logprobs(output) * mask
            return types.SimpleNamespace(log_probs=values, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())

        return model

    alone = types.SimpleNamespace(device="cpu", gather=lambda value: value, gather_for_metrics=lambda value: value)
    trainer = types.SimpleNamespace(
        model=types.SimpleNamespace(training=True),
        args=types.SimpleNamespace(gradient_checkpointing_kwargs=None, gradient_checkpointing=False),
        accelerator=alone,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[kind],
        loss_weights=[1.0],
        label_smoothing=smoothing,
        beta=beta,
        use_weighting=False,
        _tp_size=1,
        _total_train_tokens=0,
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    reference = (batch.torch_logprobs(torch.tensor(batch.initial)) * mask).sum(dim=1)
    # TRL's completions stand behind a prompt, here of one token, that nothing is predicted of.
    shifted = torch.cat([torch.zeros((COUNT, 1), dtype=torch.int), mask], dim=1)
    inputs = {
        "input_ids": torch.zeros((COUNT, LENGTH + 1), dtype=torch.long),
        "attention_mask": shifted,
        "completion_mask": shifted,
        "ref_chosen_logps": reference[: COUNT // 2],
        "ref_rejected_logps": reference[COUNT // 2 :],
    }
    loss = DPOTrainer._compute_loss(trainer, model_of(output), inputs, return_outputs=False)
    loss.backward()
    return loss.item(), output.grad.numpy()


def of_pairs(batch: Batch, loss: Any) -> tuple[Any, Any]:
    """The mean over pairs, packed two to a row: right and wrong are neighbours."""
    order = np.stack([np.arange(COUNT // 2), np.arange(COUNT // 2) + COUNT // 2], axis=1).reshape(-1)
    hidden, target = jnp.asarray(batch.hidden[order].reshape(-1, WIDTH)), jnp.asarray(batch.target[order].reshape(-1))
    written = jnp.asarray(batch.written[order].reshape(-1, 4 * LENGTH))
    segments = jnp.tile(jnp.repeat(jnp.arange(1, 5), LENGTH), (written.shape[0], 1))

    def sequences(output: Any) -> Any:
        values = logprobs(hidden, output, target, written.reshape(-1), block=16)
        return of_tokens(values.logprob.reshape(written.shape), written, segments, 4)

    reference = sequences(jnp.asarray(batch.initial)).logprob

    def total(output: Any) -> Any:
        return jnp.mean(loss(sequences(output)._replace(reference=reference)))

    return jax.value_and_grad(total)(jnp.asarray(batch.output))


@pytest.mark.parametrize(
    ("loss", "kind", "smoothing"),
    [(Dpo(0.2), "sigmoid", 0.0), (RobustDpo(0.2, 0.1), "robust", 0.1), (Ipo(0.2), "ipo", 0.0)],
    ids=["dpo", "robust dpo", "ipo"],
)
def test_preference_losses_are_those_of_trl(loss: Any, kind: str, smoothing: float) -> None:
    batch = Batch(0.0)
    close(of_pairs(batch, loss), dpo_of_trl(batch, kind, 0.2, smoothing))


def test_simpo_is_that_of_trl() -> None:
    cpo = pytest.importorskip("trl.experimental.cpo")
    batch = Batch(0.0)
    output = torch.tensor(batch.output, requires_grad=True)
    mask = torch.tensor(batch.written).float()
    mean = (batch.torch_logprobs(output) * mask).sum(dim=1) / mask.sum(dim=1)
    trainer = types.SimpleNamespace(
        accelerator=types.SimpleNamespace(device="cpu"),
        loss_type="simpo",
        beta=2.0,
        simpo_gamma=1.0,
        label_smoothing=0.0,
        alpha=0.0,
    )
    loss = cpo.CPOTrainer.cpo_loss(trainer, mean[: COUNT // 2], mean[COUNT // 2 :])[0].mean()
    loss.backward()
    close(of_pairs(batch, SimPo()), (loss.item(), output.grad.numpy()))
