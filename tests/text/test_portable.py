"""A saved tokenizer opens in transformers 4.5x as in 5: by that version's rules, which are written down here, and in this one."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from chat_families import FAMILIES, write
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from w2sr_jax.text import portable, tokenizer
from w2sr_jax.text.pretrained import Pretrained
from w2sr_jax.text.settings import PretrainedTokenizer

CLASSES_OF_4 = ("PreTrainedTokenizerFast", "Qwen2Tokenizer", "LlamaTokenizer", "GemmaTokenizer", "GPT2Tokenizer")
TEXTS = ["It is \\boxed{24}. How many?", "<think>\n16 - 4\n</think>\nso , 3 . x", "é 好 🙂", " two  spaces\n\n", "<|im_end|> x"]


class Opened:
    """What AutoTokenizer of transformers 4.57 makes of a directory, as far as it concerns saved tokenizers.

    It refuses a class that it does not have, and `extra_special_tokens` without names (it asks for their keys); a template in a
    file goes before the one in the configuration; added tokens are taken from the configuration; `PreTrainedTokenizerFast` sets
    the prefix space as the configuration says (by default to none) and gives token types unless it is told the inputs.
    """

    def __init__(self, directory: Path) -> None:
        config = json.loads((directory / "tokenizer_config.json").read_text())
        name = config["tokenizer_class"].removesuffix("Fast")
        rules = [each.removesuffix("Fast") for each in CLASSES_OF_4]
        if name not in rules:
            raise ValueError(f"Tokenizer class {name} does not exist or is not currently imported.")
        self.named = dict(config.get("extra_special_tokens", {}).items())
        self.unnamed = config.get("additional_special_tokens", [])
        assert all(isinstance(token, str) for token in self.unnamed)
        jinja = directory / "chat_template.jinja"
        self.template = jinja.read_text() if jinja.is_file() else config.get("chat_template")
        assert config.get("chat_template") == self.template  # where others look
        self.inputs = config.get("model_input_names", ["input_ids", "token_type_ids", "attention_mask"])
        self.longest = config.get("model_max_length", 10**30)
        self.specials = {key: value for key, value in config.items() if key.endswith("_token") and value is not None}
        self.inner = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
        state = json.loads(self.inner.pre_tokenizer.__getstate__()) if self.inner.pre_tokenizer else {}
        prefix = config.get("add_prefix_space") or False
        if state.get("add_prefix_space", prefix) != prefix:
            self.inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        for number, token in config["added_tokens_decoder"].items():
            assert self.inner.token_to_id(token["content"]) == int(number)
        self.cleans = config.get("clean_up_tokenization_spaces")

    def encode(self, text: str) -> list[int]:
        return list(self.inner.encode(text, add_special_tokens=False).ids)


def edited(
    directory: Path, config: dict[str, Any] | None = None, pre_tokenizer: dict[str, Any] | None = None
) -> PretrainedTokenizer:
    for name, changes in (("tokenizer_config.json", config), ("tokenizer.json", pre_tokenizer)):
        entries = json.loads((directory / name).read_text())
        if name == "tokenizer.json":
            entries["pre_tokenizer"] |= changes or {}
        else:
            entries |= changes or {}
        (directory / name).write_text(json.dumps(entries))
    return PretrainedTokenizer(str(directory))


def same(built: tokenizer.Tokenizer, directory: Path) -> Opened:
    """The tokenizer in a directory gives what was saved, by version 4's rules and in this version."""
    assert isinstance(built, Pretrained)
    old, new = Opened(directory), AutoTokenizer.from_pretrained(str(directory))
    for text in TEXTS:
        ids = built.inner(text, add_special_tokens=False)["input_ids"]
        assert old.encode(text) == ids
        assert new(text, add_special_tokens=False)["input_ids"] == ids
        assert new(text)["input_ids"] == built.inner(text)["input_ids"]
    assert old.specials["eos_token"] == new.eos_token == built.inner.eos_token
    assert old.specials["pad_token"] == new.pad_token == built.inner.pad_token
    assert old.template == new.chat_template == built.inner.chat_template
    assert old.inputs == list(new("x").keys()) == ["input_ids", "attention_mask"]
    assert old.unnamed == [str(token) for token in new.extra_special_tokens] == [str(t) for t in built.inner.extra_special_tokens]
    assert old.cleans is False
    assert tokenizer.load(directory).digest == built.digest
    return old


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_tokenizer_of_every_family_opens_in_both(tmp_path: Path, name: str) -> None:
    built = tokenizer.build(write(tmp_path / "a", FAMILIES[name]))
    built.save(tmp_path / "b")
    with pytest.raises(ValueError, match="TokenizersBackend does not exist"):  # as version 5 alone saves it
        Opened(tmp_path / "a")
    same(built, tmp_path / "b")
    built.save(tmp_path / "b")
    same(built, tmp_path / "b")


def test_special_tokens_without_a_name_are_kept_in_a_list_that_both_read(tmp_path: Path) -> None:
    settings = write(tmp_path / "a", FAMILIES["qwen3"])
    inner = AutoTokenizer.from_pretrained(settings.path)
    inner.add_special_tokens({"extra_special_tokens": ["<|extra|>", "<tool>"]})
    inner.save_pretrained(settings.path)
    built = tokenizer.build(settings)
    built.save(tmp_path / "b")
    assert same(built, tmp_path / "b").unnamed == ["<|extra|>", "<tool>"]


@pytest.mark.parametrize("kind", ["Qwen2Tokenizer", "LlamaTokenizer", "PreTrainedTokenizerFast"])
def test_a_family_s_own_class_tokenizes_as_it_did(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "a", FAMILIES["mistral" if kind == "LlamaTokenizer" else "qwen3"])
    built = tokenizer.build(edited(tmp_path / "a", {"tokenizer_class": kind, "model_max_length": 4096}))
    built.save(tmp_path / "b")
    assert same(built, tmp_path / "b").longest == 4096
    config = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())["tokenizer_class"]
    assert config == ("Qwen2Tokenizer" if kind == "Qwen2Tokenizer" else "PreTrainedTokenizerFast")


def test_a_space_before_a_text_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "a", FAMILIES["chatml"])
    built = tokenizer.build(edited(tmp_path / "a", {"add_prefix_space": True}, {"add_prefix_space": True}))
    built.save(tmp_path / "b")
    same(built, tmp_path / "b")


TOKENIZER = {"added_tokens": [{"id": 7, "content": "<a>", "special": True}]}


def test_what_version_5_writes_becomes_what_version_4_reads() -> None:
    config = {
        "backend": "tokenizers",
        "is_local": True,
        "local_files_only": True,
        "tokenizer_class": "TokenizersBackend",
        "extra_special_tokens": ["<a>", {"__type": "AddedToken", "content": "<b>"}, "<a>"],
        "model_specific_special_tokens": {"image_token": "<image>"},
        "model_max_length": 1000000000000000019884624838656,
        "eos_token": "<e>",
        "own": 1,
    }
    assert portable.portable(config, TOKENIZER, "{{ x }}", 77) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<a>", "<b>"],
        "extra_special_tokens": {"image_token": "<image>"},
        "added_tokens_decoder": {"7": {"content": "<a>", "special": True}},
        "chat_template": "{{ x }}",
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 77,
        "eos_token": "<e>",
        "own": 1,
    }


def test_what_version_4_wrote_stays_as_it_was() -> None:
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "additional_special_tokens": ["<a>"],
        "extra_special_tokens": {"image_token": "<image>"},
        "clean_up_tokenization_spaces": True,
        "model_input_names": ["input_ids"],
        "model_max_length": 512,
        "chat_template": "{{ y }}",
    }
    rewritten = portable.portable(config, TOKENIZER, None, 4096)
    assert rewritten == config | {"added_tokens_decoder": {"7": {"content": "<a>", "special": True}}}
    assert portable.portable(rewritten, TOKENIZER, None, 4096) == rewritten
    bare = portable.portable({"extra_special_tokens": None, "additional_special_tokens": []}, {})
    assert not {"extra_special_tokens", "additional_special_tokens", "chat_template", "model_max_length"} & bare.keys()


def test_a_directory_without_a_tokenizer_file_is_left_alone(tmp_path: Path) -> None:
    portable.rewrite(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"tokenizer_class": "LlamaTokenizer"}')
    portable.rewrite(tmp_path)
    assert config.read_text() == '{"tokenizer_class": "LlamaTokenizer"}'
