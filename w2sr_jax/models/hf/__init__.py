"""Models as Hugging Face and peft store them: `config.json`, safetensors, adapters.

A family is an architecture of transformers, one value in `families.FAMILIES`: what all its models have in common, how their
`config.json` says the rest, and what their tensors are called. `config_json` translates `config.json` to a `ModelConfig` and
back, `pretrained` the tensors to parameters and back, `adapters` does both for low-rank adapters.

A new family, of a shape that `models.transformer` computes, is an entry in `families`, and where its tensors have names of their
own a table in `names`. Nothing else knows a family. `tests/models/hf/test_new_family.py` adds one.
"""
