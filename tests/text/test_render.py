"""The renderer: what is supervised, which span a token belongs to, and what is refused."""

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2sr_jax.core.errors import UserError
from w2sr_jax.text import spans, tokenizer
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import BpeTokenizer, WordTokenizer
from w2sr_jax.text.trained import Trained

QUESTION = "Fay has 2 more than Bob . How many ?"
RESPONSE = "3 + 2 = 5 ; 5 * 2 = 10 #### 10"
WORD = Renderer(tokenizer.build(WordTokenizer(), [QUESTION, RESPONSE]))
BPE = Renderer(tokenizer.build(BpeTokenizer(vocab_size=300), [QUESTION, RESPONSE] * 3))


@pytest.mark.parametrize("renderer", [WORD, BPE], ids=["word", "bpe"])
@pytest.mark.parametrize("style", ["reason", "direct", "plain"])
def test_response_and_one_end_of_turn_are_supervised_and_nothing_else(renderer: Renderer, style: str) -> None:
    rendered = renderer.encode(QUESTION, RESPONSE, style)
    assert len(rendered.tokens) == len(rendered.span) == len(rendered.supervised)
    prompt = [] if style == "plain" else renderer.prompt(QUESTION, style)
    assert rendered.tokens[: len(prompt)] == prompt
    assert rendered.supervised == [False] * len(prompt) + [True] * (len(rendered.tokens) - len(prompt))
    assert [span == spans.PROMPT for span in rendered.span] == [not wanted for wanted in rendered.supervised]
    assert rendered.span.count(spans.END) == 1
    assert rendered.tokens[-1] in renderer.end_tokens
    assert rendered.tokens.count(rendered.tokens[-1]) == 1
    assert renderer.decode(rendered.tokens[len(prompt) :]) == RESPONSE
    assert renderer.pad not in rendered.tokens


@pytest.mark.parametrize("renderer", [WORD, BPE], ids=["word", "bpe"])
def test_a_document_is_the_direct_text_with_every_token_supervised(renderer: Renderer) -> None:
    document, direct = renderer.encode(QUESTION, "#### 10", "document"), renderer.encode(QUESTION, "#### 10", "direct")
    assert (document.tokens, document.span) == (direct.tokens, direct.span)
    assert all(document.supervised)
    assert not all(direct.supervised)


def test_spans_part_reasoning_from_answer() -> None:
    rendered = WORD.encode(QUESTION, RESPONSE)
    answer = [token for token, span in zip(rendered.tokens, rendered.span) if span == spans.ANSWER]
    assert WORD.decode(answer) == "#### 10"
    direct = WORD.encode(QUESTION, "10", "direct")
    assert [span for span in direct.span if span != spans.PROMPT] == [spans.ANSWER, spans.END]
    unmarked = WORD.encode(QUESTION, "3 + 2 = 5")
    assert spans.ANSWER not in unmarked.span


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("so 3\n#### 3", "#### 3"),
        ("#### 1 no #### 3", "#### 3"),
        ("thus \\boxed{\\frac{1}{2}}.", "\\boxed{\\frac{1}{2}}."),
        ("one\nA: 5", "A: 5"),
        ("So the answer is 7.", "the answer is 7."),
        ("\\boxed{2} #### 3", "#### 3"),
        ("Plan A: go. Then 3", None),
        ("nothing here", None),
    ],
)
def test_where_the_answer_begins(response: str, answer: str | None) -> None:
    start = spans.answer_start(response)
    assert (None if start is None else response[start:]) == answer


@given(st.lists(st.tuples(st.text("ab 3#\n\\é", max_size=20), st.text("ab 3#\n\\é", min_size=1, max_size=30).filter(str.strip))))
def test_many_at_once_equal_one_by_one(rows: list[tuple[str, str]]) -> None:
    batch = list(BPE.encode_all([(q, r, "reason") for q, r in rows]))
    assert batch == [BPE.encode(q, r) for q, r in rows]
    assert BPE.decode_all([row.tokens[row.supervised.index(True) :] for row in batch]) == [r for _, r in rows]


def test_unknown_words_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"example 7.*'zebras'"):
        list(WORD.encode_all([(QUESTION, "3 zebras #### 3", "reason")], ["example 7"]))
    with pytest.raises(UserError, match="'Zoe'"):
        WORD.prompt("Zoe has 2")


@dataclasses.dataclass(frozen=True)
class Forgetful(Trained):
    """Loses what comes before the answer, as a chat template might."""

    def encode_marked(self, texts: Sequence[str], marks: Sequence[int | None]) -> list[tuple[list[int], int | None]]:
        return [(ids, None) for ids in self.encode([text.rpartition(" ; ")[2] for text in texts])]


def test_a_trace_that_is_not_in_the_rendered_text_is_refused() -> None:
    assert isinstance(WORD.tokenizer, Trained)
    with pytest.raises(UserError, match=r"example 3: the response is not contained"):
        list(Renderer(Forgetful(WORD.tokenizer.inner)).encode_all([(QUESTION, RESPONSE, "reason")], ["example 3"]))
    with pytest.raises(UserError, match="not contained"):
        WORD.encode(QUESTION, "  ")


def test_sampled_text_can_be_trained_on_again() -> None:
    assert isinstance(WORD.tokenizer, Trained)
    tied, specials = WORD.tokenizer.inner.token_to_id("⁀3"), [WORD.tokenizer.ids[name] for name in ("<q>", "<think>", "<pad>")]
    drawn = [tied, *WORD.tokenizer.encode(["3 + 2"])[0], WORD.tokenizer.unknown or 0, tied, *specials, *WORD.end_tokens, tied]
    assert WORD.decode(drawn) == "3 3 + 23"
    assert WORD.encode(QUESTION, WORD.decode(drawn)).tokens[-1] in WORD.end_tokens


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(UserError, match="reason, direct, plain"):
        WORD.prompt(QUESTION, "aloud")
