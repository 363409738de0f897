"""How the processes of one program find each other, before jax connects them. A process that does not come, comes twice or was
started with other facts is named in a sentence, where jax would wait for minutes and abort.

Process 0 listens at the coordinator's address, which is free for jax again afterwards; the others connect and say who they are.
The connections stay open for `peers`.
"""

import contextlib
import dataclasses
import errno
import selectors
import socket
import time
from collections.abc import Mapping

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import Absent, UserError
from w2sr_jax.core.process.exits import LOST
from w2sr_jax.parallel.lines import Line, Message, address, resolve

BANNER = "w2sr rendezvous 1"
ANSWER = 10.0  # seconds in which what listens must say that it is process 0
NAME = 10.0  # seconds in which the name of the coordinator's host must be resolved,
PATIENT = 60.0  # unless the processes have more than this to come: a host that is not up yet may have no name
_BACKLOG = 128


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a process says of itself. `facts` are what all must be started with alike, by name: a command's arguments,
    versions."""

    index: int
    count: int
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


def connect(coordinator: str, who: Identity, timeout: float) -> dict[int, Line]:
    """The lines to the other processes by index: process 0 has one to each, the others have one to process 0.

    Within `timeout` seconds (or those that a name and an answer take) `Absent` where the processes do not all come, and
    `UserError` where they do not agree.
    """
    host, port = address(coordinator)
    end = time.monotonic() + timeout
    resolve(host, port, timeout if timeout > PATIENT else min(NAME, timeout))
    if who.index:
        return {0: _connect(host, port, who, end)}
    with _listen(coordinator, port) as listener:
        if who.count > 1:
            _check_own(host, port, coordinator)
        return _Host(listener, who, end).gather()


def differing(own: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """The first fact in which two processes differ, in words; None where they agree."""
    for name in sorted({*own, *other}):
        if own.get(name) != other.get(name):
            mine, theirs = (sentences.value(facts[name]) if name in facts else "nothing" for facts in (own, other))
            return f"{sentences.shown(name)} is {theirs} and not {mine}"
    return None


def _listen(coordinator: str, port: int) -> socket.socket:
    try:
        dual = socket.has_dualstack_ipv6()
        family, interface = (socket.AF_INET6, "::") if dual else (socket.AF_INET, "0.0.0.0")
        return socket.create_server((interface, port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of the coordinator {coordinator} is in use on this machine, by another program or another process "
                f"0; give a free port"
            ) from None
        raise UserError(f"process 0 cannot listen at port {port}: {error.strerror}; give a free port above 1023") from None


def _check_own(host: str, port: int, coordinator: str) -> None:
    """`UserError` where the coordinator's address does not lead to this process. The connection that tries it says nothing."""
    try:
        with socket.create_connection((host, port), timeout=ANSWER):
            return
    except OSError as error:
        raise UserError(
            f"the coordinator {coordinator} is not this machine ({error.strerror or error}), and process 0 must run on it; give "
            f"this machine's name or address"
        ) from None


class _Host:
    """Process 0's side: takes connections until every other process has said who it is."""

    def __init__(self, listener: socket.socket, who: Identity, end: float) -> None:
        self._listener, self._who, self._end = listener, who, end
        self._selector = selectors.DefaultSelector()
        self._open: set[Line] = set()
        self._joined: dict[int, Line] = {}

    def gather(self) -> dict[int, Line]:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        try:
            while len(self._joined) < self._who.count - 1:
                for key, _ in self._selector.select(0.2):
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._hear(key.data)
                if time.monotonic() > self._end:
                    raise Absent(f"{self._missing()} did not come in time; start all with the same --coordinator")
        except BaseException as error:
            words = str(error) if isinstance(error, UserError) else "process 0 was interrupted"
            for line in self._open:
                line.send({"failed": words, "code": LOST if isinstance(error, Absent) else 2})
                line.close()
            raise
        finally:
            self._selector.close()
        for line in self._open - set(self._joined.values()):
            line.close()
        for line in self._joined.values():
            line.send({"go": True})
        return self._joined

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            line = Line(connection)
            self._open.add(line)
            self._selector.register(connection, selectors.EVENT_READ, line)
            line.send({"w2sr": BANNER})

    def _hear(self, line: Line) -> None:
        messages = line.receive()
        for message in messages or ():
            self._take(line, message)
        if messages is None:
            gone = next((index for index, other in self._joined.items() if other is line), None)
            self._selector.unregister(line.fileno())
            self._open.discard(line)
            line.close()
            if gone is not None:  # interrupted before all had come; it may be started again
                del self._joined[gone]

    def _take(self, line: Line, message: Message) -> None:
        index, count, facts = message.get("index"), message.get("count"), message.get("told")
        if not isinstance(index, int) or not isinstance(count, int) or not isinstance(facts, dict):
            return
        own = self._who
        if count != own.count:
            raise UserError(f"process {index} was told that there are {count} processes, process 0 that there are {own.count}")
        if not 0 < index < count or index in self._joined:
            raise UserError(f"two processes say that they are process {index} of {count}; number them from 0 to {count - 1}")
        words = differing(own.facts, facts)
        if words is not None:
            raise UserError(f"process {index} was started otherwise than process 0: {words}; start all alike")
        self._joined[index] = line

    def _missing(self) -> str:
        missing = [str(index) for index in range(1, self._who.count) if index not in self._joined]
        some = ", ".join(missing[:8]) + (", …" if len(missing) > 8 else "")
        return f"process{'es' if len(missing) > 1 else ''} {some} of {self._who.count}"


def _connect(host: str, port: int, who: Identity, end: float) -> Line:
    """The line to process 0, once it has said that all have come."""
    reason = "nobody listens there"
    while True:
        try:
            line = Line(socket.create_connection((host, port), timeout=max(0.5, min(ANSWER, end - time.monotonic()))))
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            banner = _next(line, ANSWER)
            if banner is not None and banner.get("w2sr") == BANNER:
                break
            line.close()
            if banner is not None or line.foreign or time.monotonic() - line.heard > ANSWER / 2:
                raise UserError(
                    f"what listens at {host}:{port} does not answer as process 0 of this program does; give its address and port"
                )
            reason = "the connection is closed at once, as by another program"
        if time.monotonic() > end:
            raise Absent(
                f"process {who.index} of {who.count} does not reach process 0 at {host}:{port} ({reason}); start process 0 "
                f"there, or give its address"
            )
        time.sleep(0.3)
    line.send({"index": who.index, "count": who.count, "told": dict(who.facts)})
    # Process 0 knows when its time is over and says so; it is waited for a little longer than that.
    answer = _next(line, max(0.0, end - time.monotonic()) + ANSWER)
    if answer is not None and answer.get("go") is True:
        return line
    line.close()
    if answer is None:
        raise Absent(f"process 0 at {host}:{port} has ended, or says nothing, before all processes had come; see what it says")
    kind = Absent if answer.get("code") == LOST else UserError
    raise kind(sentences.shown(str(answer.get("failed")), 600))


def _next(line: Line, seconds: float) -> Message | None:
    """The next message; None where none comes in time, or what comes is none of ours."""
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(line.fileno(), selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0:
            if selector.select(min(left, 0.2)):
                messages = line.receive()
                if messages is None:
                    return None
                if messages:
                    line.unread = messages[1:]
                    return messages[0]
    return None
