"""The parts of served teachers by themselves: what a reply says, when to ask, what is on disk, which settings are refused."""

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.teachers.served.answer import Answer, Malformed, parse
from w2sr_jax.teachers.served.journal import Journal
from w2sr_jax.teachers.served.rate_limit import LONGEST_BACK_OFF, Budget, OverBudget, RateLimit, back_off, retry_after
from w2sr_jax.teachers.served.request import bound, cost, requests
from w2sr_jax.teachers.settings import Served


def reply(message: Any, finish: Any = "stop", **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish} | more.pop("choice", {})], **more}).encode()


@pytest.mark.parametrize(
    ("message", "finish", "text", "outcome", "cut"),
    [
        ({"content": " a\n"}, "stop", "a", "answered", "stop"),
        ({"content": "a"}, None, "a", "answered", "length"),
        ({"content": "a"}, "MAX_TOKENS", "a", "answered", "length"),
        ({"content": "a"}, "end_turn", "a", "answered", "stop"),
        ({"content": "a"}, "length", "a", "answered", "length"),
        ({"content": None}, "stop", "", "empty", "stop"),
        ({"content": None, "tool_calls": [{}]}, "tool_calls", "", "empty", "length"),
        ({"content": None, "refusal": "no"}, "stop", "", "refused", "stop"),
        ({"content": "half"}, "content_filter", "half", "filtered", "length"),
        ({"content": "no"}, "refusal", "no", "refused", "length"),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, "stop", "", "refused", "stop"),
        ({"content": "b", "reasoning_content": "a\n"}, "stop", "<think>\na\n</think>\n\nb", "answered", "stop"),
        ({"content": "b", "reasoning": "a"}, "stop", "<think>\na\n</think>\n\nb", "answered", "stop"),
        ({"content": "b", "reasoning_content": "", "reasoning": None}, "stop", "b", "answered", "stop"),
        ({"content": "<think>\na\n</think>\nb", "reasoning_content": "a"}, "stop", "<think>\na\n</think>\nb", "answered", "stop"),
        ({"content": "", "reasoning_content": "a"}, "length", "<think>\na", "answered", "length"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "stop", "ab", "answered", "stop"),
        ({"content": "half \ud83d pair 🙂"}, "stop", "half � pair 🙂", "answered", "stop"),
    ],
)
def test_what_a_message_says(message: Any, finish: Any, text: str, outcome: str, cut: str) -> None:
    answer = parse(reply(message, finish))
    assert (answer.text, answer.outcome, answer.finish) == (text, outcome, cut)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": "a"}',
        b'{"choices": [7]}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": "a"}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": [["a"]]}}]}',
        b'{"error": {"message": "overloaded"}}',
        b"[" * 200_000,
        b"1" * 100_000,
    ],
)
def test_nonsense_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse(raw)


@pytest.mark.parametrize("tokens", [None, "7", -1, 2**31, 1.5, True, math.inf])
def test_counts_that_are_none_count_as_unknown(tokens: Any) -> None:
    answer = parse(reply({"content": "a"}, usage={"prompt_tokens": 3, "completion_tokens": tokens}))
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, None)
    assert parse(reply({"content": "a"}, usage=[3])).prompt_tokens is None


@pytest.mark.parametrize(
    ("logprobs", "mean"),
    [
        ({"content": [{"logprob": -1.0}, {"logprob": -2}]}, -1.5),
        ({"token_logprobs": [-3.0, -1.0]}, -2.0),
        ({"content": []}, None),
        ({"content": [{"logprob": -1.0}, {}]}, None),
        ({"content": [{"logprob": math.nan}]}, None),
        ({"token_logprobs": [None, -1.0]}, None),
        ({"token_logprobs": [10**400]}, None),
        ([], None),
        (None, None),
    ],
)
def test_mean_of_log_probabilities(logprobs: Any, mean: float | None) -> None:
    assert parse(reply({"content": "a"}, choice={"logprobs": logprobs})).mean_logprob == mean


def test_every_text_of_a_reply_is_cleaned() -> None:
    raw = reply({"content": "my secret", "reasoning": "a secret"}, model="secret-7")
    answer = parse(raw, lambda text: text.replace("secret", "*"))
    assert (answer.text, answer.model) == ("<think>\na *\n</think>\n\nmy *", "*-7")


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(work())


def test_requests_are_spread_over_a_minute() -> None:
    async def work() -> list[float]:
        clock, times = Clock(), []
        pace = RateLimit(30.0, None, clock, clock.sleep)
        for _ in range(5):
            await pace.turn(1000)
            times.append(clock.now - 100.0)
        pace.hold(45.0)
        await pace.turn(1000)
        return [*times, clock.now - 100.0]

    assert run(work) == pytest.approx([0.0, 2.0, 4.0, 6.0, 8.0, 53.0])


def test_no_minute_has_more_tokens_than_allowed() -> None:
    async def work() -> None:
        clock, sent = Clock(), []
        pace = RateLimit(None, 1000.0, clock, clock.sleep)
        for index in range(60):
            charge = await pace.turn(400)
            sent.append((charge, charge.time))
            clock.now += 3.0
            charge.tokens = (400, 130, 50)[index % 3]  # what it turns out to have taken
        for _, start in sent:
            within = [charge.tokens for charge, at in sent if start <= at < start + 60.0]
            assert sum(within) <= 1000
        minutes = (sent[-1][1] - sent[0][1]) / 60.0
        assert sum(charge.tokens for charge, _ in sent) / minutes > 600  # what was not used is used by others
        whole = await pace.turn(5000)
        assert whole.time >= sent[-1][1] + 57.0

    run(work)


def test_back_off_doubles_up_to_a_minute_and_is_drawn_in_full() -> None:
    assert [back_off(1.0, attempt, 1.0) for attempt in (0, 1, 2, 5, 6, 1000)] == [1, 2, 4, 32, LONGEST_BACK_OFF, LONGEST_BACK_OFF]
    assert back_off(3.0, 1, 0.25) == 1.5
    assert back_off(0.0, 9, 0.9) == 0.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT"}, 0.0),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, datetime(2026, 10, 21, 7, 28, tzinfo=UTC)) == seconds


def test_a_purse_waits_for_change_and_never_spends_more_than_it_has() -> None:
    async def work() -> None:
        budget = Budget(10.0, 1.0)
        await budget.reserve(5.0)
        waiting = asyncio.ensure_future(budget.reserve(5.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        await budget.settle(5.0, 2.0)
        await waiting
        assert budget.spent == 3.0
        await budget.settle(5.0, 5.0)
        with pytest.raises(OverBudget):
            await budget.reserve(2.5)
        await budget.reserve(2.0)
        await Budget(None, 1e9).reserve(1e9)

    run(work)


def test_a_journal_gives_back_what_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "a" / "answers.jsonl"
    answers = [
        Answer("line\nend \u2028 \x1b[31m", "answered", "stop", 3, 4, -0.25, "m", "eos_token"),
        Answer("", "refused", "length", None, None, None, ""),
    ]
    with Journal(path) as journal:
        for sample, answer in enumerate(answers):
            journal.add(("p", sample, "d"), "asked", answer)
            assert path.read_bytes().count(b"\n") == sample + 1  # on disk at once
        assert journal.get(("p", 1, "d")) == ("asked", answers[1])
    with Journal(path) as journal:
        assert [journal.get(("p", sample, "d")) for sample in (0, 1)] == [("asked", answer) for answer in answers]
        assert (journal.get(("p", 0, "other")), len(journal), journal.torn) == (None, 2, 0)


def test_a_journal_from_before_reasons_were_kept_is_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    row = {"asked": "m", "completion_tokens": 4, "finish": "stop", "mean_logprob": None, "model": "m", "outcome": "answered"}
    row |= {"problem": "p", "prompt_tokens": 3, "request": "d", "sample": 0, "text": "so 4"}
    path.write_text(files.canonical_json({**row, "check": files.digest_json(row)[:16]}) + "\n")
    with Journal(path) as journal:
        assert journal.torn == 0
        assert journal.get(("p", 0, "d")) == ("m", Answer("so 4", "answered", "stop", 3, 4, None, "m", None))


@pytest.mark.parametrize("left", [1, 40, -1])
def test_a_torn_line_costs_one_answer_at_most(tmp_path: Path, left: int) -> None:
    path = tmp_path / "answers.jsonl"
    answer = Answer("text", "answered", "stop", 3, 4, None, "m")
    with Journal(path) as journal:
        journal.add(("p", 0, "d"), "m", answer)
        start = path.stat().st_size
        journal.add(("p", 1, "d"), "m", answer)
    data = path.read_bytes()
    path.write_bytes(data[: start + left] if left > 0 else data[:left])
    for _ in range(2):
        with Journal(path) as journal:
            assert journal.torn == (left > 0)
            assert (("p", 1, "d") in journal) == (left == -1)
    with Journal(path) as journal:
        journal.add(("p", 2, "d"), "m", answer)
    with Journal(path) as journal:
        assert [journal.get(("p", sample, "d")) for sample in (0, 2)] == [("m", answer)] * 2


def test_the_bound_is_one(tmp_path: Path) -> None:
    settings = Served(samples=2, max_tokens=100, prompt_price=1.0, completion_price=10.0)
    problems = [Problem.of("What is 2 + 2 ?", "4"), Problem.of("好" * 50, "4")]
    most = bound(settings, problems)
    assert (most.requests, most.completion_tokens) == (4, 400)
    assert most.prompt_tokens >= 2 * sum(len(problem.question.encode()) for problem in problems)
    assert most.cost == pytest.approx(cost(settings, most.prompt_tokens, 400)) == (most.prompt_tokens + 4000) / 1e6


def test_digests_depend_on_what_is_sent_and_where() -> None:
    problem = Problem.of("What is 2 + 2 ?", "4")

    def digests(**changes: Any) -> set[str]:
        return {request.digest for request in requests(Served(**{"samples": 2, **changes}), [problem], 0)}

    assert len(digests()) == 2
    assert digests(url="http://127.0.0.1:8000/v1/") == digests(concurrency=1, attempts=2, max_cost=1.0) == digests()
    for changes in ({"url": "http://127.0.0.1:8001/v1"}, {"model": "a"}, {"max_tokens": 5}, {"extra_body": (("top_k", 1),)}):
        assert not digests(**changes) & digests()
    assert len(digests(send_seed=False)) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "127.0.0.1:8000/v1"}, "write one like http://127.0.0.1:8000/v1"),
        ({"url": "http://127.0.0.1:port/v1"}, "write one like"),
        ({"url": "file:///etc/passwd"}, "write one like"),
        ({"url": "http://a b/v1"}, "write one like"),
        ({"url": "https://me:secret@host/v1"}, "key_env"),
        ({"url": "https://host/v1?key=secret"}, "key_env"),
        ({"url": "http://host/v1/chat/completions"}, "only up to"),
        ({"samples": 0}, "samples 0"),
        ({"max_tokens": 0}, "max_tokens 0"),
        ({"concurrency": 0}, "concurrency 0"),
        ({"failures": -1}, "failures -1"),
        ({"timeout": 0.0}, "timeout"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"requests_per_minute": 0.0}, "requests_per_minute"),
        ({"prompt_price": math.nan}, "prompt_price"),
        ({"prompt": "why?"}, "{question}"),
        ({"stop": ("",)}, "stop"),
        ({"api": "completions", "system": "a"}, "completions"),
        ({"extra_body": (("seed", 1),)}, "'seed'"),
        ({"extra_body": (("messages.0", 1),)}, "'messages.0'"),
        ({"extra_body": (("", 1),)}, "without a name"),
        ({"key_env": "sk-secret"}, "never a key"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        Served(**changes)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "teacher 'served'" in str(refused.value)


@pytest.mark.parametrize("extra", [(("a", 1), ("a", 2)), (("a", 1), ("a.b", 2)), (("a.b", 1), ("a", 2))])
def test_fields_given_twice_are_refused(extra: tuple[tuple[str, int], ...]) -> None:
    with pytest.raises(UserError, match="extra_body twice"):
        list(requests(Served(extra_body=extra), [Problem.of("q", None)], 0))
