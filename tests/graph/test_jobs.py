"""Stages of several runs side by side: what is given to workers, in which order, and what failures leave. The workers here do
their stages in this process; real ones are in tests/stages/test_jobs_run.py."""

import contextlib
import dataclasses
import signal
import sys
from pathlib import Path

import pytest
from numbers_stages import Fails, Sum, TextFile, Untaught, value

from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.process.stopping import Stop, Terminated
from w2sr_jax.graph import runner
from w2sr_jax.graph.jobs import run as side_by_side
from w2sr_jax.graph.jobs.board import Work
from w2sr_jax.graph.jobs.messages import Event, Order
from w2sr_jax.graph.jobs.pool import Ended, Inline, Pool, split_cores
from w2sr_jax.graph.planner import Plan
from w2sr_jax.graph.root import KnownStore, Store
from w2sr_jax.graph.stage import Context, Silent
from w2sr_jax.graph.store import RunStore


class Hands:
    """A pool that does what was given last first, so that nothing rests on the order in which workers end."""

    def __init__(self, size: int) -> None:
        self.size, self.plans, self.given, self.most = size, {}, [], 0
        self.log: list[str] = []
        self.dies: set[str] = set()

    def __len__(self) -> int:
        return self.size

    def give(self, number: int, order: Order) -> None:
        self.given.append((number, order))
        self.most = max(self.most, len(self.given))

    def next(self, patience: float):
        number, order = self.given.pop()
        name = f"{Path(order.directory).name}/{order.stage}"
        if name in self.dies:
            self.dies.discard(name)
            return number, Ended(-9)
        plan = self.plans[order.directory]
        self.log.append(name)
        try:
            runner.do(plan.by_name[order.stage], Context(RunStore(Path(order.directory))), plan, 0, 1)
        except UserError as error:
            return number, Event("failed", str(error))
        return number, Event("done")

    def deferred(self, stop: Stop):
        return stop.deferred()

    def stop(self, number: int):
        self.stopped = number
        yield from ()


class Heard(Silent):
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, message: str) -> None:
        self.warned.append(message)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def works(root: Path, pool: Hands, stop: Stop | None = None, **runs: list) -> list[Work]:
    made = []
    for name, stages in runs.items():
        plan, store = Plan(stages), RunStore(root / name)
        store.directory.mkdir(exist_ok=True)
        pool.plans[str(store.directory)] = plan
        made.append(Work(plan, Context(store, Heard(), stop or Stop()), f"{name}/"))
    return made


def diamond(number: int = 10, kind: type[Sum] = Sum) -> list[Sum]:
    a = Sum("a", 1)
    b, c = kind("b", number, (a,)), Sum("c", 100, (a,))
    return [a, b, c, Sum("d", 0, (b, c))]


def everything(stage: object) -> bool:
    return True


def test_independent_stages_are_at_work_together_and_none_before_what_it_reads(root: Path) -> None:
    pool = Hands(2)
    made = works(root, pool, run=diamond())
    outcome = side_by_side.run(made, pool, Heard(), everything)
    assert pool.most == 2
    assert pool.log[0] == "run/a"
    assert sorted(pool.log[1:3]) == ["run/b", "run/c"]
    assert pool.log[3] == "run/d"
    assert value(RunStore(root / "run"), "d") == 112
    assert (outcome.failures, outcome.waiting) == ([], {})
    again = side_by_side.run(made, pool, Heard(), everything)
    assert len(pool.log) == 4, "what stands is not done again"
    assert again.failures == []


def test_stages_of_one_identity_are_done_once_for_all_runs(root: Path) -> None:
    pool = Hands(3)
    side_by_side.run(works(root, pool, one=diamond(), two=diamond(), three=diamond(20)), pool, Heard(), everything, Store(root))
    done = [name.split("/")[1] for name in pool.log]
    assert {name: done.count(name) for name in "abcd"} == {"a": 1, "b": 2, "c": 1, "d": 2}
    assert [value(RunStore(root / name), "d") for name in ("one", "two", "three")] == [112, 112, 122]


def test_a_store_that_knows_its_runs_names_those_that_did_the_work_first_and_each_once(root: Path) -> None:
    pool, runs = Hands(1), {"first": [Sum("a", 1)], "second": [Sum("a", 1)]}
    side_by_side.run(works(root, pool, **runs), pool, Heard(), everything, Store(root))
    first, second = RunStore(root / "first"), RunStore(root / "second")
    share, identity = KnownStore(root), first.peek("a").identity
    for run in (second, first, second, first):
        share.learn(run, run.peek("a"))
    assert [run for run, _ in share.finished(identity, RunStore(root / "third"))] == [first, second]
    assert [run for run, _ in share.finished(identity, first)] == [second]
    first.retract("a")
    assert [run for run, _ in share.finished(identity, RunStore(root / "third"))] == [second]


def test_without_a_root_every_run_does_its_own(root: Path) -> None:
    pool = Hands(3)
    side_by_side.run(works(root, pool, one=diamond(), two=diamond()), pool, Heard(), everything)
    assert len(pool.log) == 8


def test_a_failure_is_named_and_stops_only_what_needs_it(root: Path) -> None:
    pool, heard = Hands(2), Heard()
    made = works(root, pool, bad=diamond(kind=Fails), good=diamond())
    outcome = side_by_side.run(made, pool, heard, everything)
    assert [(each.work, each.stage, each.words) for each in outcome.failures] == [(0, "b", "it failed half way")]
    assert heard.warned == ["bad/b failed: it failed half way"]
    assert RunStore(root / "bad").peek("c") is not None
    assert RunStore(root / "bad").peek("d") is None
    assert value(RunStore(root / "good"), "d") == 112
    with pytest.raises(UserError, match=r"^1 stage failed: bad/b \(it failed half way\)\. What does not need it is done"):
        side_by_side.check(outcome, made, None, heard)


def test_a_worker_that_dies_takes_one_stage_with_it(root: Path) -> None:
    pool = Hands(2)
    pool.dies = {"run/c"}
    made = works(root, pool, run=diamond())
    outcome = side_by_side.run(made, pool, Heard(), everything)
    assert [(each.stage, each.words) for each in outcome.failures] == [
        ("c", "its process was killed, as the system does where memory runs out")
    ]
    assert side_by_side.run(made, pool, Heard(), everything).failures == []
    assert value(RunStore(root / "run"), "d") == 112


def test_a_shared_stage_that_fails_fails_for_every_run_at_once(root: Path) -> None:
    pool, heard = Hands(2), Heard()
    made = works(root, pool, one=diamond(kind=Fails), two=diamond(kind=Fails), three=diamond())
    outcome = side_by_side.run(made, pool, heard, everything, Store(root))
    assert sorted((each.work, each.stage, each.words) for each in outcome.failures) == [
        (0, "b", "it failed half way"),
        (1, "b", "it failed half way"),
    ]
    assert sorted(heard.warned) == ["one/b failed: it failed half way", "two/b failed: it failed half way"]
    assert sum(name in ("one/b", "two/b") for name in pool.log) == 1
    assert value(RunStore(root / "three"), "d") == 112


def test_a_shared_stage_amid_which_a_worker_dies_is_tried_once_more(root: Path) -> None:
    pool = Hands(2)
    pool.dies = {"one/a"}
    outcome = side_by_side.run(works(root, pool, one=diamond(), two=diamond()), pool, Heard(), everything, Store(root))
    assert outcome.failures == []
    assert [value(RunStore(root / name), "d") for name in ("one", "two")] == [112, 112]

    class Deadly(Hands):
        def next(self, patience: float):
            number, order = self.given.pop()
            self.log.append(order.stage)
            return number, Ended(-9)

    pool = Deadly(2)
    others = works(root, pool, three=[Sum("e", 5)], four=[Sum("e", 5)])
    outcome = side_by_side.run(others, pool, Heard(), everything, Store(root))
    assert pool.log == ["e", "e"]
    assert sorted((each.work, each.stage) for each in outcome.failures) == [(0, "e"), (1, "e")]


def test_a_rung_without_students_ends_itself_and_nothing_else(root: Path) -> None:
    """Work that a worker is at meanwhile is finished, and a later call says the same once."""
    students = [Untaught("s", 1, rung=0), Untaught("t", 2, rung=0)]
    stages = [Sum("base", 5), *students, Sum("after", 1, (students[0],), rung=0), Sum("other", 1, rung=0), Sum("on", 0, rung=1)]
    stages.append(Sum("all", 0, (stages[3], stages[5])))
    pool = Hands(6)
    made = works(root, pool, run=stages)
    for _ in range(2):
        outcome = side_by_side.run(made, pool, Heard(), everything)
        (failure,) = outcome.failures
        assert failure.words == "rung 0 has no student that could be trained: no answer was right"
        store = RunStore(root / "run")
        assert [store.peek(name) is not None for name in ("base", "on", "other", "after", "all")] == [True] * 3 + [False] * 2
        assert pool.given == []


def test_what_cannot_be_had_fails_the_stage_that_reads_it(root: Path) -> None:
    pool, heard = Hands(2), Heard()
    reads = Sum("reads", 1, file=TextFile(str(root / "nowhere.txt")))
    outcome = side_by_side.run(works(root, pool, run=[reads, Sum("then", 0, (reads,)), Sum("free", 3)]), pool, heard, everything)
    assert [each.stage for each in outcome.failures] == ["reads"]
    assert "nowhere.txt" in heard.warned[0]
    assert value(RunStore(root / "run"), "free") == 3


def test_workers_are_busy_and_signals_heard_while_much_is_taken(root: Path) -> None:
    many = [Sum(f"n{number:02d}", number) for number in range(40)]
    side_by_side.run(works(root, pool := Hands(1), first=many), pool, Heard(), everything)
    pool, stop = Hands(2), Stop()

    class Taking(Heard):
        taken = 0

        def end(self, stage: str, note: str, seconds: float | None) -> None:
            Taking.taken += 1
            assert pool.given or pool.log, "the stage that is to be done was given to a worker first"
            stop.signal = 15

    made = works(root, pool, stop, second=[*many, Sum("own", -1)])
    made = [dataclasses.replace(work, context=dataclasses.replace(work.context, watcher=Taking())) for work in made]
    with pytest.raises(Stopped):
        side_by_side.run(made, pool, Heard(), everything, Store(root))
    assert 0 < Taking.taken < 40


def test_a_changed_setting_makes_anew_what_lies_downstream(root: Path) -> None:
    pool = Hands(2)
    side_by_side.run(works(root, pool, run=diamond()), pool, Heard(), everything)
    pool.log.clear()
    side_by_side.run(works(root, pool, run=diamond(20)), pool, Heard(), everything)
    assert pool.log == ["run/b", "run/d"]
    assert value(RunStore(root / "run"), "d") == 122


def test_a_kind_waits_for_what_others_make(root: Path) -> None:
    pool, heard = Hands(2), Heard()
    made = works(root, pool, run=diamond())
    outcome = side_by_side.run(made, pool, heard, lambda stage: stage.name in ("b", "d"))
    assert pool.log == []
    with pytest.raises(UserError, match=r"nothing to add yet: b waits for a \(w2sr add\)"):
        side_by_side.check(outcome, made, "add", heard)


def test_a_signal_reaches_the_workers_and_ends_the_command(root: Path) -> None:
    pool, stop = Hands(2), Stop()
    made = works(root, pool, stop, run=diamond())

    class Told(Heard):
        def end(self, stage: str, note: str, seconds: float | None) -> None:
            stop.signal = 15

    made = [dataclasses.replace(work, context=dataclasses.replace(work.context, watcher=Told())) for work in made]
    stop.signal = 15
    with pytest.raises(Stopped):
        side_by_side.run(made, pool, Heard(), everything)
    assert pool.stopped == 15


def test_one_process_can_do_all_by_itself(root: Path) -> None:
    made = works(root, Hands(1), bad=diamond(kind=Fails), good=diamond())
    plans = {str(work.context.store.directory): work for work in made}

    def do(order: Order) -> None:
        work = plans[order.directory]
        runner.do(work.plan.by_name[order.stage], work.context, work.plan, 0, 1)

    outcome = side_by_side.run(made, Inline(do), Heard(), everything, Store(root))
    assert [(each.work, each.stage) for each in outcome.failures] == [(0, "b")]
    assert value(RunStore(root / "good"), "d") == 112
    assert RunStore(root / "good").peek("a").shared_from == "bad"


WORKER = """
import json, sys
for line in sys.stdin:
    stage = json.loads(line)[1]
    print(json.dumps(["done", stage, 0, 0, None]), flush=True)
    if stage == "last":
        sys.exit(3)
"""


def test_a_worker_that_ended_between_two_stages_is_started_anew(root: Path) -> None:
    """Its end is not taken for that of the stage which its successor does."""
    with Pool([sys.executable, "-c", WORKER], [None]) as pool:
        pool.give(0, Order("run", "last", ""))
        assert pool.next(30) == (0, Event("done", "last"))
        first = pool._processes[0]
        first.wait(30)
        pool.give(0, Order("run", "next", ""))
        assert pool.next(30) == (0, Event("done", "next"))
        assert pool._processes[0] is not first
        pool._processes[0].kill()
        number, said = pool.next(30)
        assert (number, said) == (0, Ended(-9))


SAVES = """
import json, pathlib, sys, time
order = json.loads(sys.stdin.readline())
print(json.dumps(["begin", order[1], 0, 0, None]), flush=True)
sys.stdin.read()
time.sleep(float(order[2]))
pathlib.Path(order[0]).touch()
"""


def test_a_worker_that_is_saving_is_waited_for(tmp_path: Path) -> None:
    """But not after a second Ctrl-C."""

    def left(error: BaseException, name: str, seconds: str) -> int:
        pool = Pool([sys.executable, "-c", SAVES], [None])
        with contextlib.suppress(type(error)), pool:
            pool.give(0, Order(str(tmp_path / name), "stage", seconds))
            assert pool.next(30) == (0, Event("begin", "stage"))
            raise error
        return pool._processes[0].returncode

    assert left(UserError("something else went wrong"), "saved", "2.5") == 0
    assert (tmp_path / "saved").exists()
    assert left(KeyboardInterrupt(), "late", "600") == -signal.SIGKILL


@pytest.mark.parametrize("error", [Stopped("stopped"), Terminated(), KeyboardInterrupt()])
def test_alone_a_fault_fails_its_stage_and_what_ends_the_command_ends_it(error: BaseException) -> None:
    raised: list[BaseException] = [error, MemoryError(), KeyError("the\nkey"), UserError("a mistake")]
    stop, told = Stop(), []

    def do(order: Order) -> None:
        raise raised.pop()

    inline = Inline(do)
    with inline.deferred(stop), stop.watching(lambda: told.append(1)):
        for words in ("a mistake", "KeyError: 'the\\nkey'", "there is not enough memory"):
            inline.give(0, Order("", "", ""))
            _, said = inline.next(0)
            assert isinstance(said, Event)
            assert said.kind == "failed"
            assert said.text.startswith(words)
        assert len(told) == 3, "whether the run is where it was is looked at"
        inline.give(0, Order("", "", ""))
        with pytest.raises(type(error)):
            inline.next(0)


def test_the_bar_of_a_stage_that_failed_is_dropped(root: Path) -> None:
    class Bars(Heard):
        dropped = 0

        def drop(self) -> None:
            self.dropped += 1

    pool, bars = Hands(1), Bars()
    side_by_side.run(works(root, pool, run=diamond(kind=Fails)), pool, bars, everything)
    assert bars.dropped == 1


def test_cores_are_divided_evenly_and_never_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4, 11)), raising=False)
    assert split_cores(3) == [frozenset({4, 5}), frozenset({6, 7}), frozenset({8, 9})]
    assert split_cores(7) == [frozenset({core}) for core in range(4, 11)]
    with pytest.raises(UserError, match="--jobs is 8, and this process may use 7 cores"):
        split_cores(8)
    with pytest.raises(UserError, match="--jobs is 0; it must be at least 1"):
        split_cores(0)
