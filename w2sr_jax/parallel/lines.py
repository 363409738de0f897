"""Lines of text between processes: JSON objects, one a line, over TCP connections that never hold more than they may."""

import contextlib
import json
import socket
import threading
import time
from typing import Any

from w2sr_jax.core.errors import UserError

LONGEST = 4 << 20  # bytes of a message
SEND = 10.0  # seconds in which the other side must take one

Message = dict[str, Any]


class Line:
    """One connection. Any thread may send; one thread receives. `heard` is when something last came, on the monotonic clock;
    `unread` are received messages that the next `receive` returns; `foreign` is whether something came that is no message."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(SEND)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection, self._buffer, self._sending = connection, b"", threading.Lock()
        self.heard = time.monotonic()
        self.unread: list[Message] = []
        self.foreign = False

    def fileno(self) -> int:
        return self._connection.fileno()

    def send(self, message: Message) -> bool:
        """Send a message. False where the other side is gone or takes nothing for `SEND` seconds."""
        try:
            with self._sending:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self) -> list[Message] | None:
        """The messages that have arrived; call it when there is something to read. None: the other side is gone, or sent what is
        no message."""
        if self.unread:
            messages, self.unread = self.unread, []
            return messages
        try:
            data = self._connection.recv(1 << 16)
        except OSError:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if not data:
            return None
        self.heard = time.monotonic()
        try:
            messages = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            self.foreign = True
            return None
        self.foreign = len(self._buffer) > LONGEST or not all(isinstance(message, dict) for message in messages)
        return None if self.foreign else messages

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.close()


def address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`. `UserError` for anything else."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    sound = colon and host and port.isascii() and port.isdigit() and (":" not in host or text.startswith("["))
    if not sound or not 1 <= int(port) <= 65535:
        raise UserError(f"{text!r} is not the address of a coordinator; write HOST:PORT, with a port from 1 to 65535")
    return host, int(port)


def resolve(host: str, port: int, seconds: float) -> list[tuple[Any, ...]]:
    """What `socket.getaddrinfo` says of a host's name, tried for some seconds, since some clusters register names late.
    `UserError` where it cannot be resolved."""
    end, addresses, reason = time.monotonic() + seconds, list[tuple[Any, ...]](), ["no answer"]

    def ask() -> None:
        try:
            addresses.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            reason[0] = str(getattr(error, "strerror", None) or error)

    while not addresses:
        asking = threading.Thread(target=ask, daemon=True)  # a resolver may take minutes to give up
        asking.start()
        asking.join(max(0.1, end - time.monotonic()))
        if not addresses and time.monotonic() + 0.5 > end:
            raise UserError(f"the coordinator's host {host!r} is not known here ({reason[0]}); give process 0's name or address")
        time.sleep(0 if addresses else 0.5)
    return addresses
