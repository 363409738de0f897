"""A run that lies in a bucket: any machine goes on with it, what comes from there is compared with its digest, and what is taken
from another run of the bucket is copied within it."""

import shutil
from pathlib import Path

import numbers_stages
import pytest
from object_store import BUCKET, needs_gcsfs

from w2sr_jax.core.bucket import Bucket
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.graph import mirror, runner
from w2sr_jax.graph.mirror import Mirror
from w2sr_jax.graph.planner import Plan
from w2sr_jax.graph.root import Store
from w2sr_jax.graph.stage import Context
from w2sr_jax.graph.store import RunStore

pytestmark = [needs_gcsfs, pytest.mark.usefixtures("object_server")]


class Machines:
    """Machines that share a place in a bucket and no disk."""

    def __init__(self, folder: Path, place: Bucket) -> None:
        self.folder, self.place = folder, place

    def root(self, machine: str) -> Store:
        mirror.mirror_root(self.folder / machine, self.place)
        return Store(self.folder / machine)

    def run(self, machine: str, name: str = "run") -> RunStore:
        store = self.root(machine).run(name)
        store.refresh_all()
        return store

    def do(self, machine: str, plan: Plan, name: str = "run") -> list[str]:
        """The states of the stages before they were done."""
        store, root = self.run(machine, name), self.root(machine)
        with runner.owned(store, Stop()), runner.leased(store, Stop(), print):
            root.refresh()
            return [status.state for status in runner.run(plan, Context(store), share=root)]


@pytest.fixture
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Machines:
    return Machines(tmp_path, Bucket(f"gs://{BUCKET}/{request.node.name}"))


def sums(number: int = 1) -> Plan:
    one = numbers_stages.Sum("one", number)
    return Plan([one, numbers_stages.Sum("two", 2, parts=(one,)), numbers_stages.Sum("far/three", 3, parts=(one,))])


def test_another_machine_sees_what_stands_and_fetches_what_it_reads(machines: Machines) -> None:
    assert machines.do("first", sums()) == ["due"] * 3
    assert machines.do("second", sums()) == ["stands"] * 3
    there = machines.run("second")
    assert not there.path("two/sum.json").exists()
    assert numbers_stages.value(there, "two") == 3
    artifact = there.artifact("two")
    assert there.arrays(artifact) == artifact.path
    assert there.part(artifact, "twice.json").read_text().strip() == "6"
    assert "lease.json" not in machines.place.listing("run")


def test_what_a_changed_setting_makes_anew_replaces_what_was_there(machines: Machines) -> None:
    machines.do("first", sums())
    assert machines.do("second", sums(5)) == ["due"] * 3
    assert numbers_stages.value(machines.run("first"), "two") == 7
    assert numbers_stages.value(machines.run("first"), "far/three") == 8


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_an_object_that_was_changed_is_refused_and_made_anew(machines: Machines, damage: str) -> None:
    machines.do("first", sums())
    if damage == "changed":
        machines.place.write("run/one/sum.json", b"7\n")
        with pytest.raises(UserError, match="is not what one wrote: it does not have the digest in its manifest"):
            machines.run("second").file("one/sum.json")
    else:
        machines.place.remove(["run/one/sum.json"])
        assert machines.do("second", sums()) == ["due", "stands", "stands"]
        assert numbers_stages.value(machines.run("third"), "one") == 1


def test_a_file_here_that_was_damaged_comes_anew_from_the_bucket(machines: Machines) -> None:
    machines.do("first", sums())
    machines.run("first").path("one/sum.json").write_text("8\n")
    assert numbers_stages.value(machines.run("first"), "one") == 1


def test_a_manifest_that_is_not_in_the_bucket_does_not_count(machines: Machines) -> None:
    machines.do("first", sums())
    machines.place.remove(["run/lineage/two.json"])
    assert machines.run("first").peek("two") is None
    assert machines.do("first", sums()) == ["stands", "due", "stands"]


def test_equal_stages_are_taken_within_the_bucket(machines: Machines) -> None:
    machines.do("first", sums())
    assert machines.do("second", sums(), "other") == ["shared"] * 3
    assert not machines.run("second", "other").path("two/sum.json").exists()
    shutil.rmtree(machines.folder / "first")
    assert numbers_stages.value(machines.run("third", "other"), "two") == 3
    assert machines.run("third", "other").part(machines.run("third", "other").artifact("two"), "twice.json").is_file()


def test_what_is_published_is_seen_and_goes_with_the_end_of_the_stage(machines: Machines) -> None:
    first, second = machines.run("first"), machines.run("second")
    path = first.path("part/rows.txt")
    path.parent.mkdir(parents=True)
    path.write_text("some")
    first.publish([path])
    second.obtain("part")
    assert second.path("part/rows.txt").read_text() == "some"
    path.write_text("more of them")
    first.publish([path])
    second.obtain("part")
    assert second.path("part/rows.txt").read_text() == "more of them"
    machines.do("second", sums())
    assert machines.place.listing("run/part") == {}


def test_a_root_mirrors_one_place(machines: Machines, tmp_path: Path) -> None:
    machines.root("first")
    with pytest.raises(UserError, match=r"mirrors .*; give another --scratch"):
        mirror.mirror_root(tmp_path / "first", Bucket(f"gs://{BUCKET}/elsewhere"))
    own = tmp_path / "own"
    (own / "run/lineage").mkdir(parents=True)
    with pytest.raises(UserError, match="holds runs of its own"):
        mirror.mirror_root(own, machines.place)
    assert mirror.mirror_of(own / "run") is None
    assert isinstance(machines.run("first").mirror, Mirror)
