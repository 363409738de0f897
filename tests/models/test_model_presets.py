"""Presets have the sizes that are published, and transformers builds models of just as many parameters."""

import subprocess
import sys

import pytest

from w2sr_jax.models import presets
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import config_json

PUBLISHED = {
    "QWEN2_5_0_5B": 494_032_768,
    "QWEN2_5_1_5B": 1_543_714_304,
    "QWEN2_5_3B": 3_085_938_688,
    "QWEN2_5_7B": 7_615_616_512,
    "QWEN2_5_14B": 14_770_033_664,
    "QWEN2_5_32B": 32_763_876_352,
    "QWEN3_0_6B": 596_049_920,
    "QWEN3_1_7B": 1_720_574_976,
    "QWEN3_4B": 4_022_468_096,
    "QWEN3_8B": 8_190_735_360,
    "QWEN3_14B": 14_768_307_200,
    "QWEN3_32B": 32_762_123_264,
    "LLAMA3_2_1B": 1_235_814_400,
    "LLAMA3_2_3B": 3_212_749_824,
    "LLAMA3_1_8B": 8_030_261_248,
    "MISTRAL_7B_V0_1": 7_241_732_096,
    "MISTRAL_7B_V0_3": 7_248_023_552,
    "GEMMA3_1B": 999_885_952,
}
"""What the Hub shows of the repositories' safetensors; tied embeddings count once."""


def test_all_presets_are_checked() -> None:
    assert {name for name, value in vars(presets).items() if isinstance(value, ModelConfig)} == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_published_and_those_of_transformers(name: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = getattr(presets, name)
    config.check()
    assert config.parameters() == PUBLISHED[name]
    assert config_json.canonical(config) == config, "not as reading the repository would give it"
    foreign = config_json.to_json(config)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**foreign))
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]


def test_a_configuration_file_that_uses_presets_does_not_wait_for_jax() -> None:
    code = "import sys; import w2sr_jax.models.presets, w2sr_jax.models.hf.config_json; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
