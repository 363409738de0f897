"""Served teachers against a server that fails on purpose: nothing is lost, nothing is paid for twice, nothing leaks."""

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from stub_server import PROBLEMS, Reply, Script, Stub, asked, chat, sample_of, serving, teacher, traces

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.core import keys
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.process import lock
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.teachers.served.ask import Asked, ask
from w2sr_jax.teachers.settings import Served


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


def failing_once(bad: dict[tuple[int, int], Reply]) -> Script:
    return lambda body, before: bad.get(sample_of(body)) if before == 0 else None


FAILURES = {
    (0, 0): Reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.05"}),
    (0, 1): Reply(429, {"error": {"message": "slow down"}}),
    (1, 0): Reply(500, b"<html>oops</html>"),
    (1, 1): Reply(503, {"detail": "loading"}),
    (2, 0): Reply(body={"choices": []}, cut=True),
    (2, 1): Reply(body=b'{"choices": [{"message": '),
    (3, 0): chat("too late #### 4")._replace(stall=True),
    (3, 1): chat("a byte at a time #### 4")._replace(drip=True),
    (4, 0): Reply(body={"error": {"message": "overloaded"}}),
    (4, 1): Reply(408, {}),
    (5, 0): Reply(body=b"[" * 100_000),
    (5, 1): chat("too long" * 300_000),
}


def test_traces_do_not_depend_on_what_failed_on_the_way(tmp_path: Path) -> None:
    with serving(Stub()) as stub:
        calm = asked(tmp_path / "calm", teacher(stub))
        assert calm.counts["retries"] == 0
        stub.script = failing_once(FAILURES)
        stub.seen.clear()
        stub.requests.clear()
        rough = asked(tmp_path / "rough", teacher(stub, timeout=0.6, concurrency=12))
    assert [path.read_bytes() for path in rough.paths] == [path.read_bytes() for path in calm.paths]
    assert (rough.counts["asked"], rough.counts["failed"]) == (12, 0)
    assert rough.counts["retries"] >= len(FAILURES) == 12  # a busy machine may time out besides
    assert len(stub.seen) == 12
    assert min(stub.seen.values()) >= 2


def test_a_request_says_all_that_the_settings_do_and_a_trace_what_came_of_it(tmp_path: Path) -> None:
    with serving(Stub()) as stub:
        extra = (("top_k", 20), ("chat_template_kwargs.enable_thinking", False), ("chat_template_kwargs.depth", 2))
        settings = teacher(stub, system="Be brief.", prompt="{question} Think.", top_p=0.9, stop=("\n\n",), extra_body=extra)
        settings = dataclasses.replace(settings, prompt_price=2.0, completion_price=8.0)
        result = asked(tmp_path, settings, shard=4)
        seed = keys.words(7, "served", "t", PROBLEMS[0].id, 0)[0] >> 1
        first = next(body for body in stub.requests if body["seed"] == seed)
    assert first == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "q0 : what is 2 + 0 ? Think."},
        ],
        "max_tokens": 1024,
        "temperature": 0.7,
        "top_p": 0.9,
        "stop": ["\n\n"],
        "top_k": 20,
        "chat_template_kwargs": {"enable_thinking": False, "depth": 2},
        "seed": seed,
    }
    written = traces(result)
    assert len(result.paths) == 3
    assert [(trace.problem_id, trace.sample) for trace in written] == [(p.id, sample) for p in PROBLEMS for sample in range(2)]
    odd = seed % 2
    assert written[0].text == f"q0 seed {seed} so #### {4 + odd}"
    assert written[0].verdict == ("incorrect" if odd else "correct")
    assert (written[0].teacher, written[0].finish, written[0].tokens, written[0].token_ids) == ("t", "stop", 5, ())
    assert written[0].id == Trace.identity(PROBLEMS[0].id, "t", 0, written[0].text)
    assert len({trace.id for trace in written}) == 12
    assert len({trace.provenance for trace in written}) == 1
    assert (result.prompt_tokens, result.completion_tokens) == (120, 60)
    assert result.cost == pytest.approx((120 * 2.0 + 60 * 8.0) / 1e6)


def test_provenance_and_seeds_follow_what_steers_an_answer(tmp_path: Path) -> None:
    with serving(Stub()) as stub:
        of = {}
        for name, changes in (("a", {}), ("pace", {"concurrency": 3, "timeout": 9.0}), ("hot", {"temperature": 1.0})):
            of[name] = traces(asked(tmp_path / name, teacher(stub, **changes)))
        other = traces(ask(tmp_path / "seed", teacher(stub), PROBLEMS, NumberGrader(), 8))
    assert of["pace"] == of["a"]
    assert of["hot"][0].provenance != of["a"][0].provenance
    assert [trace.text for trace in of["hot"]] == [trace.text for trace in of["a"]]
    assert not {trace.text for trace in other} & {trace.text for trace in of["a"]}


def test_a_rerun_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    with serving(Stub()) as stub:
        settings = teacher(stub, model="")
        whole = asked(tmp_path, settings)
        before = [path.read_bytes() for path in whole.paths]
        assert (len(stub.requests), stub.listed) == (12, 1)

        again = asked(tmp_path, settings)
        assert (len(stub.requests), stub.listed) == (12, 1)
        assert (again.counts["kept"], again.counts["asked"]) == (12, 0)
        assert (again.prompt_tokens, again.completion_tokens, again.cost) == (120, 60, 0.0)

        journal = tmp_path / "answers.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        damaged = lines[3].replace(b"seed", b"sead")
        journal.write_bytes(b"".join([lines[0], damaged, *lines[4:11]]) + lines[11][:40])
        torn = asked(tmp_path, settings)
        assert len(stub.requests) == 16
        assert (torn.counts["kept"], torn.counts["asked"], torn.counts["torn"]) == (8, 4, 2)
        assert [path.read_bytes() for path in torn.paths] == before

        more = asked(tmp_path, dataclasses.replace(settings, samples=3))
        assert (len(stub.requests), more.counts["traces"]) == (22, 18)
        assert asked(tmp_path, dataclasses.replace(settings, temperature=0.1)).counts["asked"] == 12


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_has_lost_nothing_that_was_answered(tmp_path: Path, number: signal.Signals) -> None:
    with serving(Stub(lambda body, before: Reply(body={}, stall=True) if len(stub.requests) > 7 else None)) as stub:
        program = (
            # What a shell starts in the background ignores SIGINT, and its children inherit that.
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "import sys; from pathlib import Path; from w2sr_jax.answers.grade import NumberGrader\n"
            "from w2sr_jax.core.records import Problem; from w2sr_jax.teachers.served.ask import ask\n"
            "from w2sr_jax.teachers.settings import Served\n"
            "settings = Served('t', sys.argv[2], 'm', samples=2, concurrency=1, timeout=60)\n"
            "problems = [Problem.of(f'q{index} : what is 2 + {index} ?', '4') for index in range(6)]\n"
            "ask(Path(sys.argv[1]), settings, problems, NumberGrader(), 7)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), stub.url], stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while len(stub.requests) < 8 and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(number)
            assert process.wait(8) != 0  # the stalled request would take longer
        finally:
            process.kill()
            process.wait()
        assert not list(tmp_path.glob("traces-*"))
        stub.script = lambda body, before: None
        result = asked(tmp_path, teacher(stub))
    assert (result.counts["kept"], result.counts["asked"], result.counts["traces"]) == (7, 5, 12)
    assert len(stub.requests) == 8 + 5


def test_asked_to_stop_it_does_and_keeps_all(tmp_path: Path) -> None:
    with serving(Stub(lambda body, before: Reply(body={}, stall=True) if sample_of(body)[0] == 5 else None)) as stub:
        seen: list[int] = []
        with pytest.raises(Stopped, match=r"10 of 12 answers are kept in .*answers\.jsonl"):
            asked(tmp_path, teacher(stub), on_progress=lambda done, *_: seen.append(done), stop=lambda: len(seen) == 10)
        assert seen == list(range(1, 11))
        stub.script = lambda body, before: None
        assert asked(tmp_path, teacher(stub)).counts["asked"] == 2


def test_failures_within_the_bound_leave_gaps_and_one_more_ends_the_work(tmp_path: Path) -> None:
    with serving(Stub(lambda body, before: Reply(500, b"\x1b[31mboom") if sample_of(body) in ((1, 0), (4, 1)) else None)) as stub:
        gaps = asked(tmp_path / "gaps", teacher(stub, attempts=3, failures=2))
        assert (gaps.counts["traces"], gaps.counts["failed"], gaps.counts["retries"]) == (10, 2, 6)
        samples = {(trace.problem_id, trace.sample) for trace in traces(gaps)}
        assert (PROBLEMS[1].id, 0) not in samples
        assert (PROBLEMS[4].id, 1) not in samples

        with pytest.raises(UserError) as stopped:
            asked(tmp_path / "ended", teacher(stub, attempts=3, failures=1, concurrency=1))
        assert "2 requests failed in all of 3 attempts" in str(stopped.value)
        assert r"500: \x1b[31mboom" in str(stopped.value)
        assert "8 of 12 answers are kept" in str(stopped.value) or "9 of 12" in str(stopped.value)

        stub.script = lambda body, before: None
        count = len(stub.requests)
        assert asked(tmp_path / "gaps", teacher(stub)).counts["traces"] == 12
        assert len(stub.requests) == count + 2


def test_an_end_lets_answers_on_their_way_arrive_and_wakes_who_waits(tmp_path: Path) -> None:
    def script(body: dict[str, Any], before: int) -> Reply | None:
        if sample_of(body) == (0, 0):
            time.sleep(0.3)
            return None
        return Reply(500, {})

    with serving(Stub(script)) as stub, pytest.raises(UserError, match="1 of 2 answers are kept"):
        asked(tmp_path, teacher(stub, attempts=1, failures=0, concurrency=2, samples=1), PROBLEMS[:2])


def test_an_end_does_not_wait_for_those_who_wait(tmp_path: Path) -> None:
    with serving(Stub(lambda body, before: Reply(500, {}))) as stub:
        with pytest.raises(UserError, match="1 requests failed in all of 1 attempts"):
            asked(tmp_path, teacher(stub, attempts=1, failures=0, concurrency=3, requests_per_minute=1.0))
        assert len(stub.requests) == 1


def test_one_at_a_time_in_a_directory(tmp_path: Path) -> None:
    with lock.locked(tmp_path), pytest.raises(UserError, match="is in use by process"):
        asked(tmp_path, Served("t", "http://127.0.0.1:9/v1", "m"))


def test_everybody_waits_when_the_server_asks_for_it(tmp_path: Path) -> None:
    def script(body: dict[str, Any], before: int) -> Reply | None:
        if len(stub.requests) == 1:
            return Reply(429, {}, {"Retry-After": "0.5"})
        time.sleep(0.2)  # by when all know
        return None

    with serving(Stub(script)) as stub:
        asked(tmp_path, teacher(stub, concurrency=2, back_off=0.0))
    assert all(later - stub.times[0] >= 0.5 for later in stub.times[2:])
    assert len(stub.times) == 13
    with serving(Stub()) as stub:
        asked(tmp_path / "pace", teacher(stub, requests_per_minute=1200.0))
    assert max(stub.times) - min(stub.times) >= 11 * 0.05 - 0.02


def test_no_more_requests_at_a_time_than_allowed(tmp_path: Path) -> None:
    with serving(Stub(lambda body, before: time.sleep(0.03))) as stub:
        asked(tmp_path, teacher(stub, concurrency=3))
        assert stub.most == 3


@pytest.mark.parametrize("usage", [True, False])
def test_the_cost_never_passes_its_limit_and_what_was_paid_is_kept(tmp_path: Path, usage: bool) -> None:
    with serving(Stub(usage=usage)) as stub:
        priced = teacher(stub, prompt_price=1e4, completion_price=1e5, max_tokens=6, concurrency=4)
        with pytest.raises(UserError, match=r"above its max_cost of 7: raise it to go on; \d+ of 12 answers are kept") as over:
            asked(tmp_path, dataclasses.replace(priced, max_cost=7.0))
        paid = len(stub.requests)
        assert 0 < paid < 12
        assert usage is False or paid * 0.6 <= 7.0 < (paid + 5) * 0.6
        assert f"{paid} of 12" in str(over.value)
        result = asked(tmp_path, dataclasses.replace(priced, max_cost=1e6))
        assert (len(stub.requests), result.counts["unmetered"]) == (12, 0 if usage else 12)
        assert result.cost == pytest.approx(12 * 0.6 if usage else 0.0)


def test_the_only_model_is_found_and_another_one_noticed(tmp_path: Path) -> None:
    with serving(Stub(models=["a"])) as stub:
        asked(tmp_path, teacher(stub, model=""), PROBLEMS[:3])
        assert {body["model"] for body in stub.requests} == {"a"}
        stub.models = ["b"]
        with pytest.raises(UserError, match=r"has answers of the model a in .*, but .* serves b; set model"):
            asked(tmp_path, teacher(stub, model=""))
        stub.models = ["b", "c"]
        with pytest.raises(UserError, match=r"serves 2 \(b, c\); set model to one"):
            asked(tmp_path / "two", teacher(stub, model=""))


def test_answers_without_a_trace_are_counted_and_not_asked_again(tmp_path: Path) -> None:
    replies = [
        chat("I cannot.", refusal="I cannot."),
        chat("half of", "content_filter"),
        chat(None),
        chat("cut", "length"),
        chat("\n\nso #### 4", reasoning_content="2 + 2\n"),
        chat(None, "length", reasoning="thinking on"),
    ]
    with serving(Stub(lambda body, before: replies[sample_of(body)[0]])) as stub:
        settings = teacher(stub, samples=1)
        result = asked(tmp_path, settings)
        assert {name: result.counts[name] for name in ("refused", "filtered", "empty", "traces", "failed")} == {
            "refused": 1,
            "filtered": 1,
            "empty": 1,
            "traces": 3,
            "failed": 0,
        }
        assert [(trace.text, trace.finish, trace.verdict) for trace in traces(result)] == [
            ("cut", "length", "unparsed"),
            ("<think>\n2 + 2\n</think>\n\nso #### 4", "stop", "correct"),
            ("<think>\nthinking on", "length", "unparsed"),
        ]
        assert result.completion_tokens == 30
        asked(tmp_path, settings)
        assert len(stub.requests) == 6
        stub.script = lambda body, before: chat(" ", "length")
        with pytest.raises(UserError, match=r"no answer of .* holds a trace \(6 empty\); with max_tokens larger"):
            asked(tmp_path / "none", settings)


def test_how_answers_ended_is_counted_under_the_servers_own_words(tmp_path: Path) -> None:
    replies = [
        chat("so #### 4", "EOS_TOKEN"),
        chat("so #### 4", "model_length"),
        chat("so #### 4", "odd\x1b[2J\nword" + "!" * 99),
        chat(None, "stop", reasoning="so #### 4"),
        chat("so #### 4", None),
        chat("half", "SAFETY"),
    ]
    with serving(Stub(lambda body, before: replies[sample_of(body)[0]])) as stub:
        result = asked(tmp_path, teacher(stub, samples=1))
        again = asked(tmp_path, teacher(stub, samples=1))
    assert [trace.finish for trace in traces(result)] == ["stop", "length", "length", "length", "length"]
    assert [trace.verdict for trace in traces(result)][3] == "unparsed"
    odd = next(iter(result.unknown))
    assert odd.startswith("odd\\x1b[2J word")
    assert odd.isprintable()
    assert len(odd) <= 40
    expected = {"EOS_TOKEN": 1, "model_length": 1, odd: 1, "stop": 1, "not given": 1, "SAFETY": 1}
    assert result.reasons == again.reasons == expected
    assert {name: result.counts[name] for name in ("unfinished", "unanswered", "filtered")} == {
        "unfinished": 4,
        "unanswered": 1,
        "filtered": 1,
    }


def test_a_server_of_many_words_does_not_fill_a_report(tmp_path: Path) -> None:
    with serving(Stub(lambda body, before: chat("so #### 4", f"word {body['seed']}"))) as stub:
        result = asked(tmp_path, teacher(stub, samples=4))
    assert len(result.reasons) == 21
    assert result.reasons["other reasons"] == 4
    assert sum(result.reasons.values()) == 24


def test_errors_in_a_success_are_tried_again_and_end_the_work_as_errors_do(tmp_path: Path) -> None:
    failures = [
        Reply(body={"error": {"message": "overloaded", "code": 503}}),
        Reply(body={"choices": [{"error": {"message": "upstream"}, "message": {"content": "so #### 4"}}]}),
        chat("so #### 4", "error"),
        chat("so #### 4", "abort"),
        Reply(body={"error": "slow down"}),
        chat("so #### 4", "insufficient_system_resource"),
    ]
    with serving(Stub(lambda body, before: failures[sample_of(body)[0]] if before == 0 else None)) as stub:
        result = asked(tmp_path / "mended", teacher(stub, samples=1))
        assert (result.counts["retries"], result.counts["failed"], result.counts["traces"]) == (6, 0, 6)
        assert set(result.reasons) == {"stop"}
        stub.script = lambda body, before: failures[sample_of(body)[0]] if sample_of(body)[0] < 3 else None
        gaps = asked(tmp_path / "gaps", teacher(stub, samples=1, attempts=2))
        assert (gaps.counts["failed"], gaps.counts["traces"]) == (3, 3)
        stub.script = lambda body, before: Reply(body={"error": {"message": "no credit", "code": "insufficient_quota"}})
        before = len(stub.requests)
        with pytest.raises(UserError, match="has no credit left"):
            asked(tmp_path / "spent", teacher(stub, concurrency=1))
        assert len(stub.requests) == before + 1


def test_completions_continue_a_prompt(tmp_path: Path) -> None:
    choice = {"text": " 4 #### 4", "finish_reason": "length", "logprobs": {"token_logprobs": [-1.0, -2.0]}}
    with serving(Stub(lambda body, before: Reply(body={"model": "base", "choices": [choice]}))) as stub:
        settings = teacher(stub, api="completions", prompt="Q: {question}\nA:", samples=1, logprobs=True, send_seed=False)
        result = asked(tmp_path, settings, PROBLEMS[:1])
        sent = {"model": "m", "prompt": f"Q: {PROBLEMS[0].question}\nA:", "max_tokens": 1024, "temperature": 0.7, "logprobs": 1}
        assert stub.requests == [sent]
    trace = traces(result)[0]
    assert (trace.text, trace.finish, trace.mean_logprob, trace.tokens) == ("4 #### 4", "length", -1.5, 0)
    assert result.counts["unmetered"] == 1


def test_messages_of_ones_own_and_a_journal_for_several_directories(tmp_path: Path) -> None:
    def few_shot(problem: Problem) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": "1 + 1 ?"},
            {"role": "assistant", "content": "2"},
            {"role": "user", "content": "q0 :"},
        ]

    with serving(Stub()) as stub:
        journal = tmp_path / "all" / "answers.jsonl"
        asked(tmp_path / "0", teacher(stub), PROBLEMS[:4], messages=few_shot, journal=journal)
        assert [len(body["messages"]) for body in stub.requests] == [3] * 8
        second = asked(tmp_path / "1", teacher(stub), PROBLEMS[2:], messages=few_shot, journal=journal)
    assert (second.counts["kept"], second.counts["asked"], second.counts["traces"]) == (4, 4, 8)
    assert os.listdir(tmp_path / "0") == ["traces-00000.parquet"]


def test_inside_an_event_loop_as_in_a_notebook(tmp_path: Path) -> None:
    async def cell() -> Asked:
        return asked(tmp_path, teacher(stub))

    with serving(Stub()) as stub:
        assert asyncio.run(cell()).counts["traces"] == 12
