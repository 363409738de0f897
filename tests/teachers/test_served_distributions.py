"""A server's most probable tokens are those of the run's tokenizer, or they do not count."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub_server import PROBLEMS, Reply, Stub, asked, serving, teacher, traces

from w2sr_jax.batches.encode import encode
from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example, Trace
from w2sr_jax.teachers.served import distributions
from w2sr_jax.teachers.served.distributions import Vocabulary, positions
from w2sr_jax.teachers.settings import Served
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import BpeTokenizer
from w2sr_jax.text.tokenizer import build

TEXT = "3 + 2 = 5 #### 5"
TOKENIZER = build(BpeTokenizer(vocab_size=300), [TEXT, *(problem.question for problem in PROBLEMS)])
RENDERER = Renderer(TOKENIZER)


TEXTS = TOKENIZER.decode([[token] for token in range(TOKENIZER.vocab_size)])
TOLD_APART = [token for token, text in enumerate(TEXTS) if text and "\ufffd" not in text and TEXTS.count(text) == 1]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def spelled(ids: Sequence[int]) -> list[str]:
    return TOKENIZER.decode([[token] for token in ids])


def ids_of(text: str = TEXT) -> list[int]:
    return [*TOKENIZER.encode([text])[0], TOKENIZER.end_of_turn]


def listed(seed: int, own: int, count: int = 3) -> dict[int, float]:
    """The most probable tokens at a position, one of which was drawn."""
    draw = np.random.default_rng(seed)
    others = [token for token in draw.permutation(TOLD_APART).tolist() if token != own][: count - 1]
    logprobs = np.log(draw.dirichlet(np.ones(count + 1))[:count]).tolist()
    return dict(zip([own, *others], sorted(logprobs, reverse=True), strict=True))


def name(token: int, by_id: bool) -> str:
    return f"token_id:{token}" if by_id else spelled([token])[0]


def logprobs(ids: Sequence[int], chat: bool, by_id: bool) -> dict[str, Any]:
    """As a server writes them for an answer of these tokens."""
    tops = [{name(token, by_id): value for token, value in listed(row, own).items()} for row, own in enumerate(ids)]
    names = [name(token, by_id) for token in ids]
    if not chat:
        return {"tokens": names, "token_logprobs": [top[own] for top, own in zip(tops, names, strict=True)], "top_logprobs": tops}
    rows = [
        {"token": own, "logprob": top[own], "top_logprobs": [{"token": key, "logprob": value} for key, value in top.items()]}
        for own, top in zip(names, tops, strict=True)
    ]
    return {"content": rows}


@pytest.mark.parametrize("by_id", [False, True], ids=["texts", "ids"])
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completions"])
def test_tokens_that_are_the_tokenizers_own_are_read_with_the_mass_of_the_rest(chat: bool, by_id: bool) -> None:
    ids = ids_of()
    found = Vocabulary(TOKENIZER).drawn(positions(logprobs(ids, chat, by_id), str) or (), TEXT)
    assert found is not None
    ids = ids if by_id else ids[:-1]  # the end has no text
    assert found.ids == tuple(ids)
    for row, own in enumerate(ids):
        expected = listed(row, own)
        ranked = sorted(expected, key=lambda token: -expected[token])
        assert found.top.ids[row].tolist() == ranked
        np.testing.assert_allclose(found.top.logprobs[row], [expected[token] for token in ranked], rtol=1e-6)
        assert found.logprobs[row] == expected[own]
        np.testing.assert_allclose(np.exp(found.top.rest[row]), 1 - sum(map(math.exp, expected.values())), rtol=1e-4)


def test_what_is_rounded_leaves_something_for_all_other_tokens() -> None:
    rows = [{"token": text, "logprob": -0.0, "top_logprobs": [{"token": text, "logprob": 1e-7}]} for text in spelled(ids_of())]
    found = Vocabulary(TOKENIZER).drawn(positions({"content": rows}, str) or (), TEXT)
    assert found is not None
    np.testing.assert_allclose(np.exp(found.top.rest), distributions.LEAST_REST, rtol=1e-4)
    assert (found.top.logprobs <= 0).all()


def test_entries_whose_token_is_not_known_are_the_rests() -> None:
    ids = ids_of()
    every = logprobs(ids, True, False)
    for row in every["content"]:
        row["top_logprobs"] += [{"token": "no such token", "logprob": -1.5}, {"token": "\ufffd", "logprob": -2.0}]
        row["top_logprobs"] += [{"token": "token_id:999999", "logprob": -2.0}, {"token": " =", "logprob": -9999.0}, "odd", {}]
    every["content"][2]["top_logprobs"] = []
    found = Vocabulary(TOKENIZER).drawn(positions(every, str) or (), TEXT)
    assert found is not None
    assert sorted(found.top.ids[0].tolist()) == sorted(listed(0, ids[0]))
    assert found.top.ids[2].tolist() == [-1, -1, -1]


OTHER = [
    ("another text", ids_of(), "3 + 2 = 6 #### 6"),
    ("another spelling", [token for char in TEXT for token in TOKENIZER.encode([char])[0]], TEXT),
    ("a token in the midst", [*ids_of()[:2], TOKENIZER.end_of_turn, *ids_of()[2:]], TEXT),
    ("nothing but the end", [TOKENIZER.end_of_turn], ""),
]


@pytest.mark.parametrize(("ids", "text"), [case[1:] for case in OTHER], ids=[case[0] for case in OTHER])
def test_an_answer_that_the_tokenizer_spells_otherwise_has_none(ids: list[int], text: str) -> None:
    assert Vocabulary(TOKENIZER).drawn(positions(logprobs(ids, True, True), str) or (), text) is None


def test_an_answer_with_a_token_that_is_not_known_has_none() -> None:
    every = logprobs(ids_of(), True, False)
    every["content"][1]["token"] = "no such token"
    assert Vocabulary(TOKENIZER).drawn(positions(every, str) or (), TEXT) is None


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [],
        {"content": [{"token": "a", "logprob": -1.0}]},
        {"content": [{"token": "a", "logprob": float("nan"), "top_logprobs": []}]},
        {"content": [{"token": 3, "logprob": -1.0}]},
        {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None},
        {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}, {}]},
        {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [{"a": -1.0}]},
        {"tokens": "a", "token_logprobs": "b", "top_logprobs": "c"},
    ],
)
def test_what_is_not_complete_is_nothing(odd: Any) -> None:
    assert positions(odd, str) is None


def test_tokens_that_hold_the_key_are_nothing() -> None:
    every = logprobs(ids_of(), True, False)
    assert positions(every, lambda text: text.replace("3 + 2", "[key]")) is None


class Naming(Stub):
    """Answers every request with the same text, and names its tokens."""

    by_id = False

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        found = super().answer(body)
        choice = found["choices"][0]
        choice |= {"message": {"role": "assistant", "content": TEXT}} if "messages" in body else {"text": TEXT}
        asks = body.get("top_logprobs") if "messages" in body else body.get("logprobs")
        if asks:
            choice["logprobs"] = logprobs(ids_of(), "messages" in body, self.by_id)
        return found


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_traces_have_them_where_they_are_asked_for_and_are_otherwise_the_same(tmp_path: Path, api: str) -> None:
    with serving(Naming()) as stub:
        settings = teacher(stub, api=api, samples=1)
        plain = asked(tmp_path / "plain", settings)
        assert all("top_logprobs" not in body and "logprobs" not in body for body in stub.requests)
        settings = dataclasses.replace(settings, top_logprobs=3)
        told = asked(tmp_path / "told", settings, tokenizer=TOKENIZER)
        fields = {"logprobs": True, "top_logprobs": 3} if api == "chat" else {"logprobs": 3}
        assert fields.items() <= stub.requests[-1].items()
        requests = len(stub.requests)
        again = asked(tmp_path / "again", settings, tokenizer=TOKENIZER, journal=tmp_path / "told" / "answers.jsonl")
        untold = asked(tmp_path / "untold", settings, journal=tmp_path / "told" / "answers.jsonl")
    assert len(stub.requests) == requests
    assert (told.counts["distributions"], again.counts["distributions"], untold.counts["distributions"]) == (6, 6, 0)
    assert "distributions" not in plain.counts
    assert not any(records.has_top(path, Trace) for path in plain.paths)
    for one, other in zip(traces(again), traces(plain), strict=True):
        assert (one.text, one.verdict, one.tokens) == (other.text, other.verdict, other.tokens)
        assert one.token_ids == tuple(ids_of()[:-1])
        assert one.top is not None
        assert one.top.ids[0].tolist() == sorted(listed(0, ids_of()[0]), key=lambda token: -listed(0, ids_of()[0])[token])
        assert (other.top, other.token_ids) == (None, ())


def test_they_arrive_at_the_tokens_that_students_learn_from(tmp_path: Path) -> None:
    with serving(Naming()) as stub:
        result = asked(tmp_path, teacher(stub, samples=1, top_logprobs=3), tokenizer=TOKENIZER)
    trace, question = traces(result)[0], PROBLEMS[0].question
    example = Example(
        "e", "p", trace.id, "t", question, trace.text, "reason", "correct", 1.0, trace.token_ids, trace.logprobs, trace.top
    )
    (found,), _ = encode([example], RENDERER, 128)
    assert found.top is not None
    assert found.tokens[found.supervised].tolist() == ids_of()
    assert (found.top.ids[found.supervised, 0] >= 0).tolist() == [True] * (len(ids_of()) - 1) + [False]


def test_the_journal_of_a_teacher_that_does_not_ask_for_them_has_no_word_of_them(tmp_path: Path) -> None:
    with serving(Naming()) as stub:
        asked(tmp_path, teacher(stub, logprobs=True, samples=1))
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert lines
    assert all("top" not in line for line in lines)


def test_mistakes_are_said() -> None:
    with pytest.raises(UserError, match="top_logprobs -1; it must be 0 or more"):
        Served(top_logprobs=-1)
    with pytest.raises(UserError, match=r"top_logprobs.* in extra_body; other settings of the teacher set that field"):
        Served(extra_body=(("top_logprobs", 3),))


def test_a_large_answer_with_many_of_them_is_not_too_large(tmp_path: Path) -> None:
    filler = [{"token": "x" * 20, "logprob": -1.0, "bytes": [120] * 20} for _ in range(20)]
    content = [{"token": "x", "logprob": -1.0, "bytes": [120], "top_logprobs": filler} for _ in range(900)]
    choice = {"message": {"content": "x"}, "finish_reason": "stop", "logprobs": {"content": content}}
    with serving(Stub(lambda body, before: Reply(body={"model": "m", "choices": [choice]}))) as stub:
        result = asked(tmp_path, teacher(stub, samples=1, top_logprobs=20, attempts=1, timeout=120.0), tokenizer=TOKENIZER)
    assert (result.counts["traces"], result.counts["distributions"]) == (6, 0)
