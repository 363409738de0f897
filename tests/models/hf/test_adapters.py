"""Adapters in peft's format: peft loads ours with equal logits and gradients, and we load peft's; what ours lack is refused."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_checkpoints as tiny

from w2sr_jax.batches.batch import Batch
from w2sr_jax.core import keys
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models import lora as low_rank
from w2sr_jax.models import transformer
from w2sr_jax.models.hf import adapters, config_json, pretrained
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.training.optimizer import learning_rate, make_optimizer
from w2sr_jax.training.settings import Training
from w2sr_jax.training.state import create
from w2sr_jax.training.step import make_step

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
CASES = {
    "qwen2": Lora(rank=4, alpha=6.0),
    "qwen2-tied": Lora(rank=3, alpha=12.0, embeddings=True),
    "llama": Lora(rank=4, alpha=8.0, targets=("query", "value", "down"), embeddings=True),
    "gemma3": Lora(rank=4, alpha=8.0),
}
LENGTH = 20


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A base as transformers saves it, adapters beside it as after some training, and both as we export them."""
    name = request.param
    directory = tmp_path_factory.mktemp("adapters")
    base = tiny.save(name, directory / "base")
    config, params = pretrained.load(base)
    lora = CASES[name]
    trained = moved(config, lora, params)
    adapters.save_adapter(directory / "adapter", config, lora, trained, str(base))
    return {"name": name, "directory": directory, "config": config, "params": params, "lora": lora, "trained": trained}


def moved(config: Any, lora: Lora, params: Any) -> Any:
    leaves, tree = jax.tree.flatten(low_rank.init(config, lora, jax.tree.map(jnp.asarray, params), keys.key(0, "adapters")))
    draw = np.random.default_rng(0)
    return tree.unflatten([np.asarray(leaf + 0.05 * draw.standard_normal(leaf.shape), np.float32) for leaf in leaves])


def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(3, tiny.VOCAB, (2, LENGTH)).astype(np.int32)


def logits(config: Any, params: Any) -> np.ndarray:
    positions = jnp.broadcast_to(jnp.arange(LENGTH), (2, LENGTH))
    hidden = jax.jit(partial(transformer.forward, config))(params, ids(), positions)
    return np.asarray(transformer.logits(config, params, hidden))


def loaded(made: dict[str, Any], **options: Any) -> Any:
    """Our adapter on the base, as peft loads them."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(made["directory"] / "base", attn_implementation="eager")
    return peft.PeftModel.from_pretrained(model, made["directory"] / "adapter", **options).eval()


def torch_logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(ids()).long()).logits.numpy()


def test_peft_loads_our_adapter_with_equal_logits_and_merges_it_as_we_do(made: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    beside = logits(made["config"], low_rank.beside(made["lora"], made["params"], made["trained"]))
    assert np.abs(beside - logits(made["config"], made["params"])).max() > 0.1
    model = loaded(made)
    np.testing.assert_allclose(torch_logits(model), beside, rtol=0, atol=1e-4)
    np.testing.assert_allclose(torch_logits(model.merge_and_unload()), beside, rtol=0, atol=1e-4)
    merged = low_rank.merge(made["config"], made["lora"], made["params"], made["trained"])
    pretrained.save(tmp_path / "merged", made["config"], merged)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", attn_implementation="eager")
    np.testing.assert_allclose(torch_logits(exported), beside, rtol=0, atol=1e-4)


def test_step_has_the_loss_and_the_gradients_of_peft(made: dict[str, Any]) -> None:
    """With b1 = 0 and no clipping the first moment after a step is its gradient."""
    config, lora = made["config"], dataclasses.replace(made["lora"], embeddings=False)
    trained = {"layers": made["trained"]["layers"]}
    training = Training(steps=5, b1=0.0, clip=0.0, learning_rate=1e-3)
    optimizer = make_optimizer(training, 5)
    step = jax.jit(make_step(config, Objective(), optimizer, learning_rate(training, 5), 5, lora=lora))
    tokens, positions = ids(), np.broadcast_to(np.arange(LENGTH, dtype=np.int32), (2, LENGTH))
    weight = np.zeros((2, LENGTH), np.float32)
    weight[0, 4:19], weight[1, 2:12] = 1.0, 0.5
    nothing = np.zeros((2, LENGTH), np.int32)
    batch = Batch(
        tokens, positions, nothing + 1, np.roll(tokens, -1, 1), nothing + 1, nothing, nothing + np.float32(np.nan), weight
    )
    frozen = dict(made["params"])
    frozen |= {name: made["trained"][name] for name in ("embedding", "output") if name in made["trained"]}
    state, metrics = step(
        create(jax.tree.map(jnp.asarray, trained), optimizer), jax.tree.map(jnp.asarray, batch), {"initial": frozen}
    )

    model = loaded(made, is_trainable=True)
    at = torch.from_numpy(weight)
    nll = torch.nn.functional.cross_entropy(
        model(torch.from_numpy(tokens).long()).logits.transpose(1, 2), torch.from_numpy(batch.target).long(), reduction="none"
    )
    loss = (nll * at).sum() / at.sum()
    loss.backward()
    assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-5)
    moments = next(
        part for part in jax.tree.leaves(state.opt_state, is_leaf=lambda node: hasattr(node, "mu")) if hasattr(part, "mu")
    )
    slopes = dict(adapters._outward(config, config_json.names(config, None), lora, moments.mu, np.asarray))
    theirs = {name.replace(".default", ""): value.grad for name, value in model.named_parameters() if ".lora_" in name}
    assert slopes.keys() == theirs.keys()
    for name, value in slopes.items():
        expected = theirs[name].numpy()
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-3 * np.abs(expected).max(), err_msg=name)


def test_what_we_save_we_load_bit_by_bit(made: dict[str, Any]) -> None:
    lora, trained = adapters.load_adapter(made["directory"] / "adapter", made["config"])
    assert lora == made["lora"]
    jax.tree.map(np.testing.assert_array_equal, trained, made["trained"])
    with pytest.raises(UserError, match="holds an adapter already"):
        adapters.save_adapter(made["directory"] / "adapter", made["config"], lora, trained, "base")


def test_we_load_what_peft_saves(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = tiny.save("qwen3", tmp_path / "base")
    settings = peft.LoraConfig(r=2, lora_alpha=5, target_modules=["k_proj", "gate_proj"], init_lora_weights=False)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager"), settings)
    model.save_pretrained(tmp_path / "theirs")
    config, params = pretrained.load(base)
    lora, trained = adapters.load_adapter(tmp_path / "theirs", config)
    assert lora == Lora(rank=2, alpha=5, targets=("key", "gate"))
    ours = logits(config, low_rank.beside(lora, params, trained))
    assert np.abs(ours - logits(config, params)).max() > 0.1
    np.testing.assert_allclose(ours, torch_logits(model.eval()), rtol=0, atol=1e-4)


FOREIGN = {
    "use_dora": (True, "use_dora True is not supported"),
    "use_rslora": (True, "use_rslora True is not supported"),
    "rank_pattern": ({"q_proj": 8}, "rank_pattern .* is not supported"),
    "bias": ("all", "bias 'all' is not supported"),
    "init_lora_weights": ("pissa", "init_lora_weights 'pissa' is not supported"),
    "modules_to_save": (["lm_head"], "modules_to_save .* supported are none, or embed_tokens and lm_head"),
    "layers_to_transform": ([0], "layers_to_transform .* is not supported"),
    "a_future_switch": (1, "a_future_switch 1 is not supported"),
    "task_type": ("SEQ_CLS", "task_type 'SEQ_CLS' is not supported"),
    "peft_type": ("IA3", "peft_type is 'IA3'; supported is LORA"),
    "r": (0, "r is 0; it must be a whole number"),
    "lora_alpha": ("much", "lora_alpha is 'much'; it must be a number"),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    config = dataclasses.replace(config_json.architecture(tiny.save("llama", tmp_path_factory.mktemp("base"))), layers=2)
    lora = Lora(rank=2, alpha=4.0, targets=("query", "down"))
    trained = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), low_rank.shapes(config, lora))
    directory = tmp_path_factory.mktemp("small") / "adapter"
    adapters.save_adapter(directory, config, lora, trained, "base")
    return directory, config


def altered(directory: Path, into: Path, **fields: Any) -> Path:
    into.mkdir()
    for path in directory.iterdir():
        (into / path.name).write_bytes(path.read_bytes())
    raw = json.loads((into / adapters.CONFIG).read_text())
    (into / adapters.CONFIG).write_text(json.dumps(raw | fields))
    return into


@pytest.mark.parametrize("field", FOREIGN)
def test_what_ours_lack_is_refused_by_name(small: tuple[Path, Any], tmp_path: Path, field: str) -> None:
    value, words = FOREIGN[field]
    with pytest.raises(UserError, match=words):
        adapters.load_adapter(altered(small[0], tmp_path / "other", **{field: value}), small[1])


def test_tensors_that_do_not_fit_are_named(small: tuple[Path, Any], tmp_path: Path) -> None:
    directory, config = small
    with pytest.raises(UserError, match=r"q_proj\.lora_A\.weight is F32 of shape \(2, 64\); it should be .* \(4, 64\)"):
        adapters.load_adapter(altered(directory, tmp_path / "rank", r=4), config)
    with pytest.raises(UserError, match=r"lacks tensor base_model\.model\.model\.layers\.2\..* \(8 in all\)"):
        adapters.load_adapter(directory, dataclasses.replace(config, layers=4))
    with pytest.raises(UserError, match=r"holds an unknown tensor base_model\.model\.model\.layers\.1\..* \(4 in all\)"):
        adapters.load_adapter(directory, dataclasses.replace(config, layers=1))
    pickled = altered(directory, tmp_path / "pickled")
    (pickled / adapters.WEIGHTS).rename(pickled / "adapter_model.bin")
    with pytest.raises(UserError, match=r"adapter_model\.bin is not read; save the adapter as safetensors"):
        adapters.load_adapter(pickled, config)
    cut = altered(directory, tmp_path / "cut")
    (cut / adapters.WEIGHTS).write_bytes((cut / adapters.WEIGHTS).read_bytes()[:-8])
    with pytest.raises(UserError, match="truncated"):
        adapters.load_adapter(cut, config)
    with pytest.raises(UserError, match=r"holds no adapter_config\.json"):
        adapters.load_adapter(tmp_path, config)
