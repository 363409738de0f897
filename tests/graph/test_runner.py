"""Stages are done when they are due, in order, once; finished ones are taken from other runs, and nothing else is."""

import dataclasses
import fcntl
import os
import shutil
import subprocess

import pytest
from numbers_stages import Fails, Later, Student, Sum, TextFile, Untaught, value

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.graph import manifest, runner, skips
from w2sr_jax.graph.planner import Plan
from w2sr_jax.graph.root import Store
from w2sr_jax.graph.stage import Context, Silent
from w2sr_jax.graph.store import RunStore


class Heard(Silent):
    def __init__(self):
        self.warned, self.ended = [], []

    def warn(self, message):
        self.warned.append(message)

    def end(self, stage, note, seconds):
        self.ended.append((stage, note, seconds is None))


@pytest.fixture
def work(tmp_path):
    """Runs a plan in the run of a name; who worked, and what was heard."""

    def one(stages, name="run", share=True, **wanted):
        log, heard = [], Heard()
        told = [dataclasses.replace(stage, log=log) for stage in stages]
        root = Store(tmp_path)
        runner.run(Plan(linked(told)), Context(root.run(name), heard), share=root if share else None, **wanted)
        return log, heard

    return one


def linked(stages):
    """Stages that refer to each other as they are in the list."""
    by_name = {}
    for stage in stages:
        by_name[stage.name] = dataclasses.replace(stage, parts=tuple(by_name[part.name] for part in stage.parts))
    return list(by_name.values())


def chain(first=1, second=10, third=100):
    a = Sum("a", first)
    b = Sum("b", second, (a,))
    c = Sum("c", third, (a,))
    return [a, b, c, Sum("d", 0, (b, c))]


def test_all_is_done_once(work, tmp_path):
    log, _ = work(chain())
    assert log == ["a", "b", "c", "d"]
    assert value(RunStore(tmp_path / "run"), "d") == 112
    log, heard = work(chain())
    assert log == []
    assert [stood for *_, stood in heard.ended] == [True] * 4


@pytest.mark.parametrize(
    ("changed", "again"), [({"first": 2}, "abcd"), ({"second": 2}, "bd"), ({"third": 2}, "cd")], ids=["first", "second", "third"]
)
def test_a_changed_setting_makes_anew_what_lies_downstream(work, tmp_path, changed, again):
    work(chain())
    log, heard = work(chain(**changed))
    assert "".join(log) == again
    assert heard.warned[0] == f"{again[0]} is done again, since number is 2, was {chain()['abcd'.index(again[0])].number}"
    assert heard.warned[-1] == f"d is done again, since {again.strip('ad')[0]}, which it reads, has changed"
    assert value(RunStore(tmp_path / "run"), "d") == sum(stage.number for stage in chain(**changed)) + chain(**changed)[0].number


def test_a_changed_file_makes_anew_what_read_it(work, tmp_path):
    file = tmp_path / "number.txt"
    file.write_text("5")
    stages = [Sum("a", 1, file=TextFile(str(file))), Sum("b", 2)]
    work(stages)
    file.write_text("66")
    log, heard = work(stages)
    assert log == ["a"]
    assert heard.warned == [f"a is done again, since {file}, which it reads, has changed"]
    file.unlink()
    assert work(stages)[0] == []  # what is no longer at hand counts as unchanged
    with pytest.raises(UserError, match=r"number\.txt does not exist"):
        work([dataclasses.replace(stages[0], number=3)], name="another")


def test_what_a_stage_does_not_write_again_is_removed(work, tmp_path):
    work([Sum("a", 1)])
    other = tmp_path / "run" / "a" / "beside.txt"
    other.write_text("mine")
    store = RunStore(tmp_path / "run")
    before = store.peek("a")
    gone = store.path("a/old.json")
    files.write_json(gone, 1)
    store.commit(dataclasses.replace(before, outputs={**before.outputs, "a/old.json": files.digest_file(gone)}))
    store.commit(before)
    assert not gone.exists()
    assert other.exists()


def test_equal_stages_are_taken_from_another_run(work, tmp_path):
    work(chain())
    log, heard = work(chain(second=20), name="other")
    assert log == ["b", "d"]
    assert heard.ended[0][:2] == ("a", "1 (taken from run run)")
    other, first = RunStore(tmp_path / "other"), RunStore(tmp_path / "run")
    assert other.peek("a").shared_from == "run"
    assert os.path.samefile(other.path("a/sum.json"), first.path("a/sum.json"))
    assert work(chain(second=20), name="other")[0] == []
    work(chain(second=20), name="third")
    assert RunStore(tmp_path / "third").peek("a").shared_from == "run"  # whoever did the work, not who passed it on


def test_nothing_is_shared_where_that_is_not_asked_for(work):
    work(chain())
    assert work(chain(), name="other", share=False)[0] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("removed", ["run", "other"])
def test_removing_one_run_harms_no_other(work, tmp_path, removed):
    work(chain())
    work(chain(), name="other")
    shutil.rmtree(tmp_path / removed)
    left = "other" if removed == "run" else "run"
    assert work(chain(), name=left)[0] == []
    assert value(RunStore(tmp_path / left), "d") == 112


def test_a_stage_done_again_leaves_the_other_run_as_it_is(work, tmp_path):
    work(chain())
    work(chain(), name="other")
    work(chain(first=3), name="other")
    assert value(RunStore(tmp_path / "run"), "a") == 1
    assert work(chain())[0] == []


def test_files_are_copied_where_they_cannot_be_linked(work, tmp_path, monkeypatch):
    work(chain())

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    assert work(chain(), name="other")[0] == []
    other, first = tmp_path / "other/a/sum.json", tmp_path / "run/a/sum.json"
    assert not os.path.samefile(other, first)
    assert other.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("path", ["a/sum.json", "a/sealed/twice.json"])
def test_damaged_work_of_another_run_is_not_taken(work, tmp_path, path):
    work(chain())
    (tmp_path / "run" / path).write_text("0")
    log, _ = work(chain(), name="other")
    assert log == ["a"]  # and what follows from it, which is sound, is taken
    statuses = Plan(chain()).statuses(RunStore(tmp_path / "third"), Store(tmp_path))
    assert statuses[0].state == "shared"
    assert statuses[0].candidate.label == "other"


def test_a_run_that_vanishes_while_its_work_is_taken_is_done_without(work, tmp_path, monkeypatch):
    work(chain())
    take = RunStore.take

    def vanish(store, other, taken, shared_from=""):
        shutil.rmtree(tmp_path / "run")
        return take(store, other, taken, shared_from)

    monkeypatch.setattr(RunStore, "take", vanish)
    log, heard = work(chain(), name="other")
    assert log == ["a", "b", "c", "d"]
    assert "a is not taken from run run: " in heard.warned[0]


def test_unfinished_work_is_not_taken(work, tmp_path):
    with pytest.raises(UserError, match="half way"):
        work([Fails("a", 1)])
    assert (tmp_path / "run/a/sum.json").exists()
    assert work([Sum("a", 1)], name="other")[0] == ["a"]


def test_work_under_other_conditions_is_not_taken(work, tmp_path, monkeypatch):
    work(chain())
    monkeypatch.setattr(manifest, "versions", lambda: {"jax": "9.9"})
    log, _ = work(chain(), name="other")
    assert log == ["a", "b", "c", "d"]
    monkeypatch.undo()
    monkeypatch.setenv("XLA_FLAGS", "--xla_something=1")
    why = [status.why for status in Plan(chain()).statuses(RunStore(tmp_path / "third"), Store(tmp_path), conditions())]
    assert "made it with" in why[0]


def conditions():
    from w2sr_jax.graph.environment import conditions

    return conditions


def test_damaged_work_is_named_and_done_again(work, tmp_path):
    work(chain(), share=False)
    (tmp_path / "run/a/sum.json").write_text("7")
    log, heard = work(chain(), share=False)
    assert log == ["a"]  # what follows was made from what is there again
    assert heard.warned == [f"a is done again, since {tmp_path}/run/a/sum.json does not have the digest in its manifest"]


def test_a_damaged_manifest_is_set_aside_and_its_stage_done_again(work, tmp_path):
    work(chain(), share=False)
    path = tmp_path / "run/lineage/b.json"
    path.write_bytes(path.read_bytes()[:-20])
    log, heard = work(chain(), share=False)
    assert log == ["b"]
    assert heard.warned == [f"{path} is damaged: it is renamed to b.json.damaged, and its stage is done again"]
    assert path.with_name("b.json.damaged").exists()
    assert work(chain(), share=False)[0] == []


@dataclasses.dataclass(frozen=True)
class Product(Sum):
    kind = "multiply"


def test_rungs_and_kinds_alone(work):
    stages = [Sum("a", 1), Sum("b", 1, rung=0), Sum("c", 1, rung=1)]
    assert work(stages, rung=1)[0] == ["a", "c"]
    stages = [Sum("a", 1), Product("m", 1, (Sum("a", 1),))]
    with pytest.raises(UserError, match=r"nothing to multiply yet: m waits for a \(w2sr add\)"):
        work(stages, name="other", share=False, kind="multiply")
    assert work(stages, name="other", share=False, kind="add")[0] == ["a"]
    assert work(stages, name="other", share=False, kind="multiply")[0] == ["m"]


def test_what_was_left_out_with_a_student_is_done_where_that_student_is(tmp_path):
    """What a stage comes after is no part of its identity, so that it is the same stage in both runs."""

    def climb(name, student, told=None):
        stages = [student, Student("t", 1), Later("later", 7, earlier=(student,), rung=1)]
        store = RunStore(tmp_path / name)
        statuses = runner.run(Plan(stages), Context(store, told or Heard()), share=Store(tmp_path))
        return store, {status.stage.name: status.state for status in statuses}

    one, _ = climb("one", Untaught("s", 1))
    assert skips.of(one.manifest("later")).origin == "s"
    assert climb("one", Untaught("s", 1))[1] == {"s": "stands", "t": "stands", "later": "stands"}
    two, states = climb("two", Student("s", 1))
    assert states == {"s": "due", "t": "shared", "later": "due"}
    assert value(two, "later") == 7
    told = Heard()
    one, states = climb("one", Student("s", 2), told)
    assert states["later"] == "due"
    assert value(one, "later") == 7
    assert "later is done again, since it was left out since s was skipped, which is not so now" in told.warned


@dataclasses.dataclass(frozen=True)
class Moves(Sum):
    elsewhere: str = ""

    def run(self, context):
        result = super().run(context)
        shutil.move(context.store.directory, self.elsewhere)
        return result


def test_a_run_that_is_moved_between_two_stages_is_a_sentence(tmp_path):
    store, stop, elsewhere = RunStore(tmp_path / "run"), Stop(), tmp_path / "elsewhere"
    stages = [Moves("a", 1, elsewhere=str(elsewhere)), Sum("b", 2)]
    with pytest.raises(UserError, match="was moved, or removed, while it was worked on"), runner.owned(store, stop):
        runner.run(Plan(stages), Context(store, Silent(), stop))
    assert (elsewhere / "a/sum.json").exists()


def test_a_cell_of_a_study_is_held_with_its_study_and_by_every_child(tmp_path):
    """A file of that name above any other folder is nobody's business."""
    for place in ("study/cells/one", "mine/runs/one"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place).parent.parent.joinpath("study.json").write_text("{}")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "study/cells")
    for run in (tmp_path / "study/cells/one", link / "one"):
        with runner.owned(RunStore(run), Stop()) as held:
            locks = [os.open(directory / ".lock", os.O_RDWR) for directory in (tmp_path / "study", tmp_path / "study/cells/one")]
            child = subprocess.Popen(["sleep", "100"], pass_fds=held.handles)
        for lock in locks:
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.kill()
        child.wait()
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(lock)
    with runner.owned(RunStore(tmp_path / "mine/runs/one"), Stop()) as held:
        assert len(held.handles) == 1


def test_a_run_of_another_format_is_refused(work, tmp_path):
    work(chain())
    path = tmp_path / "run/lineage/a.json"
    raw = files.read_json(path)
    del raw["format"]
    files.write_json(path, raw)
    store = RunStore(tmp_path / "run")
    with pytest.raises(UserError, match=r"written by another version of w2sr_jax \(format 1; this one reads 2\)"):
        runner.check_format(store)
    with pytest.raises(UserError, match="written by another version"):
        store.file("a/sum.json")
