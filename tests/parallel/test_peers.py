"""Processes that watch each other and wait for each other: here they are threads, over real connections."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from w2sr_jax.parallel import peers as module
from w2sr_jax.parallel import rendezvous
from w2sr_jax.parallel.peers import LOST, Lost, Peers
from w2sr_jax.parallel.rendezvous import Identity

Group = list[Peers]


@pytest.fixture
def group() -> Iterator[Callable[..., Group]]:
    """Starts processes; those whose index is in `mute` do not begin to watch, as if they were stopped."""
    all_peers: Group = []

    def start(count: int, mute: tuple[int, ...] = ()) -> Group:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        with ThreadPoolExecutor(count) as pool:
            lines = list(pool.map(lambda index: rendezvous.connect(address, Identity(index, count), 20), range(count)))
        all_peers.extend(Peers(index, count, lines[index]) for index in range(count))
        for each in all_peers:
            if each.index not in mute:
                each.start(lambda lost: None)
        return all_peers

    yield start
    for each in all_peers:
        each.finish()
        hang_up(each)


def hang_up(peers: Peers) -> None:
    """What the system does for a process that is killed."""
    for line in peers._lines.values():
        with contextlib.suppress(OSError):
            line._connection.shutdown(socket.SHUT_RDWR)


def all_at_barrier(group: Group, name: str, facts: Callable[[int], dict[str, str]] = lambda index: {}) -> list[object]:
    def one(peers: Peers) -> object:
        try:
            return peers.barrier(name, facts(peers.index), patience=20)
        except Lost as lost:
            return str(lost), lost.code

    with ThreadPoolExecutor(len(group)) as pool:
        return list(pool.map(one, group))


def losses(group: Group) -> list[tuple[str, int] | None]:
    noticed = [each.cause(10) for each in group]
    return [None if lost is None else (str(lost), lost.code) for lost in noticed]


def test_all_wait_for_each_other_and_learn_what_process_0_says(group: Callable[..., Group]) -> None:
    some = group(3)
    arrived: list[int] = []

    def late() -> None:
        time.sleep(0.5)
        arrived.append(2)
        some[2].barrier("here", {"*token": "c", "digest": "d"})

    last = threading.Thread(target=late)
    last.start()
    with ThreadPoolExecutor(2) as pool:
        passed = list(
            pool.map(lambda each: (each.barrier("here", {"*token": str(each.index), "digest": "d"}), list(arrived)), some[:2])
        )
    last.join()
    assert passed == [({"*token": "0", "digest": "d"}, [2])] * 2
    assert all_at_barrier(some, "there") == [{}] * 3
    assert all_at_barrier(some, "there") == [{}] * 3


def test_who_was_given_something_else_is_named_to_all(group: Callable[..., Group]) -> None:
    some = group(3)
    losses = all_at_barrier(some, "the files", lambda index: {"the digest of a": "y" if index == 1 else "x", "same": "z"})
    words = (
        "process 1 does not do the same as process 0: the digest of a is 'y' and not 'x'; start all alike, with the same files"
    )
    assert losses == [(words, 2)] * 3


def test_processes_at_different_places_are_told_apart(group: Callable[..., Group]) -> None:
    some = group(2)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(each.barrier, where) for each, where in zip(some, ("reading", "writing"))]
        sentences = {str(future.exception()) for future in futures}
    assert len(sentences) == 1
    assert (
        "process 1 does not do the same as process 0: it is at '1 writing' while process 0 is at '1 reading'" in sentences.pop()
    )


@pytest.mark.parametrize("index", [0, 1, 2])
def test_who_fails_says_why_to_all(group: Callable[..., Group], index: int) -> None:
    some = group(3)
    some[index].fail("the disk is full", 2)
    others = [each for each in some if each.index != index]
    assert losses(others) == [(f"process {index} of 3 ended: the disk is full", 2)] * 2
    with pytest.raises(Lost, match="the disk is full"):
        others[0].barrier("afterwards")


@pytest.mark.parametrize("index", [0, 2])
def test_who_is_killed_is_missed_at_once(group: Callable[..., Group], index: int) -> None:
    some = group(3, mute=(index,))
    hang_up(some[index])
    words = f"process {index} of 3 is gone without a word (killed, or its machine is); start all again"
    assert losses([each for each in some if each.index != index]) == [(words, LOST)] * 2


@pytest.mark.parametrize("index", [0, 2])
def test_who_is_stopped_is_missed(group: Callable[..., Group], index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT", 3.0)
    some = group(3, mute=(index,))
    words = f"process {index} of 3 has not been heard of for 3 s (stopped, or its machine or network is gone); start all again"
    assert losses([each for each in some if each.index != index]) == [(words, LOST)] * 2


def test_signs_of_life_keep_processes_that_have_nothing_to_say(
    group: Callable[..., Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT", 3.0)
    some = group(3)
    time.sleep(5)
    assert [each.lost for each in some] == [None] * 3


def test_who_has_finished_is_not_missed_but_not_waited_for_either(group: Callable[..., Group]) -> None:
    some = group(3)
    assert all_at_barrier(some, "the end") == [{}] * 3
    some[1].finish()
    hang_up(some[1])
    assert [each.cause(0.5) for each in (some[0], some[2])] == [None, None]
    with pytest.raises(Lost, match="process 1 of 3 has finished while others wait for it"):
        some[2].barrier("more")


def test_waiting_has_an_end_that_names_who_is_missing(group: Callable[..., Group]) -> None:
    some = group(3)
    with pytest.raises(Lost, match=r"process 1, 2 of 3 did not come to 'there' within 1 s"):
        some[0].barrier("there", patience=1.0)
    assert losses(some[1:]) == [("process 0 of 3 ended: process 1, 2 of 3 did not come to 'there' within 1 s", LOST)] * 2
