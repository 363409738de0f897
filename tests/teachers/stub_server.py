"""An OpenAI-compatible server on loopback that fails on purpose, and a teacher that asks it."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.core import keys, records
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.teachers.served.ask import Asked, ask
from w2sr_jax.teachers.settings import Served

STALL = 10.0


class Reply(NamedTuple):
    """`body` is sent as it is where it is bytes. `cut`: the connection ends before the last byte; `stall`: it says nothing for
    STALL seconds first; `drip`: it sends a byte at a time, one every 50 ms."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})
    cut: bool = False
    stall: bool = False
    drip: bool = False


Script = Callable[[dict[str, Any], int], Reply | None]
"""What to do with a request, given its body and how often its like came before; None: answer it."""


class Stub:
    """`requests` are the bodies that came, in order; `most` is how many were in work at a time."""

    def __init__(self, script: Script | None = None, usage: bool = True, models: list[str] | None = None) -> None:
        self.script, self.usage, self.models = script or (lambda body, before: None), usage, models or ["stub"]
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.listed = self.now = self.most = 0
        self.seen: Counter[str] = Counter()
        self.guard, self.closing = threading.Lock(), threading.Event()
        self.url = ""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """A text that depends on the prompt and the seed alone; the answer in it is right for odd seeds."""
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        text = f"{prompt.split()[0]} seed {body.get('seed')} so #### {4 + (body.get('seed') or 0) % 2}"
        choice = {"index": 0, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        usage = {"usage": {"prompt_tokens": 10, "completion_tokens": 5}} if self.usage else {}
        return {"id": "x", "object": "y", "model": f"{body['model']}-0613", "choices": [choice], **usage}

    def reply(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self.guard:
            like = json.dumps(body, sort_keys=True)
            before = self.seen[like]
            self.seen[like] += 1
            self.requests.append(body)
            self.headers.append(headers)
            self.times.append(time.monotonic())
        return self.script(body, before) or Reply(body=self.answer(body))


def chat(content: Any = None, finish: Any = "stop", **message: Any) -> Reply:
    """A reply with one message."""
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return Reply(body={"model": "stub", "choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}})


@contextlib.contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    """The stub on a port of loopback; `stub.url` is its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            stub.listed += 1
            self._send(Reply(body={"object": "list", "data": [{"id": name} for name in stub.models]}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with stub.guard:
                stub.now += 1
                stub.most = max(stub.most, stub.now)
            try:
                self._send(stub.reply(body, {name.lower(): value for name, value in self.headers.items()}))
            finally:
                with stub.guard:
                    stub.now -= 1

        def _send(self, reply: Reply) -> None:
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            if reply.stall:
                stub.closing.wait(STALL)
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                if reply.drip:
                    for start in range(len(data)):
                        if stub.closing.wait(0.05):
                            break
                        self.wfile.write(data[start : start + 1])
                else:
                    self.wfile.write(data[:-1] if reply.cut else data)
            self.close_connection = reply.cut or reply.drip

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield stub
    finally:
        stub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


PROBLEMS = [Problem.of(f"q{index} : what is 2 + {index} ?", "4") for index in range(6)]


def teacher(stub: Stub, **changes: Any) -> Served:
    defaults: dict[str, Any] = {"samples": 2, "model": "m", "timeout": 5.0, "back_off": 0.01}
    return Served("t", stub.url, **defaults | changes)


def asked(directory: Path, settings: Served, problems: list[Problem] = PROBLEMS, **options: Any) -> Asked:
    return ask(directory, settings, problems, NumberGrader(), 7, **options)


def traces(result: Asked) -> list[Trace]:
    return [trace for path in result.paths for trace in records.read(path, Trace)]


def sample_of(body: dict[str, Any]) -> tuple[int, int]:
    """The problem and the sample that a request is about."""
    index = int(body["messages"][-1]["content"].split()[0][1:])
    drawn = [keys.words(7, "served", "t", PROBLEMS[index].id, sample)[0] >> 1 for sample in range(2)]
    return index, drawn.index(body["seed"])
