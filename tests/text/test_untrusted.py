"""Tokenizers of strangers: rules that never end or swell, absurd sizes, files that are none, templates that would do more than
write; each refused in a sentence, in bounded time and memory, and no code of theirs is run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers

from w2sr_jax.core.errors import UserError
from w2sr_jax.text import chat, tokenizer, untrusted
from w2sr_jax.text.pretrained import Pretrained
from w2sr_jax.text.settings import PretrainedTokenizer

TEMPLATE = "{% for m in messages %}{{ m.content }}<eos>{% endfor %}"


def special(number: int, name: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": name, "special": True, **flags}


def split(pattern: str) -> dict[str, Any]:
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [cut, level]}


def make(directory: Path, model: dict[str, Any] | None = None, settings: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A directory with a sound tokenizer of bytes but for the changes."""
    directory.mkdir()
    vocab = {name: number for number, name in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    whole: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [special(256, "<eos>"), special(257, "<pad>")],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": [], **(model or {})},
        **changes,
    }
    (directory / "tokenizer.json").write_text(json.dumps(whole))
    tokenizer_json = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "chat_template": TEMPLATE,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer_json | (settings or {})))
    return directory


def replaced(path: Path, make_it: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    make_it(path)


def with_file(name: str, make_it: Callable[[Path], object]) -> Callable[[Path], Path]:
    def build(directory: Path) -> Path:
        replaced(make(directory) / name, make_it)
        return directory

    return build


def text(words: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(words)


REPLACE = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 1000}
ATTACKS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a search without end": (lambda directory: make(directory, pre_tokenizer=split(r"(a+)+$|(\w+\s?)+!$|[^\n]")), "retry-limit"),
    "a rule that swells": (
        lambda directory: make(directory, normalizer={"type": "Sequence", "normalizers": [REPLACE] * 5}),
        "is not done with a few short texts within|makes more than",
    ),
    "a prefix of a megabyte": (
        lambda directory: make(directory, normalizer={"type": "Prepend", "prepend": "a" * 10**6}),
        "more than 16 tokens of each character",
    ),
    "a far id": (lambda directory: make(directory, model={"vocab": {"a": 2**32 - 2}}), "of the id 4294967294"),
    "a far added id": (lambda directory: make(directory, added_tokens=[special(2**31, "<eos>")]), "of the id 2147483648"),
    "a million layers": (
        with_file("config.json", text(json.dumps({"model_type": "qwen2", "num_hidden_layers": 10**9}))),
        "'num_hidden_layers' is 1000000000",
    ),
    "a million layers within": (
        with_file("config.json", text(json.dumps({"model_type": "gemma3", "text_config": {"num_hidden_layers": 10**9}}))),
        "'num_hidden_layers' is 1000000000",
    ),
    "many tokens": (
        lambda directory: make(directory, settings={"extra_special_tokens": [f"<{n}>" for n in range(30_000)]}),
        "has 30,000 entries",
    ),
    "depth": (with_file("special_tokens_map.json", text("[" * 10**5 + "]" * 10**5)), "not valid JSON"),
    "depth of a tokenizer": (with_file("tokenizer.json", text('{"a":' * 10**5 + "1" + "}" * 10**5)), "not valid JSON"),
    "no object": (with_file("tokenizer_config.json", text("[]")), "not a JSON object"),
    "an endless template": (with_file("chat_template.jinja", text("{{ 1 }}" * 200_000)), "no chat template needs"),
    "a pipe": (with_file("tokenizer.json", lambda path: os.mkfifo(path)), "no regular file"),
    "a pipe beside it": (with_file("special_tokens_map.json", lambda path: os.mkfifo(path)), "no regular file"),
    "zeros without end": (with_file("tokenizer_config.json", lambda path: path.symlink_to("/dev/zero")), "is a link to"),
    "a process's secrets": (with_file("added_tokens.json", lambda path: path.symlink_to("/proc/self/environ")), "is a link to"),
    "a link in a loop": (with_file("tokenizer.json", lambda path: path.symlink_to(path.name)), "no tokenizer.json"),
    "code of its own": (
        lambda directory: make(
            directory, settings={"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"}
        ),
        "custom code",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_stranger_s_tokenizer_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    build, words = ATTACKS[name]
    directory = build(tmp_path / "model")
    (directory / "evil.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')")
    with pytest.raises(UserError, match=words) as refused:
        Pretrained.open(PretrainedTokenizer(str(directory)))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "owned").exists()


def test_a_sound_one_is_opened_and_dropout_is_none(tmp_path: Path) -> None:
    opened = Pretrained.open(PretrainedTokenizer(str(make(tmp_path / "model", model={"dropout": 0.9}))))
    assert all(opened.encode(["how many apples"]) == opened.encode(["how many apples"]) for _ in range(5))


def test_a_rule_that_fails_at_a_text_is_a_sentence(tmp_path: Path) -> None:
    class PanicException(BaseException):
        """As the library's own language raises it."""

    def fail() -> None:
        with untrusted.working("model"):
            raise PanicException("over")

    with pytest.raises(UserError, match="the tokenizer model fails at a text: over"):
        fail()


@pytest.mark.parametrize("settings", [None, [], {"reason": 5}, {"evil": 1}, {"path": "x", "thinking": "yes"}])
def test_a_saved_tokenizer_s_settings_have_their_types(tmp_path: Path, settings: Any) -> None:
    (tmp_path / tokenizer.MANIFEST).write_text(json.dumps({"kind": "pretrained", "settings": settings}))
    with pytest.raises(UserError, match=r"w2sr_tokenizer\.json"):
        tokenizer.load(tmp_path)


TEMPLATES = {
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "memory": "{{ 'a' * 10**10 }}",
    "doubling": "{% set n = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os }}",
    "chance": "{{ ['a', 'b'] | random }}{{ messages[0].content }}",
    "chance of words": "{{ lipsum() }}{{ messages[0].content }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "depth": "{% if a %}" * 3000 + "{% endif %}" * 3000,
    "steering": "{{ raise_exception('\x1b[2J\u202e') }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_can_neither_reach_out_nor_go_on(name: str) -> None:
    with pytest.raises(UserError) as refused:
        chat.learn(TEMPLATES[name], {}, None, True)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500
