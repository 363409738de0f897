"""Served teachers: what a server refuses is one sentence, and the key goes to it and nowhere else."""

import dataclasses
import traceback
from pathlib import Path
from typing import Any

import pytest
from stub_server import PROBLEMS, Reply, Stub, asked, chat, sample_of, serving, teacher, traces

from w2sr_jax.core.errors import UserError
from w2sr_jax.teachers.settings import Served

KEY = "sk-w2sr-secret/0123456789"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


REFUSALS = {
    "400": (
        Reply(400, {"error": {"message": "max_tokens is too large"}}),
        ["refuses", "max_tokens is too large", PROBLEMS[0].id],
    ),
    "401": (
        Reply(401, {"error": "who are you"}),
        ["without a key", "who are you", "set the environment variable OPENAI_API"],
    ),
    "402": (Reply(402, {}), ["no credit", "402"]),
    "quota": (Reply(429, {"error": {"message": "pay", "code": "insufficient_quota"}}), ["no credit", "pay"]),
    "403": (Reply(403, {"detail": "no \x1b[2Jaccess"}), ["forbids", r"no \x1b[2Jaccess", "'m'"]),
    "404": (Reply(404, {"message": "no such model"}), ["'m'", "no such model", "/v1"]),
    "422": (Reply(422, {"detail": [{"loc": ["seed"]}]}), ["refuses", "seed"]),
    "307": (Reply(307, {}, {"Location": "http://127.0.0.1:1/v2"}), ["redirects to http://127.0.0.1:1/v2"]),
    "day": (Reply(429, {}, {"Retry-After": "86400"}), ["86,400 seconds", "run the same command again"]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_no_retry_can_mend_ends_the_work_at_once(tmp_path: Path, name: str) -> None:
    reply, words = REFUSALS[name]
    with serving(Stub(lambda body, before: reply)) as stub:
        with pytest.raises(UserError) as refused:
            asked(tmp_path, teacher(stub, concurrency=1))
        assert len(stub.requests) == 1
    for word in ["teacher 't'", *words]:
        assert word in str(refused.value)
    assert "\n" not in str(refused.value)


def test_nobody_listening_is_one_sentence(tmp_path: Path) -> None:
    settings = Served("t", "http://127.0.0.1:9/v1", samples=1, attempts=2, back_off=0.0)
    with pytest.raises(UserError, match="the connection failed"):
        asked(tmp_path, settings)
    with pytest.raises(UserError, match=r"11 requests failed in all of 2 attempts.*0 of 12 answers are kept"):
        asked(tmp_path, dataclasses.replace(settings, model="m", samples=2))


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)

    def echo(body: dict[str, Any], before: int) -> Reply | None:
        if before == 0:
            return Reply(500, {"error": {"message": f"key {KEY} is busy"}})
        return chat(f"your key is {KEY}") if sample_of(body)[0] < 5 else None

    with caplog.at_level("WARNING"), serving(Stub(echo)) as stub:
        result = asked(tmp_path / "first", teacher(stub, key_env="MY_KEY"))
        stub.script = lambda body, before: Reply(500, {"error": {"message": f"key {KEY} is busy"}})
        with pytest.raises(UserError, match=r"key \[key\] is busy"):
            asked(tmp_path / "busy", teacher(stub, key_env="MY_KEY", attempts=1))
        stub.script = lambda body, before: Reply(401, {"error": {"message": f"bad key {KEY}"}})
        with pytest.raises(UserError, match=r"the key in MY_KEY .*bad key \[key\].*variable MY_KEY to a valid key") as refused:
            asked(tmp_path / "bad", teacher(stub, key_env="MY_KEY"))
        assert {headers["authorization"] for headers in stub.headers} == {f"Bearer {KEY}"}
    assert traces(result)[0].text == "your key is [key]"
    assert not any(KEY in str(trace) for trace in traces(result))
    assert KEY not in "".join(traceback.format_exception(refused.value))
    assert refused.value.__context__ is None
    assert KEY not in caplog.text
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in written) == ["answers.jsonl"] * 3 + ["traces-00000.parquet"]
    assert not any(KEY.encode() in path.read_bytes() for path in written)


def test_where_a_key_is_needed_and_where_it_must_not_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match=r"needs a key for https://api\.example\.com/v1: set the environment variable OPENAI_API_KEY"
    ):
        asked(tmp_path, Served("t", "https://api.example.com/v1", "m"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(UserError, match="would send the key in OPENAI_API_KEY unencrypted") as refused:
        asked(tmp_path, Served("t", "http://10.0.0.7:8000/v1", "m"))
    assert KEY not in str(refused.value)
    monkeypatch.setenv("OPENAI_API_KEY", "two words\nand a line")
    with pytest.raises(UserError, match="holds no key") as refused:
        asked(tmp_path, Served("t", "https://api.example.com/v1", "m"))
    assert "two words" not in str(refused.value)


def test_a_proxy_is_not_asked_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(Stub()) as stub:
        assert asked(tmp_path, teacher(stub)).counts["retries"] == 0
