"""Hugging Face tokenizer directories: the reasoning survives, turns end once, padding never ends a turn."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from w2sr_jax.errors import UserError
from w2sr_jax.text import spans, tokenizer
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import PretrainedTokenizer

# As reasoning models have them: of an assistant's turn only what follows `</think>` is rendered.
STRIPPING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{{ m['content'].split('</think>')[-1].lstrip() }}{% else %}{{ m['content'] }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
RESPONSE = "<think>\n16 - 4 = 12, so\ntwice that.\n</think>\nIt is \\boxed{24}"


def make(
    path: Path,
    template: str | None = STRIPPING,
    pad: str | None = "<|endoftext|>",
    eos: str | None = "<|im_end|>",
    generation: list[int] | None = None,
) -> PretrainedTokenizer:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    inner.train_from_iterator([RESPONSE], trainer=trainer)
    inner.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    inner.add_tokens(["<think>", "</think>"])
    named = {name: token for name, token in (("pad_token", pad), ("eos_token", eos)) if token}
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, **named)
    fast.chat_template = template
    fast.save_pretrained(str(path))
    if generation is not None:
        (path / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    return PretrainedTokenizer(str(path), reason="{question} Think.", direct="{question} Answer.")


def test_reasoning_that_the_template_would_strip_is_kept_and_supervised(tmp_path: Path) -> None:
    settings = make(tmp_path)
    renderer = Renderer(tokenizer.build(settings))
    inner = renderer.tokenizer.inner  # type: ignore[attr-defined]
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": RESPONSE}]
    assert "16 - 4" not in inner.apply_chat_template(turns, tokenize=False)

    rendered = renderer.encode("How many?", RESPONSE)
    text = inner.decode(rendered.tokens, skip_special_tokens=False)
    assert text == f"<|im_start|>user\nHow many? Think.<|im_end|>\n<|im_start|>assistant\n{RESPONSE}<|im_end|>"
    imitated = [token for token, wanted in zip(rendered.tokens, rendered.supervised) if wanted]
    assert inner.decode(imitated, skip_special_tokens=False) == f"{RESPONSE}<|im_end|>"
    answer = [token for token, span in zip(rendered.tokens, rendered.span) if span == spans.ANSWER]
    assert inner.decode(answer).lstrip() == "\\boxed{24}"
    assert rendered.tokens[: rendered.supervised.index(True)] == renderer.prompt("How many?")


def test_the_end_of_turn_is_the_templates_and_all_end_tokens_are_known(tmp_path: Path) -> None:
    settings = make(tmp_path, eos="<|endoftext|>", pad="<|endoftext|>")
    vocabulary = tokenizer.build(settings).inner.get_vocab()  # type: ignore[attr-defined]
    stop, text_end, start = (vocabulary[name] for name in ("<|im_end|>", "<|endoftext|>", "<|im_start|>"))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [text_end, start]}))
    renderer = Renderer(tokenizer.build(settings))
    assert renderer.end_tokens == (stop, text_end, start)
    assert renderer.pad == text_end  # a base model's pad: it ends texts, but not the turns that are trained on
    assert renderer.encode("q", "it is 3").tokens[-1] == stop
    ids = renderer.tokenizer.encode(["it is 3"])[0]
    for end in (stop, text_end, start):
        assert renderer.decode([*ids, end, *ids]) == "it is 3"


def test_padding_with_the_end_of_turn_is_refused_and_can_be_mended(tmp_path: Path) -> None:
    settings = make(tmp_path, pad="<|im_end|>")
    with pytest.raises(UserError, match="pads with"):
        tokenizer.build(settings)
    mended = PretrainedTokenizer(settings.path, pad="<|endoftext|>")
    assert tokenizer.build(mended).pad != tokenizer.build(mended).end_of_turn
    with pytest.raises(UserError, match="not in the vocabulary"):
        tokenizer.build(PretrainedTokenizer(settings.path, pad="<nothing>"))
    with pytest.raises(UserError, match="no pad token"):
        tokenizer.build(make(tmp_path / "padless", pad=None))


def test_without_a_template_the_prompt_is_the_wording_alone(tmp_path: Path) -> None:
    renderer = Renderer(tokenizer.build(make(tmp_path, template=None, eos="<|im_end|>")))
    rendered = renderer.encode("How many?", "3", "direct")
    assert renderer.tokenizer.decode([rendered.tokens]) == ["How many? Answer.\n3<|im_end|>"]


def test_a_response_that_would_end_its_own_turn_is_refused(tmp_path: Path) -> None:
    renderer = Renderer(tokenizer.build(make(tmp_path)))
    with pytest.raises(UserError, match=r"row 0.*end-of-turn"):
        list(renderer.encode_all([("q", "so <|im_end|> it is 3", "reason")]))


def test_a_template_that_drops_the_question_is_refused(tmp_path: Path) -> None:
    renderer = Renderer(tokenizer.build(make(tmp_path, template="{% for m in messages %}<|im_start|>{% endfor %}")))
    with pytest.raises(UserError, match="drops or changes the question"):
        renderer.prompt("How many?")


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    built = tokenizer.build(make(tmp_path / "a", generation=[3]))
    built.save(tmp_path / "b")
    loaded = tokenizer.load(tmp_path / "b")
    assert loaded.digest == built.digest
    assert loaded.end_tokens == built.end_tokens
    assert loaded.prompts(["How many?"], "reason") == built.prompts(["How many?"], "reason")


def test_bad_directories_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        tokenizer.build(PretrainedTokenizer(str(tmp_path / "absent")))
    with pytest.raises(UserError, match="cannot be opened as a tokenizer"):
        tokenizer.build(PretrainedTokenizer(str(tmp_path)))
    with pytest.raises(UserError, match="the reason prompt"):
        tokenizer.build(PretrainedTokenizer(str(tmp_path), reason="Think."))
