"""Batches made ahead: in order, not too far, errors where they belong, a stuck source given up."""

import threading

import pytest

from w2sr_jax.training.feed import Feed, Stalled


def test_everything_arrives_in_order() -> None:
    with Feed(lambda number: number * number, range(3, 200), stall=60, on_slow=pytest.fail) as feed:
        assert [feed.get(number) for number in range(3, 200)] == [number * number for number in range(3, 200)]


def test_no_more_is_made_than_ahead_allows() -> None:
    made, fourth = [], threading.Event()

    def source(number: int) -> int:
        made.append(number)
        if number == 4:
            fourth.set()
        return number

    with Feed(source, range(1, 100), stall=60, on_slow=pytest.fail, ahead=2) as feed:
        assert feed.get(1) == 1
        assert fourth.wait(30)  # two wait in the queue, one is in hand
        assert not feed._closed.wait(0.3)
        assert made == [1, 2, 3, 4]
    assert not feed._thread.is_alive()


def test_an_error_comes_where_its_batch_would_have_come() -> None:
    def source(number: int) -> int:
        if number == 3:
            raise ValueError("row 7 is broken")
        return number

    with Feed(source, range(1, 9), stall=60, on_slow=pytest.fail) as feed:
        assert [feed.get(1), feed.get(2)] == [1, 2]
        with pytest.raises(ValueError, match="row 7 is broken"):
            feed.get(3)


def test_a_stuck_source_is_warned_about_and_given_up() -> None:
    release, told = threading.Event(), []
    with Feed(lambda number: release.wait(60), range(5, 9), stall=0.4, on_slow=told.append) as feed:
        with pytest.raises(Stalled, match=r"no batch of step 5 came within 0\.4 s"):
            feed.get(5)
        release.set()
    assert len(told) == 1
    assert "step 5 has waited" in told[0]


def test_who_is_asked_to_stop_does_not_wait() -> None:
    release = threading.Event()
    with Feed(lambda number: release.wait(60), range(1, 9), stall=0, on_slow=pytest.fail) as feed:
        assert feed.get(1, give_up=lambda: True) is None
        release.set()
