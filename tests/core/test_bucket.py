"""Objects of a bucket are read, written and listed as they are now, refusals are sentences, and one command at a time holds the
lease."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from object_store import BUCKET, needs_gcsfs

from w2sr_jax.core import lease
from w2sr_jax.core.bucket import Bucket, is_address
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.trees import COMMITTED, BucketTree

pytestmark = [needs_gcsfs, pytest.mark.usefixtures("object_server")]


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Bucket:
    return Bucket(f"gs://{BUCKET}/{request.node.name}")


def test_what_was_written_is_read_and_listed(place: Bucket, tmp_path: Path) -> None:
    assert place.listing() == {}
    assert place.folders() == []
    assert place.entry("a") is None
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3_000_000) + b"\n\n")
    place.send(file, "one/big")
    place.write("one/small.json", b"{}\n")
    place.write("two/x", b"1")
    assert {name: entry.size for name, entry in place.listing().items()} == {
        "one/big": 3_000_002,
        "one/small.json": 3,
        "two/x": 1,
    }
    assert list(place.listing("one")) == ["one/big", "one/small.json"]
    assert list(place.listing("two/x")) == ["two/x"]
    assert place.folders() == ["one", "two"]
    assert place.read(["one/small.json", "absent"]) == {"one/small.json": b"{}\n"}
    assert place.fetch("one/big", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()
    assert not place.fetch("absent", tmp_path / "absent")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "file"]
    place.copy(["one/big"], place.below("copy"))
    assert place.below("copy").entry("one/big") == place.entry("one/big")
    place.remove(["one/big", "absent"])
    assert list(place.listing("one")) == ["one/small.json"]


def test_what_another_process_wrote_is_seen_at_once(place: Bucket) -> None:
    place.write("value", b"3")
    before = place.entry("value")
    code = (
        f"from w2sr_jax.core.bucket import Bucket; b = Bucket({place.address!r}); b.write('value', b'333'); b.write('new', b'')"
    )
    assert place.listing().keys() == {"value"}
    subprocess.run([sys.executable, "-c", code], check=True)
    assert place.read(["value"]) == {"value": b"333"}
    assert place.listing().keys() == {"value", "new"}
    assert place.entry("value") != before


def test_a_bucket_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(UserError, match="there is no bucket gs://nowhere; create it, or name another"):
        Bucket("gs://nowhere/runs").check()
    with pytest.raises(UserError, match="gs://BUCKET/PREFIX or s3://BUCKET/PREFIX"):
        Bucket("az://somewhere/runs")
    assert is_address("s3://bucket")
    assert not is_address("gs://")
    assert not is_address("runs/gs://bucket")


def test_a_sealed_tree_tells_what_was_changed(place: Bucket) -> None:
    tree = BucketTree(place)
    for name in ("params/a", "params/b", COMMITTED):
        place.write(name, name.encode())
    assert not tree.sealed()
    assert tree.lacks(("params/a", "params/c")) == "params/c"
    assert tree.lacks(("params/a",)) is None
    tree.seal()
    place.write("later", b"of no matter")
    assert tree.sealed()
    assert tree.damage() is None
    place.write("params/b", b"params/B")
    assert "params/b is not the object that was sealed" in str(tree.damage())
    place.remove(["params/b"])
    assert "params/b is missing" in str(tree.damage())
    tree.remove()
    assert not tree.exists()


def test_a_lease_is_held_by_one_and_given_back(place: Bucket) -> None:
    with lease.held(place, renew=0.2, stale=2.0) as check:
        check()
        with pytest.raises(UserError, match=f"is worked on by process {os.getpid()} on"), lease.held(place, renew=0.2, stale=2.0):
            pytest.fail("two hold it")
        time.sleep(2.5)  # as long as it is renewed it is held
        check()
    assert lease.holder(place) is None


def _leave(place: Bucket, holder: lease.Holder) -> None:
    place.write(lease.NAME, json.dumps(dataclasses.asdict(holder)).encode())


def test_a_lease_of_a_dead_command_is_taken_over_once_it_is_stale(place: Bucket) -> None:
    told: list[str] = []
    _leave(place, lease.Holder("word", "elsewhere", "boot", 1))
    begun = time.monotonic()
    with lease.held(place, told.append, renew=0.2, stale=1.5):
        assert time.monotonic() - begun >= 1.5
        assert lease.holder(place) is not None
        assert "was last worked on by process 1 on elsewhere" in told[0]
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    _leave(place, dataclasses.replace(lease.Holder.own(), process=ended.pid))
    with lease.held(place, renew=0.2, stale=3_600.0) as check:  # of this machine, where it is known to be gone
        check()


def test_who_has_lost_the_lease_learns_of_it(place: Bucket) -> None:
    lost = pytest.raises(UserError, match="was lost, since another command has taken it over")
    with lost, lease.held(place, renew=0.1, stale=5.0) as check:
        _leave(place, lease.Holder("word", "elsewhere", "boot", 1))
        time.sleep(1.0)
        check()
    assert lease.holder(place) == lease.Holder("word", "elsewhere", "boot", 1)


def test_a_write_whose_answer_was_lost_does_not_lose_the_lease(place: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has taken each write, and the client, which sent it once more, heard that the condition does not hold."""
    store = lease._store(place)
    objects = store.kv

    class Lossy:
        def read(self, name: str) -> Any:
            return objects.read(name)

        def write(self, name: str, value: bytes | None, *, if_equal: bytes) -> Any:
            objects.write(name, value, if_equal=if_equal).result()
            return objects.write(name, value, if_equal=if_equal)

    monkeypatch.setattr(store, "kv", Lossy())
    begun = time.monotonic()
    with lease.held(place, renew=0.1, stale=5.0) as check:
        time.sleep(0.5)
        check()
        assert time.monotonic() - begun < 5.0  # it did not wait for itself
    assert lease.holder(place) is None


def test_a_living_holder_is_waited_for_as_long_as_asked(place: Bucket) -> None:
    told: list[str] = []
    with contextlib.ExitStack() as first:
        first.enter_context(lease.held(place, renew=0.1, stale=5.0))
        with pytest.raises(UserError, match="is worked on by"), lease.held(place, renew=0.1, stale=5.0, patience=0.5):
            pytest.fail("two hold it")
        ending = threading.Timer(0.5, first.close)
        ending.start()
        with lease.held(place, told.append, renew=0.1, stale=5.0, patience=30.0) as check:
            check()
        ending.join()
    assert "waiting up to 30 s for that command to end" in told[-1]
