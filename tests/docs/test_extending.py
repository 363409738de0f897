"""The worked examples of docs/extending.md do what the page says, in files of their own beside an unchanged package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import doc_pages
import doc_runs
import jax.numpy as jnp
import numpy as np
import pytest
from doc_pages import ROOT

from w2sr_jax.core import files
from w2sr_jax.graph.runner import climb_all
from w2sr_jax.graph.stage import Silent
from w2sr_jax.losses.token import Tokens

PAGE = "docs/extending.md"


def _tokens(logits: np.ndarray, target: np.ndarray, verdict: np.ndarray) -> Tokens:
    count = len(target)
    whole = jnp.ones(count, jnp.int32)
    return Tokens(jnp.array(logits), jnp.array(target), whole, jnp.array(verdict), jnp.zeros(count), {}, jnp.float32(0.0))


def test_the_loss_is_the_hinge_on_the_gap(directory: Path) -> None:
    loss: Any = doc_runs.load(PAGE, "configs/margin.py", directory).rungs[0].objective.loss
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 5)).astype(np.float32)
    target, verdict = rng.integers(5, size=6), np.array([1, -1, 0, 1, 1, -1])
    nll = np.log(np.exp(logits).sum(-1)) - logits[np.arange(6), target]
    rival = np.array([max(np.delete(row, index)) for row, index in zip(logits, target)])
    hinge = np.maximum(0.0, 2.0 - (logits[np.arange(6), target] - rival))
    np.testing.assert_allclose(loss(_tokens(logits, target, verdict)), nll + 0.1 * hinge * (verdict > 0), rtol=1e-5)


def test_a_run_trains_with_the_loss_and_keeps_it(directory: Path) -> None:
    experiment = doc_runs.small(doc_runs.load(PAGE, "configs/margin.py", directory))
    page = climb_all(experiment, directory / "runs" / "margin", Silent())
    assert page is not None
    assert files.read_json(page.with_name("results.json"))["models"]["0-small.all"]
    assert (directory / "runs" / "margin" / "config" / "margin.py").is_file()


FAMILY = """
import sys
from pathlib import Path

import jax
import numpy as np
import torch
import transformers

from w2sr_jax.models import presets, transformer
from w2sr_jax.models.hf import pretrained

config = transformers.SeedOssConfig(
    vocab_size=301, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    head_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)
torch.manual_seed(0)
model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape))
directory = Path(sys.argv[1])
model.save_pretrained(directory / "theirs")
tokens = np.random.default_rng(0).integers(3, 301, (2, 20)).astype(np.int32)
with torch.no_grad():
    want = model(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
ours, params = pretrained.load(directory / "theirs")
positions = np.broadcast_to(np.arange(20), tokens.shape)
found = transformer.logits(ours, params, transformer.forward(ours, params, tokens, positions))
np.testing.assert_allclose(np.asarray(found), want, rtol=0, atol=1e-4)
assert ours.qkv_bias and np.std(want) > 0.1
pretrained.save(directory / "ours", ours, params, extra={"model_type": "seed_oss"})
again = transformers.AutoModelForCausalLM.from_pretrained(directory / "ours")
assert type(again).__name__ == "SeedOssForCausalLM"
assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
presets.SEED_OSS_36B.check()
assert 35e9 < presets.SEED_OSS_36B.parameters() < 37e9
"""


def test_the_family_computes_what_transformers_does(tmp_path: Path) -> None:
    """In a copy of the package to which the page's changes are applied."""
    pytest.importorskip("torch")
    changes = [
        block.text for block in doc_pages.blocks(ROOT / PAGE, "diff") if "families" in block.text or "presets" in block.text
    ]
    assert len(changes) == 2
    _apply(changes, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "XLA_FLAGS": ""}
    done = subprocess.run([sys.executable, "-c", FAMILY, tmp_path], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _apply(changes: list[str], directory: Path) -> None:
    """A copy of the package in a directory, with changes as `git diff` writes them."""
    shutil.copytree(ROOT / "w2sr_jax", directory / "w2sr_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for change in changes:
        command = ["git", "apply", "--recount", "-"]
        done = subprocess.run(command, cwd=directory, input=change, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stderr}\n{change}"
