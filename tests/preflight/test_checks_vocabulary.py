"""A vocabulary of a model's that no tokenizer of its kind fits in is refused before that tokenizer is made."""

from pathlib import Path

import pytest

from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.preflight import checks
from w2sr_jax.text.settings import BpeTokenizer


@pytest.mark.parametrize(("size", "refused"), [(260, True), (261, False), (0, False)])
def test_a_vocabulary_below_what_byte_pairs_need_is_refused(tmp_path: Path, size: int, refused: bool) -> None:
    model = ModelConfig(vocab_size=size, width=16, layers=1, heads=2, kv_heads=1, mlp=32)
    lines: list[str] = []
    checks.report(Experiment("run", (Rung("small", model),), tokenizer=BpeTokenizer()), tmp_path / "run", lines.append)
    assert any("model.vocab_size is 260" in line and "at least 261" in line for line in lines) == refused
