"""Checkpoints in a bucket: written and read there, sealed by what the store says of every object; what is not whole, or is not
what was sealed, is not gone on from."""

import jax
import numpy as np
import pytest
import test_checkpoints as saved
from object_store import BUCKET, needs_gcsfs

from w2sr_jax.core import files
from w2sr_jax.core.bucket import Bucket
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.trees import COMMITTED, location
from w2sr_jax.training import retention
from w2sr_jax.training.checkpoints import Checkpoints, read_lineage, restore_params
from w2sr_jax.training.keeping import Keeping

pytestmark = [needs_gcsfs, pytest.mark.usefixtures("object_server")]


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Bucket:
    return Bucket(f"gs://{BUCKET}/{request.node.name}/checkpoints")


def save(place: Bucket, *steps: int, keep: int = 2) -> list[str]:
    """What was done beside the saves."""
    done: list[str] = []
    keeping = Keeping(before=lambda: done.append("before"), after=lambda: done.append("after"))
    with Checkpoints(location(place), keep, keeping) as checkpoints:
        for step in steps:
            checkpoints.save(saved.state_at(step), saved.OWNER)
        checkpoints.wait()
    return done


def restored(place: Bucket) -> int | None:
    with Checkpoints(location(place), 2) as checkpoints:
        result = checkpoints.restore(saved.state_at(0), saved.OWNER)
    if result is None:
        return None
    state, lineage = result
    for one, other in zip(jax.tree.leaves(state.params), jax.tree.leaves(saved.state_at(int(state.step)).params), strict=True):
        np.testing.assert_array_equal(one, other)
    assert lineage["step"] == int(state.step)
    return int(state.step)


def test_what_was_saved_is_restored_and_only_the_newest_are_kept(place: Bucket) -> None:
    assert save(place, 1, 2, 3) == ["before", "after"] * 3
    assert place.folders() == ["2", "3"]
    assert {COMMITTED, files.SEAL} <= place.below("3").listing().keys()
    assert restored(place) == 3
    retention.retire(location(place), keep_optimizer=False)
    assert place.folders() == ["3"]
    assert not place.listing("3/optimizer")
    params = restore_params(location(place), digest=read_lineage(location(place))["params_digest"])
    np.testing.assert_array_equal(jax.tree.leaves(params)[0], jax.tree.leaves(saved.state_at(3).params)[0])


def test_a_save_that_was_killed_on_the_way_leaves_the_one_before(place: Bucket) -> None:
    save(place, 1, 2)
    place.remove([f"2/{COMMITTED}", f"2/{files.SEAL}"])
    assert restored(place) == 1
    assert place.folders() == ["1"]


def test_an_object_that_was_changed_is_named_and_the_step_before_is_read(place: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    save(place, 1, 2)
    name = next(name for name in place.listing("2/params") if "/d/" in name)
    data = bytearray(place.read([name])[name])
    data[len(data) // 2] ^= 1
    place.write(name, bytes(data))
    with pytest.raises(UserError, match="is not the object that was sealed"):
        restore_params(location(place.below("2")))
    assert restored(place) == 1
    assert "is not the object that was sealed" in caplog.text
    assert place.folders() == ["1"]
