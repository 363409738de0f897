"""Tokenizers made from texts: what goes in comes out, and nothing is lost without a word."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, GenerationConfig

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.text import tokenizer, trained
from w2sr_jax.text.contract import Tokenizer, TokenizerSettings
from w2sr_jax.text.settings import LEAST_BPE, BpeTokenizer, PretrainedTokenizer, WordTokenizer

TEXTS = ["Fay has 2 more apples than Bob .", "16 - 4 = 12 ; 12 * 2 = 24 #### 24", "How many does Fay have ?"]
WORDS = sorted({word for text in TEXTS for word in text.split()})
WORD = tokenizer.build(WordTokenizer(), TEXTS)
BPE = tokenizer.build(BpeTokenizer(vocab_size=300), TEXTS * 5)


@given(
    st.lists(
        st.one_of(st.sampled_from(WORDS), st.integers(0, 10**12).map(str), st.integers(0, 99).map(lambda n: f"0{n}")), min_size=1
    )
)
def test_words_and_numbers_of_any_size_survive_the_round_trip(words: list[str]) -> None:
    text = " ".join(words)
    assert WORD.decode(WORD.encode([text])) == [text]
    assert WORD.unknown not in WORD.encode([text])[0]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bpe_keeps_any_text(text: str) -> None:
    assert BPE.decode(BPE.encode([text])) == [text]


def test_each_number_up_to_largest_is_one_token() -> None:
    built = tokenizer.build(WordTokenizer(largest=29), TEXTS)
    assert [len(ids) for ids in built.encode([str(n) for n in range(30)])] == [1] * 30
    assert len(built.encode(["1234"])[0]) > 1
    digits = tokenizer.build(WordTokenizer(numbers=False), TEXTS)
    assert [len(ids) for ids in digits.encode(["7", "16", "1234"])] == [1, 2, 4]
    assert digits.decode(digits.encode(["16 - 4 = 12 #### 12"])) == ["16 - 4 = 12 #### 12"]


def test_an_unknown_word_is_marked() -> None:
    assert WORD.unknown in WORD.encode(["Fay has zebras"])[0]
    assert BPE.unknown is None


@pytest.mark.parametrize("built", [WORD, BPE], ids=["word", "bpe"])
def test_special_tokens_are_never_read_from_text(built: trained.Trained) -> None:
    specials = {built.ids[name] for name in trained.SPECIALS}
    assert len(specials) == len(trained.SPECIALS)
    assert built.pad != built.end_of_turn
    for text in trained.SPECIALS:
        assert specials.isdisjoint(built.encode([f"Fay {text} {text}"])[0])


@pytest.mark.parametrize("settings", [WordTokenizer(), BpeTokenizer(vocab_size=300)], ids=["word", "bpe"])
def test_saved_and_loaded_is_the_same_and_built_again_too(tmp_path: Path, settings: WordTokenizer | BpeTokenizer) -> None:
    built = tokenizer.build(settings, TEXTS * 5)
    built.save(tmp_path / "t")
    loaded = tokenizer.load(tmp_path / "t")
    again = tokenizer.build(settings, TEXTS * 5)
    assert built.digest == loaded.digest == again.digest
    assert built.end_tokens == loaded.end_tokens
    assert built.encode([*TEXTS, "<end>"]) == loaded.encode([*TEXTS, "<end>"])
    assert built.prompts(TEXTS, "reason") == loaded.prompts(TEXTS, "reason")
    assert max(id for ids in loaded.prompts(TEXTS, "direct") for id in ids) < loaded.vocab_size


def test_a_saved_tokenizer_opens_in_transformers(tmp_path: Path) -> None:
    WORD.save(tmp_path)
    foreign = AutoTokenizer.from_pretrained(str(tmp_path))
    assert foreign(TEXTS, add_special_tokens=False)["input_ids"] == WORD.encode(TEXTS)
    assert (foreign.pad_token_id, foreign.eos_token_id) == (WORD.pad, WORD.end_of_turn)
    for style in ("reason", "direct"):
        prompt = foreign.apply_chat_template(
            [{"role": "user", "content": TEXTS[0]}], enable_thinking=style == "reason", return_dict=False
        )
        assert prompt == WORD.prompts([TEXTS[0]], style)[0]
    assert GenerationConfig.from_pretrained(str(tmp_path)).eos_token_id == list(WORD.end_tokens)


def test_pieces_are_what_each_token_adds() -> None:
    ids = [*WORD.prompts(["Fay has 1234"], "reason")[0], *WORD.encode(["16 zebras"])[0], WORD.end_of_turn]
    assert WORD.pieces(ids) == ["<q>", "Fay", " has", " 12", "3", "4", "<think>", "16", "<unk>", "<end>"]
    assert "".join(BPE.pieces(BPE.encode([TEXTS[1]])[0])) == TEXTS[1]


def test_prompts_of_the_two_styles_differ_in_their_last_token_alone() -> None:
    reason, direct = (WORD.prompts([TEXTS[0]], style)[0] for style in ("reason", "direct"))
    assert reason[:-1] == direct[:-1]
    assert reason[-1] != direct[-1]
    assert reason[1:-1] == WORD.encode([TEXTS[0]])[0]


def test_refusals_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="limit is 40"):
        tokenizer.build(WordTokenizer(limit=40, largest=9), [" ".join(f"word{'x' * n}" for n in range(60))])
    with pytest.raises(UserError, match="at least 261"):
        tokenizer.build(BpeTokenizer(vocab_size=100), TEXTS)
    with pytest.raises(UserError, match="not a saved tokenizer"):
        tokenizer.load(tmp_path)
    (tmp_path / "w2sr_tokenizer.json").write_text(json.dumps({"kind": "other"}))
    with pytest.raises(UserError, match="'other'"):
        tokenizer.load(tmp_path)
    (tmp_path / "w2sr_tokenizer.json").write_text(json.dumps({"kind": "trained"}))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="is not a tokenizer"):
        tokenizer.load(tmp_path)


def test_real_traces_survive_bpe(shared_data: Path) -> None:
    lines = (shared_data / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:300]
    texts = [json.loads(line)["answer"] for line in lines]
    built = tokenizer.build(BpeTokenizer(vocab_size=600), texts)
    assert built.vocab_size == 600
    assert built.decode(built.encode(texts)) == texts


@dataclasses.dataclass(frozen=True)
class Characters(TokenizerSettings):
    """A token for each character of `alphabet`: a tokenizer of a user's own."""

    alphabet: str = "0123456789+= "

    def build(self, texts: Iterable[str]) -> Tokenizer:
        if not self.alphabet:
            raise KeyError("alphabet")
        return trained.with_specials(tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(self.alphabet)}, [])))

    def least_vocabulary(self) -> int:
        return len(self.alphabet) + len(trained.SPECIALS)


@dataclasses.dataclass(frozen=True)
class Holder:
    tokenizer: TokenizerSettings = WordTokenizer()


def test_a_tokenizer_of_ones_own_is_one_dataclass(tmp_path: Path) -> None:
    own = Characters()
    built = tokenizer.build(own, ["ignored"])
    assert built.encode(["1+2=3"]) == [[1, 10, 2, 11, 3]]
    assert built.vocab_size == own.least_vocabulary() == 18
    built.save(tmp_path)
    assert tokenizer.load(tmp_path).digest == built.digest
    assert mistyped(Holder(own), Holder) is None
    assert (own.opened_from(), own.needs_questions(), own.largest_number()) == (None, False, None)
    assert own.stand_in("elsewhere") is own
    with pytest.raises(UserError, match=r"test_tokenizer.py, line \d+: KeyError"):
        tokenizer.build(Characters(""))
    kind: Any = Characters
    assert str(mistyped(Holder(kind), Holder)).endswith("it must be a TokenizerSettings: write Characters(…)")


def test_settings_say_what_is_special_about_their_tokenizer() -> None:
    word, bpe, pretrained = (
        WordTokenizer(largest=29),
        BpeTokenizer(vocab_size=300),
        PretrainedTokenizer("owner/name", pad="!"),
    )
    assert [one.needs_questions() for one in (word, bpe, pretrained)] == [True, False, False]
    assert [one.largest_number() for one in (word, bpe, pretrained)] == [29, None, None]
    assert [one.opened_from() for one in (word, bpe, pretrained)] == [None, None, "owner/name"]
    assert [one.least_vocabulary() for one in (word, bpe, pretrained)] == [0, LEAST_BPE, 0]
    assert tokenizer.build(BpeTokenizer(vocab_size=LEAST_BPE), TEXTS).vocab_size == LEAST_BPE
    assert [one.likely_vocabulary() for one in (word, bpe, pretrained)] == [1024, 300, 1024]
    assert [one.stand_in("here") for one in (word, bpe, pretrained)] == [word, bpe, PretrainedTokenizer("here")]
