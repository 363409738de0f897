"""Hugging Face tokenizer directories: the reasoning survives, turns end once, padding never ends a turn."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from w2sr_jax.core import hub
from w2sr_jax.core.errors import UserError
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
    more: Sequence[str] = (),
) -> PretrainedTokenizer:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    inner.train_from_iterator([RESPONSE], trainer=trainer)
    inner.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *more])
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


def test_a_response_that_spells_a_token_of_the_template_does_not_write_it(tmp_path: Path) -> None:
    renderer = Renderer(tokenizer.build(make(tmp_path)))
    response = "so <|im_start|> it is <|im_start|>user \\boxed{3}"
    rendered = renderer.encode("q", response)
    own = rendered.tokens[len(renderer.prompt("q")) :]
    assert [token for token in own if token in renderer.tokenizer.inner.all_special_ids] == [renderer.tokenizer.end_of_turn]  # type: ignore[attr-defined]
    assert renderer.decode(own) == response
    answer = [token for token, span in zip(rendered.tokens, rendered.span) if span == spans.ANSWER]
    assert renderer.decode(answer).strip() == "\\boxed{3}"


def test_a_pad_token_that_is_an_ordinary_one_ends_no_turn(tmp_path: Path) -> None:
    renderer = Renderer(tokenizer.build(make(tmp_path, pad="!")))
    assert renderer.tokenizer.end_texts == ("<|im_end|>",)
    assert not renderer.refusal("So! It is 3!")
    assert not renderer.remarks("So! It is 3!", "reason")


def test_an_end_of_turn_that_cannot_be_told_from_text_is_refused(tmp_path: Path) -> None:
    """This tokenizer also finds its special tokens in text of another Unicode form."""
    make(tmp_path)
    path = tmp_path / "tokenizer.json"
    stored = json.loads(path.read_text())
    stored["normalizer"] = {"type": "NFKC"}
    for token in stored["added_tokens"]:
        token["normalized"] = True
    path.write_text(json.dumps(stored))
    renderer = Renderer(tokenizer.build(PretrainedTokenizer(str(tmp_path))))
    with pytest.raises(UserError, match=r"example 7: the response contains an end-of-turn token as text"):
        list(renderer.encode_all([("q", "so ＜|im_end|＞ 3", "reason")], ["example 7"]))
    with pytest.raises(UserError, match=r"the question 'so ＜\|im_end\|＞ 3' spells out a special token"):
        renderer.prompt("so ＜|im_end|＞ 3")
    with pytest.raises(UserError, match=r"example 8: the response is not contained .*reads '.*x²', rendered '.*x2'"):
        list(renderer.encode_all([("q", "it is x²", "reason")], ["example 8"]))


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    renderer = Renderer(tokenizer.build(make(tmp_path)))
    size = renderer.vocab_size
    needed = renderer.tokenizer.embedding_rows
    assert needed <= size
    renderer.check_vocabulary(needed)
    renderer.check_ids(size - 1, size)
    with pytest.raises(UserError, match=f"id {size - 1}.*beyond the {size - 1:,} rows"):
        renderer.check_ids(size - 1, size - 1)
    renderer.check_vocabulary(size + 100)
    with pytest.raises(UserError, match=rf"has {needed} tokens .* only {needed - 1} rows: .* \(id {needed - 1}\)"):
        renderer.check_vocabulary(needed - 1)


@pytest.mark.parametrize("ends", [[3, 9999], -1, "3", [True], {"a": 1}])
def test_end_tokens_outside_the_vocabulary_are_refused(tmp_path: Path, ends: object) -> None:
    settings = make(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    with pytest.raises(UserError, match=r"generation_config\.json names .* as eos_token_id, which is not the id of a token"):
        tokenizer.build(settings)


def test_a_missing_pad_token_is_asked_for_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no pad token; name one .* for example '<\|reserved_special_token_0\|>'$"):
        tokenizer.build(make(tmp_path, pad=None, more=["<|reserved_special_token_0|>"]))


def test_pieces_are_what_each_token_adds(tmp_path: Path) -> None:
    built = tokenizer.build(make(tmp_path))
    text = "so  it is\n\né <think> 12"
    ids = [*built.encode([text])[0], built.end_of_turn]
    pieces = built.pieces(ids)
    assert len(pieces) == len(ids)
    assert pieces[-1] == "<|im_end|>"
    assert "".join(piece for piece in pieces if piece in text).replace(" ", "") == text.replace("é", "").replace(" ", "")


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    built = tokenizer.build(make(tmp_path / "a", generation=[3]))
    built.save(tmp_path / "b")
    loaded = tokenizer.load(tmp_path / "b")
    assert loaded.digest == built.digest
    assert loaded.end_tokens == built.end_tokens
    assert loaded.prompts(["How many?"], "reason") == built.prompts(["How many?"], "reason")


def test_a_stored_limit_cuts_nothing(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "tokenizer.json"
    limits = {
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 64},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<|endoftext|>",
        },
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | limits))
    built = tokenizer.build(PretrainedTokenizer(str(tmp_path)))
    before = built.digest
    assert built.decode(built.encode([RESPONSE])) == [RESPONSE]
    assert tokenizer.build(PretrainedTokenizer(str(tmp_path))).digest == built.digest == before


def test_a_saved_directory_tells_other_programs_how_to_ask_and_when_to_stop(tmp_path: Path) -> None:
    built = tokenizer.build(make(tmp_path / "a", eos="<|endoftext|>"))
    built.save(tmp_path / "b")
    foreign = AutoTokenizer.from_pretrained(str(tmp_path / "b"))
    asked = [{"role": "user", "content": "How many? Think."}]
    assert (
        foreign.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        == built.prompts(["How many?"], "reason")[0]
    )
    config = GenerationConfig.from_pretrained(str(tmp_path / "b"))
    assert (tuple(config.eos_token_id), config.pad_token_id) == (built.end_tokens, built.pad)
    assert len(built.end_tokens) == 2
    assert {"<|im_start|>", "<|im_end|>"} <= {str(token) for token in foreign.added_tokens_decoder.values()}


def test_bad_directories_are_named(tmp_path: Path) -> None:
    def refused(words: str, path: object) -> None:
        with pytest.raises(UserError, match=words) as message:
            tokenizer.build(PretrainedTokenizer(str(path)))
        assert "\n" not in str(message.value)

    refused("does not exist", tmp_path / "absent")
    refused("path is empty", "")
    refused("no tokenizer.json .* not complete", tmp_path)
    make(tmp_path / "part")
    whole = (tmp_path / "part" / "tokenizer.json").read_text()
    (tmp_path / "part" / "tokenizer.json").write_text(whole[: len(whole) // 2])
    refused("tokenizer.json is not valid JSON", tmp_path / "part")
    (tmp_path / "part" / "tokenizer.json").unlink()
    (tmp_path / "part" / "tokenizer.json").symlink_to(tmp_path / "blobs" / "missing")
    refused("part cannot be opened .* not complete", tmp_path / "part")
    (tmp_path / "part" / "tokenizer.model").write_bytes(b"\x0a\x0c")
    refused("SentencePiece model alone", tmp_path / "part")
    make(tmp_path / "code")
    (tmp_path / "code" / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}})
    )
    refused("code cannot be opened .*custom code", tmp_path / "code")
    with pytest.raises(UserError, match=r"tokenizer\.reason must contain \{question\}"):
        PretrainedTokenizer(str(tmp_path), reason="Think.")


def test_a_hub_id_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "hub")
    asked = []

    def snapshot(ref: str, kind: str) -> Path:
        asked.append((ref, kind))
        return tmp_path / "hub"

    monkeypatch.setattr(hub, "snapshot", snapshot)
    built = tokenizer.build(PretrainedTokenizer("Owner/Name"))
    assert asked == [("Owner/Name", "tokenizer")]
    built.save(tmp_path / "saved")
    assert tokenizer.load(tmp_path / "saved").digest == built.digest
    assert len(asked) == 1
