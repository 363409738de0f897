"""Servers that attack who asks them: nothing that they send takes memory or time without bound, leads elsewhere, or steers a
terminal, and no key gets to who it is not meant for."""

import base64
import contextlib
import functools
import html
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_server import PROBLEMS, Reply, Stub, asked, chat, serving, teacher, traces

from w2sr_jax.core.errors import UserError
from w2sr_jax.teachers.settings import Served

KEY = "sk-w2sr-secret/0123456789+x"
ONE = PROBLEMS[:1]


def at(url: str, **changes: Any) -> Served:
    defaults: dict[str, Any] = {"model": "m", "samples": 1, "attempts": 1, "failures": 0, "key_env": ""}
    return Served("t", url, **defaults | changes)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


@contextlib.contextmanager
def raw(send: Callable[[socket.socket], None]) -> Iterator[str]:
    """The url of a server that reads a request and then does what it likes."""
    listening = socket.create_server(("127.0.0.1", 0))
    closing = threading.Event()

    def work(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            send(connection)

    def serve() -> None:
        while not closing.is_set():
            with contextlib.suppress(OSError):
                threading.Thread(target=work, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        closing.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@functools.cache
def packed(size: int, times: int) -> bytes:
    """Spaces that were packed several times over."""
    data = b""
    for _ in range(times):
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        parts = [packer.compress(data)] if data else [packer.compress(b" " * (1 << 20)) for _ in range(size >> 20)]
        data = b"".join(parts) + packer.flush()
    return data


ONCE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def body(data: bytes, *headers: str) -> Callable[[socket.socket], None]:
    head = ONCE + "".join(f"{line}\r\n" for line in headers).encode() + f"Content-Length: {len(data)}\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + data)


def endless(head: bytes, piece: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return send


BODIES = {
    "packed once": body(packed(1 << 28, 1), "Content-Encoding: gzip"),
    "packed twice": body(packed(1 << 28, 2), "Content-Encoding: gzip, gzip"),
    "packed four times": body(packed(1 << 28, 4), "Content-Encoding: gzip, gzip, gzip, gzip"),
    "packed as something else": body(packed(1 << 28, 1), "Content-Encoding: deflate, x-gzip, br"),
    "pieces without end": endless(ONCE + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
    "a body without a length": endless(ONCE + b"\r\n", b" " * 65536),
    "headers without end": endless(ONCE, b"X-Y: " + b"z" * 4000 + b"\r\n"),
    "one header without end": endless(ONCE + b"X-Y: ", b"z" * 4096),
    "a byte now and then": endless(ONCE + b"Content-Length: 1000000\r\n\r\n", b" ", 0.05),
    "headers a byte now and then": endless(b"HTTP/1.1 200 OK\r\nX: ", b"z", 0.05),
    "informed without end": endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.001),
    "a refusal without end": endless(
        b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"
    ),
    "a packed refusal": lambda connection: connection.sendall(
        b"HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\n" + f"Content-Length: {len(BOMB)}\r\n\r\n".encode() + BOMB
    ),
    "no HTTP": lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\x1b[2J\r\n" * 9),
}
BOMB = packed(1 << 28, 1)


@pytest.mark.parametrize("name", BODIES)
def test_no_answer_takes_memory_or_time_without_bound(tmp_path: Path, name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with raw(BODIES[name]) as url, pytest.raises(UserError) as refused:
        asked(tmp_path, at(url, timeout=2.0), ONE)
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # kilobytes


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["other", "same", "file:///etc/passwd", "//127.0.0.1:9/v1"])
def test_no_redirect_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, target: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Stub()) as elsewhere, serving(Stub()) as stub:
        address = {"other": elsewhere.url, "same": f"{stub.url}/other"}.get(target, target)
        stub.script = lambda body, before: Reply(status, {}, {"Location": f"{address}?key={KEY}\x85"})
        with pytest.raises(UserError, match="redirects to") as refused:
            asked(tmp_path, teacher(stub, samples=1), ONE)
    assert not elsewhere.requests
    assert not elsewhere.listed
    assert len(stub.requests) == 1
    assert KEY not in str(refused.value)


def test_an_error_that_spells_the_key_in_any_way_shows_it_in_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ways = [
        KEY,
        urllib.parse.quote(KEY, safe=""),
        urllib.parse.quote_plus(KEY),
        html.escape(KEY),
        base64.b64encode(KEY.encode()).decode(),
        KEY.replace("/", "\\/"),
        KEY.upper(),
    ]
    for number, way in enumerate(ways):
        for refusal in ({"error": {"message": f"no such key: Bearer {way}."}}, f"<html>{way}</html>".encode()):

            def refuse(body: Any, before: int, refusal: Any = refusal) -> Reply:
                return Reply(401, refusal)

            with serving(Stub(refuse)) as stub, pytest.raises(UserError) as refused:  # type: ignore[misc]
                asked(tmp_path / str(number), teacher(stub, samples=1), ONE)
            assert way not in str(refused.value), way
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def test_no_other_secret_of_the_environment_is_sent_and_no_cookie_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET", "CUSTOM_HEADERS"):
        monkeypatch.setenv(f"OPENAI_{name}", f"X-Secret: w2sr-{name}")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login w2sr password w2sr-netrc\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def cookies(body: dict[str, Any], before: int) -> Reply:
        return chat("4")._replace(headers={"Set-Cookie": "w2sr-cookie=1; Path=/"})

    with serving(Stub(cookies)) as stub:
        asked(tmp_path / "t", teacher(stub, samples=1, concurrency=1))
    assert len(stub.headers) == len(PROBLEMS)
    assert not [value for sent in stub.headers for value in sent.values() if "w2sr-" in value]


def response(content: str, rest: str = "", after: str = "") -> bytes:
    """An answer whose content, and whose further fields of the choice and the body, are JSON as it is given."""
    return f'{{"choices": [{{"message": {{"content": {content}}}{rest}}}]{after}}}'.encode()


REAL = '"4"'
STRANGE = {
    "deep": response("[" * 100_000 + "]" * 100_000),
    "deep within what is read": response("[" + '{"text":' * 900 + "1" + "}" * 900 + "]"),
    "deep reason": response(REAL, ', "finish_reason": ' + "[" * 900 + "]" * 900),
    "digits": response(REAL, "", ', "usage": {"prompt_tokens": ' + "9" * 10**6 + "}"),
    "infinite": response(REAL, ', "logprobs": {"content": [{"logprob": -Infinity}, {"logprob": NaN}]}'),
    "counts": response(REAL, "", ', "usage": {"prompt_tokens": -5, "completion_tokens": 1e300}'),
    "types": response(REAL, ', "finish_reason": {"type": {"a": 1}}', ', "model": [1], "usage": []'),
    "twice": response('"3"', "", ', "choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]'),
    "half characters": response('"4 \\ud800 \\u0000"', ', "finish_reason": "\\ud800"', ', "model": "\\udfff"'),
    "not UTF-8": response("?").replace(b"?", b'"\xff\xfe"'),
    "endless names": response(REAL, f', "finish_reason": "{"r" * 500_000}"', f', "model": "{"m" * 500_000}"'),
    "a bidi model": response(REAL, ', "finish_reason": "\u202estop\\u001b[2J"', ', "model": "\u202em"'),
    "no object": b"[" * 10,
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_answers_are_used_for_what_they_are_or_set_aside(tmp_path: Path, name: str) -> None:
    words, got = "", []
    with serving(Stub(lambda body, before: Reply(body=STRANGE[name]))) as stub:
        try:
            got = traces(asked(tmp_path, teacher(stub, samples=1, attempts=1, failures=0), ONE))
        except UserError as error:
            words = str(error)
    assert "\n" not in words
    assert len(words) < 1000
    assert bool(words) == (not got)
    assert all(trace.tokens >= 0 and "4" in trace.text for trace in got)
    journal = (tmp_path / "answers.jsonl").read_bytes()
    assert len(journal) < 5000
    assert not {b"\x1b", b"\x00"} & {bytes([one]) for one in journal}


def test_a_proxy_of_the_environment_that_is_none_is_one_sentence_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "htp://name:w2sr-password@[::1")
    monkeypatch.setenv("http_proxy", "htp://name:w2sr-password@[::1")
    with pytest.raises(UserError) as refused:
        asked(tmp_path, at("http://server.invalid/v1"), ONE)
    assert "w2sr-password" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_a_server_says_reaches_a_log_without_steering_a_terminal(tmp_path: Path) -> None:
    program = """
import sys
from stub_server import *
from w2sr_jax.core.process import terminal
from w2sr_jax.core.errors import UserError
terminal.guard()
with serving(Stub(lambda body, before: Reply(500, {"error": "\\x1b[2J\\x9b2J\\u202e\\u2028gone\\r"}))) as stub:
    try:
        asked(Path(sys.argv[1]), teacher(stub, samples=1, attempts=1, failures=3), PROBLEMS)
    except UserError as error:
        print(error)
"""
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(Path(folder).parents[1])])},
        check=True,
    )
    assert "gone" in done.stderr
    assert "gone" in done.stdout
    assert not {"\x1b", "\x9b", "\u202e", "\u2028", "\r"} & set(done.stdout + done.stderr)
