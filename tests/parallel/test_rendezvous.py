"""How processes find each other: here they are threads, over real connections."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.exits import exit_for
from w2sr_jax.parallel import rendezvous
from w2sr_jax.parallel.lines import Line, address
from w2sr_jax.parallel.rendezvous import Identity


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "ANSWER", 1.0)
    monkeypatch.setattr(rendezvous, "NAME", 1.0)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.create_server(("", 0)) as other:
        yield other


def together(port: int, *whos: Identity, seconds: float = 10.0) -> list[dict[int, Line] | str]:
    """What each process gets, or why it does not."""

    def one(who: Identity) -> dict[int, Line] | str:
        try:
            return rendezvous.connect(f"localhost:{port}", who, seconds)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(len(whos)) as pool:
        return list(pool.map(one, whos))


def test_processes_find_each_other_in_any_order_and_the_port_is_free_afterwards(port: int) -> None:
    whos = [Identity(index, 3, {"dtype": "float32"}) for index in (2, 1, 0)]
    connected = together(port, *whos)
    assert [sorted(lines) for lines in connected] == [[0], [0], [1, 2]]
    for index in (1, 2):
        mine, theirs = connected[2][index], connected[2 - index][0]
        mine.send({"to": index})
        assert theirs.receive() == [{"to": index}]
    with socket.create_server(("", port)):
        pass
    for lines in connected:
        for line in lines.values():
            line.close()


@pytest.mark.parametrize(
    ("whos", "words"),
    [
        (
            [Identity(0, 3), Identity(1, 3), Identity(1, 3)],
            "two processes say that they are process 1 of 3; number them from 0 to 2",
        ),
        ([Identity(0, 3), Identity(1, 2)], "process 1 was told that there are 2 processes, process 0 that there are 3"),
        (
            [Identity(0, 2, {"--dtype": "float32"}), Identity(1, 2, {"--dtype": "bfloat16"})],
            "process 1 was started otherwise than process 0: --dtype is 'bfloat16' and not 'float32'; start all alike",
        ),
        (
            [Identity(0, 2, {"a": "1"}), Identity(1, 2)],
            "process 1 was started otherwise than process 0: a is nothing and not '1'; start all alike",
        ),
    ],
)
def test_processes_that_do_not_fit_are_told_why_all_alike(port: int, whos: list[Identity], words: str) -> None:
    assert together(port, *whos) == [words] * len(whos)


def test_who_does_not_come_is_named(port: int) -> None:
    missing = "processes 1, 3 of 4 did not come in time; start all with the same --coordinator"
    assert together(port, Identity(0, 4), Identity(2, 4), seconds=1.5) == [missing] * 2
    (alone,) = together(port, Identity(1, 2), seconds=1.0)
    assert f"process 1 of 2 does not reach process 0 at localhost:{port} (Connection refused)" in alone


def test_who_does_not_come_may_come_another_time(port: int) -> None:
    """Which is another exit code than that of processes that do not fit."""

    def code(who: Identity, seconds: float) -> int:
        with pytest.raises(UserError) as refused:
            rendezvous.connect(f"localhost:{port}", who, seconds)
        ended = exit_for(refused.value, None, "")
        assert ended is not None
        return ended.code

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(code, [Identity(0, 3), Identity(1, 3)], [1.5, 1.5])) == [75, 75]
        assert code(Identity(1, 2), 1.0) == 75
        assert list(pool.map(code, [Identity(0, 2), Identity(1, 3)], [5.0, 5.0])) == [2, 2]


def test_a_host_without_a_name_yet_is_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pods have it: their names come once they run."""
    monkeypatch.setattr(rendezvous, "NAME", 0.0)
    monkeypatch.setattr(rendezvous, "PATIENT", 5.0)
    ask, asked = socket.getaddrinfo, []

    def late(host: str, *rest: object, **more: object) -> object:
        if host == "pod-0.later":
            asked.append(host)
            if len(asked) < 3:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = "localhost"
        return ask(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", late)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(rendezvous.connect, f"localhost:{port}", Identity(0, 2), 20)
        second = pool.submit(rendezvous.connect, f"pod-0.later:{port}", Identity(1, 2), 20)
        assert [sorted(first.result()), sorted(second.result())] == [[1], [0]]


def test_a_port_that_is_in_use_is_said_by_both_sides(taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    first, second = together(port, Identity(0, 2), Identity(1, 2))
    assert f"port {port} of the coordinator localhost:{port} is in use on this machine" in first
    assert f"what listens at localhost:{port} does not answer as process 0 of this program does" in second


def test_another_program_that_talks_is_recognised_at_once(taken: socket.socket) -> None:
    def serve() -> None:
        connection, _ = taken.accept()
        connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

    threading.Thread(target=serve, daemon=True).start()
    (sentence,) = together(taken.getsockname()[1], Identity(1, 2), seconds=60)
    assert "does not answer as process 0 of this program does" in sentence


def test_strangers_at_the_port_change_nothing(port: int) -> None:
    stop = threading.Event()

    def knock() -> None:
        for data in (
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"[1]\n",
            b'{"index": "1"}\n',
            b'{"index": 1, "count": 2}\n',
            b"\xff" * 5000,
        ):
            while not stop.is_set():
                try:
                    with socket.create_connection(("localhost", port)) as connection:
                        connection.sendall(data)
                    break
                except OSError:
                    stop.wait(0.01)
        stop.set()

    knocking = threading.Thread(target=knock)
    knocking.start()

    def late() -> dict[int, Line]:
        stop.wait(10)
        return rendezvous.connect(f"localhost:{port}", Identity(1, 2), 10)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(rendezvous.connect, f"localhost:{port}", Identity(0, 2), 20)
        second = pool.submit(late)
        assert sorted(first.result()) == [1]
        assert sorted(second.result()) == [0]
    knocking.join()


def test_a_process_that_is_interrupted_before_all_have_come_may_come_again(port: int) -> None:
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(rendezvous.connect, f"localhost:{port}", Identity(0, 3), 20)
        connection = None
        while connection is None:
            with contextlib.suppress(OSError):
                connection = socket.create_connection(("localhost", port))
        line = Line(connection)
        line.send({"index": 1, "count": 3, "told": {}})
        time.sleep(0.5)
        line.close()
        time.sleep(0.5)
        others = [pool.submit(rendezvous.connect, f"localhost:{port}", Identity(index, 3), 20) for index in (1, 2)]
        assert [sorted(other.result()) for other in others] == [[0], [0]]
        assert sorted(first.result()) == [1, 2]


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:x", "host:0", "host:65536", "host:-1", "::1:5", "host:1²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not the address of a coordinator; write HOST:PORT"):
        rendezvous.connect(text, Identity(0, 2), 1)


def test_addresses_of_both_kinds_are_read() -> None:
    assert address("node-7.cluster:1234") == ("node-7.cluster", 1234)
    assert address("[fe80::1]:80") == ("fe80::1", 80)


def test_a_host_that_nobody_knows_is_said() -> None:
    for index in (0, 1):
        with pytest.raises(UserError, match=r"the coordinator's host 'no-such-host\.invalid' is not known here"):
            rendezvous.connect("no-such-host.invalid:1234", Identity(index, 2), 5)


def test_a_coordinator_that_is_another_machine_is_said_by_process_0(port: int) -> None:
    with pytest.raises(UserError, match=rf"the coordinator 192\.0\.2\.1:{port} is not this machine"):
        rendezvous.connect(f"192.0.2.1:{port}", Identity(0, 2), 5)
